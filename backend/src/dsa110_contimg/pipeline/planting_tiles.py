"""Sources put into the visibilities of a few tiles, which are imaged a second time for them.

What is put into an image knows nothing of imaging; these sources go through weights, CLEAN and the beam. The second
image costs as much as the first, so that only tiles of some places are chosen: cells of the sky, the same each day, as
only a source that is there each day has a light curve. The image is measured and thrown away.
"""

import logging
from dataclasses import replace

import numpy as np

from dsa110_contimg.database.upserts import Value
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.options import ImagingOptions, PhotometryOptions
from dsa110_contimg.photometry import forced
from dsa110_contimg.pipeline.planting import clear_of, joined, planted_rows, sky_of
from dsa110_contimg.pipeline.reference_sources import footprint
from dsa110_contimg.simulation.injection import as_listed, inject
from dsa110_contimg.simulation.planted import planted_sources
from dsa110_contimg.visibilities import SkyImage, SkyModel, SkyPosition, Visibilities

logger = logging.getLogger(__name__)

SEED = 1101
CELL_DEG = 1.3
"""Right ascension that the sky moves through in a tile, at the equator."""
PER_SQ_DEG = 1.0
RADIUS_DEG = 1.4
"""Where the primary beam is one third."""
Rows = tuple[list[dict[str, Value]], list[dict[str, Value]]]


def is_chosen(center: SkyPosition, fraction: float) -> bool:
    """Say whether tiles of this place of the sky get sources: a fraction of all places, always the same ones."""
    band = int(np.floor(center.dec_deg / CELL_DEG))
    width = CELL_DEG / max(float(np.cos(np.radians(CELL_DEG * (band + 0.5)))), 1e-3)
    cell = int((center.ra_deg % 360.0) // width)
    return bool(np.random.default_rng([SEED, band + 180, cell]).random() < fraction)


def plant_in_tile(
    vis: Visibilities,
    known: SkyModel,
    shown: SkyImage,
    imaging: ImagingOptions,
    options: PhotometryOptions,
) -> Rows:
    """Put sources into visibilities, image and measure them; return rows as `planting.plant` does.

    Parameters
    ----------
    vis
        Calibrated visibilities, which are changed.
    known
        Catalogue sources around the field: nothing is put within two beams of them.
    shown
        The image of the tile as it is.
    imaging
        As the tile was imaged.
    options
        As its sources were measured.
    """
    found = planted_sources(vis.phase_center, RADIUS_DEG, vis.mid_mjd, PER_SQ_DEG, SEED)
    inside = footprint(shown, sky_of(found, np.zeros(len(found))))
    planted = clear_of([source for source, there in zip(found, inside, strict=True) if there], known, shown)
    if not planted:
        return [], []
    truth = np.array([source.flux_at(vis.mid_mjd) for source in planted])
    sky = sky_of(planted, truth)
    logger.info("%d sources are put into the visibilities of %s", len(sky), vis.field_name)
    inject(vis, sky)
    seed = [SEED, int(vis.mid_mjd)]
    told = joined(known, as_listed(sky, np.random.default_rng(seed)))
    told = replace(told, spectrum=_with_spectra(known, len(told)))
    made = make_image(vis, replace(imaging, subbands=0), bright=told)
    rows = forced.measure(made.image, joined(known, sky), options, beam=made.beam)[len(known) :]
    sources, fluxes = planted_rows(planted, [vis.mid_mjd] * len(sky), truth, rows)
    for row in (*sources, *fluxes):
        row["source_id"] = f"{row['source_id']} in visibilities"
    return [row | {"put_into": "visibilities"} for row in sources], fluxes


def _with_spectra(known: SkyModel, count: int) -> np.ndarray:
    """Return the spectra of a catalogue followed by flat ones, (count, n_term)."""
    spectrum = np.zeros((count, known.spectrum.shape[1]))
    spectrum[: len(known)] = known.spectrum
    return spectrum
