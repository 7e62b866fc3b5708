"""Attention on two levels: near tokens one by one, far ones a group at a time."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention.biases import Bias
from headwise.attention.coordinates import Coordinates
from headwise.attention.kernels._blocks import Layout, chosen, gather, layout, locate, most_of, restore, spread
from headwise.attention.masks import Mask, View, causal, chunk, masked_softmax, same_segment
from headwise.attention.pooling import Pooling


class Hierarchical(nn.Module):
    """Softmax over the tokens of the query's own group and over one summary for each other group of its sequence.

    Groups are `size` consecutive positions. The first level is softmax attention within a group. For the second, each group g is
    pooled as sentences are in a document (Yang et al. 2016, eq. 5 to 7), its keys by their own weights and its values with them:

        a_j = softmax_{j in g}(c . tanh(W k_j + b)),  k_g = sum_j a_j k_j,  v_g = sum_j a_j v_j
        o_i = softmax over {k_j : j in the group of i} and {k_g : other groups g} of (q_i . k / sqrt(d)), times their v

    Under a causal mask a query sees of its group the tokens up to itself, and the groups before. Time and memory are length x
    (size + length / size): smallest at size = sqrt(length). It follows `causal` and `same_segment`, alone or together; sequences
    are kept apart whatever the mask says. A cache must hold the whole past for a step to equal it.

    Args:
        head_width: of queries and keys.
        size: positions of a group.
    """

    def __init__(self, head_width: int, size: int) -> None:
        super().__init__()
        self.size, self.pool = size, Pooling(head_width)

    def check(self, mask: Mask, *, biased: bool) -> None:
        """Whether the mask leaves nothing out but the future, and no bias is added.

        Raises:
            ValueError: it does; a summary can neither leave out some of its tokens nor stand at one place.
        """
        if not set(mask.terms) <= {causal, same_segment}:
            raise ValueError(
                f"Hierarchical cannot follow the mask {mask}: only causal and same_segment; Window and Softmax can"
            )
        if biased:
            raise ValueError("Hierarchical cannot add a bias, since a group stands at no single place: use Rotary")

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
        plan = view.once((Hierarchical, self.size), lambda: self._plan(view))
        weights = masked_softmax(self.pool.scores(key)[:, :, None], plan.member[:, None])
        keys, values = weights @ key, weights @ value
        if plan.layout is not None:
            blocks = plan.layout.queries.shape[0]
            keys, values = spread(keys, blocks), spread(values, blocks)
            query = gather(query, plan.layout.queries)
            key, value = gather(key, plan.layout.keys), gather(value, plan.layout.keys)
        answer = F.scaled_dot_product_attention(
            query,
            torch.cat([key, keys], 2),
            torch.cat([value, values], 2),
            attn_mask=plan.visible,
            enable_gqa=key.shape[1] != query.shape[1],
        )
        return answer if plan.layout is None else restore(answer, plan.layout.order, view.at.position.shape[0])

    def _plan(self, view: View) -> "_Plan":
        groups, member = self._groups(view.of)
        at, of, plan = view.at, view.of, None
        if view.within:
            ahead = 0 if view.mask.ahead == 0 else self.size - 1
            plan = layout(at.position.shape[1], 2 * self.size, back=self.size - 1, ahead=ahead, like=at.position)
            at, of = locate(view.at, plan.queries), locate(view.at, plan.keys)
            groups = groups.map(lambda c: spread(c, plan.queries.shape[0]))
        near = View(at, view.mask & same_segment & chunk(self.size, left=0), of).visible
        far = ~self._same_group(at, groups) & _same_segment(at, groups)
        if view.mask.ahead == 0:
            far = far & (groups.position[:, None, :] < at.position[:, :, None])
        return _Plan(plan, member, torch.cat([near, far[:, None]], 3))

    def _groups(self, at: Coordinates) -> tuple[Coordinates, Tensor]:
        # Where each group begins, without a segment where there is no such group; and which tokens are its members.
        time, real = at.position.shape[1], at.segment > 0
        opens = real & ((at.position % self.size == 0) | (real.cumsum(1) == 1))  # a cache may begin within a group
        places = chosen(
            opens, most_of(time, time // self.size + 2, opens)
        )  # of one sequence; packed rows may hold more
        groups = at.map(lambda c: c.gather(1, places))
        groups = groups._replace(segment=groups.segment * opens.gather(1, places))
        return groups, self._same_group(groups, at) & _same_segment(groups, at)

    def _same_group(self, at: Coordinates, of: Coordinates) -> Tensor:
        return at.position[:, :, None] // self.size == of.position[:, None, :] // self.size


class _Plan(NamedTuple):
    """What all layers share.

    Attributes:
        layout: the blocks whose queries are evaluated together; None where queries and keys are different tokens.
        member: which tokens each group holds.
        visible: which keys each query may see, those of its own group and then one for each group.
    """

    layout: Layout | None
    member: Bool[Tensor, "batch groups keys"]
    visible: Bool[Tensor, "rows 1 queries keys_and_groups"]


def _same_segment(at: Coordinates, of: Coordinates) -> Tensor:
    return (at.segment[:, :, None] == of.segment[:, None, :]) & (of.segment > 0)[:, None, :]
