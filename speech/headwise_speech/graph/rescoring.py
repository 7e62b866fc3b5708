"""The attention decoder as it is exported: what it thinks of a few transcripts of one utterance."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from headwise.attention import rows
from headwise_speech.model import BLANK, Recogniser


class RescoringGraph(nn.Module):
    """What is traced: the decoder, for one utterance and any number of candidates.

    Without dropout or gradients; the model that is given is changed so.
    """

    def __init__(self, model: Recogniser) -> None:
        super().__init__()
        self.model = model
        self.eval().requires_grad_(False)

    def forward(
        self, encoded: Float[Tensor, "time width"], tokens: Int[Tensor, "candidates longest"]
    ) -> tuple[Float[Tensor, " candidates"]]:
        """The log-probability of each candidate and its end, given what the encoder made of the utterance.

        Args:
            encoded: real frames alone.
            tokens: padded with blanks; at least one column.
        """
        candidates, time = tokens.shape[0], encoded.shape[0]
        # One frame of padding, so that no size inside is ever 1, which export would bake in.
        source = F.pad(encoded, (0, 0, 0, 1)).expand(candidates, -1, -1)
        log_probs = self.model.transcribed(source, torch.full_like(tokens[:, 0], time), tokens)
        targets = F.pad(tokens, (0, 1), value=BLANK)
        real = rows((tokens != BLANK).sum(1) + 1, targets.shape[1]).segment > 0
        return ((log_probs.gather(2, targets[..., None]).squeeze(2) * real).sum(1),)


def rescoring_example(width: int, vocab: int) -> tuple[Tensor, Tensor]:
    """Noise of the graph's form, to trace with."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, vocab, (3, 5), generator=generator)
    return torch.randn(23, width, generator=generator), tokens * (torch.arange(5) < torch.tensor([[5], [4], [2]]))


def rescoring_shapes() -> Mapping[str, Mapping[int, Dim]]:
    """The free dimensions of the inputs, by name."""
    candidates, longest = Dim("candidates", min=1, max=4096), Dim("longest", min=1, max=65_536)
    return {"encoded": {0: Dim("time", min=1, max=90_000)}, "tokens": {0: candidates, 1: longest}}
