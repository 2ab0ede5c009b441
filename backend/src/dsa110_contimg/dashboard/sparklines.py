"""Small light curves in a table's cell: a line in units of its own box, and the same in words."""

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT, MARGIN = 96.0, 24.0, 2.0


class Sparkline(NamedTuple):
    """A line as the `points` of an SVG polyline, and what it shows."""

    points: str
    words: str


def sparkline(fluxes_jy: Sequence[float]) -> Sparkline | None:
    """Return the line of some fluxes in order of time, each as far from the next; None without any."""
    if not fluxes_jy:
        return None
    low, high = min(fluxes_jy), max(fluxes_jy)
    step = (WIDTH - 2 * MARGIN) / max(len(fluxes_jy) - 1, 1)
    span = high - low or 1.0
    places = [
        (MARGIN + step * index, HEIGHT - MARGIN - (flux - low) / span * (HEIGHT - 2 * MARGIN))
        for index, flux in enumerate(fluxes_jy)
    ]
    if len(places) == 1:
        places = [(MARGIN, HEIGHT / 2), (WIDTH - MARGIN, HEIGHT / 2)]
    count = len(fluxes_jy)
    words = f"last {count} epoch{'' if count == 1 else 's'}: {1e3 * low:.1f} to {1e3 * high:.1f} mJy"
    return Sparkline(" ".join(f"{x:.0f},{y:.1f}" for x, y in places), words)
