"""Rows cut into blocks, each beside the keys that it can reach: what lets a kernel leave out what no rule allows.

A layout is three tables of places in a row; a token's place is where it stands in its row, its position where in its sequence.
Kernels gather by them, attend within every block, and put the answers back in their order, so that nothing of size length x
length is ever made.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headwise.attention.coordinates import Coordinates


class Layout(NamedTuple):
    """Where in the row each block finds its tokens; a place outside the row is no token.

    Attributes:
        queries: the places of each block's queries.
        keys: the places that these can reach.
        order: for each place of the row, which of the blocks' queries it is, counted through all blocks.
    """

    queries: Int[Tensor, "blocks size"]
    keys: Int[Tensor, "blocks reach"]
    order: Int[Tensor, " time"]


def layout(time: int, size: int, *, back: int = 0, ahead: int = 0, stride: int = 1, like: Tensor) -> Layout:
    """Blocks of `size` queries, `stride` places apart, with the keys from `back` before them to `ahead` after them.

    Args:
        time: length of the row.
        size: queries of a block.
        back: places behind a query that it must reach, at multiples of `stride`.
        ahead: places ahead of it.
        stride: with more than 1 the row is taken as that many interleaved rows, whose tokens never meet: 0, 3, 6 and 1, 4, 7 ...
        like: a tensor on the device where the tables go.
    """
    long = (time + stride - 1) // stride  # of each of the interleaved rows
    count = free_size((long + size - 1) // size, like)
    starts = torch.arange(count * stride, device=like.device)
    first, residue = (starts // stride * size)[:, None], (starts % stride)[:, None]
    queries = (first + torch.arange(size, device=like.device)) * stride + residue
    keys = torch.arange(-(back // stride), size + ahead // stride, device=like.device)
    place = torch.arange(time, device=like.device)
    number = place // stride
    order = (number // size * stride + place % stride) * size + number % size
    return Layout(queries, (first + keys) * stride + residue, order)


def gather(
    heads: Float[Tensor, "batch heads time width"], places: Int[Tensor, "blocks size"]
) -> Float[Tensor, "rows heads size width"]:
    """The vectors at `places`, with each block a row of its own (batch x blocks rows); outside of the row, any vector."""
    inside = places.clamp(0, heads.shape[2] - 1).flatten()
    vectors = heads.transpose(1, 2).index_select(1, inside)
    rows: Tensor = vectors.unflatten(1, places.shape).flatten(0, 1)
    return rows.transpose(1, 2)


def locate(at: Coordinates, places: Int[Tensor, "blocks size"]) -> Coordinates:
    """The coordinates at `places`, [batch x blocks, size]; a place outside of the row belongs to no segment."""
    time = at.position.shape[1]
    inside = places.clamp(0, time - 1).flatten()
    position, segment, moment = at.map(lambda c: c.index_select(1, inside).unflatten(1, places.shape).flatten(0, 1))
    missing = ((places < 0) | (places >= time)).repeat(at.position.shape[0], 1)
    return Coordinates(position, segment.masked_fill(missing, 0), moment)


def restore(
    blocks: Float[Tensor, "rows heads size width"], plan: Layout, batch: int
) -> Float[Tensor, "batch heads time width"]:
    """The answers of the blocks' queries, back in the order of the row."""
    answers: Tensor = blocks.transpose(1, 2).unflatten(0, (batch, plan.queries.shape[0])).flatten(1, 2)
    return answers.index_select(1, plan.order).transpose(1, 2)


def spread(tensor: Tensor, blocks: int) -> Tensor:
    """Each row of the batch `blocks` times, as the blocks' own batch has them."""
    return tensor[:, None].expand(-1, blocks, *tensor.shape[1:]).flatten(0, 1)


def flagged_places(flag: Bool[Tensor, "batch time"], most: int) -> Int[Tensor, "batch most"]:
    """The places of the flagged tokens of each row, in order, then those of others: all different."""
    place = torch.arange(flag.shape[1], device=flag.device)
    return torch.where(flag, -place, -place - flag.shape[1]).topk(most, 1).indices


def most_flagged(time: int, bound: int, flag: Bool[Tensor, "batch time"]) -> int:
    """How many tokens are flagged in the row that has the most, which the data say.

    A graph takes `bound` in its place, or all `time` places where there are fewer: it must hold for rows of one sequence.
    """
    if torch.compiler.is_exporting():
        return free_size(torch.sym_min(time, bound), flag)  # type: ignore[arg-type]  # an int to come
    return max(1, int(flag.sum(1).max())) if len(flag) else 1


def free_size(size: int, like: Tensor) -> int:
    """`size` itself; while a graph is exported, as a number of at least 1 that only the data will tell (an unbacked SymInt).

    torch.export would else bake in whether a size that follows from a free one is 1, and ask for proofs that it is large enough.
    """
    if not torch.compiler.is_exporting():
        return size
    free: int = torch.full((), size, device=like.device).item()  # type: ignore[assignment]  # an int to come
    torch._check(free >= 1)
    return free
