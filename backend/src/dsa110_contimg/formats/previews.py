"""Pictures of images for people: PNG with a robust stretch, a grid, the beam and the names of bright sources.

Values are shown on an asinh scale, linear in the noise and logarithmic above, so that faint sources and a bright
one are seen in one picture. An image larger than the picture is reduced by blocks, keeping the brightest value of
a block so that point sources do not vanish. The same image makes the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.time import Time
from astropy.visualization.wcsaxes import WCSAxes
from astropy.wcs import WCS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from dsa110_contimg.formats.scratch import replacing
from dsa110_contimg.kernels.coadd import robust_center_scatter
from dsa110_contimg.kernels.sphere import direction_cosines
from dsa110_contimg.visibilities import SkyImage

COLORMAP = "inferno"
BACKGROUND = "#0b0e14"
INK = "#d8dee9"
FAINT = "#7b8496"
ACCENT = "#7fd4ff"
MAX_PIXELS = 1800
DPI = 130
NAMED = 12
LEFT, RIGHT, BOTTOM, TOP = 0.95, 1.25, 1.0, 0.62
SKY_INCHES = (9.6, 8.4)


class _Frame(NamedTuple):
    """Sizes of a picture in inches: the sky, and margins for labels around it."""

    sky_width: float
    sky_height: float

    @property
    def width(self) -> float:
        """Width of the picture."""
        return max(self.sky_width, 5.2) + LEFT + RIGHT

    @property
    def height(self) -> float:
        """Height of the picture."""
        return self.sky_height + BOTTOM + TOP

    def place(self, x: float, width: float) -> tuple[float, float, float, float]:
        """Return (left, bottom, width, height) as figure fractions of a strip as high as the sky."""
        return ((LEFT + x) / self.width, BOTTOM / self.height, width / self.width, self.sky_height / self.height)


class NamedSource(NamedTuple):
    """A source to point at in a picture."""

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float


def preview(image: SkyImage, path: Path, *, sources: Sequence[NamedSource] = (), title: str = "") -> Path:
    """Draw an image as a PNG, whole or not at all, and return its path.

    Parameters
    ----------
    image
        Jy/beam; NaN is left dark and outlined.
    sources
        The brightest twelve inside the image are named.
    title
        Headline; the image's field name if empty.
    """
    data, step = reduce_blocks(image.data, max(1, -(-max(image.data.shape) // MAX_PIXELS)))
    frame = _frame(*data.shape)
    figure = Figure(figsize=(frame.width, frame.height), dpi=DPI, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    x_ref, y_ref = image.center_pixel
    wcs = celestial_wcs(image, ((x_ref - (step - 1) / 2) / step, (y_ref - (step - 1) / 2) / step), step)
    axes = WCSAxes(figure, frame.place(0.0, frame.sky_width), wcs=wcs)
    figure.add_axes(axes)
    _sky(figure, axes, data, frame.place(frame.sky_width + 0.16, 0.17))
    _grid(axes)
    _beam(axes, image, step)
    _names(axes, wcs, sources, data.shape, image)
    _captions(figure, image, title, frame)
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png", facecolor=BACKGROUND, metadata={"Software": None})
    return path


def thumbnail(image: SkyImage, path: Path, *, pixels: int = 256) -> Path:
    """Draw an image without any decoration, its longer side at most *pixels* long."""
    data, _ = reduce_blocks(image.data, max(1, -(-max(image.data.shape) // pixels)))
    low, high, norm = stretch(data)
    ny, nx = data.shape
    figure = Figure(figsize=(nx / 100.0, ny / 100.0), dpi=100, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(np.clip(data, low, high), origin="lower", cmap=COLORMAP, norm=norm, interpolation="nearest")
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png", facecolor=BACKGROUND, metadata={"Software": None})
    return path


def celestial_wcs(image: SkyImage, reference: tuple[float, float] | None = None, step: int = 1) -> WCS:
    """Return the celestial coordinates of an image, or of one reduced by blocks of *step* pixels."""
    x_ref, y_ref = reference or image.center_pixel
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = list(image.center)
    wcs.wcs.crpix = [x_ref + 1.0, y_ref + 1.0]
    wcs.wcs.cdelt = [-image.cell_deg * step, image.cell_deg * step]
    wcs.wcs.radesys = "ICRS"
    return wcs


def reduce_blocks(data: NDArray[np.float32], step: int) -> tuple[NDArray[np.float32], int]:
    """Return the image reduced by blocks of step x step pixels, and the step.

    Halfway between a block's mean and its maximum: sources stay, and noise does not become a bright fog.
    """
    if step == 1:
        return data, 1
    ny, nx = (length // step * step for length in data.shape)
    blocks = data[:ny, :nx].reshape(ny // step, step, nx // step, step)
    known = np.isfinite(blocks)
    number = known.sum(axis=(1, 3))
    total = np.sum(blocks, axis=(1, 3), where=known)
    peak = np.max(blocks, axis=(1, 3), where=known, initial=-np.inf)
    mean = total / np.maximum(number, 1)
    center, sigma = robust_center_scatter(data)
    shown = np.where(peak > center + 5.0 * sigma, peak, mean)
    return np.where(number > 0, shown, np.nan).astype(np.float32), step


def stretch(data: NDArray[np.float32]) -> tuple[float, float, FuncNorm]:
    """Return (low, high, norm) of an asinh scale: from −3 sigma to the brightest source, linear within 2 sigma."""
    center, sigma = robust_center_scatter(data)
    if not sigma > 0.0:
        center, sigma = (center if np.isfinite(center) else 0.0), 1e-12
    finite = data[np.isfinite(data)]
    brightest = float(finite.max()) if finite.size else center
    low, high = center - 3.0 * sigma, max(brightest, center + 20.0 * sigma)
    soft = 2.0 * sigma

    def forward(value: Any) -> Any:  # noqa: ANN401 - matplotlib hands over whatever it has
        return np.arcsinh((np.asarray(value) - center) / soft)

    def backward(value: Any) -> Any:  # noqa: ANN401
        return center + soft * np.sinh(np.asarray(value))

    return low, high, FuncNorm((forward, backward), vmin=low, vmax=high)


def _frame(ny: int, nx: int) -> _Frame:
    """Return the sizes of a picture whose sky keeps its shape."""
    scale = min(SKY_INCHES[0] / nx, SKY_INCHES[1] / ny)
    return _Frame(scale * nx, scale * ny)


def _sky(
    figure: Figure, axes: WCSAxes, data: NDArray[np.float32], bar_place: tuple[float, float, float, float]
) -> None:
    low, high, norm = stretch(data * 1e3)
    axes.set_facecolor(BACKGROUND)
    shown = axes.imshow(
        np.clip(data * 1e3, low, high), origin="lower", cmap=COLORMAP, norm=norm, interpolation="antialiased"
    )
    missing = ~np.isfinite(data)
    if missing.any() and not missing.all():
        axes.contour(missing.astype(float), levels=[0.5], colors=FAINT, linewidths=0.8, alpha=0.8)
    bar_axes = figure.add_axes(bar_place)
    bar = figure.colorbar(shown, cax=bar_axes, ticks=_bar_ticks(low, high), format=lambda value, _: f"{value:g}")
    bar.set_label("mJy / beam", color=INK, fontsize=10, labelpad=6)
    bar.minorticks_off()
    bar.outline.set_edgecolor(FAINT)
    bar_axes.tick_params(colors=INK, labelsize=9, color=FAINT)


def _bar_ticks(low: float, high: float) -> list[float]:
    """Return round values between the ends: 0 and the steps 1, 3 of each decade that are far enough apart."""
    decades = range(-9, 12)
    steps = [factor * 10.0**power for power in decades for factor in (1.0, 3.0)]
    smallest = 0.9 * abs(low)
    return [0.0, *(value for value in steps if smallest <= value <= high)]


def _grid(axes: WCSAxes) -> None:
    axes.coords.grid(color=INK, alpha=0.16, linewidth=0.6, linestyle="-")
    for coordinate, label in zip(axes.coords, ("Right ascension (ICRS)", "Declination"), strict=True):
        coordinate.set_axislabel(label, color=INK, fontsize=10)
        coordinate.set_ticklabel(color=INK, size=9, exclude_overlapping=True, simplify=False)
        coordinate.set_ticks(color=FAINT)
    axes.coords[0].set_major_formatter("hh:mm")
    axes.coords[1].set_major_formatter("dd:mm")
    axes.coords.frame.set_color(FAINT)


def _beam(axes: WCSAxes, image: SkyImage, step: int) -> None:
    """Draw the beam in the lower left corner, enlarged, its factor beside it, when it would be a dot."""
    if image.beam is None:
        return
    nx = axes.get_xlim()[1] - axes.get_xlim()[0]
    ny = axes.get_ylim()[1] - axes.get_ylim()[0]
    pixel = 3600.0 * image.cell_deg * step
    major, minor = image.beam.major_arcsec / pixel, image.beam.minor_arcsec / pixel
    wanted = 0.035 * min(max(nx, ny), 3.0 * min(nx, ny))
    factor = next((f for f in (1, 2, 5, 10, 20, 50, 100) if f * major >= 0.6 * wanted), 100)
    x, y = 0.012 * nx + 0.9 * wanted, 0.02 * ny + 0.9 * wanted
    axes.add_patch(
        Ellipse(
            (x, y),
            factor * minor,
            factor * major,
            angle=image.beam.pa_deg,
            facecolor=ACCENT,
            edgecolor="none",
            alpha=0.9,
        )
    )
    if factor > 1:
        axes.text(x + 0.8 * wanted, y, f"{factor}×", color=INK, fontsize=8, va="center", path_effects=_halo())


def _names(axes: WCSAxes, wcs: WCS, sources: Sequence[NamedSource], shape: tuple[int, ...], image: SkyImage) -> None:
    """Name the brightest sources inside the image, where names do not cover each other."""
    ny, nx = shape
    taken = [(0.05 * nx, 0.05 * nx)]
    named = 0
    for source in sorted(sources, key=lambda s: (-s.flux_jy, s.name)):
        front = direction_cosines(*np.radians([source.ra_deg, source.dec_deg]), *np.radians(image.center))[2] > 0.0
        x, y = (float(v) for v in wcs.all_world2pix(source.ra_deg, source.dec_deg, 0)) if front else (-1.0, -1.0)
        if not (0.01 * nx < x < 0.99 * nx and 0.01 * ny < y < 0.97 * ny):
            continue
        if any(abs(x - u) < 0.17 * nx and abs(y - v) < 0.022 * nx for u, v in taken):
            continue
        taken.append((x, y))
        to_left = x > 0.8 * nx
        axes.annotate(
            f"{source.name}  {_flux_text(source.flux_jy)}",
            (x, y),
            xytext=(-9 if to_left else 9, 0),
            textcoords="offset points",
            ha="right" if to_left else "left",
            va="center",
            color=INK,
            fontsize=8,
            path_effects=_halo(),
        )
        axes.plot(x, y, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=ACCENT, markeredgewidth=0.8)
        named += 1
        if named == NAMED:
            return


def _flux_text(flux_jy: float) -> str:
    return f"{flux_jy:.2f} Jy" if flux_jy >= 1.0 else f"{1e3 * flux_jy:.0f} mJy"


def _halo() -> list[Any]:
    return [withStroke(linewidth=2.2, foreground=BACKGROUND, alpha=0.85)]


def _captions(figure: Figure, image: SkyImage, title: str, frame: _Frame) -> None:
    """Write the title above the sky, and what was measured below it."""
    facts = []
    if np.isfinite(image.start_mjd):
        facts.append(f"{Time(image.start_mjd, format='mjd', scale='utc').isot[:16].replace('T', ' ')} UTC")
    if np.isfinite(image.freq_hz):
        facts.append(f"{image.freq_hz / 1e9:.3f} GHz")
    if "NTILES" in image.header:
        facts.append(f"{image.header['NTILES']} tiles")
    if np.isfinite(image.exposure_s):
        facts.append(f"{image.exposure_s / 60.0:.0f} min")
    if np.isfinite(image.noise_jy):
        facts.append(f"median noise {1e3 * image.noise_jy:.2g} mJy/beam")
    if image.beam is not None:
        major, minor, angle = image.beam
        facts.append(f'beam {major:.1f}" × {minor:.1f}" at {angle:.0f}°')
    left = LEFT / frame.width
    name = title or image.field_name or image.kind
    figure.text(left, 1.0 - 0.34 / frame.height, name, color="white", fontsize=13, va="center")
    figure.text(left, 0.22 / frame.height, "   ·   ".join(facts), color=FAINT, fontsize=8.5, va="center")
