from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from headwise.attention import Additive, ALiBi, Hierarchical, Linear, RelativeBias, Window, window
from headwise.export import Graph, write
from headwise_recsys.graph import RecommenderGraph
from headwise_recsys.incremental import AppendGraph, append_graph
from headwise_recsys.model import PositionAndTime, SASRec, Sessions, sasrec

ITEMS, WINDOW, K = 29, 13, 11
LENGTHS = [1, 5, 13, 8]  # of the histories of a batch, when all have come

VARIANTS: dict[str, dict[str, Any]] = {
    "learned positions": {},
    "rotary gated swiglu": {"rotary": True, "gated": True, "swiglu": True},
    "alibi cosine transition": {"bias": lambda: ALiBi(1), "cosine": True, "transition": 5},
    "hstu": {"block": "hstu", "bias": lambda: RelativeBias(1, WINDOW)},
    "window": {"kernel": lambda: Window(window(5, 0))},
    "additive": {"kernel": lambda: Additive(22)},
    "hierarchical": {"kernel": lambda: Hierarchical(22, 4)},
    "sessions": {"kernel": lambda: Sessions(22, 3600), "timed": True},
    "timed": {"bias": lambda: PositionAndTime(1, WINDOW), "timed": True},
    "types and user": {"types": 3, "user": 5, "rotary": True},
}


def scattered(**variant: Any) -> SASRec:
    torch.manual_seed(3)
    model = sasrec(ITEMS, window=WINDOW, width=22, blocks=2, heads=1, hidden=17, **variant)
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        model.embedding.weight[0] = 0
    return model.eval().requires_grad_(False)


def exported(graph: Graph, path: Path) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    write(graph, path, {})
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        answers = session.run(list(graph.outputs), {name: value.numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(value) for name, value in zip(graph.outputs, answers, strict=True)}

    return run


def histories() -> tuple[list[list[int]], list[list[int]]]:
    rng = np.random.default_rng(3)
    items = [rng.integers(1, ITEMS + 1, length).tolist() for length in LENGTHS]
    return items, [(np.cumsum(rng.integers(1, 9000, length))).tolist() for length in LENGTHS]


def padded(rows: list[list[int]], left: bool) -> Tensor:
    longest = max(1, *map(len, rows))
    return torch.tensor(
        [[0] * (longest - len(row)) + row if left else row + [0] * (longest - len(row)) for row in rows]
    )


def empty(model: SASRec, batch: int, slots: int) -> dict[str, Tensor]:
    states = model.encoder.empty_states(batch, slots)
    nothing = {
        "history": torch.zeros(batch, slots, dtype=torch.long),
        "keys": torch.stack([state.attention.key for state in states], 1),
        "values": torch.stack([state.attention.value for state in states], 1),
    }
    return nothing | ({"past_times": nothing["history"]} if model.timed else {})


def remembered(answer: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("next_"): value for name, value in answer.items() if name.startswith("next_")}


QUICK = ("learned positions", "types and user")


@pytest.mark.parametrize(
    "variant", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_event_by_event_the_answer_is_that_to_the_whole_history(variant: str, tmp_path: Path) -> None:
    model = scattered(**VARIANTS[variant])
    append, whole = exported(append_graph(model), tmp_path / "append.onnx"), RecommenderGraph(model)
    lists = {"k": torch.tensor(K), "exclude": torch.tensor([[2, 3]] * 4), "allow": torch.zeros(4, 1, dtype=torch.long)}
    lists["allow"] = torch.tensor([[0] * 15, list(range(3, 18)), [0] * 15, [0] * 15])
    items, times = histories()
    memory, users = empty(model, len(items), WINDOW), torch.rand(4, 5)
    # At first as many as each row has, then as many for each row that has more.
    stops = [[1, 3, 7, 2], [1, 4, 8, 3], [1, 5, 9, 4], [1, 5, 13, 8]]
    starts = [0] * 4
    for stop in stops:
        rows = [row for row in range(4) if stop[row] > starts[row]]
        new = {"events": padded([items[row][starts[row] : stop[row]] for row in rows], left=True)}
        known = {"times": times, "types": [[1 + item % 3 for item in row] for row in items]}
        for name in model.beside:
            if name == "user":
                new[name] = users[rows]
                continue
            new[name] = padded([known[name][row][starts[row] : stop[row]] for row in rows], left=True)
        asked = {name: value if name == "k" else value[rows] for name, value in lists.items()}
        answer = append(new | {name: value[rows] for name, value in memory.items()} | asked)
        for name, value in remembered(answer).items():
            memory[name] = memory[name].index_copy(0, torch.tensor(rows), value)
        history = padded([items[row][: stop[row]] for row in rows], left=False)
        moments = [
            users[rows] if name == "user" else padded([known[name][row][: stop[row]] for row in rows], left=False)
            for name in model.beside
        ]
        lengths = torch.tensor([stop[row] for row in rows])
        want = whole(history, lengths, asked["k"], asked["exclude"], asked["allow"], *moments)
        assert torch.equal(answer["items"], want[0])
        torch.testing.assert_close(answer["scores"], want[1], atol=2e-5, rtol=0)
        starts = stop
    assert memory["history"].tolist() == padded([[0] * (WINDOW - len(row)) + row for row in items], left=True).tolist()


def test_a_memory_for_fewer_events_is_enough_for_a_short_history() -> None:
    model = scattered()
    append, memory = AppendGraph(model), empty(model, 1, 4)
    lists = (torch.tensor(K), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
    for item in (3, 5, 7, 2):
        answer = append(torch.tensor([[item]]), *memory.values(), *lists)
        memory = dict(zip(memory, answer[2:], strict=True))
    want = RecommenderGraph(model)(torch.tensor([[3, 5, 7, 2]]), torch.tensor([4]), *lists)
    assert torch.equal(answer[0], want[0])
    assert memory["history"].tolist() == [[3, 5, 7, 2]]


def test_what_is_in_empty_slots_is_never_seen() -> None:
    model = scattered(block="hstu")
    memory = empty(model, 1, WINDOW)
    lists = (torch.tensor(K), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
    event = torch.tensor([[3]])
    want = AppendGraph(model)(event, *memory.values(), *lists)
    memory["keys"], memory["values"] = torch.randn_like(memory["keys"]), torch.randn_like(memory["values"])
    torch.testing.assert_close(AppendGraph(model)(event, *memory.values(), *lists)[1], want[1])


def test_beyond_the_window_learned_positions_end() -> None:
    model = scattered()
    full = empty(model, 1, WINDOW) | {"history": torch.ones(1, WINDOW, dtype=torch.long)}
    lists = (torch.tensor(K), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
    with pytest.raises(IndexError):
        AppendGraph(model)(torch.tensor([[3]]), *full.values(), *lists)


def test_what_knows_when_the_next_one_is_asked_for_cannot_be_remembered() -> None:
    with pytest.raises(ValueError, match="becomes another once that came"):
        AppendGraph(scattered(query_time=True))


def test_linear_attention_has_no_keys_to_remember() -> None:
    with pytest.raises(ValueError, match="keys and values: linear attention has none"):
        AppendGraph(scattered(kernel=Linear))
