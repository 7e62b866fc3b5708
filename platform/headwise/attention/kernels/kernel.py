"""What every kernel is."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from headwise.attention.biases import Bias
from headwise.attention.coordinates import Coordinates
from headwise.attention.masks import Mask
from headwise.attention.view import View


@runtime_checkable
class Kernel(Protocol):
    """From queries, keys and values to one mixture of values per query. A model chooses one by passing it in.

    Every kernel is linear in `value`, so its weights are its answer to the identity matrix.
    """

    def __call__(
        self,
        query: Float[Tensor, "batch heads queries head_width"],
        key: Float[Tensor, "batch kv_heads keys head_width"],
        value: Float[Tensor, "batch kv_heads keys value_width"],
        view: View,
        bias: Bias | None = None,
    ) -> Float[Tensor, "batch heads queries value_width"]:
        """One mixture a query.

        `heads` must be a multiple of `kv_heads`. A query that sees no key gets zeros; what padding gets, whose segment is 0,
        depends on the mask and is nobody's to use.
        """
        ...

    def check(self, mask: Mask, *, biased: bool) -> None:
        """Refuse a mask that the kernel cannot follow, or a bias that it cannot add to its scores.

        Raises:
            ValueError: of such a mask or bias; the message says what would do.
        """
        ...


@runtime_checkable
class Recurrent(Protocol):
    """A kernel that carries a summary of the past from step to step where others carry the past itself."""

    def empty_memory(self, batch: int, heads: int, head_width: int, like: Tensor) -> Any:
        """A memory of nothing on the device of `like`, in its type or a finer one; tensors or a named tuple of them."""
        ...

    def step(
        self,
        query: Float[Tensor, "batch heads queries head_width"],
        key: Float[Tensor, "batch kv_heads queries head_width"],
        value: Float[Tensor, "batch kv_heads queries value_width"],
        at: Coordinates,
        mask: Mask,
        memory: Any,
    ) -> tuple[Float[Tensor, "batch heads queries value_width"], Any]:
        """The answer for the next tokens given what came before them, and the memory for the step after."""
        ...
