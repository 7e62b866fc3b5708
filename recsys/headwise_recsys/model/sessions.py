"""Attention on two levels of a history: the items of the running session one by one, earlier sessions as a whole."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Bias, Coordinates, Mask, Pooling, View, masked_softmax, same_segment


class Sessions(nn.Module):
    """Softmax over the items of the query's own session and over one summary for each earlier one; a kernel.

    A session ends where more than `gap` seconds pass before the next event. Each is pooled as words are in a sentence
    (Yang et al. 2016, eq. 5 to 7), its keys by their own weights and its values with them, as the groups of `Hierarchical` are,
    which are equally long. After the two levels of HRNN (Quadrana et al. 2017), whose upper one is recurrent. Memory is quadratic
    in length, twice that of softmax attention.

    It follows `causal` and `same_segment`, alone or together; sequences are kept apart whatever the mask says. Queries must be
    the last of the keys, as they are within a history and behind a cache, which must hold the whole past.

    Args:
        head_width: of queries and keys.
        gap: seconds between two events of one session, at most.
    """

    def __init__(self, head_width: int, gap: float) -> None:
        super().__init__()
        self.gap, self.pool = gap, Pooling(head_width)

    def check(self, mask: Mask, *, biased: bool) -> None:
        """Refuse masks other than these two, and biases.

        Raises:
            ValueError: of another mask, or a bias; a summary can neither leave out some of its items nor stand at one place.
        """
        if not mask.is_plain:
            raise ValueError(f"Sessions cannot follow the mask {mask}: only causal and same_segment")
        if biased:
            raise ValueError(
                "Sessions cannot add a bias, since a session stands at no single place: add positions to the items"
            )

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
        plan = view.once((Sessions, self.gap), lambda: self._plan(view))
        weights = masked_softmax(self.pool.scores(key)[:, :, None], plan.member)
        return F.scaled_dot_product_attention(
            query,
            torch.cat([key, weights @ key], 2),
            torch.cat([value, weights @ value], 2),
            attn_mask=plan.visible,
            enable_gqa=key.shape[1] != query.shape[1],
        )

    def _plan(self, view: View) -> "_Plan":
        opens = self._opens(view.of)
        session = opens.cumsum(1)
        own = session[:, session.shape[1] - view.at.position.shape[1] :, None] == session[:, None]
        # A session's summary stands where it opens, so that no size depends on how many there are.
        summaries = view.of._replace(segment=view.of.segment * opens)
        member = View(summaries, same_segment, view.of).visible & (session[:, :, None] == session[:, None])[:, None]
        rule = view.mask & same_segment
        near = View(view.at, rule, view.of).visible & own[:, None]
        far = View(view.at, rule, summaries).visible & ~own[:, None]
        return _Plan(member, torch.cat([near, far], 3))

    def _opens(self, at: Coordinates) -> Bool[Tensor, "batch time"]:
        # By rolling: in an exported graph a size of one less than the length would forbid lengths below 3.
        first = torch.arange(at.time.shape[1], device=at.time.device) == 0
        return first | (at.time - at.time.roll(1, 1) > self.gap) | (at.segment != at.segment.roll(1, 1))


class _Plan(NamedTuple):
    """What all layers share.

    Attributes:
        member: which items the session that each item opens holds; none where it opens none.
        visible: which keys each query may see, the items and then the summaries.
    """

    member: Bool[Tensor, "batch 1 keys keys"]
    visible: Bool[Tensor, "batch 1 queries twice_keys"]
