"""How long, how carefully and on what a model is trained."""

from dataclasses import dataclass
from typing import Literal

from headwise.errors import InputError


@dataclass(frozen=True)
class FitSettings:
    """How long, how carefully and on what a model is trained.

    Attributes:
        epochs: passes over the training data, at most.
        patience: validations without a better score before training stops; 0 never stops early.
        validate_every: epochs from one validation to the next.
        clip: largest norm of all gradients together; 0 leaves gradients alone.
        average: decay of the exponential moving average of the weights, which is what is validated and kept; 0 is off.
        seed: everything random in epoch n follows from the seed and n alone.
        precision: numbers that the matrix products are computed in.
        accelerator: device to train on; auto takes a GPU where there is one.
        devices: devices on each host.
        hosts: hosts, each started by torchrun.
        threads: threads of one process on the CPU; 0 leaves it to torch.
    """

    epochs: int = 20
    patience: int = 5
    validate_every: int = 1
    clip: float = 1.0
    average: float = 0.0
    seed: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = 1
    hosts: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "patience": 0,
            "validate_every": 1,
            "clip": 0,
            "seed": 0,
            "devices": 1,
            "hosts": 1,
            "threads": 0,
        }
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise InputError(f"fit.{name} ({getattr(self, name)}) must be at least {bound}")
        if not 0 <= self.average < 1:
            raise InputError(f"fit.average ({self.average}) is a decay: 0 (off) or below 1, usually 0.99 to 0.9999")
        if self.validate_every > self.epochs:
            raise InputError(
                f"fit.validate_every ({self.validate_every}) is beyond fit.epochs ({self.epochs}): no checkpoint would be chosen"
            )
