"""How a sequence is written one token at a time: the likeliest token each time, or the best of several hypotheses."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

_State = TypeVar("_State")
Step = Callable[[Tensor, _State], tuple[Tensor, _State]]
"""From the last token of each row [rows] and what is remembered of those before it, to the log-probabilities of the next one
[rows, vocab] and what is remembered now. A state is any nest of tuples, lists and dicts of tensors with rows first."""


class Hypotheses(NamedTuple):
    """What was written for each row of a batch, the best first.

    Attributes:
        tokens: without the beginning; filled up with the end.
        lengths: tokens before the end; all of them where the end was not reached.
        scores: log-probability, divided by the length penalty where there is one. -inf where there are fewer hypotheses.
    """

    tokens: Int[Tensor, "batch best time"]
    lengths: Int[Tensor, "batch best"]
    scores: Float[Tensor, "batch best"]


@torch.no_grad()
def greedy(step: Step[_State], state: _State, begin: Int[Tensor, " batch"], *, end: int, longest: int) -> Hypotheses:
    """The likeliest next token, again and again: one hypothesis a row.

    Args:
        step: the model.
        state: what it remembers before the first token.
        begin: the first token of each row, which is not part of the answer.
        end: the token that ends a sequence.
        longest: how many tokens to write at most, the end included.
    """
    tokens, written = begin, begin.new_empty(len(begin), 0)
    score, done = torch.zeros(len(begin), device=begin.device), torch.zeros_like(begin, dtype=torch.bool)
    while written.shape[1] < longest and not done.all():
        log_probs, state = step(tokens, state)
        likeliest, tokens = log_probs.max(-1)
        score, tokens = score + likeliest.masked_fill(done, 0), tokens.masked_fill(done, end)
        done = tokens == end
        written = torch.cat([written, tokens[:, None]], 1)
    return _hypotheses(written[:, None], score[:, None], end)


@torch.no_grad()
def beam_search(
    step: Step[_State],
    state: _State,
    begin: Int[Tensor, " batch"],
    *,
    end: int,
    longest: int,
    beams: int = 4,
    alpha: float = 0.6,
    best: int = 1,
) -> Hypotheses:
    """The best of the hypotheses that remain when after every token only the `beams` best are kept.

    A hypothesis of n tokens, the end included, scores log P / ((5 + n) / 6)^alpha (Wu et al. 2016, eq. 14, without coverage): at
    alpha 0 short ones win, since each token costs. One that has ended keeps its score and its place until others beat it.

    Args:
        step: the model; it is called with batch x beams rows, those of one sequence next to each other.
        state: what it remembers before the first token, one row a sequence.
        begin: the first token of each row, which is not part of the answer.
        end: the token that ends a sequence.
        longest: how many tokens to write at most, the end included.
        beams: hypotheses that are kept; 1 is `greedy`.
        alpha: how much length is forgiven: 0 not at all, 1 almost to the mean per token.
        best: how many hypotheses to give, at most `beams`.

    Raises:
        ValueError: more hypotheses are asked for than are kept.
    """
    if not 1 <= best <= beams:
        raise ValueError(f"best ({best}) must be at least 1 and at most beams ({beams})")
    batch = len(begin)
    row = torch.arange(batch, device=begin.device)[:, None]
    state = _select(state, row.expand(batch, beams).flatten())
    tokens = begin[:, None].expand(batch, beams)
    written = begin.new_empty(batch, beams, 0)
    first = torch.arange(beams, device=begin.device) == 0  # to begin with, all hypotheses are one
    score = torch.zeros(batch, beams, device=begin.device).masked_fill(~first, -math.inf)
    length, done = torch.zeros_like(tokens), torch.zeros_like(tokens, dtype=torch.bool)

    while written.shape[2] < longest and not done.all():
        log_probs, state = step(tokens.flatten(), state)
        vocab = log_probs.shape[1]
        log_probs = log_probs.view(batch, beams, vocab)
        nothing_more = torch.full_like(log_probs[0, 0], -math.inf)
        nothing_more[end] = 0
        candidates = score[..., None] + torch.where(done[..., None], nothing_more, log_probs)
        longer = (length + (~done).long())[..., None]
        chosen = (candidates / _penalty(longer, alpha)).flatten(1).topk(beams).indices
        parent, tokens = chosen // vocab, chosen % vocab

        score, length = candidates.flatten(1).gather(1, chosen), longer.squeeze(2).gather(1, parent)
        done = tokens == end
        written = torch.cat([written[row, parent], tokens[..., None]], 2)
        state = _select(state, (row * beams + parent).flatten())

    ranked = (score / _penalty(length, alpha)).topk(best)
    return _hypotheses(written[row, ranked.indices], ranked.values, end)


def _penalty(length: Tensor, alpha: float) -> Tensor:
    return ((5 + length) / 6) ** alpha


def _hypotheses(tokens: Tensor, scores: Tensor, end: int) -> Hypotheses:
    return Hypotheses(tokens, (tokens != end).sum(-1), scores)


def _select(nest: Any, rows: Tensor) -> Any:
    # The rows of every tensor in a nest.
    if isinstance(nest, Tensor):
        return nest.index_select(0, rows)
    if isinstance(nest, dict):
        return {name: _select(part, rows) for name, part in nest.items()}
    parts = [_select(part, rows) for part in nest]
    return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)
