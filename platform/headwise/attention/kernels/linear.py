"""Attention whose cost does not grow with the past: sums in the place of the past's keys and values."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention.biases import Bias
from headwise.attention.coordinates import Coordinates
from headwise.attention.kernels._blocks import Layout, gather, layout, locate, restore
from headwise.attention.masks import Mask, same_segment
from headwise.attention.view import View

_CHUNK = 64  # tokens between two sums; within a chunk every pair is evaluated


class Sums(NamedTuple):
    """All that linear attention remembers.

    Attributes:
        totals: sum over the past of phi(k) [v, 1]'.
        segment: the sequence that they were summed over.
    """

    totals: Float[Tensor, "batch heads head_width value_width_and_1"]
    segment: Int[Tensor, " batch"]


class Linear(nn.Module):
    """Linear attention (Katharopoulos et al. 2020, eq. 4 and 9), with phi(x) = elu(x) + 1 (eq. 7).

        o_i = sum_j (phi(q_i) . phi(k_j)) v_j / sum_j (phi(q_i) . phi(k_j)), over the keys j that i may see

    Time and memory are length x (chunk + head width): every pair within a chunk, and for the rest phi(q_i) times the sum of
    phi(k_j) [v_j, 1]' over the chunks before (and those after, where the mask is not causal). Step by step it needs the sums
    alone, whatever the length. Without a softmax it cannot single a key out. That the sums are taken once a chunk is the
    chunkwise form of Hua et al. 2022 ("Transformer Quality in Linear Time", section 3.3).

    It follows `causal` and `same_segment`, alone or together; sequences are kept apart whatever the mask says. Between other
    tokens than themselves (cross-attention) it evaluates every pair.

    Args:
        chunk: tokens between two sums.
    """

    def __init__(self, *, chunk: int = _CHUNK) -> None:
        super().__init__()
        self.chunk = chunk

    def check(self, mask: Mask, *, biased: bool) -> None:
        """Refuse masks other than these two, and biases.

        Raises:
            ValueError: of another mask, or a bias; no sum can leave out single keys, or add to single scores.
        """
        if not mask.is_plain:
            raise ValueError(
                f"Linear cannot follow the mask {mask}: only causal and same_segment; Window and Softmax can"
            )
        if biased:
            raise ValueError("Linear has no scores that a bias could be added to: add positions to the tokens")

    def forward(
        self,
        query: Float[Tensor, "batch heads queries head_width"],
        key: Float[Tensor, "batch kv_heads keys head_width"],
        value: Float[Tensor, "batch kv_heads keys value_width"],
        view: View,
        bias: Bias | None = None,
    ) -> Float[Tensor, "batch heads queries value_width"]:
        """As every kernel."""
        self.check(view.mask, biased=bias is not None)
        dtype, (query, key, value) = query.dtype, _features(query, key, value)
        rule = view.mask & same_segment
        if not view.within:
            return _divide(_pairs(query, key, value, view.once(Linear, lambda: View(view.at, rule, view.of))), dtype)
        plan, here, chunks = view.once((Linear, self.chunk), lambda: self._plan(view.at, rule))
        query, key, value = (gather(heads, plan.queries) for heads in (query, key, value))
        sums = _pairs(query, key, value, here) + chunks.before(query, key, value)
        if rule.ahead > 0:
            sums = sums + chunks.after(query, key, value)
        return _divide(restore(sums, plan, view.at.segment.shape[0]), dtype)

    def empty_memory(self, batch: int, heads: int, head_width: int, like: Tensor) -> Sums:
        """Sums of nothing, in single precision at least."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        return Sums(
            like.new_zeros(batch, heads, head_width, head_width + 1, dtype=dtype),
            torch.zeros(batch, dtype=torch.long, device=like.device),
        )

    def step(
        self,
        query: Float[Tensor, "batch heads queries head_width"],
        key: Float[Tensor, "batch kv_heads queries head_width"],
        value: Float[Tensor, "batch kv_heads queries value_width"],
        at: Coordinates,
        mask: Mask,
        memory: Sums,
    ) -> tuple[Float[Tensor, "batch heads queries value_width"], Sums]:
        """The answer for the next tokens given the sums of those before them, and the sums with them.

        Among the next tokens themselves every pair is evaluated: give a long beginning to `forward`, or in pieces.
        """
        self.check(mask, biased=False)
        dtype, (query, key, value) = query.dtype, _features(query, key, value)
        fresh = _pairs(query, key, value, View(at, mask & same_segment))
        continued = (at.segment == memory.segment[:, None])[:, None, :, None]
        answer = _divide(fresh + (query * continued) @ memory.totals, dtype)

        place = torch.arange(at.segment.shape[1], device=at.segment.device)
        last = (place * (at.segment > 0)).argmax(1, keepdim=True)  # the last real token; the first, were there none
        segment = at.segment.gather(1, last).squeeze(1)
        segment = torch.where(segment > 0, segment, memory.segment)
        same = (at.segment == segment[:, None]) & (at.segment > 0)
        kept = (segment == memory.segment)[:, None, None, None]
        fresh = (key * same[:, None, :, None]).transpose(2, 3) @ value
        totals = memory.totals * kept + fresh.to(memory.totals.dtype)
        return answer, Sums(totals, segment)

    def _plan(self, at: Coordinates, rule: Mask) -> tuple[Layout, View, "_Chunks"]:
        plan = layout(at.segment.shape[1], self.chunk, like=at.segment)
        here = locate(at, plan.queries)
        segment = here.segment.unflatten(0, (at.segment.shape[0], plan.queries.shape[0]))
        return plan, View(here, rule), _Chunks(segment)


class _Chunks(NamedTuple):
    """Which sequence each token of each chunk belongs to; the sums that a chunk gets from the others of its sequence.

    Of the sequences in a chunk only the one that opens it can have begun before, and only the one that closes it can go on.
    """

    segment: Int[Tensor, "batch chunks chunk"]

    def before(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What each query gets from the chunks before its own; all are [batch x chunks, heads, chunk, width]."""
        return self._gathered(query, key, value, self.segment[:, :, 0], backwards=False)

    def after(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What each query gets from the chunks after its own."""
        return self._gathered(query, key, value, self.segment[:, :, -1], backwards=True)

    def _gathered(self, query: Tensor, key: Tensor, value: Tensor, crossing: Tensor, *, backwards: bool) -> Tensor:
        # Of chunk c, the tokens are summed that belong to the sequence that chunk c + 1 opens with (backwards: that c - 1 closes
        # with), and of the running sums those queries take their share that belong to the sequence their own chunk opens with.
        neighbour = F.pad(crossing[:, :-1], (1, 0)) if backwards else F.pad(crossing[:, 1:], (0, 1))
        sums = (key * self._of(neighbour)).transpose(2, 3) @ value
        sums = sums.unflatten(0, crossing.shape).to(key.dtype)
        running = _running(sums.flip(1), crossing.flip(1)).flip(1) if backwards else _running(sums, crossing)
        gathered: Tensor = (query * self._of(crossing)) @ running.flatten(0, 1)
        return gathered

    def _of(self, segment: Int[Tensor, "batch chunks"]) -> Tensor:
        # 1 for the tokens that belong to their chunk's `segment`, ready to be multiplied with heads
        belongs = (self.segment == segment[:, :, None]) & (self.segment > 0)
        return belongs.flatten(0, 1)[:, None, :, None]


def _running(
    sums: Float[Tensor, "batch chunks heads head_width value_width_and_1"], segment: Int[Tensor, "batch chunks"]
) -> Float[Tensor, "batch chunks heads head_width value_width_and_1"]:
    """For each chunk, the sum over the chunks before it as far back as its sequence goes."""
    if torch.compiler.is_exporting():
        return _running_in_a_graph(sums, segment)
    # Begun anew at each sequence. Subtracting what came before would let large values of one sequence round the next one's away.
    goes_on = (segment[:, 1:] == segment[:, :-1])[:, :, None, None, None]
    running = [torch.zeros_like(sums[:, 0])]
    for own, on in zip(sums.unbind(1)[:-1], goes_on.unbind(1), strict=True):
        running.append(own + running[-1].where(on, 0))
    return torch.stack(running, 1)


def _running_in_a_graph(sums: Tensor, segment: Tensor) -> Tensor:
    # No graph can loop over a free number of chunks, so here it is one subtraction, which rows of one sequence do not feel.
    place = torch.arange(segment.shape[1], device=segment.device)
    until = sums.cumsum(1) - sums
    same = (segment[:, :, None] == segment[:, None, :]) & (place[:, None] >= place)
    begins = (place - same.sum(2)).clamp(min=0)  # the chunk before the first one that the sequence opens
    flat = begins + torch.arange(segment.shape[0], device=segment.device)[:, None] * segment.shape[1]
    earlier: Tensor = until.flatten(0, 1).index_select(0, flat.flatten()).unflatten(0, segment.shape)
    return until - earlier


def _features(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # In single precision at least: a sum of half-precision numbers stops growing after some hundred of them.
    dtype = torch.promote_types(query.dtype, torch.float32)
    shared = query.shape[1] // key.shape[1]
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    return _phi(query), _phi(key), torch.cat([value, torch.ones_like(value[..., :1])], -1)


def _phi(x: Tensor) -> Tensor:
    # elu(x) + 1, without the rounding of exp(x) - 1 + 1, which is 0 for a very negative x
    return F.relu(x) + x.clamp(max=0).exp()


def _pairs(query: Tensor, key: Tensor, value: Tensor, view: View) -> Tensor:
    mixed: Tensor = (query @ key.transpose(-1, -2) * view.visible) @ value
    return mixed


def _divide(sums: Tensor, dtype: torch.dtype) -> Tensor:
    weighted, weight = sums[..., :-1], sums[..., -1:]
    return (weighted / weight.masked_fill(weight == 0, 1)).to(dtype)  # no key is seen, or phi of all is 0
