"""The picture of a light curve: fluxes with errors, limits as arrows, MJD below and dates above."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from dsa110_contimg.photometry.lightcurves import JY_TO_MJY, LightCurve
from dsa110_contimg.telescope import mjd_to_unix

FloatArray = NDArray[np.float64]

MIN_RANGE = 0.2
"""The vertical axis spans at least this fraction of the median on either side."""

# Okabe and Ito's palette, told apart by every kind of color vision.
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#6B7280"


def save_lightcurve(
    path: Path, curve: LightCurve, *, title: str = "", truth: tuple[FloatArray, FloatArray] | None = None
) -> Path:
    """Draw a light curve into a PNG.

    Parameters
    ----------
    path
        Where the picture goes; it appears there only when it is whole.
    curve
        Fluxes in Jy; entries of `upper_limit_jy` that are finite are drawn as limits.
    title
        Above the plot; the source id if empty.
    truth
        (mjd, flux in Jy) of an injected light curve, drawn as a line.
    """
    figure = Figure(figsize=(9.0, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_points(axes, curve)
    if truth is not None:
        axes.plot(truth[0], JY_TO_MJY * truth[1], color=GREEN, linewidth=1.6, zorder=1, label="injected")
    axes.set_xlabel("MJD (UTC)")
    axes.set_ylabel("flux density at 1.4 GHz (mJy)")
    axes.set_title(title or curve.source_id, loc="left", fontweight="bold", pad=12)
    axes.grid(color="#E5E7EB", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["right"]].set_visible(False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:.10g}"))
    axes.margins(x=0.04)
    _set_range(axes, curve)
    _draw_dates(axes)
    axes.legend(frameon=False, fontsize=9, ncols=4, loc="best")
    scratch = path.with_name(path.name + ".partial")
    figure.savefig(scratch, format="png", metadata={"Software": None})
    scratch.replace(path)
    return path


def _draw_points(axes: Axes, curve: LightCurve) -> None:
    """Draw detections with errors, limits as arrows, and the median as a line."""
    limits = np.full(len(curve), np.nan) if curve.upper_limit_jy is None else curve.upper_limit_jy
    limited = np.isfinite(limits)
    if (~limited).any():
        axes.errorbar(
            curve.mjd[~limited],
            JY_TO_MJY * curve.flux_jy[~limited],
            yerr=JY_TO_MJY * curve.flux_err_jy[~limited],
            fmt="o",
            color=BLUE,
            markersize=5,
            capsize=2.5,
            linewidth=1.2,
            zorder=3,
            label="measured",
        )
        median = JY_TO_MJY * float(np.median(curve.flux_jy[~limited]))
        axes.axhline(median, color=GRAY, linewidth=1.0, linestyle="--", zorder=2, label=f"median {median:.4g} mJy")
    if limited.any():
        axes.errorbar(
            curve.mjd[limited],
            JY_TO_MJY * limits[limited],
            yerr=0.12 * JY_TO_MJY * limits[limited],
            uplims=True,
            fmt="_",
            color=ORANGE,
            markersize=9,
            linewidth=1.2,
            zorder=3,
            label="upper limit",
        )


def _set_range(axes: Axes, curve: LightCurve) -> None:
    """Give a constant source room, so that its noise does not look like an event; start at zero where that is near."""
    low, high = axes.get_ylim()
    middle = JY_TO_MJY * float(np.median(curve.flux_jy)) if len(curve) else 0.0
    if middle > 0.0:
        low, high = min(low, (1.0 - MIN_RANGE) * middle), max(high, (1.0 + MIN_RANGE) * middle)
    axes.set_ylim(0.0 if 0.0 < low < 0.6 * high else low, high)


def _draw_dates(axes: Axes) -> None:
    """Add an axis of dates (UTC) above that shares its ticks with round days of MJD."""
    low, high = axes.get_xlim()
    ticks = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]
    fine = len(ticks) > 1 and ticks[1] - ticks[0] < 1.0
    layout = "%m-%d %H:%M" if fine else "%Y-%m-%d"
    above = axes.secondary_xaxis("top")
    above.set_xticks(ticks, [datetime.fromtimestamp(mjd_to_unix(tick), tz=UTC).strftime(layout) for tick in ticks])
    above.tick_params(labelsize=8, colors=GRAY)
    axes.set_xlim(low, high)
