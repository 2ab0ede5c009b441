r"""A complete group of subbands becomes the visibilities of one tile.

Each integration is fringe-stopped toward the meridian, a direction s0 fixed to the Earth. All are rotated to one
ICRS phase center p, the meridian at the tile's middle:

    V ← V · exp(+2πi f/c b·(s0 − s_p(t)))        UVW = (b·e_east, b·e_north, b·s_p)

with b = r(ant_2) − r(ant_1). In the Measurement Set that row has ANTENNA1 = ant_2 and ANTENNA2 = ant_1; rows that
would then run against the table's order are conjugated, with UVW negated, so that ANTENNA1 ≤ ANTENNA2 everywhere.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg import telescope
from dsa110_contimg.errors import IncompleteGroupError, InconsistentGroupError
from dsa110_contimg.formats import uvh5
from dsa110_contimg.formats.uvh5 import SubbandHeader
from dsa110_contimg.kernels.fringes import rotate_into
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.visibilities import SkyPosition, Visibilities

logger = logging.getLogger(__name__)


def load_group(paths: Sequence[Path], options: ConversionOptions) -> Visibilities:
    """Read a group's subband files into one tile.

    Parameters
    ----------
    paths
        The files of the group, in any order; missing subbands are flagged.
    options
        How many subbands are needed.

    Returns
    -------
    Visibilities
        Raw correlator units, 16 subbands of ascending channels, rotated to the tile's mid-time meridian. What is
        flagged is zero, so that later flags can always be taken back: the raw flags are where DATA is zero.

    Raises
    ------
    IncompleteGroupError
        If fewer subbands than `options.min_subbands` are there.
    InconsistentGroupError
        If the files contradict each other.
    BadInputError
        If a file is not what it claims to be.
    """
    headers = sorted((uvh5.read_header(path) for path in paths), key=lambda header: -header.index)
    check_group(headers, options)
    frame = tile_frame(headers[0])
    shape = (frame.time_mjd.size, frame.freq_hz.size, 2)
    vis = replace(frame, vis=np.zeros(shape, np.complex64), flags=np.ones(shape, bool))
    path_m, conjugate = _geometry(headers[0], vis)
    n_chan = headers[0].freq_hz.size
    for header in headers:
        place = slice((telescope.N_SUBBANDS - 1 - header.index) * n_chan, None)
        raw, bad = uvh5.read_visibilities(header)
        raw[bad] = 0.0
        descending = header.freq_hz[0] > header.freq_hz[-1]
        rotate_into(raw, path_m, header.freq_hz, conjugate, vis.vis[:, place][:, :n_chan])
        vis.flags[:, place][:, :n_chan] = bad[:, ::-1] if descending else bad
    logger.info("read group %s: %d subbands, %d rows", headers[0].group_id, len(headers), len(vis.time_mjd))
    return vis


def check_group(headers: Sequence[SubbandHeader], options: ConversionOptions) -> None:
    """Refuse a group that lacks too many subbands or whose files contradict each other."""
    if not headers:
        raise IncompleteGroupError("(empty)", range(telescope.N_SUBBANDS), options.min_subbands)
    first = headers[0]
    present = [header.index for header in headers]
    missing = sorted(set(range(telescope.N_SUBBANDS)) - set(present))
    if len(set(present)) < len(present):
        raise InconsistentGroupError(f"group {first.group_id} holds a subband twice: {sorted(present)}")
    if len(present) < options.min_subbands:
        raise IncompleteGroupError(first.group_id, missing, options.min_subbands)
    for header in headers[1:]:
        for what in ("times_mjd", "ant_1", "ant_2", "antenna_names"):
            if not np.array_equal(getattr(header, what), getattr(first, what)):
                raise InconsistentGroupError(f"{header.path} and {first.path} differ in {what}")
        if header.freq_hz.size != first.freq_hz.size or abs(header.dec_app_deg - first.dec_app_deg) > 1e-6:
            raise InconsistentGroupError(f"{header.path} and {first.path} differ in channels or declination")
        if np.abs(header.antenna_itrf_m - first.antenna_itrf_m).max() > 1e-3:
            raise InconsistentGroupError(f"{header.path} and {first.path} differ in antenna positions")
    grid = _band(first)
    for header in headers:
        n_chan = header.freq_hz.size
        expected = grid[(telescope.N_SUBBANDS - 1 - header.index) * n_chan :][:n_chan]
        if np.abs(np.sort(header.freq_hz) - expected).max() > 0.1 * header.channel_width_hz:
            raise InconsistentGroupError(f"the channels of {header.path} do not continue those of {first.path}")


def _band(header: SubbandHeader) -> NDArray[np.float64]:
    """Return the ascending channels of the whole band, continued from one subband."""
    n_chan = header.freq_hz.size
    first = (telescope.N_SUBBANDS - 1 - header.index) * n_chan
    step = telescope.SUBBAND_WIDTH_HZ / n_chan
    return np.asarray(header.freq_hz.min() + step * (np.arange(telescope.N_SUBBANDS * n_chan) - first))


def tile_frame(header: SubbandHeader) -> Visibilities:
    """Return a tile's axes, times and pointings as one of its headers tells them, without visibilities."""
    n_time, n_baseline = header.times_mjd.size, header.ant_1.size
    freq_hz = _band(header)
    n_row = n_time * n_baseline
    pointing = np.stack(telescope.meridian_icrs(header.dec_app_deg, header.times_mjd), axis=1)
    mid_mjd = 0.5 * (header.times_mjd[0] + header.times_mjd[-1])
    ra, dec = telescope.meridian_icrs(header.dec_app_deg, mid_mjd)
    center = SkyPosition(float(ra[0]), float(dec[0]))
    return Visibilities(
        vis=np.zeros((0, freq_hz.size, 2), np.complex64),
        flags=np.zeros((0, freq_hz.size, 2), bool),
        weights=np.ones((n_row, 2), np.float32),
        uvw_m=np.empty((n_row, 3)),
        antenna1=np.tile(np.minimum(header.ant_1, header.ant_2), n_time).astype(np.int32),
        antenna2=np.tile(np.maximum(header.ant_1, header.ant_2), n_time).astype(np.int32),
        time_mjd=np.repeat(header.times_mjd, n_baseline),
        freq_hz=freq_hz,
        channel_width_hz=header.channel_width_hz,
        integration_s=header.integration_s,
        phase_center=center,
        antenna_names=list(header.antenna_names),
        antenna_itrf_m=header.antenna_itrf_m,
        telescope=telescope.TELESCOPE_NAME,
        pointing_mjd=header.times_mjd,
        pointing_icrs_deg=pointing,
        field_name=field_name(center),
        aberration=telescope.aberration_scale(*center, mid_mjd),
    )


def field_name(center: SkyPosition) -> str:
    """Return a tile's field name, such as J0137+33."""
    minutes = int(center.ra_deg * 4.0)
    return f"J{minutes // 60:02d}{minutes % 60:02d}{int(center.dec_deg):+03d}"


def _geometry(header: SubbandHeader, vis: Visibilities) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Fill the tile's uvw; return each row's path to the old phase center (m) and whether it is conjugated."""
    baseline = header.antenna_itrf_m[header.ant_2] - header.antenna_itrf_m[header.ant_1]
    basis = telescope.tangent_basis_itrs(*vis.phase_center, header.times_mjd)
    stopped = telescope.meridian_itrs(header.dec_app_deg)
    path_m = (stopped - basis[:, 2]) @ baseline.T
    uvw = np.einsum("tij,bj->tbi", basis, baseline)
    conjugate = header.ant_2 > header.ant_1
    uvw[:, conjugate] *= -1.0
    vis.uvw_m[:] = uvw.reshape(-1, 3)
    return path_m.ravel(), np.tile(conjugate, header.times_mjd.size)
