"""The kernels under test. A new kernel joins every invariant by its line in KERNELS, a new mask by its line in MASKS."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headwise.attention import (
    Additive,
    Attention,
    Bias,
    Coordinates,
    Hierarchical,
    Kernel,
    Linear,
    Mask,
    Rotary,
    Softmax,
    Window,
    causal,
    chunk,
    every,
    leading,
    rows,
    same_segment,
    window,
)

HEAD_WIDTH, TIME, LENGTHS = 10, 17, (17, 1, 11)
PACKED = ((5, 7, 3), (11, 2), (13,))  # lengths of the sequences in each row of TIME tokens

MASKS = {
    "causal": causal,
    "same segment": same_segment,
    "causal, same segment": causal & same_segment,
    "chunk": chunk(3, left=5),
    "chunk, same segment": chunk(3, left=5) & same_segment,
}
SPARSE = {
    "window, same segment": window(6) & same_segment,
    "leading, same segment": causal & ((window(8) & every(2)) | leading(1)) & same_segment,
}


@dataclass(frozen=True)
class Case:
    """A kernel and what must be true of it.

    Attributes:
        kernel: makes one, given the head width.
        formula: the paper's, for one query and the keys and values that it sees: (kernel, [d], [n d], [n w], positions of the
            query [] and of the keys [n]) -> [w].
        adds: the rule that the kernel adds to its mask; None for one that adds nothing.
        masks: which of MASKS and SPARSE it is tested with; the strictest, with the segment rule, last.
        heads: pairs of (heads, kv_heads) that it supports.
        biased: whether it can add a bias.
    """

    kernel: Callable[[int], Kernel]
    formula: Callable[[Kernel, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    adds: Mask | None = None
    masks: tuple[str, ...] = (*MASKS,)
    heads: tuple[tuple[int, int], ...] = ((2, 2), (3, 1), (6, 2))
    biased: bool = True

    def rule(self, mask: Mask) -> Mask:
        """What a query sees when the tokens come with `mask`."""
        return mask if self.adds is None else mask & self.adds

    @property
    def rules(self) -> list[Mask]:
        return [(MASKS | SPARSE)[name] for name in self.masks]

    @property
    def strictest(self) -> Mask:
        return self.rules[-1]


def softmax_formula(kernel, query, keys, values, *places):
    weights = torch.exp(torch.einsum("d,nd->n", query, keys) / math.sqrt(len(query)))
    return torch.einsum("n,nw->w", weights, values) / weights.sum()


def additive_formula(kernel, query, keys, values, *places):
    weights = torch.exp(torch.einsum("d,nd->n", kernel.weight, torch.tanh(query + keys)))
    return torch.einsum("n,nw->w", weights, values) / weights.sum()


def linear_formula(kernel, query, keys, values, *places):
    weights = torch.einsum("d,nd->n", F.elu(query) + 1, F.elu(keys) + 1)
    return torch.einsum("n,nw->w", weights, values) / weights.sum()


def hierarchical_formula(kernel, query, keys, values, place, places):
    here, groups = place // GROUP, places // GROUP
    own = groups == here
    seen_keys, seen_values = [keys[own]], [values[own]]
    for group in sorted(set(groups.tolist()) - {int(here)}):
        members = groups == group
        scores = torch.einsum("c,nc->n", kernel.pool.context, torch.tanh(kernel.pool.inner(keys[members])))
        weights = scores.exp() / scores.exp().sum()
        seen_keys.append((weights[:, None] * keys[members]).sum(0, keepdim=True))
        seen_values.append((weights[:, None] * values[members]).sum(0, keepdim=True))
    return softmax_formula(kernel, query, torch.cat(seen_keys), torch.cat(seen_values))


GROUP = 3  # positions of a hierarchical group; 1009 is no multiple of it, 1011 is
PREFIXES = ("causal", "same segment", "causal, same segment")
PATTERNS = {
    "sliding": window(4),
    "both ways": window(5, ahead=2),
    "block-local": chunk(5, left=0),
    "dilated": window(9, ahead=3) & every(3),
    "leading": window(2, ahead=1) | leading(2),
    "dilated, leading": (window(4) & every(2)) | leading(1),
}

KERNELS = {
    "softmax": Case(lambda head_width: Softmax(), softmax_formula, masks=(*SPARSE, *MASKS)),
    "additive": Case(Additive, additive_formula),
    **{
        f"window, {name}": Case(
            lambda head_width, pattern=pattern: Window(pattern, block=3),
            softmax_formula,
            adds=pattern & same_segment,
        )
        for name, pattern in PATTERNS.items()
    },
    "linear": Case(lambda head_width: Linear(chunk=4), linear_formula, adds=same_segment, masks=PREFIXES, biased=False),
    "hierarchical": Case(
        lambda head_width: Hierarchical(head_width, GROUP),
        hierarchical_formula,
        adds=same_segment,
        masks=PREFIXES,
        biased=False,
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = set(metafunc.fixturenames)
    if "case" not in names:
        return
    if metafunc.module.__name__.endswith(
        "test_onnx"
    ):  # an export takes seconds, and these two hold all that patterns can be
        one_each = {
            n: c
            for n, c in KERNELS.items()
            if n.partition(", ")[2] not in PATTERNS.keys() - {"both ways", "dilated, leading"}
        }
        metafunc.parametrize("case", one_each.values(), ids=one_each)
        return
    if asked := names & {"mask", "apart"}:  # `apart`: only masks that keep the sequences of a row apart
        pairs = [
            (case, mask, f"{n}-{m}")
            for n, case in KERNELS.items()
            for m, mask in zip(case.masks, case.rules, strict=True)
        ]
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

    def build(case: Case, heads: tuple[int, int], *, rotary: bool = True, bias: Bias | None = None) -> Attention:
        return Attention(
            heads[0] * HEAD_WIDTH,
            heads[0],
            kv_heads=heads[1],
            kernel=case.kernel(HEAD_WIDTH),
            rotary=Rotary(HEAD_WIDTH) if rotary else None,
            bias=bias,
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
