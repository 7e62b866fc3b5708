import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import headwise_pipelines.recsys.export as exporting
from headwise.attention import Cache
from headwise.errors import InputError, ParityError
from headwise.export import Graph, Runner, write
from headwise.model_folder import ModelCard, read_card
from headwise_pipelines.recsys.export import export, settings
from headwise_pipelines.recsys.presets import ExportSettings
from headwise_pipelines.recsys.served import Served
from headwise_recsys import graph
from headwise_recsys.batches import ask
from headwise_recsys.beside import Beside
from headwise_recsys.interactions import Interactions
from headwise_recsys.item_features import Tags
from headwise_recsys.metrics import ranks
from headwise_recsys.model import PositionAndTime, SASRec, sasrec
from headwise_recsys.quantised import QuantisedTable
from headwise_recsys.service import load
from headwise_recsys.splits import leave_one_out

ITEMS, WINDOW, USERS = 29, 7, 53


@pytest.fixture(scope="module")
def data() -> Interactions:
    rng = np.random.default_rng(3)
    lengths = rng.integers(3, 17, USERS)
    return Interactions(
        items=rng.integers(1, ITEMS + 1, lengths.sum()).astype(np.int32),
        times=None,
        offsets=np.cumsum([0, *lengths]),
        user_ids=list(range(USERS)),
        item_ids=[f"i{number}" for number in range(101, 101 + ITEMS)],
        titles=["Ä", *[None] * (ITEMS - 1)],
        name="made",
        fingerprint="",
        source="",
    )


@pytest.fixture
def model() -> SASRec:
    torch.manual_seed(3)
    return sasrec(ITEMS, window=WINDOW, width=10, blocks=1, heads=1).eval()


@pytest.fixture(scope="module")
def graph_file() -> dict[str, bytes]:
    return {}


@pytest.fixture
def written_once(monkeypatch: pytest.MonkeyPatch, graph_file: dict[str, bytes]) -> None:
    """The same model's graphs are traced once, seconds, and copied after."""

    def copied(graph: Graph, path: Path, metadata: dict[str, str]) -> None:
        if path.name not in graph_file:
            write(graph, path, metadata)
            graph_file[path.name] = path.read_bytes()
        path.write_bytes(graph_file[path.name])

    monkeypatch.setattr(exporting, "write", copied)


def card(model: SASRec) -> ModelCard:
    return ModelCard("recommender", "made", settings(model), {"run": "r1"}, {"ndcg_10": 0.5}, {})


@pytest.mark.usefixtures("written_once")
def test_the_folder_holds_a_proved_graph_and_the_ids(data: Interactions, model: SASRec, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "made"
    proved = export(model, data, leave_one_out(data).valid, folder, card(model))
    assert read_card(folder).parity == proved.parity
    assert proved.parity["rows"] == len(leave_one_out(data).valid)
    assert proved.parity["max_difference"] < 1e-5
    assert proved.parity["explanation"]["rows"] == proved.parity["rows"]
    assert proved.parity["explanation"]["max_difference"] < 1e-5
    assert read_card(folder).files.keys() == {
        "recommender.onnx",
        "explanation.onnx",
        "examples.npz",
        "vectors.npy",
        "items.json",
        "titles.json",
    }
    reads = dict.fromkeys(("timed", "query_time", "event_types", "user_features", "repeats"), False)
    assert proved.settings == {"window": WINDOW, "max_k": ITEMS, **reads}
    assert json.loads((folder / "items.json").read_text()) == data.item_ids
    assert json.loads((folder / "titles.json").read_text()) == data.titles
    assert sorted(path.name for path in folder.parent.iterdir()) == ["made"]
    runs = onnxruntime.InferenceSession(folder / "recommender.onnx").get_modelmeta().custom_metadata_map
    assert runs == {"headwise.kind": "recommender", "headwise.run": "r1"}


@pytest.mark.usefixtures("written_once")
def test_a_graph_that_is_not_the_model_leaves_nothing(
    data: Interactions, model: SASRec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Moved(Runner):
        def __init__(self, module: Any, *rest: Any) -> None:
            super().__init__(module, *rest)
            with torch.no_grad():
                module.model.embedding.weight[11, 3] += 0.01

    monkeypatch.setattr(exporting, "Runner", Moved)
    with pytest.raises(ParityError, match=r"scores differ by up to .* top-10 lists differ; nothing was exported"):
        export(model, data, leave_one_out(data).valid, tmp_path / "made", card(model))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("written_once")
def test_an_explanation_that_is_not_the_models_leaves_nothing(
    data: Interactions, model: SASRec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Moved(Runner):
        def by_graph(self, inputs: Any) -> Any:
            answer = super().by_graph(inputs)
            return {"attention": answer["attention"][:, ::-1]} if "attention" in answer else answer

    monkeypatch.setattr(exporting, "Runner", Moved)
    with pytest.raises(ParityError, match=r"and [1-9]\d* items looked at most differ; nothing was exported"):
        export(model, data, leave_one_out(data).valid, tmp_path / "made", card(model))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("want", "got", "changed"),
    [
        ([[0.2, 0.5, 0.3]], [[0.2, 0.5, 0.3]], 0),
        ([[0.2, 0.5, 0.3]], [[0.2, 0.3, 0.5]], 1),
        ([[0.2, 0.4, 0.4]], [[0.2, 0.39999, 0.40001]], 0),
        ([[0.5, 0.5], [0.9, 0.1], [0.4, 0.6]], [[0.4, 0.6], [0.1, 0.9], [0.6, 0.4]], 2),
    ],
)
def test_only_a_swap_of_equal_shares_is_no_change(want: Any, got: Any, changed: int) -> None:
    named = ({"attention": np.array(each)} for each in (want, got))
    assert exporting._changed_favourites(*named) == changed


def answers(items: list[int], scores: list[float]) -> dict[str, np.ndarray]:
    return {"items": np.array([items]), "scores": np.array([scores], np.float32)}


INF = float("inf")


@pytest.mark.parametrize(
    ("want", "scores", "got", "changed"),
    [
        ([2, 3, 5], [0.9, 0.5, 0.1], [2, 3, 5], 0),
        ([2, 3, 5], [0.9, 0.5, 0.1], [3, 2, 5], 1),
        ([2, 3, 5], [0.9, 0.5, 0.5], [2, 5, 3], 0),
        ([2, 3, 5], [0.5, 0.5, 0.1], [3, 2, 5], 0),
        ([2, 3, 5], [0.5, 0.499999, 0.1], [3, 2, 5], 0),
        ([2, 3, 5], [0.5, 0.5, 0.1], [3, 2, 7], 1),
        ([2, 3, 0], [0.5, 0.1, -INF], [2, 3, 7], 1),
        ([2, 0, 0], [0.5, -INF, -INF], [2, 0, 0], 0),
    ],
)
def test_only_a_swap_of_equal_scores_is_no_change(
    want: list[int], scores: list[float], got: list[int], changed: int
) -> None:
    assert exporting._changed_lists(answers(want, scores), answers(got, scores)) == changed


def test_items_that_score_the_same_may_come_in_any_order(
    data: Interactions, model: SASRec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        model.embedding.weight[1::2] = model.embedding.weight[2::2][:, [1, 0, *range(2, 10)]].mean(0)
    swaps = []

    class Swapped(Runner):
        def by_module(self, inputs: Any) -> Any:
            answer = super().by_module(inputs)
            if "scores" not in answer:
                return answer
            same = np.isclose(answer["scores"][:, :-1], answer["scores"][:, 1:], rtol=0, atol=1e-6)
            for row, place in zip(*np.nonzero(same), strict=True):
                items = answer["items"][row]
                items[[place, place + 1]] = items[[place + 1, place]]
                swaps.append((row, place))
            return answer

    monkeypatch.setattr(exporting, "Runner", Swapped)
    export(model, data, leave_one_out(data).valid, tmp_path / "made", card(model))
    assert swaps


def test_a_quantised_graph_is_proved_by_what_it_finds(data: Interactions, model: SASRec, tmp_path: Path) -> None:
    how = ExportSettings(quantised=True, recall=0.97)
    proved = export(model, data, leave_one_out(data).valid, tmp_path / "made", card(model), how)
    parity = read_card(tmp_path / "made").parity
    assert parity == proved.parity
    assert parity["rows"] == len(leave_one_out(data).valid)
    assert parity["recall_10"] == 1  # of so few items all are looked at again
    assert parity["ndcg_10"] == parity["ndcg_10_exact"] > 0


def test_a_quantised_graph_that_finds_too_little_is_not_exported(
    data: Interactions, model: SASRec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "looked_at", lambda k, rows: k)
    monkeypatch.setattr(QuantisedTable, "__init__", coarse(QuantisedTable.__init__))
    with pytest.raises(
        ParityError, match=r"finds 0\.\d+ of the exact top 10 on \d+ validation queries \(export.recall: 0.99\)"
    ):
        export(model, data, leave_one_out(data).valid, tmp_path / "made", card(model), ExportSettings(quantised=True))
    assert not (tmp_path / "made").exists()


def coarse(init: Any) -> Any:
    def rounded(self: QuantisedTable, table: torch.Tensor) -> None:
        init(self, table)
        self.codes = self.codes // 64 * 64

    return rounded


def test_a_graph_with_a_memory_is_proved_event_by_event(data: Interactions, model: SASRec, tmp_path: Path) -> None:
    proved = export(
        model, data, leave_one_out(data).valid, tmp_path / "made", card(model), ExportSettings(incremental=True)
    )
    assert proved.parity["append"]["rows"] == len(leave_one_out(data).valid)
    assert proved.parity["append"]["max_difference"] < 1e-5
    assert "append.onnx" in read_card(tmp_path / "made").files


def test_a_graph_that_forgets_is_not_exported(
    data: Interactions, model: SASRec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Cache, "last", lambda cache, slots: Cache(cache.key[:, :, :slots] * 0, cache.value[:, :, :slots], cache.at)
    )
    with pytest.raises(ParityError, match="the exported graph is not the model"):
        export(model, data, leave_one_out(data).valid, tmp_path / "made", card(model), ExportSettings(incremental=True))


@pytest.mark.slow
def test_a_timed_model_is_served_with_the_times_of_events(data: Interactions, tmp_path: Path) -> None:
    torch.manual_seed(3)
    timed = sasrec(
        ITEMS, window=WINDOW, width=10, blocks=1, heads=1, bias=lambda: PositionAndTime(1, WINDOW), timed=True
    )
    for name, table in timed.named_parameters():
        if ".bias." in name:
            torch.nn.init.normal_(table)
    rng = np.random.default_rng(5)
    dated = replace(data, times=np.sort(rng.integers(0, 10**6, data.events)))
    export(timed.eval(), dated, leave_one_out(dated).valid, tmp_path / "timed", card(timed))
    service = load(tmp_path / "timed")
    history, times = ["i105", "i103", "i111"], [10.9, 4000.2, 90_000.0]
    answer = service.recommend(history, 5, times=times, explain=True)
    expected = timed.scores(
        timed.expects(torch.tensor([[5, 3, 11]]), torch.tensor([3]), torch.tensor([[10, 4000, 90_000]]))
    )[0]
    best = expected.index_fill(0, torch.tensor([0, 5, 3, 11]), -torch.inf).topk(5).indices
    assert [item.id for item in answer.items] == [f"i{100 + int(item)}" for item in best]
    left_out = timed.scores(timed.expects(torch.tensor([[5, 11]]), torch.tensor([2]), torch.tensor([[10, 90_000]])))[0]
    fall = (expected - left_out)[best[0]].item()
    assert answer.items[0].leave_one_out[1] == pytest.approx(fall, abs=1e-4)
    assert answer.items != service.recommend(history, 5, times=[0, 1, 2]).items
    long, when = [f"i{number}" for number in range(112, 121)], range(0, 9000, 1000)  # two more than the window holds
    shown = service.recommend(long, 5, times=when).items
    assert shown == service.recommend(long[2:], 5, times=when[2:], exclude=long[:2]).items
    unknown = service.recommend_many([["x", *history]], 5, beside=[Beside([1, *map(int, times)])])[0]
    assert unknown == [item.id for item in answer.items]
    with pytest.raises(InputError, match=r"times needs a number for each of the 3 items of history, it has none"):
        service.recommend(history, 5)
    with pytest.raises(InputError, match=r"it has 2"):
        service.recommend(history, 5, times=times[:2])


@pytest.mark.slow
def test_a_model_that_reads_the_query_s_time_is_served_with_it(
    data: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    model = sasrec(ITEMS, window=WINDOW, width=10, blocks=1, heads=1, query_time=True).eval()
    torch.nn.init.normal_(model.context["at"].table)
    rng = np.random.default_rng(5)
    dated = replace(data, times=np.sort(rng.integers(0, 10**6, data.events)))
    made = export(model, dated, leave_one_out(dated).valid, tmp_path / "clock", card(model))
    assert made.parity["max_difference"] < 1e-4
    service = load(tmp_path / "clock")
    history, times = ["i105", "i103", "i111"], [10.9, 4000.2, 90_000.0]

    def best(at: int) -> list[str]:
        given = torch.tensor([[5, 3, 11]]), torch.tensor([3]), torch.tensor([[10, 4000, 90_000]]), torch.tensor([at])
        scores = model.scores(model.expects(*given))[0].index_fill(0, torch.tensor([0, 5, 3, 11]), -torch.inf)
        return [f"i{100 + int(item)}" for item in scores.topk(5).indices]

    def shown(**request: float) -> list[str]:
        return [item.id for item in service.recommend(history, 5, times=times, **request).items]

    assert shown(at=90_003.9) == best(90_003)
    assert shown(at=9_000_000) == best(9_000_000) != best(90_003)
    monkeypatch.setattr("headwise_recsys.beside.time.time", lambda: 91_234.5)
    assert shown() == best(91_234)
    monkeypatch.setattr("headwise_recsys.beside.time.time", lambda: 89_999.0)
    assert shown() == best(90_000)
    explained = service.recommend(history, 5, times=times, at=90_003, explain=True).items[0]
    without = torch.tensor([[5, 11]]), torch.tensor([2]), torch.tensor([[10, 90_000]]), torch.tensor([90_003])
    fall = explained.score - model.scores(model.expects(*without))[0, int(explained.id[1:]) - 100].item()
    assert explained.leave_one_out[1] == pytest.approx(fall, abs=1e-4)
    with pytest.raises(InputError, match=r"at \(89999\) is before the last item of history was chosen \(90000\)"):
        service.recommend(history, 5, times=times, at=89_999)


@pytest.mark.slow
def test_types_and_users_are_served_as_they_were_learned(data: Interactions, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    team = Tags("team", ("blue", "red"), rng.integers(0, 3, (data.users + 1, 1)).astype(np.int32))
    types = rng.integers(1, 3, data.events).astype(np.int16)
    told = replace(data, types=types, type_names=("buy", "view"), user_features=(team,))
    torch.manual_seed(3)
    model = sasrec(ITEMS, window=WINDOW, width=10, blocks=1, heads=1, types=2, user=2).eval()
    torch.nn.init.normal_(model.context["types"].vectors.weight[1:])
    made = export(
        model, told, leave_one_out(told).valid, tmp_path / "told", card(model), ExportSettings(incremental=True)
    )
    assert made.parity["append"]["max_difference"] < 1e-4
    service = load(tmp_path / "told")

    def best(types: list[int], user: list[float]) -> list[str]:
        given = torch.tensor([[5, 3, 11]]), torch.tensor([3]), torch.tensor([types]), torch.tensor([user])
        scores = model.scores(model.expects(*given))[0].index_fill(0, torch.tensor([0, 5, 3, 11]), -torch.inf)
        return [f"i{100 + int(item)}" for item in scores.topk(5).indices]

    def shown(**request: Any) -> list[str]:
        return [item.id for item in service.recommend(["i105", "i103", "i111"], 5, **request).items]

    assert shown(events=["view", "buy", "view"], user={"team": "red"}) == best([2, 1, 2], [0.0, 1.0])
    assert shown(events=["buy", "buy", "buy"]) == best([1, 1, 1], [0.0, 0.0])
    served = Served(tmp_path / "told", told)
    queries = leave_one_out(told).test
    asked = ask(told, queries, WINDOW, model.beside)
    scores = model.scores(model.expects(asked.history, asked.lengths, *asked.beside.values())).detach().numpy()
    np.testing.assert_array_equal(served.answers(told, queries, depth=ITEMS).ranks, ranks(scores, told, queries))


@pytest.mark.slow
def test_repeats_are_recommended_where_the_model_has_them(data: Interactions, tmp_path: Path) -> None:
    torch.manual_seed(3)
    again = sasrec(ITEMS, window=WINDOW, width=10, blocks=1, heads=1, repeats=True).eval()
    export(again, data, leave_one_out(data).valid, tmp_path / "again", card(again))
    service = load(tmp_path / "again")
    assert {item.id for item in service.recommend(["i105", "i103"], ITEMS).items} == set(data.item_ids)
    assert "i104" not in {item.id for item in service.recommend(["i105", "i104"], ITEMS, exclude=["i104"]).items}
    assert len(service.recommend(data.item_ids, ITEMS).items) == ITEMS  # those beyond the window too
