"""Observations in the words of the Virtual Observatory: ObsCore 1.1 rows of images, and their identifiers.

    ivo://dsa110.contimg/images?ID       the image of a tile
    ivo://dsa110.contimg/mosaics?NAME    a mosaic

What is not known is empty. The outline is that of the pixels; an image whose place or file is not known has no row.
"""

import math
import re
from typing import Any

import numpy as np
from fastapi import Request

from dsa110_contimg.api.files import footprint_at, size_of
from dsa110_contimg.database.obscore_queries import Observed
from dsa110_contimg.formats.footprints import Footprint, footprint_of
from dsa110_contimg.formats.row_files import Column
from dsa110_contimg.visibilities import SkyImage, SkyPosition

AUTHORITY = "ivo://dsa110.contimg"
DATALINK = "application/x-votable+xml;content=datalink"
COLLECTION, FACILITY, INSTRUMENT = "DSA-110 continuum", "DSA-110", "DSA-110"
SPEED_OF_LIGHT = 299792458.0
DAY_S = 86400.0
_PUBLISHED = re.compile(r"ivo://dsa110\.contimg/(images|mosaics)\?([\w.:+-]{1,200})", re.ASCII)

COLUMNS: dict[str, Column] = {
    "dataproduct_type": Column("", "what it is", "meta.id;class", str),
    "calib_level": Column("", "2: a calibrated tile, 3: a mosaic", "meta.code;obs.calib", int),
    "obs_collection": Column("", "collection", "meta.id", str),
    "obs_id": Column("", "name", "meta.id", str),
    "obs_publisher_did": Column("", "identifier of the publisher", "meta.ref.ivoid", str),
    "obs_title": Column("", "title", "meta.title;obs", str),
    "access_url": Column("", "its files and services (DataLink)", "meta.ref.url", str),
    "access_format": Column("", "media type of access_url", "meta.code.mime", str),
    "access_estsize": Column("kbyte", "size of the image's file", "phys.size;meta.file", int),
    "target_name": Column("", "field", "meta.id;src", str),
    "s_ra": Column("deg", "middle of the pixels, ICRS", "pos.eq.ra", float),
    "s_dec": Column("deg", "middle of the pixels, ICRS", "pos.eq.dec", float),
    "s_fov": Column("deg", "diameter of the circle that holds it", "phys.angSize;instr.fov", float),
    "s_region": Column("", "outline of the pixels", "pos.outline;obs.field", str),
    "s_resolution": Column("arcsec", "major axis of the beam", "pos.angResolution", float),
    "s_xel1": Column("", "pixels in right ascension", "meta.number", int),
    "s_xel2": Column("", "pixels in declination", "meta.number", int),
    "t_min": Column("d", "start of the data, MJD (UTC)", "time.start;obs.exposure", float),
    "t_max": Column("d", "end of the data, MJD (UTC)", "time.end;obs.exposure", float),
    "t_exptime": Column("s", "time on the sky", "time.duration;obs.exposure", float),
    "t_resolution": Column("s", "none within an image", "time.resolution", float),
    "t_xel": Column("", "times", "meta.number", int),
    "em_min": Column("m", "shortest wavelength", "em.wl;stat.min", float),
    "em_max": Column("m", "longest wavelength", "em.wl;stat.max", float),
    "em_res_power": Column("", "one channel: none", "spect.resolution", float),
    "em_xel": Column("", "channels", "meta.number", int),
    "o_ucd": Column("", "what the pixels are", "meta.ucd", str),
    "pol_states": Column("", "Stokes parameters", "meta.code;phys.polarization", str),
    "pol_xel": Column("", "Stokes parameters", "meta.number", int),
    "facility_name": Column("", "telescope", "meta.id;instr.tel", str),
    "instrument_name": Column("", "instrument", "meta.id;instr", str),
    "noise_jyb": Column("Jy/beam", "measured noise", "stat.stdev;phot.flux.density", float),
}
"""The columns of ObsCore, and the noise."""


def did_of(row: Observed) -> str:
    """Return the identifier of an observation."""
    return f"{AUTHORITY}/mosaics?{row.mosaic}" if row.mosaic else f"{AUTHORITY}/images?{row.image_id}"


def parse_did(text: str) -> tuple[str, str] | None:
    """Return what an identifier names: (`images` or `mosaics`, id); None for any other text."""
    match = _PUBLISHED.fullmatch(text)
    return None if match is None else (match[1], match[2])


def place_of(row: Observed) -> Footprint | None:
    """Return where an image lies: by its row, or else by its file; None where neither says."""
    known = (row.center_ra_deg, row.center_dec_deg, row.cellsize_arcsec, row.imsize_x, row.imsize_y)
    if row.mosaic is None and all(value is not None and math.isfinite(value) and value != 0 for value in known[2:]):
        ra, dec = row.center_ra_deg, row.center_dec_deg
        if ra is not None and dec is not None and row.imsize_y and row.imsize_x and row.cellsize_arcsec:
            blank = np.broadcast_to(np.float32(np.nan), (row.imsize_y, row.imsize_x))
            return footprint_of(SkyImage(blank, SkyPosition(ra % 360.0, dec), row.cellsize_arcsec / 3600.0))
    return footprint_at(row.path)


def observation(request: Request, row: Observed, place: Footprint) -> dict[str, Any]:
    """Return the cells of an observation by column."""
    did, (ny, nx) = did_of(row), place.image.data.shape
    link = request.url_for("datalink").include_query_params(ID=did)
    outline = " ".join(f"{ra:.6f} {dec:.6f}" for ra, dec in place.outline)
    beam = row.beam_major_arcsec
    return {
        "dataproduct_type": "image",
        "calib_level": 3 if row.mosaic else 2,
        "obs_collection": COLLECTION,
        "obs_id": row.mosaic or row.group_id or str(row.image_id),
        "obs_publisher_did": did,
        "obs_title": row.mosaic or f"tile {row.group_id or row.image_id}",
        "access_url": str(link),
        "access_format": DATALINK,
        "access_estsize": _kilobytes(row.path),
        "target_name": row.field_name or "",
        "s_ra": place.middle.ra_deg,
        "s_dec": place.middle.dec_deg,
        "s_fov": 2.0 * place.radius_deg,
        "s_region": f"POLYGON ICRS {outline}" if outline else "",
        "s_resolution": beam if beam is not None else math.nan,
        "s_xel1": nx,
        "s_xel2": ny,
        "t_min": _real(row.start_mjd),
        "t_max": _real(row.end_mjd),
        "t_exptime": _real(row.integration_sec),
        "t_resolution": math.nan,
        "t_xel": 1,
        **_band(row, place.image),
        "em_res_power": math.nan,
        "em_xel": 1,
        "o_ucd": "phot.flux.density;em.radio",
        "pol_states": "/I/",
        "pol_xel": 1,
        "facility_name": FACILITY,
        "instrument_name": INSTRUMENT,
        "noise_jyb": _real(row.noise_jy),
    }


def _real(value: float | None) -> float:
    return math.nan if value is None else value


def _kilobytes(path: str) -> int | None:
    size = size_of(path)
    return None if size is None else max(1, size // 1000)


def _band(row: Observed, image: SkyImage) -> dict[str, float]:
    freq = row.freq_ghz * 1e9 if row.freq_ghz is not None else image.freq_hz
    width = row.bandwidth_mhz * 1e6 if row.bandwidth_mhz is not None else image.bandwidth_hz
    half = 0.5 * width if math.isfinite(width) else 0.0
    if not (math.isfinite(freq) and freq > half):
        return {"em_min": math.nan, "em_max": math.nan}
    return {"em_min": SPEED_OF_LIGHT / (freq + half), "em_max": SPEED_OF_LIGHT / (freq - half)}
