"""One page on the quality of a mosaic.

At the top the mosaic in units of its noise, and how its pixels are distributed: stripes, bowls and rings show in the
one, noise that is not what its map says in the other. Below, its sources against the catalogue: flux scale, fluxes,
completeness and positions; then every check with its verdict.
"""

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
from dsa110_contimg.qa.patterns import pull
from dsa110_contimg.visibilities import Beam, SkyImage

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
SKY_WIDTH, SKY_PIXELS = 6.0, 900
LOWEST_SHOWN, HIGHEST_SHOWN = -4.0, 12.0
PIXEL_RANGE = (-6.0, 12.0)
PAGE_WIDTH = 11.0
CHECK_COLUMNS = (0.085, 0.24, 0.34)


def quality_page(
    path: Path,
    sources: ReferenceSources | None,
    checks: Sequence[Check],
    *,
    image: SkyImage,
    noise: SkyImage,
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
    image, noise
        The mosaic and its noise map.
    title
        Headline, usually the mosaic's name.
    """
    pulls = pull(image.data, noise.data)
    bottom = 0.27 * len(checks) + 0.5
    sky_height = float(np.clip(SKY_WIDTH * pulls.shape[0] / pulls.shape[1], 2.4, 5.6))
    height = 9.1 + sky_height + 0.9 + 0.27 * len(checks)
    figure = Figure(figsize=(PAGE_WIDTH, height), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    top, low = 1.0 - 0.85 / height, 1.0 - (0.85 + sky_height) / height
    upper = figure.add_gridspec(1, 2, width_ratios=(2.0, 1.0), wspace=0.24, left=0.085, right=0.97, top=top, bottom=low)
    _sky(figure.add_subplot(upper[0]), image, pulls)
    _pixels(figure.add_subplot(upper[1]), pulls)
    lower = figure.add_gridspec(
        2, 2, wspace=0.24, hspace=0.32, left=0.085, right=0.97, top=low - 0.95 / height, bottom=(bottom + 0.95) / height
    )
    panels = [figure.add_subplot(lower[row, column]) for row in range(2) for column in range(2)]
    for axes in panels:
        style_axes(axes)
    for axes, panel in zip(panels, (_flux_histogram, _flux_scatter, _completeness_bars), strict=False):
        panel(axes, sources)
    _offsets(panels[3], sources, image.beam)
    list_checks(figure, checks, bottom, height)
    write_headline(figure, title, verdict_of(checks))
    return save_page(figure, path)


def _sky(axes: Axes, image: SkyImage, pulls: NDArray[np.float32]) -> None:
    """Draw the image in units of its noise, blocks of pixels joined."""
    label_axes(axes, "Image over noise", "degrees east of the center", "degrees north")
    joined = max(1, int(np.ceil(pulls.shape[1] / SKY_PIXELS)))
    ny, nx = (length // joined * joined for length in pulls.shape)
    blocks = pulls[:ny, :nx].reshape(ny // joined, joined, nx // joined, joined)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    mean = np.where(known, blocks, 0.0).sum(axis=(1, 3)) / np.maximum(count, 1)
    x0, y0 = image.center_pixel
    cell = image.cell_deg
    extent = ((x0 + 0.5) * cell, (x0 + 0.5 - nx) * cell, (-0.5 - y0) * cell, (ny - 0.5 - y0) * cell)
    shown = axes.imshow(
        np.where(count > 0, mean, np.nan), origin="lower", extent=extent, cmap="gray_r", vmin=LOWEST_SHOWN,
        vmax=HIGHEST_SHOWN, interpolation="nearest",
    )  # fmt: skip
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.025, pad=0.015)
    bar.set_label("sigma", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK, color=FAINT)
    axes.tick_params(colors=INK, labelsize=9, color=FAINT)
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _pixels(axes: Axes, pulls: NDArray[np.float32]) -> None:
    """Draw how pixels are distributed, beside what noise alone makes."""
    style_axes(axes)
    label_axes(axes, "Pixels over noise", "sigma", "pixels")
    known = pulls[np.isfinite(pulls)]
    edges = np.linspace(*PIXEL_RANGE, 81)
    number, _edges = np.histogram(np.clip(known, *PIXEL_RANGE), bins=edges)
    middle, width = 0.5 * (edges[1:] + edges[:-1]), float(edges[1] - edges[0])
    axes.stairs(number, edges, color=BLUE, fill=False, linewidth=1.4, label="measured")
    gauss = known.size * width * np.exp(-0.5 * middle**2) / np.sqrt(2.0 * np.pi)
    axes.plot(middle, gauss, color=FAINT, linewidth=1.0, linestyle="--", label="noise alone")
    axes.set_yscale("log")
    axes.set_ylim(0.5, 2.0 * max(1.0, float(number.max(initial=1))))
    axes.legend(frameon=False, fontsize=9, loc="upper right", labelcolor=INK)


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


def list_checks(
    figure: Figure, checks: Sequence[Check], bottom: float, height: float, columns: Sequence[float] = CHECK_COLUMNS
) -> None:
    """List the checks: name, verdict, reason, each beginning at a fraction of the page's width."""
    name, verdict, reason = columns
    longest = int(REASON_LENGTH * figure.get_figwidth() * (1.0 - reason) / (PAGE_WIDTH * (1.0 - CHECK_COLUMNS[2])))
    figure.text(name, bottom / height, "Checks", fontsize=10.5, color=INK, va="center")
    for row, check in enumerate(checks):
        y = (bottom - 0.32 - 0.27 * row) / height
        figure.text(name, y, check.name.replace("_", " "), fontsize=9, color=INK, va="center")
        figure.text(
            verdict, y, check.verdict.value, fontsize=9, color=COLORS[check.verdict], va="center", weight="bold"
        )
        told = check.reason if len(check.reason) <= longest else check.reason[: longest - 1] + "…"
        figure.text(reason, y, told, fontsize=8.5, color=FAINT, va="center")
