"""Attention on two levels: near tokens one by one, far ones a group at a time."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention.biases import Bias
from headwise.attention.coordinates import Coordinates
from headwise.attention.kernels._blocks import (
    Layout,
    flagged_places,
    gather,
    layout,
    locate,
    most_flagged,
    restore,
    spread,
)
from headwise.attention.masks import Mask, chunk, masked_softmax, same_segment
from headwise.attention.pooling import Pooling
from headwise.attention.view import View


class Hierarchical(nn.Module):
    """Softmax over the tokens of the query's own group and over one summary for each other group of its sequence.

    Groups are `size` consecutive positions. The first level is softmax attention within a group. For the second, each group g is
    pooled as words are in a sentence (Yang et al. 2016, eq. 5 to 7), its keys by their own weights and its values with them:

        a_j = softmax_{j in g}(c . tanh(W k_j + b)),  k_g = sum_j a_j k_j,  v_g = sum_j a_j v_j
        o_i = softmax over {k_j : j in the group of i} and {k_g : other groups g} of (q_i . k / sqrt(d)), times their v

    Under a causal mask a query sees of its group the tokens up to itself, and the groups before. Time and memory are length x
    (size + length / size): smallest at size = sqrt(length). One pooling serves all heads.

    It follows `causal` and `same_segment`, alone or together; sequences are kept apart whatever the mask says. Looking at other
    tokens, the group of i is the one at the same positions among them. A cache must hold the whole past for a step to equal it,
    and an exported graph takes one sequence a row.

    Args:
        head_width: of queries and keys.
        size: positions of a group.
    """

    def __init__(self, head_width: int, size: int) -> None:
        super().__init__()
        self.size, self.pool = size, Pooling(head_width)

    def check(self, mask: Mask, *, biased: bool) -> None:
        """Refuse masks other than these two, and biases.

        Raises:
            ValueError: of another mask, or a bias; a summary can neither leave out some of its tokens nor stand at one place.
        """
        if not mask.is_plain:
            raise ValueError(
                f"Hierarchical cannot follow the mask {mask}: only causal and same_segment; Window and Softmax can"
            )
        if biased:
            raise ValueError(
                "Hierarchical cannot add a bias, since a group stands at no single place: add positions to the tokens"
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
        plan = view.once((Hierarchical, self.size), lambda: self._plan(view))
        weights = masked_softmax(self.pool.scores(key)[:, :, None], plan.member)
        keys, values = weights @ key, weights @ value
        if plan.blocks is not None:
            count = plan.blocks.queries.shape[0]
            keys, values = spread(keys, count), spread(values, count)
            query = gather(query, plan.blocks.queries)
            key, value = gather(key, plan.blocks.keys), gather(value, plan.blocks.keys)
        answer = F.scaled_dot_product_attention(
            query,
            torch.cat([key, keys], 2),
            torch.cat([value, values], 2),
            attn_mask=plan.visible,
            enable_gqa=key.shape[1] != query.shape[1],
        )
        return answer if plan.blocks is None else restore(answer, plan.blocks, view.at.position.shape[0])

    def _plan(self, view: View) -> "_Plan":
        rule, own_group = view.mask & same_segment, chunk(self.size, left=0)
        at, of, groups, blocks = view.at, view.of, self._groups(view.of), None
        member = View(groups, same_segment & own_group, of).visible
        if view.within:
            ahead = 0 if rule.ahead == 0 else self.size - 1
            blocks = layout(at.position.shape[1], 2 * self.size, back=self.size - 1, ahead=ahead, like=at.position)
            at, of = locate(view.at, blocks.queries), locate(view.at, blocks.keys)
            groups = groups.map(lambda c: spread(c, blocks.queries.shape[0]))
        near = View(at, rule & own_group, of).visible
        far = View(at, rule, groups).visible & ~View(at, own_group, groups).visible
        return _Plan(blocks, member, torch.cat([near, far], 3))

    def _groups(self, at: Coordinates) -> Coordinates:
        # Where each group begins; without a segment where there is no such group.
        time, real = at.position.shape[1], at.segment > 0
        opens = real & ((at.position % self.size == 0) | (real.cumsum(1) == 1))  # a cache may begin within a group
        # One sequence has no more groups than that, the first and the last of them cut; packed rows may hold more.
        places = flagged_places(opens, most_flagged(time, time // self.size + 2, opens))
        groups = at.map(lambda c: c.gather(1, places))
        return groups._replace(segment=groups.segment * opens.gather(1, places))


class _Plan(NamedTuple):
    """What all layers share.

    Attributes:
        blocks: whose queries are evaluated together; None where queries and keys are different tokens.
        member: which tokens each group holds.
        visible: which keys each query may see, those of its own group and then one for each group.
    """

    blocks: Layout | None
    member: Bool[Tensor, "batch 1 groups keys"]
    visible: Bool[Tensor, "rows 1 queries keys_and_groups"]
