"""The leading tokens of sequences, which a sparse pattern lets see all and be seen by all."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.attention.coordinates import Coordinates
from headwise.attention.kernels._blocks import chosen, most_of, spread
from headwise.attention.masks import Mask, View


class Leaders(NamedTuple):
    """The chosen tokens of each row, in order; where a row has fewer, some other token, which has no segment.

    Attributes:
        places: where they stand in the row.
        at: their coordinates.
        view: what they see of the whole row.
    """

    places: Int[Tensor, "batch leaders"]
    at: Coordinates
    view: View

    def of(self, heads: Float[Tensor, "batch heads time width"]) -> Float[Tensor, "batch heads leaders width"]:
        """Their vectors."""
        return heads.gather(2, self._index(heads))

    def before(
        self, blocks: Float[Tensor, "rows heads size width"], heads: Float[Tensor, "batch heads time width"]
    ) -> Float[Tensor, "rows heads more width"]:
        """Their vectors before those of each block of their row."""
        return torch.cat([spread(self.of(heads), blocks.shape[0] // heads.shape[0]), blocks], 2)

    def put(
        self,
        answer: Float[Tensor, "batch heads time width"],
        theirs: Float[Tensor, "batch heads leaders width"],
    ) -> Float[Tensor, "batch heads time width"]:
        """The answers with theirs in their places."""
        real = (self.at.segment > 0)[:, None, :, None]
        return answer.scatter(2, self._index(answer), torch.where(real, theirs, self.of(answer)))

    def _index(self, heads: Tensor) -> Tensor:
        return self.places[:, None, :, None].expand(-1, heads.shape[1], -1, heads.shape[3])


def leaders(at: Coordinates, rule: Mask) -> Leaders:
    """The tokens among the first `rule.leading` of their sequence, and what they see by the rule."""
    time = at.position.shape[1]
    flag = (at.position < rule.leading) & (at.segment > 0)
    # A row that holds one sequence has no more leaders than that; packed rows have as many as the data say.
    places = chosen(flag, most_of(time, rule.leading, flag))
    theirs = at.map(lambda c: c.gather(1, places))
    theirs = theirs._replace(segment=theirs.segment * flag.gather(1, places))
    return Leaders(places, theirs, View(theirs, rule, at))
