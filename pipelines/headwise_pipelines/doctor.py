"""What is installed, what is missing, and what that means."""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from headwise import __version__

PARTS = {  # package -> what it is for, and the extra that brings it
    "torch": ("training", ""),
    "pytorch-lightning": ("training", ""),
    "polars": ("reading events", ""),
    "onnx": ("export", ""),
    "onnxscript": ("export", ""),
    "onnxruntime": ("serving, and the proof of every export", ""),
    "torchaudio": ("training the recogniser", "speech"),
    "soundfile": ("reading recordings", "speech"),
    "soxr": ("reading recordings of other sample rates", "speech"),
    "mlflow": ("tracking and the registry", "track"),
    "fastapi": ("serving over HTTP", "serve"),
    "uvicorn": ("serving over HTTP", "serve"),
    "espeakng-loader": ("the quick start's speech", "synth"),
    "optuna": ("sweeps", "tune"),
}
ENOUGH = 5 * 2**30  # bytes of disk that a training may want


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    remedy: str = ""  # empty where all is well


def doctor(*, quiet: bool) -> Mapping[str, Any]:
    """Looks at everything; prints it unless `quiet`."""
    findings = [*_machine(), *_packages(), *_pairs()]
    if not quiet:
        for finding in findings:
            print(f"{'!' if finding.remedy else ' '} {finding.what:20} {finding.found}")
            if finding.remedy:
                print(f"    {finding.remedy}")
    return {"version": __version__, "findings": [asdict(finding) for finding in findings]}


def _machine() -> Iterator[Finding]:
    yield Finding("headwise", __version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("processors", str(os.cpu_count()))
    free = shutil.disk_usage(".").free
    remedy = "" if free > ENOUGH else f"a training may want {ENOUGH >> 30} GiB: free some, or work on another disk"
    yield Finding("free disk here", f"{free / 2**30:.1f} GiB", remedy)
    yield Finding("tracking store", os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db (here)"))


def _packages() -> Iterator[Finding]:
    for package, (purpose, extra) in PARTS.items():
        try:
            yield Finding(package, version(package))
        except PackageNotFoundError:
            name = f"'headwise[{extra}]'" if extra else "headwise"
            yield Finding(package, f"not installed: no {purpose}", f"pip install {name}")


def _pairs() -> Iterator[Finding]:
    # The two must be built against the same libraries: the versions alone do not tell, an import does.
    try:
        torch = import_module("torch")
    except (ImportError, OSError) as error:
        yield Finding(
            "torch works", "no", f"it cannot be imported ({error}); install headwise again in a new environment"
        )
        return
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: training uses the processors"
    yield Finding("GPU", device)
    try:
        import_module("torchaudio")
        yield Finding("torchaudio works", "yes")
    except ModuleNotFoundError:
        return
    except (ImportError, OSError, RuntimeError) as error:
        remedy = "install both from the same registry: torch>=2.11,<2.15 with torchaudio 2.11"
        yield Finding("torchaudio works", f"no ({str(error).splitlines()[0]})", remedy)
