"""A run's configuration: a frozen dataclass, and the flags that change it for one run."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from headwise.errors import InputError

Config = TypeVar("Config")


def configure(
    preset: Callable[[], Config], flags: Sequence[str], *, command: str, again: Mapping[str, Any] | None
) -> Config:
    """The configuration of a preset with flags on top, such as `--model.width 128` or `--config run.yaml`.

    Args:
        preset: makes the configuration to start from.
        flags: of the command line; `--help` lists them and `--print_config` prints the outcome.
        command: what `--help` calls the program.
        again: the configuration of an earlier run, which takes the preset's place.

    Raises:
        InputError: a flag or value that the configuration does not have.
    """
    start = preset()
    parser = ArgumentParser(prog=command, description=_first_line(preset), exit_on_error=False)
    parser.add_argument("--config", action="config", help="a YAML file with some of the values below")
    kinds = {field.name: field.type for field in dataclasses.fields(start)}  # type: ignore[arg-type]
    helps = _attributes(type(start))
    for name, kind in kinds.items():
        parser.add_argument(f"--{name}", type=kind, default=getattr(start, name), help=helps.get(name, ""))
    try:
        if again is not None:
            parser.set_defaults(dict(again))
        values = parser.instantiate(parser.parse_args(list(flags)))
    except (ArgumentError, TypeError, KeyError) as error:
        raise InputError(f"{_message(error, flags)}; `{command} --help` lists what can be set") from error
    return type(start)(**{name: values[name] for name in kinds})


def plain(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def _message(error: Exception, flags: Sequence[str]) -> str:
    # The library does not say which file it could not read, and shows types as Python does.
    text = re.sub(r"a <class '(\w+)'>", r"\1", " ".join(str(error).split()))
    if not text.startswith(("Problems parsing config", "Unexpected config")):
        return text.removeprefix("Parser key ")
    files = [value for flag in flags if (value := flag.removeprefix("--config=")) and Path(value).is_file()]
    return f"{', '.join(files)}: not a YAML file of values ({text})"


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]


def _attributes(kind: type) -> dict[str, str]:
    # One line an attribute, as all our settings are documented.
    lines = (kind.__doc__ or "").partition("Attributes:")[2].splitlines()
    pairs = (line.strip().split(": ", 1) for line in lines if ": " in line)
    return {name: text for name, text in pairs}  # noqa: C416
