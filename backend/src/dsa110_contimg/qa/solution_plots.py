"""One page on a calibration table: amplitude, phase and signal-to-noise ratio of every antenna, and its checks.

Solutions along the band, or over several intervals, are drawn as small multiples, one cell per antenna: from the top
the amplitude from zero to a common height, the phase from -180 to 180 degrees, and the signal-to-noise ratio from zero
to a common height. Single solutions are drawn antenna by antenna. All cells of one kind are one line with gaps: a
hundred axes would take a hundred times as long.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dsa110_contimg.qa.checks import Check, Verdict, verdict_of
from dsa110_contimg.qa.plots import (
    BLUE,
    COLORS,
    FAINT,
    GRID,
    INK,
    PAPER,
    label_axes,
    list_checks,
    save_page,
    style_axes,
    write_headline,
)
from dsa110_contimg.visibilities import Gains

Floats = NDArray[np.float64]
HANDS = (("first polarization", BLUE), ("second polarization", "#d9822b"))
COLUMNS = 12
STRIPS = {"amplitude": (0.56, 0.88), "phase": (0.28, 0.52), "snr": (0.05, 0.24)}
"""Bottom and top of each quantity in a cell of height one."""
GAP = 0.06
NARROW_CELL_IN, ROW_IN = 1.25, 1.15
CHECK_ROW_IN = 0.27


def solutions_page(
    path: Path, gains: Gains, checks: Sequence[Check], *, present: Sequence[int], title: str = ""
) -> Path:
    """Draw a table as a PNG, whole or not at all, and return its path.

    Parameters
    ----------
    path
        The picture.
    gains
        The table.
    checks
        Listed below the solutions with their measured values.
    present
        Indices of the antennas to draw: those that were in the data.
    title
        Headline, usually the table's name.
    """
    multiples = max(gains.values.shape[0], gains.values.shape[2]) > 1
    body = ROW_IN * max(1, -(-len(present) // COLUMNS)) if multiples else 5.5
    bottom = CHECK_ROW_IN * len(checks) + 0.5
    height = body + bottom + 1.4
    figure = Figure(figsize=(NARROW_CELL_IN * COLUMNS, height), dpi=100, facecolor=PAPER)
    FigureCanvasAgg(figure)
    foot = bottom + (0.3 if multiples else 0.1)
    low, top = foot / height, (foot + body) / height
    if multiples:
        _draw_cells(figure.add_axes((0.03, low, 0.94, top - low)), gains, present)
    else:
        _draw_rows(figure, gains, present, (low, top))
    list_checks(figure, checks, bottom, height)
    write_headline(figure, title, verdict_of(checks))
    _write_subtitle(figure, gains, present, multiples=multiples)
    return save_page(figure, path)


def _write_subtitle(figure: Figure, gains: Gains, present: Sequence[int], *, multiples: bool) -> None:
    """Say what is drawn, and in which colors."""
    flagged = gains.flags[:, list(present)].mean() if len(present) else 1.0
    words = f"{gains.kind} solved on {gains.source}, {len(present)} antennas, {flagged:.1%} flagged, "
    words += f"reference antenna {gains.reference_antenna or 'none'}"
    if multiples:
        ceiling_amplitude, ceiling_snr = _ceilings(gains, present)
        words += (
            f"; cells from the top: amplitude 0 to {ceiling_amplitude:.3g}, phase -180 to 180 deg, "
            f"S/N 0 to {ceiling_snr:.3g}, against {_spoken_axis(gains)}"
        )
    y = 1.0 - 0.7 / figure.get_figheight()
    figure.text(0.085, y, words, fontsize=9, color=FAINT, va="center")
    for place, (name, color) in enumerate(HANDS[: gains.values.shape[3]]):
        x, low = 0.085 + 0.13 * place, y - 0.26 / figure.get_figheight()
        figure.text(x, low, f"● {name}", fontsize=9, color=color, va="center")


def _spoken_axis(gains: Gains) -> str:
    if gains.values.shape[2] > 1:
        return f"frequency, {gains.freq_hz[0] / 1e6:.0f} to {gains.freq_hz[-1] / 1e6:.0f} MHz"
    return f"time, {24.0 * 60.0 * (gains.time_mjd[-1] - gains.time_mjd[0]):.1f} minutes"


def _ceilings(gains: Gains, present: Sequence[int]) -> tuple[float, float]:
    """Return the amplitude and the signal-to-noise ratio at the top of every cell."""
    good = ~gains.flags[:, list(present)]
    if not good.any():
        return 1.0, 1.0
    amplitude, snr = np.abs(gains.values[:, list(present)][good]), gains.snr[:, list(present)][good]
    tops = 1.25 * float(np.percentile(amplitude, 98)), 1.25 * float(np.percentile(snr, 98))
    return tops[0] or 1.0, tops[1] or 1.0


def _draw_cells(axes: Axes, gains: Gains, present: Sequence[int]) -> None:
    """Draw small multiples: one cell per antenna, all in one pair of axes."""
    index = np.array(present, dtype=int)
    n_cell = index.size
    along = 2 if gains.values.shape[2] > 1 else 0
    tops = _ceilings(gains, present)
    column, row = np.arange(n_cell) % COLUMNS, np.arange(n_cell) // COLUMNS
    n_row = max(1, -(-n_cell // COLUMNS))
    axes.set_xlim(0.0, COLUMNS)
    axes.set_ylim(-float(n_row), 0.0)
    axes.axis("off")
    _draw_frames(axes, column, row)
    for pol, (_name, color) in enumerate(HANDS[: gains.values.shape[3]]):
        values = np.where(gains.flags, complex(np.nan, np.nan), gains.values)[..., pol][:, index]
        snr = np.where(gains.flags, np.nan, gains.snr)[..., pol][:, index]
        lines = [part[0] if along == 2 else part[:, :, 0].T for part in (values, snr)]
        x = column[:, None] + GAP + (1.0 - 2.0 * GAP) * np.linspace(0.0, 1.0, lines[0].shape[1])[None, :]
        heights = {
            "amplitude": np.clip(np.abs(lines[0]) / tops[0], 0.0, 1.0),
            "phase": np.degrees(np.angle(lines[0])) / 360.0 + 0.5,
            "snr": np.clip(lines[1] / tops[1], 0.0, 1.0),
        }
        for name, share in heights.items():
            low, high = STRIPS[name]
            y = -row[:, None] - 1.0 + low + (high - low) * share
            look = {"linestyle": "none", "marker": "."} if name == "phase" else {"linewidth": 0.6, "marker": "."}
            axes.plot(_with_gaps(x), _with_gaps(y), color=color, markersize=0.9, alpha=0.85, **look)
    lost = np.asarray(gains.flags[:, index].all(axis=(0, 2, 3)))
    for cell, antenna in enumerate(index):
        name, color = gains.antenna_names[antenna], COLORS[Verdict.FAILED] if lost[cell] else INK
        text = f"{name}  no solution" if lost[cell] else name
        axes.text(column[cell] + GAP, -row[cell] - 0.1, text, fontsize=7.5, color=color, va="center")


def _with_gaps(lines: Floats) -> Floats:
    """Return lines (n_line, n) as one line with a gap behind each."""
    return np.concatenate([lines, np.full((lines.shape[0], 1), np.nan)], axis=1).ravel()


def _draw_frames(axes: Axes, column: NDArray[np.int64], row: NDArray[np.int64]) -> None:
    """Draw a box around each cell, and the foot of each strip."""
    left, right = column + 0.5 * GAP, column + 1.0 - 0.5 * GAP
    low, high = -row - 0.99, -row - 0.01
    corners = [(left, low), (right, low), (right, high), (left, high), (left, low)]
    boxes = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)
    axes.add_collection(LineCollection(list(boxes), colors=GRID, linewidths=0.8))
    for foot, _top in STRIPS.values():
        feet = [np.stack([side, -row - 1.0 + foot], axis=1) for side in (left, right)]
        axes.add_collection(LineCollection(list(np.stack(feet, axis=1)), colors=GRID, linewidths=0.6))


def _draw_rows(figure: Figure, gains: Gains, present: Sequence[int], span: tuple[float, float]) -> None:
    """Draw single solutions antenna by antenna: a panel for each quantity."""
    index = np.array(present, dtype=int)
    values = np.where(gains.flags, complex(np.nan, np.nan), gains.values)[0, index, 0]
    panels = {"amplitude": np.abs(values), "phase (deg)": np.degrees(np.angle(values))}
    if gains.kind == "K":
        panels = {"delay (ns)": values.real}
    panels["S/N"] = np.where(gains.flags, np.nan, gains.snr)[0, index, 0]
    names = [gains.antenna_names[antenna] for antenna in index]
    low, top = span
    step = (top - low) / len(panels)
    for place, (name, shown) in enumerate(panels.items()):
        axes = figure.add_axes((0.085, top - (place + 1) * step + 0.25 * step, 0.885, 0.68 * step))
        style_axes(axes)
        axes.grid(visible=False, axis="x")
        last = place == len(panels) - 1
        label_axes(axes, "", "antenna" if last else "", name)
        for pol, (_hand, color) in enumerate(HANDS[: shown.shape[1]]):
            axes.plot(np.arange(index.size), shown[:, pol], "o", color=color, markersize=3.5, alpha=0.85)
        axes.set_xlim(-1.0, max(index.size, 1))
        # A label costs a millisecond: the panels share those of the lowest.
        axes.set_xticks(np.arange(index.size) if last else [], names if last else [], fontsize=6.0, rotation=90)
        if name == "phase (deg)":
            axes.set_ylim(-185.0, 185.0)
        else:
            axes.set_ylim(bottom=None if gains.kind == "K" and place == 0 else 0.0)
