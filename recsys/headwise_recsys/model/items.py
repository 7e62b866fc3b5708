"""What an item is to the model: a vector of its own, and what its features say of it."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from headwise_recsys.model.content import Content


class Items(nn.Module):
    """own[item] + content(item), where an item that nobody chose in training has nothing of its own.

    In training an item's own vector is now and then left out, so that features alone learn to stand for items, after DropoutNet
    (Volkovs et al. 2017): a new item is then recommended, and understood in a history, by its features.

    Args:
        own: a vector an item, row 0 for padding.
        content: what the features say.
        chosen: which items were chosen in training, row 0 for padding; all where None.
        dropout: share of the items whose own vector is left out, anew in each call.
    """

    chosen: Tensor

    def __init__(
        self, own: nn.Embedding, content: Content, *, chosen: Bool[Tensor, " items"] | None = None, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.own, self.content, self.dropout = own, content, dropout
        if chosen is None:
            chosen = torch.ones(own.num_embeddings, dtype=torch.bool)
        self.register_buffer("chosen", chosen.to(own.weight.dtype), persistent=False)

    def forward(self, items: Int[Tensor, "*items"]) -> Float[Tensor, "*items width"]:
        """The vectors of `items`."""
        kept = self.chosen[items]
        if self.training and self.dropout:
            kept = kept * (torch.rand_like(kept) >= self.dropout)
        vectors: Tensor = self.own(items) * kept[..., None] + self.content(items)
        return vectors

    @property
    def weight(self) -> Float[Tensor, "items width"]:
        """The vectors of the whole table, padding included."""
        everything: Tensor = self(torch.arange(self.own.num_embeddings, device=self.chosen.device))
        return everything
