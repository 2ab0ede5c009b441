r"""The whole sky with what was seen of it, as SVG, in Mollweide's equal-area projection.

    x = (2√2/π) λ cos θ,    y = √2 sin θ,    2θ + sin 2θ = π sin δ

with λ = −(α − α₀), for the sky is seen from inside: east is left. Right ascension 0 is in the middle, 12 h at both
edges; a cell of a coverage map that lies across the edge is drawn on the side of its middle, cut there. Colors come
from the page's style: the classes are `seen`, `grid`, `edge` and `mark`. Reference: Snyder (1987), p. 249.
"""

import numpy as np
from astropy_healpix import HEALPix
from mocpy import MOC
from numpy.typing import ArrayLike, NDArray

ORDER = 6
"""Of the cells that are drawn: 0.9 degrees."""
WIDTH, HEIGHT = 720.0, 360.0
MARGIN = 14.0
_ITERATIONS = 12


def mollweide(ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where positions lie on the map, x to the right and y down, in [0, WIDTH] and [0, HEIGHT]."""
    ra, dec = np.asarray(ra_deg, float), np.radians(np.asarray(dec_deg, float))
    theta = dec.copy()
    for _ in range(_ITERATIONS):
        slope = 2.0 + 2.0 * np.cos(2.0 * theta)
        step = (2.0 * theta + np.sin(2.0 * theta) - np.pi * np.sin(dec)) / np.maximum(slope, 1e-9)
        theta = np.clip(theta - step, -0.5 * np.pi, 0.5 * np.pi)
    away = (180.0 - ra) % 360.0 - 180.0
    return 0.5 * WIDTH * (1.0 + away / 180.0 * np.cos(theta)), 0.5 * HEIGHT * (1.0 - np.sin(theta))


def draw(covered: MOC, title: str, marks: dict[str, tuple[float, float]] | None = None) -> str:
    """Return a map as SVG, to be put into a page.

    Parameters
    ----------
    covered
        What was seen.
    title
        What the picture shows, for those who do not see it.
    marks
        Positions (deg) to mark, by name.
    """
    box = f"{-MARGIN:g} {-MARGIN:g} {WIDTH + 2 * MARGIN:g} {HEIGHT + 2 * MARGIN + 12:g}"
    parts = [f'<svg class="sky-map" viewBox="{box}" role="img" aria-label="{_escaped(title)}">']
    parts.append(
        f'<ellipse class="edge" cx="{WIDTH / 2:g}" cy="{HEIGHT / 2:g}" rx="{WIDTH / 2:g}" ry="{HEIGHT / 2:g}"/>'
    )
    parts.append(f'<path class="seen" d="{_cells(covered)}"/>')
    parts.append(f'<path class="grid" d="{_grid()}"/>')
    parts += _labels()
    for name, (ra_deg, dec_deg) in (marks or {}).items():
        x, y = (float(value) for value in mollweide(ra_deg, dec_deg))
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{_escaped(name)}</title></circle>')
    parts.append("</svg>")
    return "".join(parts)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def _cells(covered: MOC) -> str:
    if covered.empty():
        return ""
    coarse = covered.degrade_to_order(min(ORDER, covered.max_order))
    order = coarse.max_order
    grid = HEALPix(nside=2**order, order="nested")
    cells = np.asarray(coarse.flatten(), np.int64)
    lon, lat = grid.boundaries_lonlat(cells, step=2)
    middle = grid.healpix_to_lonlat(cells)[0].deg
    # Corners are counted from the middle of their cell, so that none jumps across the edge of the map.
    ra = middle[:, None] + (lon.deg - middle[:, None] + 180.0) % 360.0 - 180.0
    away = (180.0 - middle[:, None]) % 360.0 - 180.0 - (ra - middle[:, None])
    x, y = mollweide(-np.clip(away, -180.0, 180.0 - 1e-9), lat.deg)
    return "".join(
        "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(xs, ys, strict=True)) + "Z"
        for xs, ys in zip(x, y, strict=True)
    )


def _grid() -> str:
    dec = np.linspace(-90.0, 90.0, 37)
    meridians = [_line(np.full(dec.shape, 15.0 * hours), dec) for hours in range(0, 24, 3)]
    around = 180.0 + np.array([1e-6, 360.0 - 1e-6])
    return "".join([*meridians, *(_line(around, np.full(2, 30.0 * step)) for step in range(-2, 3))])


def _line(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> str:
    x, y = mollweide(ra_deg, dec_deg)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _labels() -> list[str]:
    told = []
    for hours in (15, 18, 21, 0, 3, 6, 9):
        x, y = mollweide(15.0 * hours, 0.0)
        told.append(f'<text x="{float(x) + 3:.1f}" y="{float(y) - 4:.1f}">{hours}h</text>')
    for dec_deg in (-60, -30, 30, 60):
        x, y = mollweide(180.0 + 1e-6, float(dec_deg))
        told.append(f'<text x="{float(x):.1f}" y="{float(y) - 4:.1f}" text-anchor="end">{dec_deg:+d}°</text>')
    return told
