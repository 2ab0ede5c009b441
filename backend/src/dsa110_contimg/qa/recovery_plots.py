"""One page on injected sources: fluxes, positions, completeness and reliability, against S/N and against distance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from dsa110_contimg.qa.checks import DETECTION_SNR, EXPECTED_SNR, Check, verdict_of
from dsa110_contimg.qa.plots import (
    BLUE,
    FAINT,
    INK,
    PAPER,
    label_axes,
    list_checks,
    save_page,
    style_axes,
    write_headline,
)
from dsa110_contimg.qa.recovery import (
    DISTANCE_STEP_DEG,
    FWHM_PER_SIGMA,
    JUDGED_RESPONSE,
    JUDGED_SNR,
    NOISE_LIMITED_SNR,
    SNR_EDGES,
    RecoveredSources,
    Recovery,
)

FloatArray = NDArray[np.float64]
ORANGE = "#c05621"
LINEAR_PERCENT = 2.0
FEWEST_IN_BIN = 3
LINE_HEIGHT = 0.27
MEDIAN_LENGTH = 1.1774
"""Of two offsets that scatter by one each."""


@dataclass(frozen=True)
class RecoverySeries:
    """Images of one kind, drawn in one color."""

    kind: str
    images: Sequence[Recovery]

    def column(self, value: Callable[[RecoveredSources], FloatArray]) -> FloatArray:
        """Return a value of every source whose beam is above what counts, (n,)."""
        return np.concatenate([value(r)[r.response >= JUDGED_RESPONSE] for r, _ in self.images])


def recovery_page(path: Path, series: Sequence[RecoverySeries], checks: Sequence[Check], title: str) -> Path:
    """Draw what came back of injected sources as a PNG, whole or not at all, and return its path.

    Parameters
    ----------
    path
        The picture.
    series
        Tiles, and mosaics where there are any.
    checks
        Listed below the panels.
    title
        Headline.
    """
    bottom = LINE_HEIGHT * len(checks) + 0.5
    figure = Figure(figsize=(19.0, 9.4 + LINE_HEIGHT * len(checks)), dpi=100, facecolor=PAPER)
    FigureCanvasAgg(figure)
    height = figure.get_figheight()
    panels = figure.subplots(2, 4, gridspec_kw={"wspace": 0.26, "hspace": 0.34})
    figure.subplots_adjust(left=0.055, right=0.985, top=1.0 - 0.95 / height, bottom=(bottom + 0.95) / height)
    for axes in panels.flat:
        style_axes(axes)
    draw = (_fluxes, _positions, _completeness, _reliability)
    for column, panel in enumerate(draw):
        for row, against in enumerate(("snr", "distance")):
            for one, color in zip(series, (BLUE, ORANGE), strict=False):
                panel(panels[row, column], one, against, color)
            _abscissa(panels[row, column], against)
    panels[0, 0].legend(frameon=False, fontsize=9, loc="upper right", labelcolor=INK)
    list_checks(figure, checks, bottom, height, (0.055, 0.16, 0.22))
    write_headline(figure, title, verdict_of(checks))
    return save_page(figure, path)


def _abscissa(axes: Axes, against: str) -> None:
    if against == "distance":
        axes.set_xlim(left=0.0)
        return
    axes.set_xscale("log")
    axes.set_xlim(1.0, max(2e3, axes.get_xlim()[1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _label(axes: Axes, against: str, title: str, y: str) -> None:
    which = "" if against == "snr" else f", above {JUDGED_SNR:g} sigma"
    label_axes(axes, title + which, "true S/N" if against == "snr" else "distance from the tile's center (deg)", y)


def _place(series: RecoverySeries, against: str) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the abscissa of every source, and which are drawn against it."""
    snr = series.column(lambda r: r.snr)
    if against == "snr":
        return snr, snr >= SNR_EDGES[0]
    return series.column(lambda r: r.distance_deg), snr >= JUDGED_SNR


def _edges(against: str, x: FloatArray) -> FloatArray:
    if against == "snr":
        return np.array(SNR_EDGES)
    return np.arange(0.0, float(x.max(initial=0.0)) + DISTANCE_STEP_DEG, DISTANCE_STEP_DEG)


def _bins(x: FloatArray, values: FloatArray, edges: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return where bins lie, their medians and the medians' errors; bins with fewer than three values are left out."""
    good = np.isfinite(values)
    which = np.digitize(x, edges)
    rows = []
    for index in np.unique(which[good]):
        chosen = good & (which == index)
        if chosen.sum() >= FEWEST_IN_BIN:
            middle = float(np.median(values[chosen]))
            error = 1.2533 * 1.4826 * float(np.median(np.abs(values[chosen] - middle))) / np.sqrt(chosen.sum())
            rows.append((float(np.median(x[chosen])), middle, error))
    places, middles, errors = np.array(rows).reshape(-1, 3).T
    return places, middles, errors


def _fluxes(axes: Axes, series: RecoverySeries, against: str, color: str) -> None:
    _label(axes, against, "Flux, measured over true", "off by (%)")
    x, drawn = _place(series, against)
    percent = 100.0 * (series.column(lambda r: r.flux_jy / r.true_jy) - 1.0)
    axes.scatter(x[drawn], percent[drawn], s=7, color=color, alpha=0.35, linewidths=0)
    places, middles, errors = _bins(x[drawn], percent[drawn], _edges(against, x[drawn]))
    axes.errorbar(places, middles, errors, fmt="o", color=color, markersize=5, label=series.kind, zorder=4)
    axes.axhspan(-1.0, 1.0, color="#eef2f7", zorder=0)
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    if against == "snr":
        line = np.geomspace(1.0, 1e5, 60)
        for sign in (-1.0, 1.0):
            axes.plot(line, sign * 100.0 / line, color=FAINT, linewidth=0.9, linestyle="--")
    axes.set_yscale("symlog", linthresh=LINEAR_PERCENT)
    axes.set_ylim(-100.0, 100.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _positions(axes: Axes, series: RecoverySeries, against: str, color: str) -> None:
    x, drawn = _place(series, against)
    away = series.column(lambda r: np.hypot(r.along_arcsec / r.major_arcsec, r.across_arcsec / r.minor_arcsec))
    if against == "snr":
        _label(axes, against, "Position error in the beam's axes", "offset (beam axes)")
        line = np.geomspace(JUDGED_SNR, 1e5, 60)
        axes.plot(line, MEDIAN_LENGTH / (FWHM_PER_SIGMA * line), color=FAINT, linewidth=0.9, linestyle="--")
        axes.set_yscale("log")
    else:
        _label(axes, against, "Position error over predicted", "offset / predicted")
        away = series.column(lambda r: np.hypot(*r.position_pulls) / MEDIAN_LENGTH)
        drawn = drawn & (series.column(lambda r: r.snr) < NOISE_LIMITED_SNR)
        axes.axhline(1.0, color=FAINT, linewidth=0.9, linestyle="--")
        axes.set_ylim(0.0, 3.5)
    drawn = drawn & np.isfinite(away)
    axes.scatter(x[drawn], away[drawn], s=7, color=color, alpha=0.35, linewidths=0)
    places, middles, errors = _bins(x[drawn], away[drawn], _edges(against, x[drawn]))
    axes.errorbar(places, middles, errors, fmt="o", color=color, markersize=5, zorder=4)


def _completeness(axes: Axes, series: RecoverySeries, against: str, color: str) -> None:
    x, _drawn = _place(series, against)
    found = series.column(lambda r: r.found.astype(np.float64))
    snr = series.column(lambda r: r.snr)
    which = "" if against == "snr" else f", above {EXPECTED_SNR:g} sigma"
    _label(axes, against, "Completeness", f"found at {DETECTION_SNR:g} sigma")
    axes.set_title(f"Completeness{which}", loc="left", fontsize=10.5, color=INK, pad=8)
    keep = np.ones(x.size, bool) if against == "snr" else snr >= EXPECTED_SNR
    _fractions(axes, x[keep], found[keep], _edges(against, x[keep]), color)


def _reliability(axes: Axes, series: RecoverySeries, against: str, color: str) -> None:
    snr, distance, real = (
        np.concatenate([np.asarray(getattr(d, name), float)[d.response >= JUDGED_RESPONSE] for _, d in series.images])
        for name in ("snr", "distance_deg", "real")
    )
    x = snr if against == "snr" else distance
    label_axes(
        axes,
        f"Reliability of detections above {DETECTION_SNR:g} sigma",
        "measured S/N" if against == "snr" else "distance from the tile's center (deg)",
        "real",
    )
    _fractions(axes, x, real, _edges(against, x), color)


def _fractions(axes: Axes, x: FloatArray, flags: FloatArray, edges: FloatArray, color: str) -> None:
    """Draw the fraction of ones in each bin with its binomial error."""
    which = np.digitize(x, edges)
    for index in np.unique(which):
        chosen = which == index
        number, part = int(chosen.sum()), float(flags[chosen].mean())
        error = np.sqrt(max(part * (1.0 - part), 0.25 / number) / number)
        bars = [[min(error, part)], [min(error, 1.0 - part)]]
        axes.errorbar(float(np.median(x[chosen])), part, bars, fmt="o", color=color, markersize=5)
    axes.set_ylim(0.0, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
