"""What is searched: lines of the command line and of a file, and what they are refused for."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from headwise.errors import InputError, NotFound
from headwise_pipelines.space import Choice, Range, flat, read_space, space_of

CONFIG = {"model": {"width": 64, "dropout": 0.2, "gated": False, "kernel": "softmax"}, "optimizer": {"rate": 1e-3}}
FLAT = flat(CONFIG)


@dataclass
class Drawn:
    """Draws the first of what it may, and remembers what it was asked."""

    asked: list[Any] = field(default_factory=list)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.asked.append((name, *choices))
        return choices[0]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.asked.append((name, low, high, log))
        return low

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append((name, low, high, log))
        return low + (high - low) / 3


def test_configuration_is_flat_by_dotted_names() -> None:
    assert FLAT == {
        "model.width": 64, "model.dropout": 0.2, "model.gated": False, "model.kernel": "softmax", "optimizer.rate": 1e-3
    }  # fmt: skip


def test_lines_by_hand() -> None:
    lines = [
        "model.width=32,64",
        "model.kernel=softmax, linear",
        "model.dropout=0..0.5",
        "optimizer.rate=1e-4..1e-2:log",
    ]
    assert space_of([*lines[:1], *lines[2:]], FLAT) == (
        Choice("model.width", ("32", "64")),
        Range("model.dropout", 0, 0.5, whole=False, log=False),
        Range("optimizer.rate", 1e-4, 1e-2, whole=False, log=True),
    )
    assert space_of(lines[1:2], FLAT)[0].values == ("softmax", "linear")
    assert space_of(["model.width=8..128:log"], FLAT) == (Range("model.width", 8, 128, whole=True, log=True),)


def test_values_are_drawn_as_flags_are_written() -> None:
    trial = Drawn()
    space = space_of(["model.width=8..128", "model.gated=true,false", "optimizer.rate=1e-4..1e-2:log"], FLAT)
    assert [each.draw(trial) for each in space] == ["8", "true", "0.0034"]
    assert trial.asked == [
        ("model.width", 8, 128, False), ("model.gated", "true", "false"), ("optimizer.rate", 1e-4, 1e-2, True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", ["model.width=32,64", "model.width=8..128:log", "model.dropout=0..0.5", "optimizer.rate=0.0001..0.01:log"]
)
def test_a_space_is_written_as_it_is_read(line) -> None:
    assert [str(each) for each in space_of([line], FLAT)] == [line]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "nothing to search; --search give NAME=a,b,c or NAME=low..high"),
        (["model.width"], "--search model.width: give NAME=a,b,c or NAME=low..high"),
        (["=3"], "--search =3: give NAME=a,b,c"),
        (["model.widht=3"], "there is no value 'model.widht'; there are: model.width, model.dropout"),
        (["model.width=32,,64"], "values parted by commas, each once"),
        (["model.width=32,32"], "values parted by commas, each once"),
        (["model.width=32,64", "model.width=8..9"], "--search model.width: given more than once"),
        (["model.kernel=1..2"], "model.kernel is 'softmax', not a number; give NAME=a,b,c"),
        (["model.gated=0..1"], "model.gated is False, not a number"),
        (["model.width=a..b"], "a and b must be numbers"),
        (["model.width=1.5..3"], "model.width is a whole number, and so must the ends be"),
        (["model.dropout=0.5..0.1"], "the first end must be below the second"),
        (["model.dropout=0.1..inf"], "the first end must be below the second"),
        (["model.dropout=nan..0.1"], "the first end must be below the second"),
        (["model.dropout=0..0.1:log"], "the logarithm needs a first end above 0"),
    ],
)
def test_what_is_no_space_is_refused(lines, message) -> None:
    with pytest.raises(InputError) as refused:
        space_of(lines, FLAT)
    assert message in str(refused.value)


def test_a_file_says_the_same(tmp_path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "model.width: [32, 64]\nmodel.gated: [true, false]\noptimizer.rate: 1e-4..1e-2:log\nmodel.heads: 2\n"
    )
    assert read_space(path) == [
        "model.width=32,64", "model.gated=true,false", "optimizer.rate=1e-4..1e-2:log", "model.heads=2"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [("model.width: [32", "space.yaml: not YAML"), ("- 3\n", "lines of NAME:"), ("", "lines of NAME:")],
)
def test_a_file_that_says_nothing_is_refused(text, message, tmp_path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_space(path)
    with pytest.raises(NotFound, match="nowhere: no such file"):
        read_space(tmp_path / "nowhere")
