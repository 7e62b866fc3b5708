"""A block without softmax and without feed-forward: the hierarchical sequential transduction unit."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Bias, Cache, Coordinates, Mask, View, empty_cache, same_segment
from headwise.transformer import Dropout, State


class HSTU(nn.Module):
    """x + W2 (norm(A V) * U), with U, V, Q, K = SiLU(W1 norm(x)), A = SiLU(Q K' + bias) / longest (Zhai et al. 2024, eq. 1-3).

    Weights are not shares: a history twice as full of something weighs it twice, where softmax would forget how often it was.
    U gates what attention gathered, in place of a feed-forward.

    Args:
        width: of the tokens.
        heads: of the attention; must divide `width`.
        longest: tokens of a sequence, at most; what the paper divides by as well.
        bias: is added to the scores; without it the block is blind to order but for the mask.
        dropout: on the block's answer.

    Raises:
        ValueError: the numbers do not divide.
    """

    def __init__(self, width: int, heads: int, *, longest: int, bias: Bias | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width ({width}) must be divisible by heads ({heads})")
        self.heads, self.head_width, self.longest = heads, width // heads, longest
        self.norm, self.gathered_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.output = nn.Linear(width, 4 * width), nn.Linear(width, width)
        self.bias, self.dropout = bias, Dropout(dropout)

    def check(self, mask: Mask) -> None:
        """Follows every mask."""

    def forward(self, tokens: Float[Tensor, "batch time width"], view: View) -> Float[Tensor, "batch time width"]:
        """All tokens at once."""
        gate, query, cache = self._project(tokens, view.at)
        return self._add(tokens, gate, self._weigh(query, cache.key, view) @ cache.value)

    def step(
        self, tokens: Float[Tensor, "batch time width"], at: Coordinates, mask: Mask, state: State
    ) -> tuple[Float[Tensor, "batch time width"], State]:
        """The next tokens, given the past in `state`; the answer, and the state for the next step."""
        gate, query, fresh = self._project(tokens, at)
        past: Cache = state.attention.then(fresh)  # type: ignore[union-attr]
        weights = self._weigh(query, past.key, View(at, mask & same_segment, past.at))
        slots = state.attention.key.shape[2]  # type: ignore[union-attr]
        return self._add(tokens, gate, weights @ past.value), state._replace(attention=past.last(slots))

    def weights(self, tokens: Float[Tensor, "batch time width"], view: View) -> Float[Tensor, "batch heads time time"]:
        """Each key's share of the weights by which `forward` would mix these tokens, signs left out."""
        _, query, cache = self._project(tokens, view.at)
        sizes = self._weigh(query, cache.key, view).abs()
        total = sizes.sum(-1, keepdim=True)
        return sizes / total.masked_fill(total == 0, 1)

    def empty_state(self, batch: int, slots: int) -> State:
        """A state that remembers nothing yet, with room for `slots` keys."""
        weight = self.output.weight
        nothing = weight.new_zeros(batch, 0, 0)
        cache = empty_cache(batch, self.heads, slots, self.head_width, dtype=weight.dtype, device=weight.device)
        return State(cache, nothing)

    def _project(self, tokens: Tensor, at: Coordinates) -> tuple[Tensor, Tensor, Cache]:
        gate, *heads = F.silu(self.inputs(self.norm(tokens))).chunk(4, -1)
        value, query, key = (part.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2) for part in heads)
        return gate, query, Cache(key, value, at)

    def _weigh(self, query: Tensor, key: Tensor, view: View) -> Tensor:
        scores = query @ key.transpose(2, 3)
        if self.bias is not None:
            scores = scores + self.bias(*view.pairs)
        return F.silu(scores) * view.visible / self.longest

    def _add(self, tokens: Tensor, gate: Tensor, gathered: Tensor) -> Tensor:
        merged = self.gathered_norm(gathered.transpose(1, 2).flatten(2))
        added: Tensor = tokens + self.dropout(self.output(merged * gate))
        return added
