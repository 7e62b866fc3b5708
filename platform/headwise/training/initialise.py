"""A model that starts from another run's weights: what is taken, what is resized, what is left, and what is then frozen.

A tensor is taken where name and shape agree. The rows of a table stand for something, an item, a character, a position: they
are taken one by one, each from the row that stood for the same thing. All else keeps its fresh weights.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headwise.errors import InputError

BLOCKS = "encoder.blocks."
WIDTH = "encoder.norm.weight"  # as long as the encoder is wide
SHOWN = 6  # tensors that were left, each on a line; initialised.json has all


@dataclass(frozen=True)
class Rows:
    """Which row of the earlier table each row of the new one takes.

    Attributes:
        old: the earlier row of each new row; None where there is none.
        by: what they were matched by: "title", "id", "character", "position".
    """

    old: Sequence[int | None]
    by: str

    @classmethod
    def matching(cls, new: Iterable[Hashable], old: Iterable[Hashable], by: str) -> "Rows":
        """Rows that stand for equal things; the first where several earlier ones do. None equals nothing."""
        index: dict[Hashable, int] = {}
        for row, thing in enumerate(old):
            index.setdefault(thing, row)
        return cls([None if thing is None else index.get(thing) for thing in new], by)


@dataclass(frozen=True)
class Fate:
    """What became of one tensor of the new model.

    Attributes:
        name: in the model.
        state: taken whole, resized (some rows taken, or in another order), or left as it was.
        why: what rows were matched by, or why the tensor was left.
        rows: taken of a resized table.
        of: how many the table has.
    """

    name: str
    state: Literal["taken", "resized", "left"]
    why: str = ""
    rows: int = 0
    of: int = 0


@dataclass(frozen=True)
class Report:
    """What became of every tensor of the new model.

    Attributes:
        fates: in the model's own order.
        unused: tensors of the earlier run that the new model has no place for.
    """

    fates: tuple[Fate, ...]
    unused: tuple[str, ...] = ()

    def of(self, state: str) -> list[Fate]:
        """The tensors of one state."""
        return [fate for fate in self.fates if fate.state == state]

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"tensors": [asdict(fate) for fate in self.fates], "unused": list(self.unused)}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "Report":
        """The report of what `plain` gave."""
        return cls(tuple(Fate(**fate) for fate in plain["tensors"]), tuple(plain["unused"]))

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def initialise(module: nn.Module, weights: Mapping[str, Tensor], rows: Mapping[str, Rows]) -> Report:
    """Give a new model what fits it of an earlier run's weights (Yosinski et al. 2014: transfer beats a random start).

    Args:
        module: with fresh weights, and an `encoder`.
        weights: the earlier run's, by name; buffers, such as a front end's constants, are among them.
        rows: how the tables are matched, by name, whether or not their sizes agree.

    Raises:
        InputError: nothing of the encoder fits; the message names both widths where they are the reason.
    """
    tensors = module.state_dict()
    _check_width(tensors, weights)
    with torch.no_grad():
        fates = tuple(_give(name, tensor, weights.get(name), rows.get(name)) for name, tensor in tensors.items())
    if not any(fate.state == "taken" and fate.name.startswith(BLOCKS) for fate in fates):
        raise InputError(f"no block of the earlier run fits this model: {_first_left(fates)}; set --model alike")
    return Report(fates, tuple(sorted(set(weights) - set(tensors))))


def freeze(module: nn.Module, report: Report) -> None:
    """Train only what was not taken into the encoder's blocks.

    A block that is frozen whole also drops nothing out: it answers in training as it will in use. Lightning keeps the mode that
    a module is in when training begins.

    Raises:
        InputError: nothing was taken that could be frozen.
    """
    taken = {fate.name for fate in report.of("taken") if fate.name.startswith(BLOCKS)}
    if not taken:
        raise InputError("--freeze: nothing of the earlier run was taken into the blocks; leave it out")
    for name, parameter in module.named_parameters():
        if name in taken:
            parameter.requires_grad_(False)
    for block in module.get_submodule(BLOCKS.rstrip(".")).children():
        if not any(parameter.requires_grad for parameter in block.parameters()):
            block.eval()


def _check_width(new: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> None:
    if WIDTH not in old:
        raise InputError("the earlier run has no encoder among its weights; name a run that `headwise train` made")
    here, there = len(new[WIDTH]), len(old[WIDTH])
    if here != there:
        raise InputError(
            f"model.width is {here}, that of the earlier run {there}: nothing of its encoder fits; give --model.width {there}"
        )


def _give(name: str, new: Tensor, old: Tensor | None, rows: Rows | None) -> Fate:
    if old is None:
        return Fate(name, "left", "not in the earlier run")
    if rows is not None and new.shape[1:] == old.shape[1:]:
        return _give_rows(name, new, old, rows)
    if new.shape != old.shape:
        return Fate(name, "left", f"shape {tuple(new.shape)}, in the earlier run {tuple(old.shape)}")
    new.copy_(old)
    return Fate(name, "taken")


def _give_rows(name: str, new: Tensor, old: Tensor, rows: Rows) -> Fate:
    if len(rows.old) != len(new):
        raise ValueError(f"{name} has {len(new)} rows, its mapping {len(rows.old)}")
    if list(rows.old) == list(range(len(old))):
        new.copy_(old)
        return Fate(name, "taken", f"by {rows.by}")
    pairs = [(here, there) for here, there in enumerate(rows.old) if there is not None]
    if pairs:
        here, there = torch.tensor(pairs, device=new.device).T
        new[here] = old[there.to(old.device)].to(new)
    return Fate(name, "resized", f"by {rows.by}", len(pairs), len(new))


def _first_left(fates: Iterable[Fate]) -> str:
    return next(f"{fate.name} is {fate.why}" for fate in fates if fate.name.startswith(BLOCKS))


def _lines(report: Report) -> Iterator[str]:
    taken, resized, left = (report.of(state) for state in ("taken", "resized", "left"))
    parts = {fate.name.partition(".")[0]: 0 for fate in taken}
    for fate in taken:
        parts[fate.name.partition(".")[0]] += 1
    yield f"taken    {len(taken)} tensors: " + ", ".join(f"{part} {count}" for part, count in parts.items())
    for fate in resized:
        yield f"resized  {fate.name}: {fate.rows:,} of {fate.of:,} rows, {fate.why}"
    for fate in left[:SHOWN]:
        yield f"left     {fate.name}: {fate.why}"
    if len(left) > SHOWN:
        yield f"left     and {len(left) - SHOWN} more"
    if report.unused:
        yield f"unused   {len(report.unused)} tensors of the earlier run, such as {report.unused[0]}"
