"""Sources injected into tiles, imaged, coadded and measured the way the pipeline does it, and held against the truth.

Each tile is imaged twice: as it is, to learn what is there already, and with the injected sources. The second images
are coadded. On each tile and on the mosaic every injected source is measured at its position, and a blind search says
which are found and which detections are nothing.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging.image import ImagingResult
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.mosaic.build import build
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.options import ImagingOptions, MosaicOptions, QAOptions, option
from dsa110_contimg.photometry.crossmatch import find_sources
from dsa110_contimg.pipeline.recovery import SearchedImage, recover
from dsa110_contimg.qa.checks import Check
from dsa110_contimg.qa.recovery import (
    Detections,
    Estimate,
    RecoveredSources,
    Recovery,
    RecoveryBin,
    recovery_bins,
    recovery_checks,
)
from dsa110_contimg.simulation.injection import as_listed, draw_fluxes, draw_sky, inject
from dsa110_contimg.visibilities import Beam, SkyModel, SkyPosition, Visibilities

logger = logging.getLogger(__name__)

KNOWN_SNR = 3.5
"""What stands out of the image before injection by as much may be real: nothing is put near it, nor called false."""
OUTERMOST_RESPONSE = 0.15
Load = Callable[[], Visibilities]
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class InjectionOptions:
    """What is put into the visibilities."""

    sources: int = option(300, "Sources that are injected.")
    faintest_mjy: float = option(0.5, "Faintest of them at 1.4 GHz, before the primary beam (mJy).")
    brightest_jy: float = option(10.0, "Brightest of them at 1.4 GHz, before the primary beam (Jy).")
    separation_beams: float = option(6.0, "No two are nearer to each other, nor to what is there, in beams.")
    smear: bool = option(True, "Average them over channel and integration, as the correlator does.")
    injection_seed: int = option(1, "Seed of their places.")


@dataclass(frozen=True)
class InjectionReport:
    """What was injected and what came back."""

    sky: SkyModel
    tiles: tuple[Recovery, ...]
    mosaic: Recovery | None
    """None for a single tile."""
    beam: Beam
    """Of the first tile."""
    noise_jy: tuple[float, ...]
    """Of each tile's image."""

    @property
    def kinds(self) -> dict[str, tuple[Recovery, ...]]:
        """The images by kind: tile, and mosaic where there is one."""
        return {"tile": self.tiles} | ({} if self.mosaic is None else {"mosaic": (self.mosaic,)})

    def checks(self, qa: QAOptions) -> list[Check]:
        """Return the figures and their verdicts."""
        return [check for kind, images in self.kinds.items() for check in recovery_checks(images, kind, qa)]

    def bins(self) -> dict[str, list[RecoveryBin]]:
        """Return what came back of each kind of image by S/N."""
        return {kind: recovery_bins(images) for kind, images in self.kinds.items()}

    def to_dict(self) -> dict[str, object]:
        """Return plain values, ready for JSON: a list per column and image, None where something is unknown."""
        images = [image for kind in self.kinds.values() for image in kind]
        return {
            "beam": self.beam._asdict(),
            "noise_jy": list(self.noise_jy),
            "bins": {kind: [_told(one) for one in bins] for kind, bins in self.bins().items()},
            "images": [_plain(rows) | {"detections": _plain(found)} for rows, found in images],
        }


def _told(one: RecoveryBin) -> dict[str, object]:
    """Return a bin as plain values; None for what was not measured, and for a bin without an end."""
    edges = {"low_snr": one.low_snr, "high_snr": one.high_snr if np.isfinite(one.high_snr) else None}
    estimates: dict[str, object] = {}
    for name in ("flux", "flux_scatter", "position_scatter", "condon_scatter"):
        found: Estimate = getattr(one, name)
        estimates[name] = found._asdict() if found.n else None
    return edges | estimates


def _plain(table: RecoveredSources | Detections) -> dict[str, object]:
    columns = {item.name: getattr(table, item.name) for item in fields(table)}
    return {
        name: [None if np.isnan(value) else value for value in column.tolist()]
        if isinstance(column, np.ndarray)
        else column
        for name, column in columns.items()
    }


@dataclass(frozen=True)
class _Before:
    """A tile as it was."""

    center: SkyPosition
    radius_deg: float
    beam: Beam
    known: SkyModel
    """What stands out of it."""


def run_injection(
    tiles: Sequence[Load],
    imaging: ImagingOptions,
    options: InjectionOptions,
    *,
    mosaic: MosaicOptions | None = None,
    blank: bool = False,
    progress: Progress = logger.info,
) -> InjectionReport:
    """Inject sources into tiles and see what comes back.

    Parameters
    ----------
    tiles
        Each gives the calibrated visibilities of one tile, anew at each call: two calls are made.
    imaging, mosaic
        As the pipeline uses them.
    options
        What to inject.
    blank
        Whether there is nothing but noise in the tiles: what a search finds in them is then nothing.
    progress
        Told what is done next.

    Raises
    ------
    BadInputError
        If a set has no pointings, or antennas without positions.
    ConfigurationError
        If so many sources do not fit.
    ImagingError, MosaicError
        If a tile or the mosaic cannot be made.
    """
    before = []
    for number, load in enumerate(tiles, 1):
        progress(f"tile {number} of {len(tiles)} as it is")
        before.append(_look(make_image(load(), imaging)))
    known = _joined(*(look.known for look in before))
    if blank:
        known = known.select(np.zeros(len(known), bool))
    sky = _draw(before, known, options)
    listed = as_listed(sky, np.random.default_rng([options.injection_seed, 1]))
    images, recovered = [], []
    for number, (load, look) in enumerate(zip(tiles, before, strict=True), 1):
        progress(f"tile {number} of {len(tiles)} with {len(sky)} sources")
        vis = load()
        inject(vis, sky, smear=options.smear)
        made = make_image(vis, imaging, bright=listed if blank else _joined(listed, look.known))
        tile = _tile(f"tile {number}", made, vis.mid_mjd)
        images.append(tile)
        recovered.append(recover(SearchedImage(tile.name, tile.image, [look.center], beam=tile.beam), sky, known))
    coadded = None
    if len(images) > 1:
        progress(f"the mosaic of {len(images)} tiles")
        result = build(images, mosaic or MosaicOptions(), "injected")
        centers = [look.center for look in before]
        coadded = recover(SearchedImage("mosaic", result.image, centers, noise=result.noise), sky, known)
    return InjectionReport(sky, tuple(recovered), coadded, before[0].beam, tuple(tile.noise_jy for tile in images))


def _look(made: ImagingResult) -> _Before:
    image, beam = made.image, made.beam
    found = find_sources(image, None, KNOWN_SNR, beam=beam)
    radius = 0.5 * image.cell_deg * min(image.data.shape)
    if beam is not None:
        inside = np.flatnonzero((beam.data >= OUTERMOST_RESPONSE).any(axis=0))
        radius = min(radius, 0.5 * beam.cell_deg * float(np.ptp(inside)))
    names = [f"there already {i + 1}" for i in range(len(found))]
    known = SkyModel(names, found.ra_deg, found.dec_deg, found.flux_jy, np.zeros((len(found), 1)))
    return _Before(image.center, radius, made.summary.beam, known)


def _joined(*skies: SkyModel) -> SkyModel:
    def all_of(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(sky, name) for sky in skies])

    names = [name for sky in skies for name in sky.names]
    return SkyModel(names, all_of("ra_deg"), all_of("dec_deg"), all_of("flux_jy"), all_of("spectrum"))


def _draw(before: Sequence[_Before], known: SkyModel, options: InjectionOptions) -> SkyModel:
    rng = np.random.default_rng(options.injection_seed)
    fluxes = draw_fluxes(options.sources, 1e-3 * options.faintest_mjy, options.brightest_jy, rng)
    apart = options.separation_beams * max(look.beam.major_arcsec for look in before) / 3600.0
    places = np.stack([known.ra_deg, known.dec_deg], axis=1)
    return draw_sky([look.center for look in before], max(b.radius_deg for b in before), fluxes, apart, places, rng)


def _tile(name: str, made: ImagingResult, mid_mjd: float) -> Tile:
    if made.beam is None:
        raise ImagingError(f"{name} has no primary beam: its set has no pointings")
    return Tile(name, name, made.image, made.beam, mid_mjd, made.summary.noise_jy)
