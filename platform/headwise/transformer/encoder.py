"""A stack of blocks."""

from collections.abc import Iterable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from headwise.attention import Coordinates, Mask, View
from headwise.transformer.block import State


class Encoder(nn.Module):
    """Blocks one after another, and a norm at the end.

    Args:
        blocks: `Block`s, or what answers like one, from input to output.
        width: of the tokens.
    """

    def __init__(self, blocks: Iterable[nn.Module], width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)

    def check(self, mask: Mask) -> None:
        """Whether every block can follow a mask; models ask when they are built.

        Raises:
            ValueError: the kernel of one cannot; the message says what would do.
        """
        for block in self.blocks:
            block.check(mask)  # type: ignore[operator]

    def forward(self, tokens: Float[Tensor, "batch time width"], view: View) -> Float[Tensor, "batch time width"]:
        """All tokens at once; every block looks through the same `view`."""
        for block in self.blocks:
            tokens = block(tokens, view)
        answer: Tensor = self.norm(tokens)
        return answer

    def depths(self, tokens: Float[Tensor, "batch time width"], view: View) -> list[Float[Tensor, "batch time width"]]:
        """What every block answers, each with the norm at the end, so that all are read alike; the last is that of `forward`."""
        answers = []
        for block in self.blocks:
            tokens = block(tokens, view)
            answers.append(self.norm(tokens))
        return answers

    def step(
        self, tokens: Float[Tensor, "batch time width"], at: Coordinates, mask: Mask, states: Sequence[State]
    ) -> tuple[Float[Tensor, "batch time width"], list[State]]:
        """The next tokens, given one state a block; the answer, and the states for the next step."""
        after = []
        for block, state in zip(self.blocks, states, strict=True):
            tokens, state = block.step(tokens, at, mask, state)  # type: ignore[operator]
            after.append(state)
        return self.norm(tokens), after

    def weights(
        self, tokens: Float[Tensor, "batch time width"], view: View
    ) -> list[Float[Tensor, "batch heads time time"]]:
        """The attention weights of every block, from input to output."""
        weights = []
        for block in self.blocks:
            weights.append(block.weights(tokens, view))  # type: ignore[operator]
            tokens = block(tokens, view)
        return weights

    def empty_states(self, batch: int, slots: int) -> list[State]:
        """One state a block that remembers nothing yet, each with room for `slots` keys."""
        return [block.empty_state(batch, slots) for block in self.blocks]  # type: ignore[operator]
