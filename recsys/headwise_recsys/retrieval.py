"""Exact top-k of a catalogue, as part of a graph: filters and search at a cost beside which only the scores themselves count.

Every pass over the scores of a large catalogue, which are megabytes, is felt. There are two: the scores are made, and the best of
each block of them is found. All else looks at the few blocks that can hold an item of the answer.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

LARGE = 50_000  # items above which blocks pay; below, one TopK over all is as fast
BLOCK = 512  # items; V / 512 maxima and the k x 512 items of the best blocks are looked at


def rows_needed(items: int) -> int:
    """Rows of a table for items 0..`items`: whole blocks of them where the catalogue is large."""
    return items + 1 if items <= LARGE else -(-(items + 1) // BLOCK) * BLOCK


def best_items(
    scores: Float[Tensor, "batch rows"],
    k: int,
    *,
    barred: Int[Tensor, "batch barred"],
    allow: Int[Tensor, "batch allowed"],
    items: int,
) -> tuple[Int[Tensor, "batch k"], Float[Tensor, "batch k"]]:
    """The `k` best items of each row that are allowed and not barred, best first; equal scores in the order of the catalogue.

    Exact: where an item of the answer lies in a block, fewer than k blocks have a maximum that comes before it, so the k
    blocks with the best maxima hold the whole answer. (In ONNX Runtime; torch returns equal scores in any order.)

    Args:
        scores: of items 0..`items`, and of rows up to `rows_needed`.
        k: how many.
        barred: items that must not be returned; 0 bars nothing but padding.
        allow: the only items to return, 0-padded; a row of zeros allows all.
        items: in the catalogue.

    Returns:
        Items and their scores; item 0 with score -inf where nothing more may be returned.
    """
    rows = scores.shape[1]
    never = torch.cat([torch.zeros(1, dtype=torch.long), torch.arange(items + 1, rows)])  # padding, what fills a block
    barred = torch.cat([barred, never.expand(barred.shape[0], -1)], 1)
    scores = scores.scatter(1, barred, -math.inf)
    found, numbers = _everything(scores) if items <= LARGE else _best_blocks(scores, k)
    restricted = (allow > 0).any(1, keepdim=True)
    some, theirs = _allowed(scores, allow)
    found = torch.cat([found.masked_fill(restricted, -math.inf), some.masked_fill(~restricted, -math.inf)], 1)
    best, places = torch.topk(found, k)
    chosen = torch.cat([numbers, theirs], 1).gather(1, places)
    return chosen.masked_fill(best == -math.inf, 0), best


def looked_at(k: int, rows: int) -> Any:
    """How many of the best by approximate scores are looked at again for the best `k`: 64 for the best 10."""
    return torch.sym_min(4 * k + 24, rows)


def best_again(
    expected: Float[Tensor, "batch width"],
    table: Float[Tensor, "rows width"],
    candidates: Int[Tensor, "batch candidates"],
    k: int,
) -> tuple[Int[Tensor, "batch k"], Float[Tensor, "batch k"]]:
    """The `k` best among candidates by their exact scores, as `best_items` gives them.

    Args:
        expected: what is multiplied with the items.
        table: the items' vectors.
        candidates: items, 0 where there are no more.
        k: how many.
    """
    items, _ = torch.topk(candidates, candidates.shape[1], largest=False)  # in the order of the catalogue
    exact = (table[items] @ expected[:, :, None]).squeeze(2)
    best, places = torch.topk(exact.masked_fill(items == 0, -math.inf), k)
    return items.gather(1, places), best


def _everything(scores: Tensor) -> tuple[Tensor, Tensor]:
    return scores, torch.arange(scores.shape[1]).expand(scores.shape)


def _best_blocks(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    batch, blocks = scores.shape[0], scores.shape[1] // BLOCK
    maxima = scores.unflatten(1, (blocks, BLOCK)).amax(2)
    _, best = torch.topk(maxima, torch.sym_min(k, blocks))
    best, _ = torch.topk(best, best.shape[1], largest=False)  # in the order of the catalogue again, for equal scores
    first = torch.arange(batch)[:, None] * blocks  # whole blocks are copied, not items one by one
    found = scores.view(batch * blocks, BLOCK)[(best + first).flatten()].view(batch, -1)
    return found, (best[:, :, None] * BLOCK + torch.arange(BLOCK)).flatten(1)


def _allowed(scores: Tensor, allow: Tensor) -> tuple[Tensor, Tensor]:
    # In the order of the catalogue, each once.
    allow, _ = torch.topk(allow, allow.shape[1], largest=False)
    before = torch.cat([torch.zeros_like(allow[:, :1]), allow], 1)[:, :-1]
    return scores.gather(1, allow).masked_fill(allow == before, -math.inf), allow
