import csv
from pathlib import Path

import numpy as np
import pytest

from headwise.errors import InputError, NotFound
from headwise_recsys import shopping
from headwise_recsys.baselines import Markov, Popularity
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import Scorer, evaluate
from headwise_recsys.prepare import prepare
from headwise_recsys.shopping import KINDS, MATERIALS, WEEKS, BestPossible, Shop, Visits
from headwise_recsys.splits import Queries, leave_one_out, temporal

USERS, ITEMS, EVENTS = 1511, 401, 23


@pytest.fixture(scope="module")
def shop() -> Shop:
    return shopping.open_shop(ITEMS, seed=3)


@pytest.fixture(scope="module")
def data(shop: Shop) -> Interactions:
    return interactions(shopping.generate(shop, USERS, seed=5, events=EVENTS))


def interactions(visits: Visits, items: int = ITEMS) -> Interactions:
    users = int(visits.users[-1]) + 1
    return Interactions(
        items=(visits.items + 1).astype(np.int32),
        times=visits.times,
        offsets=np.searchsorted(visits.users, np.arange(users + 1)),
        user_ids=[f"user-{user}" for user in range(users)],
        item_ids=[shopping.item_id(item) for item in range(items)],
        titles=None,
        name="shop",
        fingerprint="",
        source="events.csv",
    )


def two_tastes() -> Shop:
    # Items: walnut desk, oak desk, walnut desk lamp. One taste takes desks in 3 of 4 cases, the other lamps.
    habits = np.zeros((2, len(KINDS) + 1, len(KINDS) + 1, len(KINDS)))
    habits[0, :, :, 0], habits[0, :, :, 1] = 0.75, 0.25
    habits[1, :, :, 0], habits[1, :, :, 1] = 0.25, 0.75
    likings = np.ones((2, len(MATERIALS) + 1, len(MATERIALS)))
    cells = np.array([0, 1, len(MATERIALS)])
    return Shop(cells, habits, likings, np.ones((WEEKS, 3)))


def test_posterior_and_prediction_worked_by_hand() -> None:
    shop = two_tastes()
    history, lengths, weeks = np.array([[0, -1], [2, -1], [-1, -1]]), np.array([1, 1, 0]), np.zeros((3, 2), int)
    posterior = shopping.taste_posterior(shop, history, lengths, weeks)
    # A desk has chance 3/8 and 1/8, the lamp 1/4 and 3/4.
    np.testing.assert_allclose(posterior, [[3 / 4, 1 / 4], [1 / 4, 3 / 4], [1 / 2, 1 / 2]])
    chances = shopping.next_chances(shop, history, lengths, weeks, np.zeros(3, int))
    # After the first desk: taste one leaves 3/8 and 1/4 of 5/8, taste two 1/8 and 3/4 of 7/8.
    one, two = np.array([0, 3 / 5, 2 / 5]), np.array([0, 1 / 7, 6 / 7])
    np.testing.assert_allclose(chances, [3 / 4 * one + 1 / 4 * two, [1 / 2, 1 / 2, 0], [1 / 4, 1 / 4, 1 / 2]])


def test_the_second_step_is_normalised_over_what_was_left() -> None:
    shop = two_tastes()
    posterior = shopping.taste_posterior(shop, np.array([[0, 2]]), np.array([2]), np.zeros((1, 2), int))
    likelihood = np.array([3 / 8 * 2 / 5, 1 / 8 * 6 / 7])
    np.testing.assert_allclose(posterior[0], likelihood / likelihood.sum())


def test_titles_name_material_and_kind() -> None:
    assert two_tastes().titles == ["walnut desk", "oak desk", "walnut desk lamp"]


def test_chances_sum_to_one_in_every_context(shop: Shop) -> None:
    rng = np.random.default_rng(7)
    taste, week = rng.integers(shop.tastes, size=(113, 1)), rng.integers(WEEKS, size=(113, 1))
    before, last = rng.integers(-1, ITEMS, size=(2, 113, 1))
    chances = shop.chances(taste, before, last, week, np.arange(ITEMS))
    assert chances.min() > 0
    np.testing.assert_allclose(chances.sum(axis=1), 1)


def test_histories_have_no_repeats_and_go_forward_in_time(data: Interactions) -> None:
    assert data.times is not None
    lengths = np.diff(data.offsets)
    assert lengths.min() >= EVENTS // 3
    assert abs(lengths.mean() - EVENTS) < 1
    for start, stop in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        assert len(set(data.items[start:stop])) == stop - start
        assert (np.diff(data.times[start:stop]) > 0).all()


def test_fashion_changes_what_is_popular(data: Interactions) -> None:
    assert data.times is not None
    cut = np.quantile(data.times, [0.25, 0.75])
    early, late = (
        np.bincount(data.items[part], minlength=ITEMS + 1).argsort()[-20:]
        for part in (data.times < cut[0], data.times > cut[1])
    )
    assert len(set(early) & set(late)) < 17


def test_probabilities_are_frequencies(shop: Shop, data: Interactions) -> None:
    queries = leave_one_out(data).test
    chances = BestPossible(shop)(data, queries)
    assert chances.dtype == np.float32
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    hit = np.zeros(chances.shape, bool)
    hit[np.arange(len(queries)), data.items[queries.targets]] = True
    for low, high in ((0.0, 0.003), (0.003, 0.01), (0.01, 0.03), (0.03, 0.1), (0.1, 0.3), (0.3, 1.0)):
        inside = (chances > low) & (chances <= high)
        expected, variance = chances[inside].sum(), (chances * (1 - chances))[inside].sum()
        assert abs(hit[inside].sum() - expected) < 4 * np.sqrt(variance) + 1
    top = np.sort(chances, axis=1)[:, -10:].sum(axis=1)
    found = evaluate(BestPossible(shop), data, queries).metrics()["hr_10"]
    assert abs(found - top.mean()) < 4 * np.sqrt((top * (1 - top)).mean() / len(queries))


@pytest.mark.parametrize("split", [leave_one_out, temporal])
def test_no_scorer_is_better(split, shop: Shop, data: Interactions) -> None:
    parts = split(data)
    best = evaluate(BestPossible(shop), data, parts.test).metrics()

    def last_two(data: Interactions, queries: Queries) -> np.ndarray:
        starts = np.maximum(queries.starts, queries.stops - 2)
        return BestPossible(shop)(data, Queries(starts, queries.stops, queries.targets))

    scorers: list[Scorer] = [Popularity().fit(data, parts.train_stops), Markov().fit(data, parts.train_stops), last_two]
    others = [evaluate(scorer, data, parts.test).metrics() for scorer in scorers]
    for name in ("hr_10", "ndcg_10", "mrr"):
        popularity, markov, two = (other[name] for other in others)
        # Popularity says little, the last item more, the last two more still; the rest of the history the rest.
        assert popularity < markov < two < best[name]


def test_written_files_are_the_same_for_a_seed_and_prepare_reads_them(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        shopping.write(tmp_path / folder, users=103, items=97, events=11, seed=2)
    names = ["events.csv", "items.csv", "shop.npz"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with (tmp_path / "one/items.csv").open() as file:
        titles = {row["item"]: row["title"] for row in csv.DictReader(file)}
    assert len(set(titles.values())) == 97
    data = prepare(tmp_path / "one", tmp_path / "prepared", min_count=1)
    assert set(data.item_ids) <= set(titles)
    assert data.users == 103
    best = shopping.best_possible(tmp_path / "one")
    queries = leave_one_out(data).test
    assert evaluate(best, data, queries).metrics()["hr_10"] > 0.4


def test_items_must_fit_the_titles() -> None:
    with pytest.raises(InputError, match=r"items \(1001\) must be from 80 to 1000"):
        shopping.open_shop(1001)


def test_only_generated_data_has_a_best_score(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="only generated data has a best possible score"):
        shopping.best_possible(tmp_path)
    (tmp_path / "shop.npz").write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match=r"shop\.npz: cannot be read .* generate the data again"):
        shopping.best_possible(tmp_path)


def test_foreign_data_is_refused(shop: Shop, data: Interactions) -> None:
    queries = leave_one_out(data).test[:3]
    foreign = Interactions(**vars(data) | {"item_ids": ["tt-1", *data.item_ids[1:]]})
    with pytest.raises(InputError, match="'tt-1' is not an item of this shop"):
        BestPossible(shop)(foreign, queries)
    with pytest.raises(InputError, match="has no times"):
        BestPossible(shop)(Interactions(**vars(data) | {"times": None}), queries)
