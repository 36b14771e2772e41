"""The course of a training run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellkin.core.arrays import Floats
from cellkin.core.errors import OutputError
from cellkin.core.numbers import percent
from cellkin.report.canvas import FONT, new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSSES = (
    ("loss", "total", "#1b1f24", "-"),
    ("metric_loss", "triplet", "#0072b2", "--"),
    ("cross_entropy", "cross-entropy", "#d55e00", "-."),
    ("orthogonality", "orthogonality", "#009e73", ":"),
)
LEVEL_COLORS = ("#0072b2", "#cc79a7", "#8a6d00", "#56b4e9", "#7a3e9d")
INK, MUTED, GRID = "#1b1f24", "#57606a", "#e4e8ec"
Epochs = Sequence[Mapping[str, Any]]
"""Rows of a `log.jsonl`, one per epoch, in order."""
Panel = Callable[["Axes", Floats, Epochs], None]
WIDE_RANGE = 50.0  # from here on only a logarithmic axis shows the small losses


def training_curve(history: Epochs, path: str | Path) -> Path:
    """Draw losses and the accuracy of the neighbour vote by epoch as one PNG.

    Args:
        history: one row per epoch, in order: `epoch`, `phase` ("warm-up" or "fine-tuning"),
            `loss`, `metric_loss`, `cross_entropy`, `orthogonality`, `val_accuracy` in [0, 1], `lr`
            and `selected`; a value that was not measured is None or missing.
        path: the PNG to write.

    Raises:
        OutputError: there is no epoch to draw, or the file cannot be written.
    """
    return _drawn(history, path, "Training", (_losses, _accuracy))


def pretraining_curve(history: Epochs, path: str | Path) -> Path:
    """Draw the loss and every level's mAP on the validation part by epoch as one PNG.

    Args:
        history: one row per epoch, in order: `epoch`, `loss`, `orthogonality`, `level_losses` (one
            number per level), `val_map` in [0, 1], `levels` (one mapping per level with `map` and
            `frequency`, the mAP of guessing; empty where nothing was measured) and `selected`.
        path: the PNG to write.

    Raises:
        OutputError: there is no epoch to draw, or the file cannot be written.
    """
    return _drawn(history, path, "Pretraining", (_level_losses, _levels))


def _drawn(
    history: Epochs,
    path: str | Path,
    title: str,
    panels: tuple[Panel, Panel],
) -> Path:
    if not history:
        raise OutputError(
            "this training run has no history to draw", where=path, mend="train at least one epoch"
        )
    figure = new_figure(7.2, 5.6)
    axes = figure.subplots(2, 1, sharex=True, height_ratios=(1.15, 1))
    epochs = _epochs(history)
    for panel, draw in zip(axes, panels, strict=True):
        draw(panel, epochs, history)
        _phases(panel, epochs, history)
        _plain(panel)
        _legend(panel)
    axes[0].set_title(title, loc="left", fontsize=11, weight="bold", color=INK, family=FONT)
    figure.subplots_adjust(left=0.1, right=0.78, top=0.93, bottom=0.1, hspace=0.12)
    return write_figure(figure, Path(path))


def _epochs(history: Epochs) -> Floats:
    """The epochs as counted; row by row where fine-tuning starts to count from 1 again."""
    counted = np.array([row["epoch"] for row in history], np.float64)
    rising = bool((np.diff(counted) > 0).all())
    return counted if rising else np.arange(1, len(history) + 1, dtype=np.float64)


def _column(history: Epochs, name: str) -> Floats:
    values = [row.get(name) for row in history]
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _losses(
    axes: Axes,
    epochs: Floats,
    history: Epochs,
    lines: Sequence[tuple[str, str, str, str]] = LOSSES,
) -> None:
    columns = {name: _column(history, name) for name, *_ in lines}
    shown = {name: v for name, v in columns.items() if np.nan_to_num(v).any()}
    for name, title, color, dashes in lines:
        if name in shown:
            marker = "o" if len(epochs) < 4 else ""
            axes.plot(epochs, shown[name], dashes, color=color, label=title, lw=1.6,
                      marker=marker, ms=4)  # fmt: skip
    everything = np.concatenate([*shown.values(), np.ones(0)])
    positive = everything[everything > 0]
    if positive.size and positive.max() / positive.min() > WIDE_RANGE:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("loss", fontsize=9, color=INK, family=FONT)


def _level_losses(axes: Axes, epochs: Floats, history: Epochs) -> None:
    titles = [f"level {i + 1}" for i in range(len(history[0]["level_losses"]))]
    rows = [{**row, **dict(zip(titles, row["level_losses"], strict=True))} for row in history]
    lines = [
        (title, title, LEVEL_COLORS[i % len(LEVEL_COLORS)], "-") for i, title in enumerate(titles)
    ]
    _losses(axes, epochs, rows, [*LOSSES, *lines])


def _accuracy(axes: Axes, epochs: Floats, history: Epochs) -> None:
    values = 100 * _column(history, "val_accuracy")
    measured = np.isfinite(values)
    if measured.any():
        axes.plot(epochs[measured], values[measured], color="#0072b2", lw=1.6, marker="o", ms=3,
                  label="validation")  # fmt: skip
    else:
        axes.text(0.5, 0.5, "no validation accuracy was measured", transform=axes.transAxes,
                  ha="center", color=MUTED, fontsize=9, family=FONT)  # fmt: skip
    chosen = [i for i, row in enumerate(history) if row.get("selected")]
    if chosen:
        _mark_chosen(axes, float(epochs[chosen[-1]]), float(values[chosen[-1]]))
    axes.set_ylabel("accuracy of the vote, %", fontsize=9, color=INK, family=FONT)
    axes.set_xlabel("epoch", fontsize=9, color=INK, family=FONT)


def _levels(axes: Axes, epochs: Floats, history: Epochs) -> None:
    rows = [(e, row["levels"]) for e, row in zip(epochs, history, strict=True) if row["levels"]]
    for i in range(max((len(levels) for _, levels in rows), default=0)):
        known = [(e, v[i]) for e, v in rows if v[i]["map"] is not None]
        color = LEVEL_COLORS[i % len(LEVEL_COLORS)]
        at = [e for e, _ in known]
        axes.plot(at, [100 * v["map"] for _, v in known], color=color, lw=1.6, marker="o", ms=3,
                  label=f"level {i + 1}")  # fmt: skip
        axes.plot(at, [100 * v["frequency"] for _, v in known], color=color, lw=1, ls=":",
                  label=f"level {i + 1}, guessing")  # fmt: skip
    chosen = [i for i, row in enumerate(history) if row.get("selected")]
    if chosen:
        _mark_chosen(axes, float(epochs[chosen[-1]]), 100 * float(history[chosen[-1]]["val_map"]))
    axes.set_ylim(0, 104)
    axes.set_ylabel("validation mAP, %", fontsize=9, color=INK, family=FONT)
    axes.set_xlabel("epoch", fontsize=9, color=INK, family=FONT)


def _mark_chosen(axes: Axes, epoch: float, value: float) -> None:
    axes.axvline(epoch, color="#d55e00", lw=1, alpha=0.7)
    label = f"chosen: epoch {epoch:.0f}"
    if np.isfinite(value):
        label += f"\n{percent(value / 100)}"
        axes.plot([epoch], [value], "D", color="#d55e00", ms=7, mec="white", label=label)
    else:
        axes.plot([], [], "D", color="#d55e00", ms=7, label=label)


def _phases(axes: Axes, epochs: Floats, history: Epochs) -> None:
    warm = [i for i, row in enumerate(history) if row.get("phase") == "warm-up"]
    if warm:
        start, end = epochs[warm[0]] - 0.5, epochs[warm[-1]] + 0.5
        axes.axvspan(start, end, color="#f1e9d8", zorder=0, label="warm-up")
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=MUTED)
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(axes: Axes) -> None:
    if not axes.get_legend_handles_labels()[0]:
        return
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False,
                prop={"family": FONT, "size": 8})  # fmt: skip
