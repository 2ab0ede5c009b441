"""One page on the quality of a mosaic: flux ratios, fluxes, completeness, positions, and the verdict of each check."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from dsa110_contimg.formats.scratch import replacing
from dsa110_contimg.qa.checks import (
    DETECTION_SNR,
    RATIO_SNR,
    Check,
    ReferenceSources,
    Verdict,
    flux_scale_of,
    verdict_of,
)
from dsa110_contimg.visibilities import Beam

INK, FAINT, GRID, PAPER = "#1f2530", "#7a828e", "#e7e9ee", "#ffffff"
BLUE, PALE = "#2b6cb0", "#b9cfe8"
COLORS = {
    Verdict.PASSED: "#2f855a",
    Verdict.WARNING: "#c77700",
    Verdict.FAILED: "#c53030",
    Verdict.UNMEASURED: "#7a828e",
}
SNR_EDGES = np.array([3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 200.0])
REASON_LENGTH = 112


def quality_page(
    path: Path,
    sources: ReferenceSources | None,
    checks: Sequence[Check],
    *,
    beam: Beam | None = None,
    title: str = "",
) -> Path:
    """Draw the quality of a mosaic as a PNG, whole or not at all, and return its path.

    Parameters
    ----------
    path
        The picture.
    sources
        Measurements at the positions of reference sources; None leaves their panels empty and says so.
    checks
        Listed below the panels with their measured values.
    beam
        Drawn behind the position offsets.
    title
        Headline, usually the mosaic's name.
    """
    figure = Figure(figsize=(11.0, 9.1 + 0.27 * len(checks)), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    bottom = 0.27 * len(checks) + 0.5
    height = figure.get_figheight()
    panels = figure.subplots(2, 2, gridspec_kw={"wspace": 0.24, "hspace": 0.32})
    figure.subplots_adjust(left=0.085, right=0.97, top=1.0 - 0.85 / height, bottom=(bottom + 0.95) / height)
    draw = (_flux_histogram, _flux_scatter, _completeness_bars)
    for axes, panel in zip(panels.flat, draw, strict=False):
        style_axes(axes)
        panel(axes, sources)
    style_axes(panels[1, 1])
    _offsets(panels[1, 1], sources, beam)
    list_checks(figure, checks, bottom, height)
    write_headline(figure, title, verdict_of(checks))
    return save_page(figure, path)


def write_headline(figure: Figure, title: str, verdict: Verdict) -> None:
    """Write a page's title at its top left, and the verdict at its top right."""
    y = 1.0 - 0.36 / figure.get_figheight()
    figure.text(0.085, y, title, fontsize=14, color=INK, va="center")
    word = figure.text(0.97, y, verdict.value, fontsize=13, color=COLORS[verdict], va="center", ha="right")
    word.set_fontweight("bold")


def save_page(figure: Figure, path: Path) -> Path:
    """Write a page as PNG, whole or not at all, and return its path."""
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png", facecolor=PAPER, metadata={"Software": None})
    return path


def style_axes(axes: Axes) -> None:
    """Give axes the look of our pages."""
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9, color=FAINT)


def label_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Write a title and what the axes show."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8)
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)


def _empty(axes: Axes, reason: str) -> None:
    axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", color=FAINT, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def _usable(sources: ReferenceSources) -> NDArray[np.bool_]:
    return sources.isolated & (sources.reference_jy >= RATIO_SNR * sources.local_noise_jy)


def _flux_histogram(axes: Axes, sources: ReferenceSources | None) -> None:
    label_axes(axes, "Flux scale", "measured / catalogue flux", "sources")
    if sources is None or not _usable(sources).any():
        _empty(axes, "no isolated bright reference sources")
        return
    ratio = sources.flux_jy[_usable(sources)] / sources.reference_jy[_usable(sources)]
    median, spread = float(np.median(ratio)), float(1.4826 * np.median(np.abs(ratio - np.median(ratio))))
    half = max(0.3, abs(median - 1.0) + 4.0 * spread)
    edges = [float(edge) for edge in np.linspace(1.0 - half, 1.0 + half, 41)]
    axes.hist(np.clip(ratio, edges[0], edges[-1]), bins=edges, color=PALE, edgecolor=BLUE, linewidth=0.8)
    axes.axvline(1.0, color=FAINT, linewidth=1.0, linestyle="--")
    axes.axvline(median, color=BLUE, linewidth=1.8)
    error = flux_scale_of(sources).error
    note = f"median {median:.3f} ± {error:.3f}\nscatter {spread:.3f}\n{ratio.size} sources"
    axes.text(0.97, 0.95, note, transform=axes.transAxes, ha="right", va="top", fontsize=9, color=INK)


def _flux_scatter(axes: Axes, sources: ReferenceSources | None) -> None:
    label_axes(axes, "Fluxes", "catalogue flux (mJy)", "measured flux (mJy)")
    if sources is None:
        _empty(axes, "no reference catalogue")
        return
    found = (sources.flux_jy >= DETECTION_SNR * sources.local_noise_jy) & (sources.flux_jy > 0.0)
    if not found.any():
        _empty(axes, "no reference source was found")
        return
    limits = [
        1e3 * 0.7 * float(sources.reference_jy[found].min()),
        1e3 * 1.5 * float(sources.reference_jy[found].max()),
    ]
    axes.plot(limits, limits, color=FAINT, linewidth=1.0, linestyle="--", zorder=1)
    for keep, color, name in (
        (found & sources.isolated, BLUE, "isolated"),
        (found & ~sources.isolated, FAINT, "blended"),
    ):
        if not keep.any():
            continue
        x, y, error = (1e3 * values[keep] for values in (sources.reference_jy, sources.flux_jy, sources.flux_err_jy))
        axes.errorbar(x, y, error, fmt="o", color=color, markersize=3.5, elinewidth=0.7, alpha=0.75, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=9, loc="upper left", labelcolor=INK)


def _completeness_bars(axes: Axes, sources: ReferenceSources | None) -> None:
    label_axes(axes, f"Completeness at {DETECTION_SNR:g} sigma", "expected signal to noise", "found")
    if sources is None:
        _empty(axes, "no reference catalogue")
        return
    expected = sources.reference_jy / sources.local_noise_jy
    found = sources.flux_jy >= DETECTION_SNR * sources.local_noise_jy
    which = np.digitize(expected, SNR_EDGES) - 1
    labels = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(SNR_EDGES)]
    labels.append(f"> {SNR_EDGES[-1]:g}")
    for index in range(len(labels)):
        inside = which == index
        number = int(inside.sum())
        if number == 0:
            continue
        fraction = float(found[inside].mean())
        error = np.sqrt(max(fraction * (1.0 - fraction), 0.25 / number) / number)
        axes.bar(index, fraction, 0.72, color=PALE, edgecolor=BLUE, linewidth=0.8)
        axes.errorbar(
            index, fraction, [[min(error, fraction)], [min(error, 1.0 - fraction)]], color=BLUE, elinewidth=1.0
        )
        axes.text(index, 0.03, str(number), ha="center", va="bottom", fontsize=8.5, color=INK)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(0.0, 1.08)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _offsets(axes: Axes, sources: ReferenceSources | None, beam: Beam | None) -> None:
    label_axes(axes, "Positions, measured minus catalogue", "east (arcsec)", "north (arcsec)")
    if sources is None:
        _empty(axes, "no reference catalogue")
        return
    use = _usable(sources) & np.isfinite(sources.offset_east_arcsec) & np.isfinite(sources.offset_north_arcsec)
    if not use.any():
        _empty(axes, "no position was measured")
        return
    east, north = sources.offset_east_arcsec[use], sources.offset_north_arcsec[use]
    if beam is not None:
        shape = Ellipse(
            (0.0, 0.0), beam.minor_arcsec, beam.major_arcsec, angle=beam.pa_deg, facecolor="#f1f4f9", edgecolor=FAINT
        )
        shape.set_linestyle(":")
        axes.add_patch(shape)
    half = 1.15 * max(float(np.percentile(np.abs([east, north]), 98)), 0.55 * beam.major_arcsec if beam else 1.0)
    axes.scatter(east, north, s=13, color=BLUE, alpha=0.7, linewidths=0)
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    axes.axvline(0.0, color=FAINT, linewidth=0.8)
    middle = float(np.median(east)), float(np.median(north))
    axes.plot(*middle, marker="+", markersize=13, markeredgewidth=2.0, color="#c53030")
    # An equal scale on both axes in a panel that keeps its shape.
    panel = axes.get_window_extent()
    wide = half * panel.width / panel.height
    axes.set_xlim(wide, -wide)
    axes.set_ylim(-half, half)
    note = f'median {middle[0]:+.2f}", {middle[1]:+.2f}"\n{east.size} sources'
    axes.text(0.97, 0.96, note, transform=axes.transAxes, ha="right", va="top", fontsize=9, color=INK)


def list_checks(figure: Figure, checks: Sequence[Check], bottom: float, height: float) -> None:
    """List the checks: name, verdict, reason."""
    figure.text(0.085, bottom / height, "Checks", fontsize=10.5, color=INK, va="center")
    for row, check in enumerate(checks):
        y = (bottom - 0.32 - 0.27 * row) / height
        figure.text(0.085, y, check.name.replace("_", " "), fontsize=9, color=INK, va="center")
        figure.text(0.24, y, check.verdict.value, fontsize=9, color=COLORS[check.verdict], va="center", weight="bold")
        reason = check.reason if len(check.reason) <= REASON_LENGTH else check.reason[: REASON_LENGTH - 1] + "…"
        figure.text(0.34, y, reason, fontsize=8.5, color=FAINT, va="center")
