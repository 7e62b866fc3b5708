"""Checkpoints that are whole or absent, and what they hold: tensors and plain values, never a pickled object."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import nn

from headwise.errors import HeadwiseError, InputError, NotFound
from headwise.files import replacing


class WholeFiles(CheckpointIO):
    """Lightning's way to the disk, with a file that takes its place only when every byte of it is written.

    Lightning's own writes to the system's temporary folder and moves the file, which is a copy where the two are on
    different disks, and holds the whole file in memory meanwhile.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint`.

        Raises:
            HeadwiseError: the disk is full or refuses; the file that was there before stays, and no part of the new one.
        """
        try:
            with replacing(Path(path)) as draft, draft.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            raise HeadwiseError(
                f"{path}: the checkpoint could not be written ({_reason(error)}); the previous one is kept. "
                "Make room, then run the same command to continue"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint on the CPU, from where Lightning spreads it."""
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint that may already be gone."""
        Path(path).unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """All that a checkpoint holds, on the CPU.

    Raises:
        NotFound: there is no such file.
        InputError: it is not a checkpoint, or it holds something other than tensors and plain values.
    """
    if not path.is_file():
        raise NotFound(f"{path}: no such checkpoint")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything here, and every case is the same news
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: cannot be read as a checkpoint ({first}); remove it to train again") from error
    return checkpoint


def restore(module: nn.Module, path: Path) -> None:
    """Give a module the weights of a checkpoint, averaged ones where training averaged."""
    module.load_state_dict(load(path)["state_dict"])


def extract(path: Path, target: Path) -> None:
    """Write the weights of a checkpoint by themselves, without what only a continued run needs: a third of its bytes or less."""
    weights = load(path)["state_dict"]
    with replacing(target) as draft:
        torch.save({"state_dict": weights}, draft)


def sweep(folder: Path) -> None:
    """Remove what a process that was killed while writing left half written."""
    for draft in folder.glob(".*.ckpt.*"):
        draft.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    # torch reports a failed write as an error of its own archive; the system's reason is beneath it.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    return str(error).strip().splitlines()[0]
