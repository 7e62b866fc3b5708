"""The recogniser that hears while the speaker speaks: a chunk in, its log-probabilities out, and what it remembers both ways."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim

from headwise.attention import Cache, Coordinates
from headwise.transformer import State
from headwise_speech.frontend import HOP
from headwise_speech.model import LEAD, Recogniser, window
from headwise_speech.streaming import INPUTS, Form
from headwise_speech.subsampling import REDUCTION


class StreamGraph(nn.Module):
    """What is traced: the next chunk of any number of streams. What it remembers is of one size, however long they last.

    Without dropout or gradients; the model that is given is changed so.

    Raises:
        ValueError: the recogniser does not stream.
    """

    def __init__(self, model: Recogniser) -> None:
        super().__init__()
        if not model.chunk:
            raise ValueError("this recogniser hears whole utterances alone; build it with chunk=12 or so")
        self.model = model
        self.eval().requires_grad_(False)

    def forward(
        self,
        waveform: Float[Tensor, "batch samples"],
        lengths: Int[Tensor, " batch"],
        start: Int[Tensor, " batch"],
        keys: Float[Tensor, "batch blocks heads left head_width"],
        values: Float[Tensor, "batch blocks heads left head_width"],
        convolutions: Float[Tensor, "batch blocks back width"],
    ) -> tuple[Tensor, ...]:
        """As `Recogniser.step`, with the blocks' memory side by side; log-probabilities beyond `frames` mean nothing."""
        at = self._remembered(start)
        states = [
            State(Cache(key, value, at), convolution)
            for key, value, convolution in zip(keys.unbind(1), values.unbind(1), convolutions.unbind(1), strict=True)
        ]
        log_probs, frames, states = self.model.step(waveform, lengths, start, states)
        return log_probs, frames, *_side_by_side(states)

    def memory(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values and convolutions that remember nothing yet."""
        return _side_by_side(self.model.encoder.empty_states(batch, self.model.left))

    @property
    def form(self) -> Form:
        """What whoever runs it must know."""
        sizes = [list(part.shape[1:]) for part in self.memory(1)]
        return Form(self.model.chunk, REDUCTION * HOP, LEAD, window(self.model.chunk), sizes)

    def example(self, batch: int = 2) -> tuple[Tensor, ...]:
        """Noise of the graph's form, to trace with: streams in their third chunk, the last of which ends in it."""
        generator = torch.Generator().manual_seed(0)
        samples = window(self.model.chunk)
        lengths = torch.linspace(samples, samples // 2, batch).long()
        waveform = 0.1 * torch.randn(batch, samples, generator=generator)
        return waveform, lengths, torch.full((batch,), 2 * self.model.chunk), *self.memory(batch)

    def _remembered(self, start: Tensor) -> Coordinates:
        # The cache holds the last `left` tokens, of which those before the first are no tokens.
        position = start[:, None] + torch.arange(-self.model.left, 0, device=start.device)
        return Coordinates(position, (position >= 0).long(), torch.zeros_like(position))


def _side_by_side(states: Sequence[State]) -> tuple[Tensor, Tensor, Tensor]:
    caches = [
        state.attention for state in states if isinstance(state.attention, Cache)
    ]  # no other kernel hears in chunks
    return (
        torch.stack([cache.key for cache in caches], 1),
        torch.stack([cache.value for cache in caches], 1),
        torch.stack([state.convolution for state in states], 1),
    )


def stream_shapes() -> Mapping[str, Mapping[int, Dim]]:
    """The free dimension of the inputs."""
    batch = Dim("batch", min=1, max=4096)
    return {name: {0: batch} for name in INPUTS}
