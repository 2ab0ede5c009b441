"""One page on what flagging took: a waterfall, the channels, and each antenna by reason."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dsa110_contimg.formats.scratch import replacing
from dsa110_contimg.qa.plots import FAINT, INK, PAPER

PALETTE = {
    "before": "#a0aec0",
    "empty": "#4a5568",
    "edges": "#cbd5e0",
    "shadowed": "#805ad5",
    "dead_antennas": "#1f2530",
    "single_polarization": "#b7791f",
    "interference": "#c53030",
    "common_interference": "#ed8936",
    "gaps": "#f6c36a",
    "given_up": "#742a2a",
    "calibration": "#2b6cb0",
}


def flag_page(
    path: Path,
    waterfall: NDArray[np.float64],
    antennas: Mapping[str, Mapping[str, float]],
    channels: Mapping[str, Sequence[float]],
    freq_hz: NDArray[np.float64],
    title: str = "",
) -> Path:
    """Draw what flagging took as a PNG, whole or not at all, and return its path.

    Parameters
    ----------
    path
        The picture.
    waterfall
        Fraction flagged, (n_time, n_chan).
    antennas
        Fraction of each antenna that each reason took.
    channels
        Fraction of each channel that each reason took.
    freq_hz
        (n_chan,).
    title
        Headline, usually the set's name.
    """
    figure = Figure(figsize=(11.0, 8.2), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    above, middle, below = figure.subplots(3, 1, gridspec_kw={"height_ratios": [1.1, 0.8, 1.1], "hspace": 0.42})
    figure.subplots_adjust(left=0.07, right=0.98, top=0.92, bottom=0.1)
    _waterfall(above, waterfall, freq_hz)
    _channels(middle, channels, freq_hz)
    _antennas(below, antennas)
    for axes in (above, middle, below):
        axes.tick_params(labelsize=8, colors=INK)
        for spine in axes.spines.values():
            spine.set_color(FAINT)
    handles, labels = below.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="lower center", ncols=6, frameon=False, fontsize=8.5, labelcolor=INK)
    total = float(waterfall.mean()) if waterfall.size else 0.0
    figure.text(0.07, 0.965, f"{title}   {100.0 * total:.1f} % flagged", fontsize=13, color=INK, va="center")
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png")
    return path


def _waterfall(axes: Axes, waterfall: NDArray[np.float64], freq_hz: NDArray[np.float64]) -> None:
    n_time = max(waterfall.shape[0], 1)
    extent = (1e-6 * freq_hz.min(), 1e-6 * freq_hz.max(), 0.0, float(n_time))
    picture = axes.imshow(
        100.0 * waterfall,
        aspect="auto",
        origin="lower",
        extent=extent,
        vmin=0.0,
        vmax=100.0,
        cmap="magma_r",
        interpolation="nearest",
    )
    axes.figure.colorbar(picture, ax=axes, pad=0.01, fraction=0.03).set_label("% flagged", fontsize=8, color=INK)
    axes.set_title("Integrations and channels", fontsize=10, color=INK, loc="left")
    axes.set_ylabel("integration", fontsize=9, color=INK)


def _channels(axes: Axes, channels: Mapping[str, Sequence[float]], freq_hz: NDArray[np.float64]) -> None:
    base = np.zeros(freq_hz.size)
    for name, part in channels.items():
        top = base + 100.0 * np.asarray(part)
        axes.fill_between(1e-6 * freq_hz, base, top, step="mid", color=PALETTE.get(name, FAINT), linewidth=0)
        base = top
    axes.set_xlim(1e-6 * freq_hz.min(), 1e-6 * freq_hz.max())
    axes.set_ylim(0.0, max(1.05 * float(base.max(initial=0.0)), 1.0))
    axes.set_title("Channels, by reason", fontsize=10, color=INK, loc="left")
    axes.set_xlabel("MHz", fontsize=9, color=INK)
    axes.set_ylabel("% flagged", fontsize=9, color=INK)


def _antennas(axes: Axes, antennas: Mapping[str, Mapping[str, float]]) -> None:
    names = list(antennas)
    place, base = np.arange(len(names)), np.zeros(len(names))
    for reason in dict.fromkeys(reason for parts in antennas.values() for reason in parts):
        part = np.array([100.0 * antennas[name].get(reason, 0.0) for name in names])
        color = PALETTE.get(reason, FAINT)
        axes.bar(place, part, 0.85, bottom=base, color=color, label=reason.replace("_", " "), linewidth=0)
        base += part
    axes.set_xticks(place, names, rotation=90 if len(names) > 30 else 0, fontsize=6.5 if len(names) > 60 else 8)
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.set_ylim(0.0, max(1.05 * float(base.max(initial=0.0)), 1.0))
    axes.set_title("Antennas, by reason", fontsize=10, color=INK, loc="left")
    axes.set_ylabel("% flagged", fontsize=9, color=INK)
