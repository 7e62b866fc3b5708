"""Figures of a run, drawn without pyplot: no global state, no window, no figure left open."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
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


def carried_recommendation(
    history: Sequence[str], carried: Mapping[str, np.ndarray], *, recommended: str, title: str = ""
) -> Figure:
    """Which items of a history carried a recommendation: a bar an item, newest on top, nearest to what followed.

    Args:
        history: its items, oldest first.
        carried: what each item did, [time], by one measure or several; each gets a panel of its own.
        recommended: the item that was.
        title: smaller, above the bars.
    """
    places = np.arange(len(history))
    size = (2.6 + 2.9 * len(carried), 1.35 + 0.235 * max(len(history), 3))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(carried), squeeze=False, sharey=True)[0]
    for panel, (measure, values) in zip(panels, carried.items(), strict=True):
        values = np.asarray(values, np.float64)
        most = values == values.max(initial=-np.inf)
        colours = np.where(values < 0, TRAIN, np.where(most, BEST, VALID))
        panel.barh(places, values, height=0.72, color=colours.tolist())
        panel.axvline(0, color="#c4c8ce", linewidth=1)
        panel.set_xlabel(measure, fontsize=9, color=QUIET)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.grid(axis="x", color="#e6e8eb", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[:].set_visible(False)
        panel.tick_params(labelsize=8, colors=QUIET, length=0)
    panels[0].set_yticks(places, [_short(name, 40) for name in history], color="#22262c")
    panels[0].set_ylim(-0.7, len(history) - 0.3)
    panels[0].set_ylabel("history, newest on top", fontsize=9, color=QUIET)
    figure.suptitle(f"recommended: {_short(recommended, 60)}", fontsize=11, color="#22262c")
    if title:
        panels[0].set_title(title, fontsize=9, color=QUIET, loc="left")
    return figure


def carried_words(
    spectrogram: np.ndarray,
    words: Sequence[tuple[str, float, float]],
    attention: np.ndarray,
    *,
    spectrogram_hop: float,
    hop: float,
    title: str = "",
) -> Figure:
    """Which frames carried each word: the spectrogram, and below it a row a word, outlined where the word was said.

    Args:
        spectrogram: log-mel, [frames, mels].
        words: each with its start and end in seconds.
        attention: [words, frames] the share of every frame in each word.
        spectrogram_hop: seconds from frame to frame of the spectrogram.
        hop: seconds from frame to frame of the attention.
        title: of the whole figure.
    """
    rows, seconds = max(len(words), 1), spectrogram_hop * len(spectrogram)
    shown = attention if len(words) else np.zeros((1, 1))
    figure = Figure(figsize=(min(max(7.0, 1.7 * seconds + 2), 16), 2.9 + 0.32 * rows), dpi=DPI, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.9, 0.32 * rows])
    low, high = np.quantile(spectrogram, [0.02, 0.995])
    extent = (0, seconds, 0, spectrogram.shape[1])
    above.imshow(spectrogram.T, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high, extent=extent)
    above.set_ylabel("mel band", fontsize=9, color=QUIET)
    top = 100 * float(shown.max()) or 1.0
    extent = (0, hop * shown.shape[1], rows, 0)
    image = below.imshow(100 * shown, cmap=INK, vmin=0, vmax=top, aspect="auto", interpolation="nearest", extent=extent)
    for row, (_, start, end) in enumerate(words):
        above.axvspan(start, end, facecolor="none", edgecolor="#ffffff", linewidth=0.9, linestyle=(0, (2, 2)))
        below.add_patch(Rectangle((start, row), end - start, 1, fill=False, edgecolor=BEST, linewidth=1.4))
    below.set_xlim(0, seconds)
    below.set_yticks(np.arange(len(words)) + 0.5, [_short(word) for word, *_ in words])
    below.set_xlabel("time, s", fontsize=9, color=QUIET)
    below.set_ylabel("word", fontsize=9, color=QUIET)
    for panel in (above, below):
        panel.spines[:].set_color("#d5d8dd")
        panel.tick_params(labelsize=8, colors=QUIET, length=0)
    below.tick_params(axis="y", labelcolor="#22262c")
    bar = figure.colorbar(image, ax=[above, below], pad=0.01, fraction=0.03, ticks=MaxNLocator(5, integer=top > 5))
    bar.set_label("share of each frame in the word, %", fontsize=8, color=QUIET)
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
