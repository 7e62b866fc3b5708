"""Global tokens (Longformer, Beltagy et al. 2020, section 3.1): the leading ones, which see all and are seen by all."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.attention.coordinates import Coordinates
from headwise.attention.kernels._blocks import flagged_places, most_flagged, spread
from headwise.attention.masks import Mask
from headwise.attention.view import View


class GlobalTokens(NamedTuple):
    """The global tokens of each row, in order. Where a row has fewer than others, fillers: some other tokens, without a segment.

    Attributes:
        places: where they stand in the row.
        at: their coordinates.
        view: what they see of the whole row.
    """

    places: Int[Tensor, "batch globals"]
    at: Coordinates
    view: View

    def of(self, heads: Float[Tensor, "batch heads time width"]) -> Float[Tensor, "batch heads globals width"]:
        """Their vectors."""
        return heads.gather(2, self._index(heads))

    def before(
        self,
        gathered: Float[Tensor, "rows heads size width"],
        heads: Float[Tensor, "batch heads time width"],
        blocks: int,
    ) -> Float[Tensor, "rows heads more width"]:
        """Their vectors before those `gathered` for each of the `blocks` of their row."""
        return torch.cat([spread(self.of(heads), blocks), gathered], 2)

    def put(
        self,
        answer: Float[Tensor, "batch heads time width"],
        theirs: Float[Tensor, "batch heads globals width"],
    ) -> Float[Tensor, "batch heads time width"]:
        """The answers with theirs in their places."""
        real = (self.at.segment > 0)[:, None, :, None]
        return answer.scatter(2, self._index(answer), torch.where(real, theirs, self.of(answer)))

    def _index(self, heads: Tensor) -> Tensor:
        return self.places[:, None, :, None].expand(-1, heads.shape[1], -1, heads.shape[3])


def global_tokens(at: Coordinates, rule: Mask) -> GlobalTokens:
    """The tokens among the first `rule.leading` of their sequence, and what they see by the rule."""
    time = at.position.shape[1]
    flag = (at.position < rule.leading) & (at.segment > 0)
    # A row that holds one sequence has no more of them than that; packed rows have as many as the data say.
    places = flagged_places(flag, most_flagged(time, rule.leading, flag))
    theirs = at.map(lambda c: c.gather(1, places))
    theirs = theirs._replace(segment=theirs.segment * flag.gather(1, places))
    return GlobalTokens(places, theirs, View(theirs, rule, at))
