"""What the pipeline found, held against what the simulator put in."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import ESECandidate, Mosaic, MSIndex, Photometry, QACheck
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry import forced
from dsa110_contimg.photometry.forced import Measurement, PhotometryFlag
from dsa110_contimg.pipeline.reference_sources import ISOLATION_BEAMS, footprint
from dsa110_contimg.simulation import Truth
from dsa110_contimg.telescope import MID_BAND_HZ
from dsa110_contimg.visibilities import SkyImage, SkyModel

MATCH_ARCSEC = 5.0
MIN_FLUX_JY = 0.1
NEIGHBOR_SHARE = 0.02
UNFIT = PhotometryFlag.EDGE | PhotometryFlag.LOW_BEAM
FloatArray = NDArray[np.float64]


@dataclass
class TruthReport:
    """How near the pipeline came to the truth; None is not measurable."""

    tiles: int = 0
    mosaics: int = 0
    published: int = 0
    beam_arcsec: tuple[float, float] | None = None
    noise_mjy: float | None = None
    n_fluxes: int = 0
    flux_ratio_median: float | None = None
    flux_ratio_scatter: float | None = None
    offset_east_arcsec: float | None = None
    offset_north_arcsec: float | None = None
    noise_map_ratio: tuple[float, float] | None = None
    """Smallest and largest, over the mosaics, of measured scatter over noise map."""
    injected_events: list[str] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    """Names in the truth where it knows them, else source ids."""

    @property
    def events_found(self) -> bool:
        """Whether the candidates are the injected events, no more and no less."""
        return sorted(self.candidates) == sorted(self.injected_events)

    def to_dict(self) -> dict[str, object]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"events_found": self.events_found}


def compare(truth: Truth) -> TruthReport:
    """Hold every mosaic against the truth: isolated sources above 100 mJy, and the candidates.

    Raises
    ------
    PipelineError
        If there is no mosaic yet.
    """
    with get_session("products", read_only=True) as session:
        mosaics = list(session.scalars(select(Mosaic).order_by(Mosaic.name)))
        stages = list(session.scalars(select(MSIndex.stage)))
        candidates = session.scalars(select(ESECandidate.source_id).where(ESECandidate.status == "active")).all()
        ratios = [
            row.value
            for row in session.scalars(select(QACheck).where(QACheck.name == "noise_map"))
            if row.value is not None
        ]
    if not mosaics:
        raise PipelineError("there is no mosaic yet to compare with the truth: run the pipeline first")
    fluxes, offsets = zip(*(_compare_mosaic(mosaic, truth) for mosaic in mosaics), strict=True)
    ratio, east_north = np.concatenate(fluxes), np.concatenate(offsets)
    report = TruthReport(
        tiles=sum(stage == "photometry_complete" for stage in stages),
        mosaics=len(mosaics),
        published=sum("/products/" in mosaic.path for mosaic in mosaics),
        noise_mjy=1e3 * float(np.median([mosaic.noise_jy for mosaic in mosaics if mosaic.noise_jy])),
        n_fluxes=ratio.size,
        noise_map_ratio=(min(ratios), max(ratios)) if ratios else None,
        injected_events=[source.name for source in truth.sources if source.role == "ese"],
        candidates=[_truth_name(source_id, truth) for source_id in candidates],
    )
    first = mosaics[0]
    if first.beam_major_arcsec and first.beam_minor_arcsec:
        report.beam_arcsec = (first.beam_major_arcsec, first.beam_minor_arcsec)
    if ratio.size:
        middle = float(np.median(ratio))
        report.flux_ratio_median = middle
        report.flux_ratio_scatter = float(1.4826 * np.median(np.abs(ratio - middle)))
        report.offset_east_arcsec, report.offset_north_arcsec = (float(v) for v in np.nanmedian(east_north, axis=0))
    return report


def _compare_mosaic(mosaic: Mosaic, truth: Truth) -> tuple[FloatArray, FloatArray]:
    """Return flux ratios (n,) and offsets (n, 2) in arcsec (east, north) of a mosaic's isolated bright sources."""
    picture = fits_image.load(Path(mosaic.path))
    epoch = next(group.epoch for group in truth.groups if mosaic.start_mjd - 0.001 < group.mid_mjd < mosaic.end_mjd)
    sky = _sky_of(truth, epoch)
    bright = sky.select((sky.flux_jy >= MIN_FLUX_JY) & _alone(sky, picture) & footprint(picture, sky))
    stored = _stored_fluxes(mosaic.path, bright)
    noise = fits_image.load(Path(mosaic.noise_path or ""))
    measured = forced.measure(picture, bright, PhotometryOptions(), noise=noise)
    offsets = [
        (item.offset_ra_arcsec, item.offset_dec_arcsec) if isinstance(item, Measurement) else (None, None)
        for item in measured
    ]
    good = np.isfinite(stored)
    return (stored / bright.flux_jy)[good], np.array(offsets, float).reshape(-1, 2)[good]


def _sky_of(truth: Truth, epoch: int) -> SkyModel:
    return SkyModel(
        names=[source.name for source in truth.sources],
        ra_deg=np.array([source.ra_deg for source in truth.sources]),
        dec_deg=np.array([source.dec_deg for source in truth.sources]),
        flux_jy=np.array([source.flux_1405_jy[epoch] for source in truth.sources]),
        spectrum=np.zeros((len(truth.sources), 1)),
        ref_freq_hz=MID_BAND_HZ,
    )


def _alone(sky: SkyModel, picture: SkyImage) -> NDArray[np.bool_]:
    """Return which bright sources have no neighbor within three beams that has a fiftieth of their flux."""
    radius = np.radians(ISOLATION_BEAMS * (picture.beam.major_arcsec if picture.beam else 60.0) / 3600.0)
    ra, dec = np.radians(sky.ra_deg), np.radians(sky.dec_deg)
    alone = np.zeros(len(sky), bool)
    for index in np.flatnonzero(sky.flux_jy >= MIN_FLUX_JY):
        near = separation(ra[index], dec[index], ra, dec) < radius
        near[index] = False
        alone[index] = not np.any(sky.flux_jy[near] > NEIGHBOR_SHARE * sky.flux_jy[index])
    return alone


def _stored_fluxes(image_path: str, sources: SkyModel) -> FloatArray:
    """Return the fluxes in `photometry` at positions, Jy, (n,); NaN where there is no usable row."""
    with get_session("products", read_only=True) as session:
        rows = [
            row
            for row in session.scalars(select(Photometry).where(Photometry.image_path == image_path))
            if not (row.flags or 0) & UNFIT and row.flux_jy is not None
        ]
    found = np.full(len(sources), np.nan)
    ra, dec = (np.radians([getattr(row, name) for row in rows]) for name in ("ra_deg", "dec_deg"))
    for index in range(len(sources)):
        if rows:
            distance = separation(np.radians(sources.ra_deg[index]), np.radians(sources.dec_deg[index]), ra, dec)
            nearest = int(np.argmin(distance))
            if np.degrees(distance[nearest]) * 3600.0 < MATCH_ARCSEC:
                found[index] = rows[nearest].flux_jy or np.nan
    return found


def _truth_name(source_id: str, truth: Truth) -> str:
    """Return the name of the simulated source that a catalogue source is, or its own id."""
    return source_id if any(source.name == source_id for source in truth.sources) else f"{source_id} (not simulated)"
