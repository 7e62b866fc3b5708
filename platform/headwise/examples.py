"""What a model's graph answered when it was exported, kept in the model folder: whoever loads the graph can ask it again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError

FILE = "examples.npz"
TOLERANCE = 1e-3  # of scores; processors add up in different orders
_ASKED, _ANSWERED = "asked.", "answered."

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Examples:
    """One batch of a graph's inputs and what it answered.

    Attributes:
        asked: inputs by name.
        answered: outputs by name.
    """

    asked: Arrays
    answered: Arrays

    def save(self, folder: Path) -> None:
        """Writes them into a model folder's draft."""
        named = {_ASKED + name: value for name, value in self.asked.items()}
        named |= {_ANSWERED + name: value for name, value in self.answered.items()}
        np.savez(folder / FILE, allow_pickle=False, **named)

    @classmethod
    def load(cls, folder: Path) -> "Examples | None":
        """Those of a model folder; None where it was exported without.

        Raises:
            InputError: the file cannot be read.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as table:
                values = {name: table[name] for name in table.files}
        except (OSError, ValueError, EOFError, TypeError, BadZipFile) as error:
            raise InputError(f"{path}: cannot be read ({error}); export the model again") from error
        asked, answered = (
            {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
            for prefix in (_ASKED, _ANSWERED)
        )
        return cls(asked, answered)

    def check(self, run: Callable[..., Sequence[NDArray[np.generic]]], outputs: Sequence[str], graph: Path) -> None:
        """Asks a graph again.

        Args:
            run: gives the graph's outputs for inputs by name.
            outputs: the names of what it gives, in order.
            graph: its file, for the message.

        Raises:
            InputError: it cannot be asked, or answers otherwise.
        """
        try:
            found = dict(zip(outputs, run(**self.asked), strict=True))
        except Exception as error:  # ONNX Runtime's own classes share no other base
            raise InputError(
                f"{graph}: cannot answer the example of {FILE} ({error}); export the model again"
            ) from error
        for name, value in self.answered.items():
            if np.issubdtype(value.dtype, np.floating) and name in found and not _alike(value, found[name]):
                raise InputError(
                    f"{graph}: its {name} for the example of {FILE} are not those that it gave when it was exported; "
                    "fetch or export the model again"
                )


def _alike(kept: NDArray[np.generic], found: NDArray[np.generic]) -> bool:
    return kept.shape == found.shape and np.allclose(kept, found, rtol=TOLERANCE, atol=TOLERANCE)
