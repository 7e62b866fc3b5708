"""A table of vectors in 8 bits, for a first look at a catalogue: a quarter of the memory that a request has to read."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = (64, 32)  # numbers with a scale of their own, most first; ONNX Runtime has fast products for these
ZERO = 128  # what stands for 0 among the unsigned numbers


class QuantisedTable(nn.Module):
    """Approximate products with every row of a table, whose numbers are whole ones from -127 to 127 times a scale.

    A scale belongs to 64 numbers of one row (32 where the width is no multiple of 64), so that a row of large numbers takes
    nothing from another's precision. In a graph it is one `MatMulNBits`, which rounds the vector too, to 8 bits.

    Args:
        table: the rows.
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, table: Float[Tensor, "rows width"]) -> None:
        super().__init__()
        self.rows, self.width = table.shape
        self.group = next((size for size in GROUPS if self.width % size == 0), GROUPS[-1])
        groups = F.pad(table, (0, -self.width % self.group)).unflatten(1, (-1, self.group))
        scales = groups.abs().amax(2).clamp(min=torch.finfo(table.dtype).tiny) / 127
        self.register_buffer("codes", ((groups / scales[:, :, None]).round() + ZERO).to(torch.uint8))
        self.register_buffer("scales", scales)

    def forward(self, vectors: Float[Tensor, "batch width"]) -> Float[Tensor, "batch rows"]:
        """The approximate product of each vector with each row."""
        if torch.compiler.is_exporting():
            return torch.onnx.ops.symbolic(
                "com.microsoft::MatMulNBits",
                (vectors, self.codes, self.scales),
                {"K": self.width, "N": self.rows, "bits": 8, "block_size": self.group, "accuracy_level": 4},
                dtype=vectors.dtype,
                shape=(vectors.shape[0], self.rows),
                version=1,
            )
        return F.linear(vectors, self.restored())

    def restored(self) -> Float[Tensor, "rows width"]:
        """The table as its codes and scales have it."""
        return ((self.codes.float() - ZERO) * self.scales[:, :, None]).flatten(1)[:, : self.width]
