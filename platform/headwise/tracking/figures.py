"""Figures of a run, drawn without pyplot: no global state, no window, no figure left open."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

TRAIN, VALID, BEST, QUIET = "#8a8f98", "#1f5fbf", "#d1495b", "#5b616b"
DPI = 144
INK = LinearSegmentedColormap.from_list("ink", ["#ffffff", "#9cc3f5", VALID, "#0b1f45"])  # nothing seen is white paper


def learning_curves(
    history: Sequence[Mapping[str, float]], *, train: str, valid: Sequence[str], best: int, title: str = ""
) -> Figure:
    """Training loss and validation metrics over the epochs, each in its own panel, the kept epoch marked.

    Args:
        history: one row an epoch, with `epoch` and its metrics; a metric may be missing in some.
        train: name of the training loss.
        valid: names of the validation metrics; one that is a loss too is drawn with the training loss.
        best: the epoch whose checkpoint was kept.
        title: of the whole figure.
    """
    losses = [name for name in valid if name.endswith("loss")]
    others = [name for name in valid if name not in losses]
    figure = Figure(figsize=(4.6 * (1 + bool(others)), 3.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 1 + bool(others), squeeze=False)[0]
    _curves(axes[0], history, {train: TRAIN} | dict.fromkeys(losses, VALID), best, "loss")
    if others:
        shades = (VALID, "#2a9d8f", "#e09f3e", "#7b4fa3", "#4f772d")
        colours = {name: shades[i % len(shades)] for i, name in enumerate(others)}
        _curves(axes[1], history, colours, best, others[0] if len(others) == 1 else "validation")
    if title:
        figure.suptitle(title, fontsize=11, color="#22262c")
    return figure


def attention_map(
    weights: np.ndarray, *, queries: Sequence[str] | None = None, keys: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Where each head looks: one panel a head, all on one scale, queries downwards and keys to the right.

    Args:
        weights: [heads, queries, keys], from 0 to 1.
        queries: a label for each query; left out when they would not be legible.
        keys: a label for each key.
        title: of the whole figure.
    """
    heads, rows, columns = weights.shape
    across = min(heads, 4)
    down = -(-heads // across)
    cell = 3.0  # inches
    tall = cell * min(max(rows / columns, 0.5), 1.6)
    figure = Figure(figsize=(cell * across + 1.2, tall * down + 0.9), dpi=DPI, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    top = float(weights.max()) or 1.0
    for head, panel in enumerate(axes.flat):
        if head >= heads:
            panel.set_visible(False)
            continue
        image = panel.imshow(weights[head], vmin=0, vmax=top, cmap=INK, aspect="auto", interpolation="nearest")
        panel.set_title(f"head {head + 1}", fontsize=9, color=QUIET)
        _name(panel, queries if head % across == 0 else [""] * rows, keys if head + across >= heads else [""] * columns)
    bar = figure.colorbar(image, ax=list(axes.flat), shrink=0.85, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=QUIET, length=0)
    if title:
        figure.suptitle(title, fontsize=11, color="#22262c")
    return figure


def _curves(
    axes: Axes, history: Sequence[Mapping[str, float]], colours: Mapping[str, str], best: int, label: str
) -> None:
    for name, colour in colours.items():
        points = [(row["epoch"], row[name]) for row in history if name in row]
        if not points:
            continue
        epochs, values = zip(*points, strict=True)
        axes.plot(
            epochs, values, color=colour, linewidth=1.8, marker="o", markersize=3 if len(epochs) < 40 else 0, label=name
        )
        if colour != TRAIN:
            _mark(axes, dict(points), best, colour)
    axes.axvline(best, color=BEST, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7, zorder=0, label=f"kept: epoch {best}")
    axes.set_xlabel("epoch", fontsize=9, color=QUIET)
    axes.set_ylabel(label, fontsize=9, color=QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#c4c8ce")
    axes.tick_params(labelsize=8, colors=QUIET, length=0)
    axes.legend(fontsize=8, frameon=False, labelcolor=QUIET)


def _mark(axes: Axes, points: Mapping[float, float], best: int, colour: str) -> None:
    if best not in points:
        return
    axes.plot([best], [points[best]], "o", color=BEST, markersize=6, zorder=5)
    left = best > 0.8 * max(points)  # where the value would leave the panel on the right
    axes.annotate(
        f"{points[best]:.4g}",
        (best, points[best]),
        (-5 if left else 5, 7),
        ha="right" if left else "left",
        textcoords="offset points",
        fontsize=8,
        color=colour,
        weight="bold",
    )


def _name(axes: Axes, queries: Sequence[str] | None, keys: Sequence[str] | None) -> None:
    axes.tick_params(labelsize=7, colors=QUIET, length=0)
    axes.spines[:].set_color("#d5d8dd")
    rows, columns = axes.images[0].get_array().shape  # type: ignore[union-attr]
    if queries is None:
        axes.set_ylabel("query", fontsize=8, color=QUIET)
    elif rows <= 40:
        axes.set_yticks(range(rows), [_short(name) for name in queries])
    if keys is None:
        axes.set_xlabel("key", fontsize=8, color=QUIET)
    elif columns <= 40:
        axes.set_xticks(
            range(columns), [_short(name) for name in keys], rotation=60, ha="right", rotation_mode="anchor"
        )


def _short(name: str, width: int = 22) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
