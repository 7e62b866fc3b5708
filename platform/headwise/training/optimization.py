"""AdamW with a warm-up, and decay where decay belongs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from headwise.errors import InputError
from headwise.training.sparse import AdamWithSparseTables, sparse_tables


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW (Loshchilov and Hutter 2019) and the course of its learning rate.

    Attributes:
        rate: learning rate at the end of the warm-up, the highest.
        decay: weight decay of matrices and convolution kernels; biases, norms and embeddings are never decayed.
        beta1: memory of the gradient's mean.
        beta2: memory of the gradient's square.
        warmup: steps in which the rate rises in a straight line from zero.
        schedule: what follows the warm-up.
        floor: share of the highest rate at which a cosine ends.
    """

    rate: float = 1e-3
    decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    warmup: int = 100
    schedule: Literal["constant", "cosine", "inverse-sqrt"] = "cosine"
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise InputError(f"optimizer.rate ({self.rate}) must be above 0")
        if self.warmup < 0:
            raise InputError(f"optimizer.warmup ({self.warmup}) must be 0 steps or more")
        if not self.decay >= 0:
            raise InputError(f"optimizer.decay ({self.decay}) must be 0 or more")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"optimizer.{name} ({getattr(self, name)}) must be from 0 to below 1")
        if not 0 <= self.floor <= 1:
            raise InputError(f"optimizer.floor ({self.floor}) is a share of optimizer.rate: from 0 to 1")


def adamw(model: nn.Module, settings: OptimizerSettings, steps: int) -> dict[str, Any]:
    """What `configure_optimizers` returns: AdamW and its learning rate, moved at every step.

    Tables whose gradients are sparse are moved row by row; see `AdamWithSparseTables`.

    Args:
        model: whose trainable parameters are optimised.
        settings: rate, decay and schedule.
        steps: steps of the whole training, `trainer.estimated_stepping_batches`; the cosine ends there.
    """
    sparse = [table for table in sparse_tables(model) if table.requires_grad]
    decayed, plain = _by_decay(model, apart=sparse)
    groups = [{"params": decayed, "weight_decay": settings.decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    # On the CPU the default loops over tensors in Python; on a GPU it is already one launch for many tensors.
    fused = all(p.device.type == "cpu" for p in (*decayed, *plain)) or None
    betas = (settings.beta1, settings.beta2)
    optimizer: Optimizer
    if sparse:
        groups.append({"params": sparse, "weight_decay": 0.0, "sparse": True})
        optimizer = AdamWithSparseTables(groups, lr=settings.rate, betas=betas, fused=fused)
    else:
        optimizer = AdamW(groups, lr=settings.rate, betas=betas, fused=fused)
    schedule = LambdaLR(optimizer, lambda step: factor(step, settings, steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def factor(step: int, settings: OptimizerSettings, steps: int) -> float:
    """Share of the highest learning rate at a step, counted from 0; step 0 takes the first rung of the warm-up, not zero."""
    if step < settings.warmup:
        return (step + 1) / (settings.warmup + 1)
    if settings.schedule == "cosine":
        done = min(1.0, (step - settings.warmup) / max(1, steps - settings.warmup))
        return settings.floor + (1 - settings.floor) * (1 + math.cos(math.pi * done)) / 2
    if settings.schedule == "inverse-sqrt":  # Vaswani et al. 2017, eq. 3, scaled to be 1 at the end of the warm-up
        return math.sqrt((settings.warmup + 1) / (step + 1))
    return 1.0


def _by_decay(model: nn.Module, apart: Sequence[Tensor]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    tables = {id(table) for table in _embedding_tables(model)}
    without = {id(table) for table in apart}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in without]
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in tables]
    return decayed, [p for p in trained if p.ndim < 2 or id(p) in tables]


def _embedding_tables(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            yield module.weight
