"""The trials of a sweep, drawn: how the best came about, and what each value did to the score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from headwise.tracking.figures import BEST, DPI, QUIET, TRAIN, VALID
from headwise_pipelines.space import Choice, Space

FAINT, LINE = "#e6e8eb", "#c4c8ce"


@dataclass(frozen=True)
class Shown:
    """A trial that has a score.

    Attributes:
        number: from 1.
        score: its best, or the last one where it was ended early.
        whole: whether it was trained to its end.
        values: by name.
    """

    number: int
    score: float
    whole: bool
    values: dict[str, Any]


def trials_figure(trials: Sequence[Shown], space: Space, *, metric: str, mode: str) -> Figure:
    """The score of every trial in turn, and beside it against each value that was searched; early ended ones are hollow.

    Args:
        trials: at least one of them whole.
        space: what was searched.
        metric: what the score is.
        mode: whether a better one is "min" or "max".
    """
    across = min(len(space) + 1, 4)
    down = -(-(len(space) + 1) // across)
    figure = Figure(figsize=(3.4 * across, 2.9 * down), dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    best = (min if mode == "min" else max)((each for each in trials if each.whole), key=lambda each: each.score)
    first, *others = panels.flat
    _scatter(first, trials, [each.number for each in trials], best)
    whole = [each for each in trials if each.whole]
    so_far = (np.minimum if mode == "min" else np.maximum).accumulate([each.score for each in whole])
    first.step([each.number for each in whole], so_far, where="post", color=BEST, linewidth=1.2)
    first.xaxis.set_major_locator(MaxNLocator(integer=True))
    first.set_xlabel("trial", fontsize=9, color=QUIET)
    for panel, each in zip(others, space, strict=False):
        if isinstance(each, Choice):
            _scatter(panel, trials, [each.values.index(str(trial.values[each.name])) for trial in trials], best)
            panel.set_xticks(range(len(each.values)), each.values)
            panel.set_xlim(-0.5, len(each.values) - 0.5)
        else:
            _scatter(panel, trials, [trial.values[each.name] for trial in trials], best)
            panel.set_xscale("log" if each.log else "linear")
        panel.set_xlabel(each.name, fontsize=9, color=QUIET)
    for panel in others[len(space) :]:
        panel.set_visible(False)
    for row in panels:
        row[0].set_ylabel(metric, fontsize=9, color=QUIET)
    return figure


def _scatter(panel: Axes, trials: Sequence[Shown], across: Sequence[float], best: Shown) -> None:
    for x, each in zip(across, trials, strict=True):
        colour = BEST if each is best else VALID if each.whole else TRAIN
        panel.plot([x], [each.score], "o", color=colour, markersize=6, fillstyle="full" if each.whole else "none")
    panel.grid(axis="y", color=FAINT, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(LINE)
    panel.tick_params(which="both", labelsize=8, colors=QUIET, length=0)
