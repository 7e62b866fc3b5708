"""The figures of an evaluation, drawn from its findings alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from headwise.tracking.figures import BEST, DPI, QUIET, VALID
from headwise_pipelines.recsys.findings import Compared, Part, Scored, SplitFindings

INK, LINE, FAINT = "#22262c", "#c4c8ce", "#e6e8eb"
MODELS = (VALID, BEST, "#0b1f45", "#00798c")
BASELINES = {
    "popularity": ("#8a8f98", "o"),
    "recent popularity": ("#b08968", "v"),
    "Markov": ("#2a9d8f", "s"),
    "item-kNN": ("#e09f3e", "D"),
    "EASE": ("#7b4fa3", "^"),
}
CLEAR = 0.05  # corrected p below which a difference is called clear
NAMES = {"ndcg_10": "NDCG@10", "hr_10": "HR@10"}


def accuracy(split: SplitFindings) -> Figure:
    """NDCG@10 and HR@10 of everyone, with their intervals; models on top."""
    rows = [*split.models, *sorted(_baselines(split), key=lambda each: -each.metrics["ndcg_10"])]
    figure, panels = _panels(2, height=0.9 + 0.34 * len(rows), sharey=True)
    for panel, metric in zip(panels, NAMES, strict=True):
        for place, each in enumerate(rows):
            _interval(panel, each.metrics[metric], each.intervals[metric], place, _colour(split, each.name))
        panel.set_xlabel(NAMES[metric], fontsize=9, color=QUIET)
        panel.set_xlim(left=0)
    _name_rows(panels[0], [each.name for each in rows], bold=len(split.models))
    return figure


def differences(split: SplitFindings) -> Figure:
    """What each model has more than everyone else, with intervals; clear where Holm's correction leaves it so."""
    rows: list[Compared] = [each for each in split.compared if each.metric == "ndcg_10"]
    others = {each.name: each.metrics["ndcg_10"] for each in split.scored}
    rows.sort(key=lambda each: (each.model, -others[each.other]))
    figure, [panel] = _panels(1, height=1.0 + 0.34 * len(rows))
    ends = [end for row in rows for end in (row.low, row.high)]
    reach = max(max(ends), 0) - min(min(ends), 0)
    for place, row in enumerate(rows):
        colour = LINE if row.corrected >= CLEAR else VALID if row.difference > 0 else BEST
        panel.plot([row.low, row.high], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
        panel.plot([row.difference], [place], "o", color=colour if colour != LINE else QUIET, markersize=6)
        note = f"{row.difference:+.4f}   {_p(row.corrected)}"
        panel.annotate(note, (max(row.high, 0) + 0.03 * reach, place), va="center", fontsize=8, color=QUIET)
    panel.axvline(0, color=INK, linewidth=0.8)
    panel.set_xlim(min(min(ends), 0) - 0.04 * reach, max(max(ends), 0) + 0.45 * reach)
    panel.set_xlabel("NDCG@10 of the model, less that of the other", fontsize=9, color=QUIET)
    several = len(split.models) > 1
    names = [f"{_short(row.model, 24)} − {_short(row.other, 24)}" if several else f"− {row.other}" for row in rows]
    _name_rows(panel, names, width=51)
    return figure


def curve(split: SplitFindings) -> Figure:
    """HR@k for every k that lists reach."""
    figure, [panel] = _panels(1, height=3.6)
    for each in reversed(split.scored):
        model = each.kind == "model"
        places = np.arange(1, len(each.curve) + 1)
        panel.plot(places, each.curve, color=_colour(split, each.name), linewidth=2.4 if model else 1.3)
    depth = max(len(each.curve) for each in split.scored)
    panel.axvline(10, color=LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    panel.set_xscale("log")
    panel.set_xlim(1, depth)
    panel.set_ylim(0, 1.12 * max(each.curve[-1] for each in split.scored) or 1)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if tick <= depth]
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("k, items of a list", fontsize=9, color=QUIET)
    panel.set_ylabel("HR@k: targets among the first k", fontsize=9, color=QUIET)
    panel.grid(axis="y", color=FAINT, linewidth=0.8)
    _label_ends(panel, depth, {each.name: each.curve[-1] for each in split.scored}, split)
    return figure


def slices(split: SplitFindings) -> Figure:
    """HR@10 for known and unknown targets, and for short and long histories."""
    by = list(split.scored[0].slices)
    figure, panels = _panels(len(by), height=3.4, sharey=True)
    for panel, what in zip(panels, by, strict=True):
        parts: Mapping[str, Part] = split.scored[0].slices[what]
        for place, each in enumerate(split.scored):
            across = np.arange(len(parts)) + 0.6 * (place / max(len(split.scored) - 1, 1) - 0.5)
            _columns(panel, across, list(each.slices[what].values()), *_style(split, each.name), each.name)
        panel.set_xticks(range(len(parts)), [f"{name}\n{part.queries:,}" for name, part in parts.items()])
        panel.tick_params(axis="x", labelcolor=INK)
        panel.set_xlabel(f"{what} (below: queries)", fontsize=9, color=QUIET)
        panel.grid(axis="y", color=FAINT, linewidth=0.8)
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("HR@10", fontsize=9, color=QUIET)
    _legend(figure, panels[0])
    return figure


def bias(split: SplitFindings) -> Figure:
    """Which share of all recommendations falls on the most popular items, beside the share of what was truly chosen."""
    figure, [panel] = _panels(1, height=3.6)
    percent = np.linspace(0, 1, len(split.asked))
    for each in reversed(split.scored):
        model = each.kind == "model"
        panel.plot(
            percent, each.shares, color=_colour(split, each.name), linewidth=2.4 if model else 1.3, label=each.name
        )
    panel.plot(percent, split.asked, color=INK, linewidth=1.6, linestyle=(0, (4, 2)), label="what was chosen")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1.01)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    panel.set_xlabel("of the items, the most popular first", fontsize=9, color=QUIET)
    panel.set_ylabel("share of all recommendations", fontsize=9, color=QUIET)
    panel.grid(color=FAINT, linewidth=0.8)
    panel.legend(fontsize=8, frameon=False, labelcolor=QUIET, loc="lower right", reverse=True)
    return figure


def order(split: SplitFindings) -> Figure:
    """NDCG@10 of the models with histories in order and shuffled."""
    figure, [panel] = _panels(1, height=0.8 + 0.95 * len(split.models))
    names, place = [], 0
    for each in split.models:
        colour = _colour(split, each.name)
        kept = {"in order": (each.metrics["ndcg_10"], each.intervals["ndcg_10"])}
        kept |= {f"shuffled, {what}": (v["ndcg_10"], (v["low"], v["high"])) for what, v in each.shuffled.items()}
        for what, (value, ends) in kept.items():
            _interval(panel, value, ends, place, colour if what == "in order" else QUIET)
            names.append(what if len(split.models) == 1 else f"{_short(each.name)}: {what}")
            place += 1
    panel.set_xlim(left=0)
    panel.set_xlabel("NDCG@10", fontsize=9, color=QUIET)
    _name_rows(panel, names)
    return figure


def _panels(count: int, *, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9.2, height), dpi=DPI, layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False, sharey=sharey)[0])
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(LINE)
        panel.tick_params(labelsize=8, colors=QUIET, length=0)
        panel.set_axisbelow(True)
    return figure, panels


def _interval(panel: Axes, value: float, ends: Sequence[float], place: float, colour: str) -> None:
    panel.plot(list(ends), [place, place], color=colour, linewidth=2.4, alpha=0.45, solid_capstyle="round")
    panel.plot([value], [place], "o", color=colour, markersize=6)
    panel.annotate(
        f"{value:.4f}", (ends[1], place), (7, 0), textcoords="offset points", va="center", fontsize=8, color=QUIET
    )
    panel.margins(x=0.14)
    panel.grid(axis="x", color=FAINT, linewidth=0.8)
    panel.xaxis.set_major_locator(MaxNLocator(6))


def _columns(
    panel: Axes, across: np.ndarray, parts: Sequence[Part], colour: str, marker: str, size: float, name: str
) -> None:
    for x, part in zip(across, parts, strict=True):
        panel.plot([x, x], [part.low, part.high], color=colour, linewidth=1.6, alpha=0.45, solid_capstyle="round")
    values = [part.hr_10 for part in parts]
    panel.plot(across, values, marker, color=colour, markersize=size, label=name, clip_on=False, zorder=3)


def _name_rows(panel: Axes, names: Sequence[str], *, bold: int = 0, width: int = 34) -> None:
    panel.set_yticks(range(len(names)), [_short(name, width) for name in names])
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.tick_params(axis="y", labelcolor=INK)
    for label in panel.get_yticklabels()[:bold]:
        label.set_fontweight("bold")


def _label_ends(panel: Axes, depth: int, ends: Mapping[str, float], split: SplitFindings) -> None:
    # Labels are pushed apart so that none lies on another.
    gap = 0.062 * panel.get_ylim()[1]
    at = -np.inf
    for name, value in sorted(ends.items(), key=lambda item: item[1]):
        at = max(value, at + gap)
        panel.annotate(
            f"  {_short(name)}", (depth, at), va="center", fontsize=8, color=_colour(split, name), annotation_clip=False
        )


def _legend(figure: Figure, panel: Axes) -> None:
    figure.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=8, frameon=False)


def _baselines(split: SplitFindings) -> list[Scored]:
    return [each for each in split.scored if each.kind == "baseline"]


def _colour(split: SplitFindings, name: str) -> str:
    return _style(split, name)[0]


def _style(split: SplitFindings, name: str) -> tuple[str, str, float]:
    """Colour, marker and its size."""
    models = [each.name for each in split.models]
    if name in models:
        return MODELS[models.index(name) % len(MODELS)], "o", 6.5
    return *BASELINES.get(name, (QUIET, "x")), 4.5


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _short(name: str, width: int = 34) -> str:
    return name if len(name) <= width else f"…{name[1 - width :]}"


def every(split: SplitFindings) -> dict[str, Any]:
    """All figures that a split has, by name."""
    drawn = {"accuracy": accuracy(split), "curve": curve(split), "slices": slices(split), "bias": bias(split)}
    if split.models:
        drawn |= {"differences": differences(split), "order": order(split)}
    return drawn
