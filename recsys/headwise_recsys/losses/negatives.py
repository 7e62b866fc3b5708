"""Negatives: items drawn to stand for the rest of the catalogue, and what each position scores them.

Everything is drawn from torch's own generator, so that a run repeats by its seed.
"""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from headwise_recsys.losses.loss import Vectors


class Drawn(NamedTuple):
    """Negatives of a batch.

    Attributes:
        items: [negatives] shared by all positions, or [positions, negatives] with some for each; from 1.
        log_expected: [negatives] log of how often each was to be expected among them.
    """

    items: Int[Tensor, "*positions negatives"]
    log_expected: Float[Tensor, " negatives"]


class Sampler(Protocol):
    """Draws the negatives of a batch."""

    @property
    def count(self) -> int:
        """Negatives of a position."""

    def __call__(self, targets: Int[Tensor, " positions"]) -> Drawn:
        """Negatives for positions with these targets; a target may be among them."""


class Uniform(nn.Module):
    """Every item with the same chance.

    Args:
        items: in the catalogue.
        count: negatives of a position.
        shared: one draw for all positions, whose scores are one matrix product. With a draw for each position they are
            gathered one by one: ten times slower for hundreds, no matter for one or two.
    """

    def __init__(self, items: int, count: int, *, shared: bool = True) -> None:
        super().__init__()
        self.items, self.count, self.shared = items, count, shared

    def forward(self, targets: Int[Tensor, " positions"]) -> Drawn:
        """As every sampler."""
        shape = (self.count,) if self.shared else (len(targets), self.count)
        items = torch.randint(1, self.items + 1, shape, device=targets.device)
        chance = torch.full((self.count,), self.count / self.items, device=targets.device)
        return Drawn(items, chance.log())


class Mixed(nn.Module):
    """Some targets of the batch and some items of the whole catalogue (Yang et al. 2020), shared by all positions.

    Targets of the batch come as often as they are popular, so that the model is told about its hardest competitors; items of
    the whole catalogue see to it that those never in a batch are told about too. An item j is expected
    n_batch p(j) + n_uniform / V times, p(j) its share of all training targets.

    Args:
        popularity: of items 0..V, how often each is a target in training.
        count: negatives.
        in_batch: share of them that are targets of the batch.

    Raises:
        ValueError: no item has ever been a target.
    """

    share: Tensor

    def __init__(self, popularity: Float[Tensor, " items+1"], count: int, *, in_batch: float = 0.5) -> None:
        super().__init__()
        if not popularity.sum() > 0:
            raise ValueError("popularity is 0 for every item: no target could be drawn")
        self.count, self.from_batch = count, round(in_batch * count)
        self.register_buffer("share", (popularity / popularity.sum()).float(), persistent=False)

    def forward(self, targets: Int[Tensor, " positions"]) -> Drawn:
        """As every sampler."""
        items, uniform = len(self.share) - 1, self.count - self.from_batch
        common = targets[torch.randint(len(targets), (self.from_batch,), device=targets.device)]
        drawn = torch.cat([common, torch.randint(1, items + 1, (uniform,), device=targets.device)])
        expected = self.from_batch * self.share[drawn] + uniform / items
        return Drawn(drawn, expected.log())


def scores(
    hidden: Float[Tensor, "positions width"],
    targets: Int[Tensor, " positions"],
    negatives: Int[Tensor, "*positions negatives"],
    vectors: Vectors,
) -> tuple[Float[Tensor, " positions"], Float[Tensor, "positions negatives"]]:
    """What each position scores its target and its negatives, in float32 at least, whatever mixed training brings.

    A negative that is the position's own target is none: its score is the lowest number, which passes on no gradient.

    Raises:
        ValueError: there is no position.
    """
    if not len(hidden):
        raise ValueError("no position has a target: the mean of no losses is not a number")
    right, wrong = vectors(targets), vectors(negatives)
    dtype = torch.promote_types(torch.promote_types(hidden.dtype, right.dtype), torch.float32)
    hidden, right, wrong = hidden.to(dtype), right.to(dtype), wrong.to(dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        positive = (hidden * right).sum(1)
        negative = hidden @ wrong.T if negatives.ndim == 1 else (wrong @ hidden[:, :, None]).squeeze(2)
    return positive, negative.masked_fill(negatives == targets[:, None], torch.finfo(dtype).min / 2)
