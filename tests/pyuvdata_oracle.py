"""pyuvdata as an oracle for one subband: relabelled, because it takes fringe-stopped "drift" data for raw ones.

Each integration is declared to be phased to its own ICRS position, the meridian of its time, which needs no change of
data; then pyuvdata moves all of them to one center. The meridian comes from astropy's ITRS, not from our geometry.
"""

import warnings
from pathlib import Path

import erfa
import numpy as np
from astropy import units
from astropy.coordinates import ITRS, CartesianRepresentation, EarthLocation, SkyCoord
from astropy.time import Time
from numpy.typing import NDArray
from pyuvdata import UVData
from pyuvdata.utils import phasing

TEE_LONGITUDE_RAD = -2.064427799136453
EARTH_RADIUS_M = 6.37e6
SMALL_OFFSET_RAD = 1e-5


def read_and_phase(path: Path, ra_deg: float, dec_deg: float) -> UVData:
    """Read one of the correlator's files and phase it to an ICRS position."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it finds unusual about the correlator's files
        data = read(path)
        relabel(data)
        phase(data, ra_deg, dec_deg)
    return data


def read(path: Path) -> UVData:
    """Read one of the correlator's files as it is."""
    data = UVData()
    data.read(path, file_type="uvh5", run_check=False, check_extra=False, strict_uvw_antpos_check=False)
    data.uvw_array = data.uvw_array.astype(float)
    return data


def phase(data: UVData, ra_deg: float, dec_deg: float) -> None:
    """Move relabelled data to an ICRS position."""
    center = {"lon": np.radians(ra_deg), "lat": np.radians(dec_deg), "phase_frame": "icrs", "epoch": 2000.0}
    data.phase(**center, cat_name="tile")


def relabel(data: UVData) -> None:
    """Say what the data are: phased, integration by integration, to the meridian of their time."""
    dec_app_rad = float(data.extra_keywords["phase_center_dec"])
    times, integration = np.unique(data.time_array, return_inverse=True)
    meridian = CartesianRepresentation(erfa.s2c(TEE_LONGITUDE_RAD, dec_app_rad))
    ids = []
    for number, jd in enumerate(times):
        when = Time(jd, format="jd", scale="utc")
        icrs = SkyCoord(ITRS(meridian, obstime=when)).icrs
        place = {"cat_lon": icrs.ra.rad, "cat_lat": icrs.dec.rad, "cat_frame": "icrs", "cat_epoch": 2000.0}
        ids.append(data._add_phase_center(f"meridian {number}", cat_type="sidereal", **place))
    data.phase_center_id_array = np.array(ids)[integration]
    data._clear_unused_phase_centers()
    data._set_app_coords_helper()
    data.set_uvws_from_antenna_positions(update_vis=False)


def uvw_of(data: UVData, ra_deg: float, dec_deg: float, *, refined: bool) -> NDArray[np.float64]:
    """Return pyuvdata's UVW (m) of a file's rows toward an ICRS position.

    Its defaults add diurnal aberration, which delays between clocks that agree in the geocenter's frame do not show,
    and take north from a point half a degree away, where aberration has turned. `refined` asks the same functions for
    a place without the Earth's rotation and for a point two arcseconds away.
    """
    site = data.telescope.location
    place = EarthLocation.from_geodetic(site.lon, site.lat, -EARTH_RADIUS_M * units.m) if refined else site
    offset = {"offset_pos": SMALL_OFFSET_RAD} if refined else {}
    app_ra, app_dec = phasing.calc_app_coords(
        lon_coord=np.radians(ra_deg), lat_coord=np.radians(dec_deg), coord_frame="icrs", coord_epoch=2000.0,
        time_array=data.time_array, lst_array=data.lst_array, telescope_loc=place,
    )  # fmt: skip
    frame_pa = phasing.calc_frame_pos_angle(
        time_array=data.time_array, app_ra=app_ra, app_dec=app_dec, telescope_loc=place, ref_frame="icrs",
        ref_epoch=2000.0, **offset,
    )  # fmt: skip
    uvw = phasing.calc_uvw(
        app_ra=app_ra, app_dec=app_dec, frame_pa=frame_pa, lst_array=data.lst_array,
        antenna_positions=data.telescope.antenna_positions, antenna_numbers=data.telescope.antenna_numbers,
        ant_1_array=data.ant_1_array, ant_2_array=data.ant_2_array,
        telescope_lat=site.lat.rad, telescope_lon=site.lon.rad,
    )  # fmt: skip
    return np.asarray(uvw)
