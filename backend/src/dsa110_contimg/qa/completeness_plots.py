"""One page on which scattering events are found, and how many alarms are false."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dsa110_contimg.formats.scratch import replacing

FloatArray = NDArray[np.float64]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
AIM = 0.95


def completeness_page(
    path: Path,
    events: Sequence[tuple[float, float, float | None, float]],
    thresholds: FloatArray,
    rates: FloatArray,
    chosen: float,
    title: str,
) -> Path:
    """Draw fractions found against depth, duration and flux, and the rate of false alarms against the threshold.

    Parameters
    ----------
    path
        Where the PNG goes; it appears only when it is whole.
    events
        Depth, duration in days, signal-to-noise ratio of one epoch (None: as the light curves have it) and fraction
        found, of each kind of event.
    thresholds, rates
        False alarms per 1,000 source-years above each significance, (n,).
    chosen
        The threshold in use.
    title
        Above the page.
    """
    figure = Figure(figsize=(11.0, 8.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    snrs = {snr for _depth, _days, snr, _found in events}
    usual = 20.0 if 20.0 in snrs else None
    grid = [event for event in events if event[2] == usual]
    _lines(axes[0, 0], [(depth, days, found) for depth, days, _snr, found in grid], "{:.0f} days")
    axes[0, 0].set_xlabel("depth")
    _lines(axes[0, 1], [(days, depth, found) for depth, days, _snr, found in grid], "depth {:.2f}")
    axes[0, 1].set_xlabel("duration (days)")
    axes[0, 1].set_xscale("log")
    _by_flux(axes[1, 0], events)
    _alarms(axes[1, 1], thresholds, rates, chosen)
    figure.suptitle(title, fontweight="bold")
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png", metadata={"Software": None})
    return path


def _lines(axes: Axes, points: Sequence[tuple[float, float, float]], words: str) -> None:
    """Draw one line for each value of the second column, over the first."""
    for number, value in enumerate(sorted({line for _x, line, _y in points})):
        x, y = np.array(sorted({(x, y) for x, line, y in points if line == value})).T
        axes.plot(x, y, marker="o", color=COLORS[number % len(COLORS)], label=words.format(value))
    _frame(axes)


def _by_flux(axes: Axes, events: Sequence[tuple[float, float, float | None, float]]) -> None:
    known = [(snr, depth, found) for depth, days, snr, found in events if snr is not None and days == 40.0]
    several = {depth for snr, depth, _found in known if snr != 20.0}
    if several:
        _lines(axes, [point for point in known if point[1] in several], "depth {:.2f}, 40 days")
        axes.set_xscale("log")
    else:
        axes.text(0.5, 0.5, "each light curve has its own flux", ha="center", transform=axes.transAxes)
    axes.set_xlabel("flux over the noise of one epoch")


def _alarms(axes: Axes, thresholds: FloatArray, rates: FloatArray, chosen: float) -> None:
    seen = rates > 0.0
    axes.step(thresholds[seen], rates[seen], where="post", color=COLORS[0], label="measured")
    axes.axvline(chosen, color=COLORS[1], linestyle="--", label=f"threshold {chosen:g}")
    axes.axhline(1.0, color="#6B7280", linewidth=1.0, label="one in 1,000 source-years")
    axes.set_yscale("log")
    axes.set_xlabel("significance, trials counted")
    axes.set_ylabel("false alarms per 1,000 source-years")
    axes.grid(color="#E5E7EB")
    axes.legend(frameon=False, fontsize=9)


def _frame(axes: Axes) -> None:
    axes.axhline(AIM, color="#6B7280", linewidth=1.0, linestyle=":")
    axes.set_ylim(-0.03, 1.05)
    axes.set_ylabel("fraction found")
    axes.grid(color="#E5E7EB")
    axes.legend(frameon=False, fontsize=8)
