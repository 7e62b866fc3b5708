"""What an item's features say of it, as a vector of the items' width: how a model knows items that nobody has chosen yet."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from headwise_recsys.item_features import Feature, Numbers, Tags


class Content(nn.Module):
    """The sum of what each feature says: the mean vector of its tags, a linear map of its numbers.

    Whatever is unknown of an item adds nothing, so an item of which nothing is known has the vector 0.

    Args:
        features: one row an item, row 0 for padding.
        width: of the vectors.
    """

    def __init__(self, features: Sequence[Feature], width: int) -> None:
        super().__init__()
        self.names = [feature.name for feature in features]
        self.parts = nn.ModuleList(_part(feature, width) for feature in features)

    def forward(self, items: Int[Tensor, "*items"]) -> Float[Tensor, "*items width"]:
        """The vectors of `items`."""
        vectors: Tensor = torch.stack([part(items) for part in self.parts]).sum(0)
        return vectors


class _TagVectors(nn.Module):
    values: Tensor

    def __init__(self, feature: Tags, width: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor(feature.values).long(), persistent=False)
        self.vectors = nn.Embedding(len(feature.vocabulary) + 1, width, padding_idx=0)
        with torch.no_grad():
            nn.init.normal_(self.vectors.weight, std=width**-0.5)
            self.vectors.weight[0] = 0

    def forward(self, items: Tensor) -> Tensor:
        tags = self.values[items]
        count = (tags > 0).sum(-1, keepdim=True).clamp(min=1)
        mean: Tensor = self.vectors(tags).sum(-2) / count
        return mean


class _NumberVectors(nn.Module):
    values: Tensor

    def __init__(self, feature: Numbers, width: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor(feature.values), persistent=False)
        self.weight = nn.Parameter(
            torch.randn(width, feature.values.shape[1]) * width**-0.5 * len(feature.mean) ** -0.5
        )

    def forward(self, items: Tensor) -> Tensor:
        return F.linear(self.values[items], self.weight)


def _part(feature: Feature, width: int) -> nn.Module:
    return _TagVectors(feature, width) if isinstance(feature, Tags) else _NumberVectors(feature, width)
