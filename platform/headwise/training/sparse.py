"""Tables of which a step touches few rows: their gradients hold those rows alone, and the optimiser moves no others."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer, SparseAdam

EPSILON = 1e-8


class AdamWithSparseTables(Optimizer):
    """AdamW, but for groups marked `sparse`, which torch's SparseAdam moves: one optimiser to whoever schedules and saves it.

    A row of a sparse table is moved, and its means of the gradient forget, only in steps that touched it. Without that a
    step would read and write the whole table three times over.

    Args:
        groups: of parameters, as for AdamW; those with `sparse` true hold tables with sparse gradients, which are not decayed.
        lr: learning rate.
        betas: memory of the gradient's mean and of its square.
        fused: AdamW in one kernel.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, betas: tuple[float, float], fused: bool | None
    ) -> None:
        settings = AdamW([nn.Parameter(torch.empty(0))], fused=fused).defaults  # all that its step reads of a group
        super().__init__(groups, settings | {"lr": lr, "betas": betas, "eps": EPSILON, "sparse": False})
        nothing = [nn.Parameter(torch.empty(0))]
        self._parts = {False: AdamW(nothing, fused=fused), True: SparseAdam(nothing)}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; gives what `closure`, which computes the gradients, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for sparse, part in self._parts.items():
            # They own nothing: groups and state are this optimiser's, so that a checkpoint holds and a schedule reaches them.
            part.param_groups = [group for group in self.param_groups if group["sparse"] is sparse]
            part.state = self.state
            part.step()
        return loss


def make_sparse(model: nn.Module, rows: int) -> None:
    """Have the model's embeddings of at least `rows` rows give sparse gradients, whatever trains them from now on."""
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings >= rows:
            module.sparse = True


def sparse_tables(model: nn.Module) -> list[Tensor]:
    """The tables of a model whose gradients are sparse."""
    return [
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse
    ]


def clip(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scale all gradients down together where their norm is above `most`, as torch does, sparse ones too.

    Returns:
        The norm that they had.
    """
    values = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()  # entries of one row count as their sum
            values.append(parameter.grad.values())
        elif parameter.grad is not None:
            values.append(parameter.grad)
    norm = torch.nn.utils.get_total_norm(values)
    torch._foreach_mul_(values, (most / (norm + 1e-6)).clamp(max=1))
    return norm
