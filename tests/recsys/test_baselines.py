from pathlib import Path

import numpy as np
import pytest

from headwise.errors import InputError
from headwise_recsys.baselines import BLOCK, EASE, LARGEST, ItemKNN, Markov, Popularity
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import evaluate
from headwise_recsys.prepare import prepare
from headwise_recsys.splits import Queries, leave_one_out

DATA = Path(__file__).parents[3] / "shared/data"
EVERY = [Popularity(), Popularity(half_life=3), Markov(), ItemKNN(neighbours=2), EASE(penalty=2)]


def interactions(histories, times=None, items=None):
    flat = np.array([item for history in histories for item in history], np.int32)
    return Interactions(
        items=flat,
        times=None if times is None else np.array(times, np.int64),
        offsets=np.cumsum([0, *(len(history) for history in histories)]),
        user_ids=list(range(len(histories))),
        item_ids=list(range(items or int(flat.max()))),
        titles=None,
        name="made",
        fingerprint="",
        source="made.csv",
    )


def asking(data):
    """Every user's whole history; there is no target."""
    return Queries(data.offsets[:-1], data.offsets[1:], data.offsets[1:])


def drawn(users=11, items=7, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 13, users)
    data = interactions([random.integers(1, items + 1, length) for length in lengths], items=items)
    times = np.concatenate([np.sort(random.integers(0, 10**6, length)) for length in lengths])
    return Interactions(**vars(data) | {"times": times})


def test_popularity_counts_training_events():
    data = interactions([[1, 2, 2], [2, 3]])
    scores = Popularity().fit(data, np.array([2, 5]))(data, asking(data))
    assert scores.tolist() == [[0, 1, 2, 1]] * 2


def test_recent_popularity_halves_with_age():
    day = 86_400
    data = interactions([[1, 2], [2, 3, 3]], times=[0, 2 * day, 4 * day, 6 * day, 9 * day])
    scores = Popularity(half_life=2).fit(data, np.array([2, 4]))(data, asking(data)[:1])
    np.testing.assert_allclose(scores, [[0, 2**-3, 2**-2 + 2**-1, 1]])


def test_recent_popularity_needs_times():
    data = interactions([[1, 2]])
    with pytest.raises(InputError, match=r"half_life needs the time of each event and made\.csv has none"):
        Popularity(half_life=7).fit(data, data.offsets[1:])


def test_markov_by_hand():
    # After 1 came 2 twice and 3 once; the seven training events hold 1, 2, 3 in shares of 4/7, 2/7, 1/7.
    data = interactions([[1, 2, 1, 2], [1, 3], [3], [1]])
    score = Markov().fit(data, np.array([4, 6, 6, 8]))
    share = np.array([0, 4 / 7, 2 / 7, 1 / 7])
    found = score(data, Queries(*np.array([[0, 1, 0], [1, 2, 0], [9, 9, 9]])))
    np.testing.assert_allclose(found[0], (np.array([0, 0, 2, 1]) + share) / 4, rtol=1e-6)  # after 1
    np.testing.assert_allclose(found[1], (np.array([0, 1, 0, 0]) + share) / 2, rtol=1e-6)  # after 2
    np.testing.assert_allclose(found[2], share, rtol=1e-6)  # after nothing
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_markov_crosses_no_user():
    data = interactions([[1, 2], [3, 1]])
    scores = Markov().fit(data, data.offsets[1:])(data, Queries(*np.array([[0], [2], [9]])))
    assert scores[0, 3] < scores[0, 1]  # 3 opens the next user's history and is rarer than 1


def test_item_neighbours_by_hand():
    data = interactions([[1, 2, 2], [1, 2, 3], [1, 4]])
    scores = ItemKNN(neighbours=2, decay=0.5).fit(data, data.offsets[1:])(data, asking(data)[1:2])
    # Cosines: 1-2 2/sqrt(6), 1-3 1/sqrt(3), 1-4 1/sqrt(3), 2-3 1/sqrt(2); weights of 1, 2, 3: 1/4, 1/2, 1.
    cosine = {12: 2 / 6**0.5, 13: 3**-0.5, 23: 2**-0.5}
    assert scores[0, 1] == pytest.approx(cosine[12] / 2 + cosine[13])
    assert scores[0, 2] == pytest.approx(cosine[12] / 4 + cosine[23])


def test_only_the_nearest_neighbours_vote():
    data = interactions([[1, 2], [1, 2], [1, 3]])
    scores = ItemKNN(neighbours=1).fit(data, data.offsets[1:])(data, Queries(*np.array([[0], [1], [9]])))
    assert scores[0].nonzero()[0].tolist() == [2]


@pytest.mark.parametrize("items", [7, BLOCK + 51])
@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_ease_is_the_formula(items, decay):
    data = drawn(users=31, items=items)
    chosen = np.zeros((data.users, items + 1))
    weights = np.zeros((data.users, items + 1))
    for user in range(data.users):
        history = data.items[data.offsets[user] : data.offsets[user + 1]]
        chosen[user, history] = 1
        for age, item in enumerate(reversed(history)):
            weights[user, item] += decay**age
    inverse = np.linalg.inv(chosen.T @ chosen + 3 * np.eye(items + 1))
    similarity = -inverse / np.diag(inverse)
    np.fill_diagonal(similarity, 0)
    scores = EASE(penalty=3, decay=decay).fit(data, data.offsets[1:])(data, asking(data))
    np.testing.assert_allclose(scores, weights @ similarity, atol=1e-5)


def test_item_neighbours_are_the_dense_formula_across_blocks():
    data = drawn(users=31, items=BLOCK + 51)
    chosen = np.zeros((data.users, BLOCK + 52))
    for user in range(data.users):
        chosen[user, data.items[data.offsets[user] : data.offsets[user + 1]]] = 1
    unit = chosen / np.maximum(np.linalg.norm(chosen, axis=0), 1)
    cosines = unit.T @ unit
    np.fill_diagonal(cosines, 0)
    last = data.items[data.offsets[1:] - 1]
    scores = ItemKNN(neighbours=BLOCK + 51, decay=0).fit(data, data.offsets[1:])(data, asking(data))
    np.testing.assert_allclose(scores, cosines[last], atol=1e-6)


def test_ease_refuses_what_would_not_fit():
    data = interactions([[1, 2]], items=LARGEST + 1)
    with pytest.raises(InputError, match="40,001 are more than 40,000; raise min_count, or leave EASE out"):
        EASE().fit(data, data.offsets[1:])


@pytest.mark.parametrize("baseline", EVERY, ids=repr)
def test_events_after_the_stops_change_nothing(baseline):
    data = drawn()
    stops = data.offsets[:-1] + np.maximum(np.diff(data.offsets) // 2, 1)
    hidden = np.ones(data.events, bool)
    for start, stop in zip(data.offsets[:-1], stops, strict=True):
        hidden[start:stop] = False
    other = Interactions(**vars(data) | {"items": np.where(hidden, 1, data.items), "times": data.times + 7 * hidden})
    queries = Queries(data.offsets[:-1], stops, stops)
    np.testing.assert_array_equal(baseline.fit(data, stops)(data, queries), baseline.fit(other, stops)(other, queries))


@pytest.mark.parametrize("baseline", EVERY, ids=repr)
def test_the_other_queries_of_a_batch_change_nothing(baseline):
    data = drawn()
    score, queries = baseline.fit(data, data.offsets[1:]), asking(data)
    one_by_one = np.concatenate([score(data, part) for part in queries.batches(1)])
    assert one_by_one.dtype == np.float32
    assert one_by_one.shape == (data.users, data.item_count + 1)
    np.testing.assert_allclose(score(data, queries), one_by_one, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("baseline", EVERY, ids=repr)
def test_a_user_without_training_events_is_no_obstacle(baseline):
    data = drawn()
    stops = data.offsets[1:].copy()
    stops[[0, 5, 10]] = data.offsets[[0, 5, 10]]
    assert np.isfinite(baseline.fit(data, stops)(data, asking(data))).all()


@pytest.fixture(scope="module")
def movielens(tmp_path_factory):
    if not (DATA / "ml-1m").exists():
        pytest.skip(f"needs MovieLens 1M in {DATA}")
    data = prepare(DATA / "ml-1m", tmp_path_factory.mktemp("prepared"))
    return data, leave_one_out(data)


@pytest.mark.parametrize(
    ("baseline", "hit_rate", "ndcg"),
    [
        (Popularity(), 0.0369, 0.0180),
        (Markov(), 0.2144, 0.1259),
        pytest.param(ItemKNN(), 0.1626, 0.0860, marks=pytest.mark.slow),
        pytest.param(EASE(), 0.2272, 0.1278, marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_figures_of_movielens_1m(movielens, baseline, hit_rate, ndcg):
    data, split = movielens
    found = evaluate(baseline.fit(data, split.train_stops), data, split.test).metrics()
    assert found["hr_10"] == pytest.approx(hit_rate, abs=6e-5)
    assert found["ndcg_10"] == pytest.approx(ndcg, abs=6e-5)
    assert found["repeats"] == 0
