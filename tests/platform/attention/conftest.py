"""The kernels under test. A new kernel joins every invariant by its line in KERNELS, a new mask by its line in MASKS."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from headwise.attention import Attention, Coordinates, Kernel, Mask, Rotary, causal, chunk, rows, same_segment, softmax

HEAD_WIDTH, TIME, LENGTHS = 10, 17, (17, 1, 11)
PACKED = ((5, 7, 3), (11, 2), (13,))  # lengths of the sequences in each row of TIME tokens

MASKS = {
    "causal": causal,
    "same segment": same_segment,
    "causal, same segment": causal & same_segment,
    "chunk": chunk(3, left=5),
    "chunk, same segment": chunk(3, left=5) & same_segment,
}


@dataclass(frozen=True)
class Case:
    """A kernel and what must be true of it.

    Attributes:
        kernel: makes one, given the head width.
        formula: the paper's, for one query and the keys and values that it sees: (kernel, [d], [n d], [n w]) -> [w].
        masks: which of MASKS it can follow; the strictest, with the segment rule, last.
        heads: pairs of (heads, kv_heads) that it supports.
        elsewhere: whether queries may look at other tokens than themselves, as with a cache or in cross-attention.
    """

    kernel: Callable[[int], Kernel]
    formula: Callable[[Kernel, Tensor, Tensor, Tensor], Tensor]
    masks: tuple[str, ...] = tuple(MASKS)
    heads: tuple[tuple[int, int], ...] = ((2, 2), (3, 1), (6, 2))
    elsewhere: bool = True

    @property
    def rules(self) -> list[Mask]:
        return [MASKS[name] for name in self.masks]

    @property
    def strictest(self) -> Mask:
        return self.rules[-1]


def softmax_formula(kernel: Kernel, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    weights = torch.exp(torch.einsum("d,nd->n", query, keys) / math.sqrt(len(query)))
    return torch.einsum("n,nw->w", weights, values) / weights.sum()


KERNELS = {
    "softmax": Case(lambda head_width: softmax, softmax_formula),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = set(metafunc.fixturenames)
    if "case" not in names:
        return
    if asked := names & {"mask", "apart"}:  # `apart`: only masks that keep the sequences of a row apart
        pairs = [(case, MASKS[m], f"{n}-{m}") for n, case in KERNELS.items() for m in case.masks]
        chosen = [pytest.param(c, m, id=i) for c, m, i in pairs if asked == {"mask"} or "same segment" in m.name]
        metafunc.parametrize(("case", asked.pop()), chosen)
    elif "heads" in names:
        pairs = [(case, h, f"{n}-{h[0]} over {h[1]}") for n, case in KERNELS.items() for h in case.heads]
        metafunc.parametrize(("case", "heads"), [pytest.param(c, h, id=i) for c, h, i in pairs])
    else:
        metafunc.parametrize("case", KERNELS.values(), ids=KERNELS)


@pytest.fixture(autouse=True)
def _seeded_on_one_thread() -> Iterator[None]:
    # For tensors this small, threads only wait for each other: 9 times the time on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def attention() -> Callable[..., Attention]:
    """Makes an attention around a case's kernel, in double precision."""

    def build(case: Case, heads: tuple[int, int], *, rotary: bool = True) -> Attention:
        return Attention(
            heads[0] * HEAD_WIDTH,
            heads[0],
            kv_heads=heads[1],
            kernel=case.kernel(HEAD_WIDTH),
            rotary=Rotary(HEAD_WIDTH) if rotary else None,
        ).double()

    return build


@pytest.fixture
def padded() -> Coordinates:
    """Three rows of one sequence each: a full one, one of a single token, and one in between."""
    return rows(torch.tensor(LENGTHS), TIME)


@pytest.fixture
def packed() -> Coordinates:
    """Three rows of several sequences each, and padding at the end."""
    position, segment = (
        torch.zeros(len(PACKED), TIME, dtype=torch.long),
        torch.zeros(len(PACKED), TIME, dtype=torch.long),
    )
    for row, lengths in enumerate(PACKED):
        start = 0
        for number, length in enumerate(lengths, 1):
            position[row, start : start + length] = torch.arange(length)
            segment[row, start : start + length] = number
            start += length
    return Coordinates(position, segment, torch.zeros_like(position))


@pytest.fixture
def pairs() -> Callable[[Mask, Coordinates, Coordinates], Tensor]:
    """A mask asked about one query and one key at a time: [batch, queries, keys]."""

    def ask(mask: Mask, at: Coordinates, of: Coordinates) -> Tensor:
        batch, queries, keys = at.position.shape[0], at.position.shape[1], of.position.shape[1]
        answers = [
            bool(mask.sees(at.map(lambda c: c[b, q]), of.map(lambda c: c[b, k])))  # noqa: B023
            for b in range(batch)
            for q in range(queries)
            for k in range(keys)
        ]
        return torch.tensor(answers).view(batch, queries, keys)

    return ask
