"""What a sweep searches: some values of a configuration, each a list to choose from or a range to draw from.

model.width=32,64,128            one of these
model.blocks=1..4                a whole number, ends included
model.dropout=0.0..0.5           a number
optimizer.rate=1e-4..1e-2:log    a number, evenly in its logarithm
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from headwise.errors import InputError, NotFound

RANGE = re.compile(r"(?P<low>.+?)\.\.(?P<high>.+?)(?P<log>:log)?")
FORMS = "give NAME=a,b,c or NAME=low..high or NAME=low..high:log"


class Drawing(Protocol):
    """Who draws values: an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number, ends included."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""


@dataclass(frozen=True)
class Choice:
    """One of some values, as they are written on the command line."""

    name: str
    values: tuple[str, ...]

    def draw(self, trial: Drawing) -> str:
        """The value of a trial."""
        return str(trial.suggest_categorical(self.name, self.values))

    def __str__(self) -> str:
        return f"{self.name}={','.join(self.values)}"


@dataclass(frozen=True)
class Range:
    """A number between two others.

    Attributes:
        name: of the value.
        low: the lowest.
        high: the highest.
        whole: only whole numbers.
        log: evenly in the logarithm.
    """

    name: str
    low: float
    high: float
    whole: bool
    log: bool

    def draw(self, trial: Drawing) -> str:
        """The value of a trial, to six digits."""
        if self.whole:
            return str(trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log))
        return f"{trial.suggest_float(self.name, self.low, self.high, log=self.log):.6g}"

    def __str__(self) -> str:
        return f"{self.name}={self.low:g}..{self.high:g}{':log' if self.log else ''}"


Space = tuple[Choice | Range, ...]


def space_of(lines: Iterable[str], config: Mapping[str, Any]) -> Space:
    """The space that some lines describe.

    Args:
        lines: `NAME=values` each.
        config: flat, the present value of every name: where that is a whole number, so are those of a range.

    Raises:
        InputError: a line that is none, a name that the configuration does not have or that comes twice, or no line.
    """
    space = tuple(_parsed(line, config) for line in lines)
    names = [each.name for each in space]
    if not names:
        raise InputError(f"nothing to search; --search {FORMS}, or a --space file of such lines")
    if again := {name for name in names if names.count(name) > 1}:
        raise InputError(f"--search {', '.join(sorted(again))}: given more than once")
    return space


def read_space(path: Path) -> list[str]:
    """The lines of a YAML file of names and values: `model.width: [32, 64]`, `optimizer.rate: 1e-4..1e-2:log`.

    Raises:
        InputError: it cannot be read as such.
    """
    if not path.is_file():
        raise NotFound(f"--space {path}: no such file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--space {path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise InputError(f"--space {path}: lines of NAME: [a, b] or NAME: low..high are needed")
    return [f"{name}={_written(value)}" for name, value in values.items()]


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_written, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parsed(line: str, config: Mapping[str, Any]) -> Choice | Range:
    name, equals, text = line.partition("=")
    if not (equals and name and text):
        raise InputError(f"--search {line}: {FORMS}")
    if name not in config:
        raise InputError(f"--search {line}: there is no value {name!r}; there are: {', '.join(config)}")
    if match := RANGE.fullmatch(text):
        return _range(line, name, match, config[name])
    values = tuple(value.strip() for value in text.split(","))
    if not all(values) or len(set(values)) < len(values):
        raise InputError(f"--search {line}: values parted by commas, each once")
    return Choice(name, values)


def _range(line: str, name: str, match: re.Match[str], present: Any) -> Range:
    if isinstance(present, bool) or not isinstance(present, int | float):
        raise InputError(f"--search {line}: {name} is {present!r}, not a number; give NAME=a,b,c")
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError as error:
        raise InputError(f"--search {line}: {match['low']} and {match['high']} must be numbers") from error
    whole = isinstance(present, int)
    if whole and not (low.is_integer() and high.is_integer()):
        raise InputError(f"--search {line}: {name} is a whole number, and so must the ends be")
    if not low < high < float("inf"):
        raise InputError(f"--search {line}: the first end must be below the second")
    if match["log"] and low <= 0:
        raise InputError(f"--search {line}: the logarithm needs a first end above 0")
    return Range(name, low, high, whole, bool(match["log"]))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration by dotted names: `model.width`."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values
