import math
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from headwise.attention import Additive, Linear, RelativeBias, Window, window
from headwise.export import write
from headwise.transformer import rollout
from headwise_recsys import retrieval
from headwise_recsys.graph import ExplanationGraph, RecommenderGraph, explanation_graph, recommender_graph
from headwise_recsys.model import PositionAndTime, SASRec, Sessions, Transition, sasrec

ITEMS, WINDOW = 29, 13
ALIKE = [3, 5, 7]  # items that always score the same
NAMES = ("history", "lengths", "k", "exclude", "allow")

Answer = tuple[Tensor, Tensor]


def scattered(blocks: int, heads: int = 1, **variant: Any) -> SASRec:
    torch.manual_seed(3)
    model = sasrec(ITEMS, window=WINDOW, width=22, blocks=blocks, heads=heads, hidden=17, **variant)
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        model.embedding.weight[0] = 0
    return model.eval().requires_grad_(False)


class Exported:
    """The same recommender in ONNX Runtime and in torch."""

    def __init__(self, path: Path, quantised: bool = False, **variant: Any) -> None:
        model = scattered(1, **variant)
        tables = [model.embedding, *([model.head.arriving] if isinstance(model.head, Transition) else [])]
        for table in tables:
            table.weight[ALIKE[1:]] = table.weight[ALIKE[0]].clone()
        self.module = RecommenderGraph(model, quantised=quantised)
        write(recommender_graph(model, quantised=quantised), path, {})
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, *inputs: Tensor) -> Answer:
        named = {name: value.numpy() for name, value in zip(NAMES, inputs, strict=True)}
        items, scores = self.session.run(["items", "scores"], named)
        return torch.from_numpy(items), torch.from_numpy(scores)


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"rotary": True, "gated": True, "swiglu": True},
        {"block": "hstu", "bias": lambda: RelativeBias(1, WINDOW), "cosine": True, "transition": 5},
        {"quantised": True},
    ],
    ids=["learned positions", "rotary gated swiglu", "hstu cosine transition", "quantised"],
)
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("graph") / "recommender.onnx", **request.param)


def asked(batch: int, time: int, k: int = 11, excluded: int = 1, allowed: int = 1, seed: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def padded(longest: int, least: int) -> tuple[Tensor, Tensor]:
        lengths = torch.randint(least, longest + 1, (batch,), generator=generator)
        lengths[0] = longest
        items = torch.randint(1, ITEMS + 1, (batch, longest), generator=generator)
        return items * (torch.arange(longest) < lengths[:, None]), lengths

    history, lengths = padded(time, 1)
    none = torch.zeros(batch, 1, dtype=torch.long)
    exclude = padded(excluded, 0)[0] if excluded > 1 else none
    allow = padded(allowed, 0)[0] if allowed > 1 else none
    return [history, lengths, torch.tensor(k), exclude, allow]


def by_the_rules(graph: Exported, inputs: list[Tensor]) -> list[dict[int, float]]:
    """Per row, the score of every item that may be recommended."""
    history, lengths, _, exclude, allow = inputs
    model = graph.module.model
    scores = model.scores(model.expects(history, lengths)).tolist()
    answers = []
    for row in range(len(history)):
        allowed = set(allow[row].tolist()) - {0} or set(range(1, ITEMS + 1))
        eligible = allowed - set(history[row].tolist()) - set(exclude[row].tolist())
        answers.append({item: scores[row][item] for item in eligible})
    return answers


def check(graph: Exported, inputs: list[Tensor], answer: Answer) -> None:
    items, scores = answer
    k = int(inputs[2])
    assert items.shape == scores.shape == (len(inputs[0]), k)
    for row, eligible in enumerate(by_the_rules(graph, inputs)):
        count = min(k, len(eligible))
        best = sorted(eligible.values(), reverse=True)[:count]
        assert scores[row].tolist() == pytest.approx(best + [-math.inf] * (k - count), abs=1e-5)
        returned = items[row, :count].tolist()
        assert len(set(returned)) == count
        assert [eligible[item] for item in returned] == pytest.approx(best, abs=1e-5)
        assert items[row, count:].tolist() == [0] * (k - count)


@pytest.mark.parametrize(
    ("batch", "time", "k", "excluded", "allowed"),
    [(1, 1, 1, 1, 1), (1, 13, 11, 5, 1), (2, 3, 29, 2, 4), (3, 2, 2, 1, 17), (31, 7, 11, 3, 23), (101, 13, 29, 11, 37)],
)
def test_the_graph_and_torch_both_follow_the_rules(
    graph: Exported, batch: int, time: int, k: int, excluded: int, allowed: int
) -> None:
    inputs = asked(batch, time, k, excluded, allowed)
    check(graph, inputs, graph(*inputs))
    check(graph, inputs, graph.module(*inputs))


@pytest.mark.parametrize("time", range(1, WINDOW + 1))
def test_any_time_up_to_the_window(graph: Exported, time: int) -> None:
    inputs = asked(2, time, seed=time)
    check(graph, inputs, graph(*inputs))


def test_what_was_seen_is_never_recommended(graph: Exported) -> None:
    history, lengths, k, exclude, allow = asked(17, 11, k=ITEMS)
    items, _ = graph(history, lengths, k, exclude, allow)
    assert not (items[:, :, None] == history[:, None].masked_fill(history[:, None] == 0, -1)).any()


def test_exclude_removes_and_changes_nothing_else(graph: Exported) -> None:
    history, lengths, k, exclude, allow = asked(1, 3)
    items, scores = graph(history, lengths, k, exclude, allow)
    without, lower = graph(history, lengths, k, items[:, [0, 2]], allow)
    assert without[0, :9].tolist() == [item for place, item in enumerate(items[0].tolist()) if place not in (0, 2)]
    torch.testing.assert_close(lower[0, 0], scores[0, 1])


def test_allow_is_all_there_is(graph: Exported) -> None:
    history, lengths = torch.tensor([[2, 11], [2, 11]]), torch.tensor([2, 2])
    exclude, allow = torch.tensor([[13], [13]]), torch.tensor([[2, 13, 17, 0], [0, 0, 0, 0]])
    items, scores = graph(history, lengths, torch.tensor(5), exclude, allow)
    assert items[0].tolist() == [17, 0, 0, 0, 0]
    assert scores[0, 1:].tolist() == [-math.inf] * 4
    assert scores[1].isfinite().all()


def test_padding_is_never_recommended_though_it_scores_more_than_others(graph: Exported) -> None:
    history, lengths, _, exclude, allow = asked(5, 3)
    model = graph.module.model
    below = model.scores(model.expects(history, lengths))[:, 1:].amin(1)
    assert (below < 0).all()  # padding scores 0
    items, scores = graph(history, lengths, torch.tensor(ITEMS), exclude, allow)
    assert ((items == 0) == (scores == -math.inf)).all()
    assert (items > 0).sum(1).tolist() == [ITEMS - len(set(row) - {0}) for row in history.tolist()]


def test_equal_scores_come_in_the_order_of_the_catalogue(graph: Exported) -> None:
    items, scores = graph(torch.tensor([[2]]), torch.tensor([1]), torch.tensor(28), *torch.zeros(2, 1, 1).long())
    places = [items[0].tolist().index(item) for item in ALIKE]
    assert places == list(range(places[0], places[0] + 3))
    assert len(set(scores[0, places].tolist())) == 1


@pytest.mark.parametrize("variant", [{}, {"cosine": True}])
@pytest.mark.parametrize("quantised", [False, True])
def test_a_large_catalogue_is_searched_in_blocks_and_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: dict[str, Any], quantised: bool
) -> None:
    monkeypatch.setattr(retrieval, "LARGE", ITEMS - 1)
    monkeypatch.setattr(retrieval, "BLOCK", 4)
    graph = Exported(tmp_path / "recommender.onnx", quantised, **variant)
    for batch, k in [(1, 1), (2, 3), (31, 11), (7, ITEMS)]:  # of 8 blocks, the last of them not full
        inputs = asked(batch, 7, k, 5, 13, seed=k)
        check(graph, inputs, graph(*inputs))
        check(graph, inputs, graph.module(*inputs))
    tables = [list(tensor.dims) for tensor in onnx.load(tmp_path / "recommender.onnx").graph.initializer]
    assert tables.count([32, 22]) == 1
    assert tables.count([30, 22]) == (1 if variant else 0)  # the embeddings, where those are not what is scored with


def test_batch_mates_and_padding_change_nothing(graph: Exported) -> None:
    history, lengths, k, exclude, allow = asked(7, 11, 5, 3, 19)
    items, scores = graph(history, lengths, k, exclude, allow)
    for row, length in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        alone, same = graph(history[one, :length], lengths[one], k, exclude[one], allow[one])
        torch.testing.assert_close(same, scores[one], atol=1e-5, rtol=0)
        assert [item in ALIKE or item for item in alone[0].tolist()] == [
            item in ALIKE or item for item in items[row].tolist()
        ]


def test_the_file_names_its_sizes(graph: Exported) -> None:
    inputs = {value.name: list(value.shape) for value in graph.session.get_inputs()}
    assert inputs == {
        "history": ["batch", "time"],
        "lengths": ["batch"],
        "k": [],
        "exclude": ["batch", "excluded"],
        "allow": ["batch", "allowed"],
    }
    assert [(value.name, value.shape[0]) for value in graph.session.get_outputs()] == [
        ("items", "batch"),
        ("scores", "batch"),
    ]


def test_more_items_than_there_are_cannot_be_asked_for(graph: Exported) -> None:
    for k in (0, ITEMS + 1):
        with pytest.raises(RuntimeError):
            graph.module(*asked(2, 3, k=k))


class Explained:
    """The explanation of one recommender in ONNX Runtime and in torch."""

    def __init__(self, path: Path, model: SASRec) -> None:
        self.module = ExplanationGraph(model)
        write(explanation_graph(self.module.model), path, {})
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, history: Tensor, lengths: Tensor) -> Tensor:
        named = {"history": history.numpy(), "lengths": lengths.numpy()}
        return torch.from_numpy(self.session.run(["attention"], named)[0])


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Explained:
    model = scattered(2, heads=11, rotary=True)  # heads narrower than the window
    return Explained(tmp_path_factory.mktemp("graph") / "explanation.onnx", model)


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (5, 2), (2, 3), (31, 7), (101, WINDOW)])
def test_an_explanation_is_the_last_items_rollout(explained: Explained, batch: int, time: int) -> None:
    history, lengths, *_ = asked(batch, time)
    shares = rollout(explained.module.model.attention_weights(history, lengths))
    want = torch.stack([shares[row, length - 1] for row, length in enumerate(lengths.tolist())])
    assert (want.sum(1) - 1).abs().max() < 1e-5
    for got in (explained(history, lengths), *explained.module(history, lengths)):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
        assert not got[history == 0].any()
        assert (got[history > 0] > 0).all()


def test_batch_mates_and_padding_explain_nothing(explained: Explained) -> None:
    history, lengths, *_ = asked(7, 11)
    together = explained(nn.functional.pad(history, (0, 2)), lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = explained(history[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-6, rtol=0)


def test_every_item_counts_in_an_explanation(explained: Explained) -> None:
    history, lengths, *_ = asked(1, 7)
    before = explained(history, lengths)
    for place in range(7):
        other = history.clone()
        other[0, place] = history[0, place] % ITEMS + 1
        assert not torch.allclose(explained(other, lengths), before, atol=1e-4)


TIMED: dict[str, dict[str, Any]] = {
    "bias": {"bias": lambda: PositionAndTime(1, WINDOW)},
    "hstu": {"bias": lambda: PositionAndTime(1, WINDOW), "block": "hstu"},
    "sessions": {"kernel": lambda: Sessions(22, gap=100)},
}


@pytest.mark.parametrize("variant", TIMED.values(), ids=TIMED)
def test_a_timed_model_takes_times_beside_the_history(tmp_path: Path, variant: dict[str, Any]) -> None:
    model = scattered(2, timed=True, **variant)
    graph, explained = recommender_graph(model), explanation_graph(model)
    write(graph, tmp_path / "recommender.onnx", {})
    write(explained, tmp_path / "explanation.onnx", {})
    recommends, explains = (
        onnxruntime.InferenceSession(tmp_path / f"{name}.onnx") for name in ("recommender", "explanation")
    )
    for batch, time in [(1, 1), (2, 3), (31, 7), (101, WINDOW)]:
        inputs = asked(batch, time)
        times = torch.arange(time).square() * 9 * (inputs[0] > 0)
        named = dict(zip(NAMES, (value.numpy() for value in inputs), strict=True)) | {"times": times.numpy()}
        _, want = graph.module(*inputs, times)
        torch.testing.assert_close(torch.from_numpy(recommends.run(["scores"], named)[0]), want, atol=1e-5, rtol=0)
        looked = {name: named[name] for name in ("history", "lengths", "times")}
        [want] = explained.module(*inputs[:2], times)
        torch.testing.assert_close(torch.from_numpy(explains.run(["attention"], looked)[0]), want, atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["additive", "window", "linear"])
def test_other_kernels_are_explained_too(name: str, tmp_path: Path) -> None:
    heads, reach = 2, 5
    kernels = {
        "additive": lambda: Additive(22 // heads),
        "window": lambda: Window(window(reach, 0)),
        "linear": Linear,
    }
    explained = Explained(tmp_path / "explanation.onnx", scattered(2, heads=heads, kernel=kernels[name]))
    for batch, time in [(1, 1), (2, 3), (31, 7), (7, 11), (101, WINDOW)]:  # a head is 11 wide
        history, lengths, *_ = asked(batch, time)
        [want] = explained.module(history, lengths)
        torch.testing.assert_close(explained(history, lengths), want, atol=1e-6, rtol=0)
        assert (want.sum(1) - 1).abs().max() < 1e-5
        assert not want[history == 0].any()
