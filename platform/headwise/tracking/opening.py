"""Which tracker a run gets."""

from collections.abc import Mapping
from pathlib import Path

from headwise.tracking.connection import available
from headwise.tracking.local import PREFIX, LocalRun
from headwise.tracking.run import Run


def open_run(
    product: str, name: str, folder: Path, *, tags: Mapping[str, str] | None = None, resume: str = ""
) -> Run | LocalRun:
    """A run in MLflow where it is installed, in plain files where not; a run that is resumed stays where it began.

    Args:
        product: `recsys` or `speech`.
        name: for people, usually the preset.
        folder: the run's own.
        tags: preset, data, commit, version.
        resume: id of a run to continue.
    """
    local = resume.startswith(PREFIX) or not available()
    # A run that began in MLflow is continued in files on a machine without it, under a new id.
    begun = resume if local == resume.startswith(PREFIX) else ""
    return (LocalRun if local else Run)(product, name, folder, tags=tags, resume=begun)
