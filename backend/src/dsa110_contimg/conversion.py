r"""A complete group of subbands becomes the visibilities of one tile.

Each integration is fringe-stopped toward the meridian, a direction s0 fixed to the Earth. All are rotated to one
ICRS phase center p, the meridian at the tile's middle:

    V ← V · exp(+2πi f/c b·(s0 − s_p(t)))        UVW = (b·e_east, b·e_north, b·s_p)

with b = r(ant_2) − r(ant_1). In the Measurement Set that row has ANTENNA1 = ant_2 and ANTENNA2 = ant_1; rows that
would then run against the table's order are conjugated, with UVW negated, so that ANTENNA1 ≤ ANTENNA2 everywhere.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from dsa110_contimg import telescope
from dsa110_contimg.errors import IncompleteGroupError, InconsistentGroupError
from dsa110_contimg.formats import uvh5
from dsa110_contimg.formats.uvh5 import SubbandHeader
from dsa110_contimg.formats.uvh5_file import Data, open_data
from dsa110_contimg.kernels.fringes import rotate_into
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.visibilities import SkyPosition, Visibilities

logger = logging.getLogger(__name__)
Block = tuple[NDArray[np.complex64], NDArray[np.bool_]]


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
    return assemble([uvh5.read_header(path) for path in paths], options)


def assemble(headers: Sequence[SubbandHeader], options: ConversionOptions) -> Visibilities:
    """Read the data behind the headers of a group, in any order, into one tile: see `load_group`."""
    frame, blocks = begin(headers, options)
    shape = (frame.time_mjd.size, frame.freq_hz.size, 2)
    vis = replace(frame, vis=np.empty(shape, np.complex64), flags=np.empty(shape, bool))
    first = 0
    for values, flags in blocks:
        rows = slice(first, first + len(values))
        vis.vis[rows], vis.flags[rows] = values, flags
        first = rows.stop
    return vis


def begin(headers: Sequence[SubbandHeader], options: ConversionOptions) -> tuple[Visibilities, Iterator[Block]]:
    """Return a tile without visibilities, and what reads them block by block of rows, so that few are held at once.

    A block is (n_row, n_chan, 2) of visibilities and of flags, whose memory is used again for the block after the
    next one. Raises as `load_group` does; what is wrong with the data is raised by the iterator.
    """
    check_group(headers, options)
    ordered = sorted(headers, key=lambda header: -header.index)
    frame = tile_frame(ordered[0])
    return frame, _blocks(ordered, frame.freq_hz.size, *_geometry(ordered[0], frame))


def _blocks(
    headers: Sequence[SubbandHeader], n_chan_tile: int, path_m: NDArray[np.float64], conjugate: NDArray[np.bool_]
) -> Iterator[Block]:
    """Read the next block, one subband a thread, while the caller works on this one."""
    n_row, n_chan = path_m.size, headers[0].freq_hz.size
    with ExitStack() as stack:
        files = [stack.enter_context(open_data(header.path, (n_row, n_chan), header.pol_index)) for header in headers]
        step = min(n_row, max(file.chunk_rows for file in files))
        shape = (step, n_chan_tile, 2)
        # What no file fills stays zero and flagged: the missing subbands.
        buffers = [(np.zeros(shape, np.complex64), np.ones(shape, bool)) for _ in range(2)]
        pool = stack.enter_context(ThreadPoolExecutor(numba.get_num_threads()))

        def read(header: SubbandHeader, file: Data, first: int, block: Block) -> None:
            rows = slice(first, min(first + step, n_row))
            place = slice(0, rows.stop - first), _channels(header.index, n_chan)
            raw, bad = file.read(rows.start, rows.stop)
            rotate_into(raw, bad, path_m[rows], header.freq_hz, conjugate[rows], block[0][place], block[1][place])

        def start(first: int) -> list[Future[None]]:
            block = buffers[first // step % 2]
            pairs = zip(headers, files, strict=True) if first < n_row else ()
            return [pool.submit(read, header, file, first, block) for header, file in pairs]

        ahead = start(0)
        for first in range(0, n_row, step):
            now, ahead = ahead, start(first + step)
            for future in now:
                future.result()
            vis, flags = buffers[first // step % 2]
            yield vis[: n_row - first], flags[: n_row - first]
    logger.info("read group %s: %d subbands, %d rows", headers[0].group_id, len(headers), n_row)


def _channels(index: int, n_chan: int) -> slice:
    """Return the place of a subband of so many channels in the tile."""
    first = (telescope.N_SUBBANDS - 1 - index) * n_chan
    return slice(first, first + n_chan)


def check_group(headers: Sequence[SubbandHeader], options: ConversionOptions, group_id: str = "(empty)") -> None:
    """Refuse a group that lacks too many subbands or whose files contradict each other."""
    group_id = headers[0].group_id if headers else group_id
    present = [header.index for header in headers]
    missing = sorted(set(range(telescope.N_SUBBANDS)) - set(present))
    if len(set(present)) < len(present):
        raise InconsistentGroupError(f"group {group_id} holds a subband twice: {sorted(present)}")
    if len(present) < options.min_subbands:
        raise IncompleteGroupError(group_id, missing, options.min_subbands)
    for _header, reason in dissenters(headers):
        raise InconsistentGroupError(reason)


def dissenters(headers: Sequence[SubbandHeader]) -> list[tuple[SubbandHeader, str]]:
    """Return the files that contradict the majority of their group, each with a sentence that says in what.

    Raises
    ------
    InconsistentGroupError
        If no more than half of the files agree with each other: nobody can say which of them are wrong.
    """
    first: str | None = None
    for reference in headers:
        against = [(header, _contradiction(header, reference)) for header in headers]
        odd = [(header, reason) for header, reason in against if reason is not None]
        if 2 * len(odd) < len(headers):
            return odd
        first = first or odd[0][1]
    if first is None:
        return []
    raise InconsistentGroupError(f"no majority of the files of group {headers[0].group_id} agrees: {first}")


def _contradiction(header: SubbandHeader, reference: SubbandHeader) -> str | None:
    """Return in what two files of one group contradict each other, or None."""
    pair = f"{header.path} and {reference.path} differ in"
    for what in ("times_mjd", "integration_s", "ant_1", "ant_2", "antenna_names"):
        if not np.array_equal(getattr(header, what), getattr(reference, what)):
            return f"{pair} {what}"
    if header.freq_hz.size != reference.freq_hz.size:
        return f"{pair} channels: {header.freq_hz.size} and {reference.freq_hz.size}"
    if abs(header.dec_app_deg - reference.dec_app_deg) > 1e-6:
        return f"{pair} declination: {header.dec_app_deg:.4f} and {reference.dec_app_deg:.4f} deg"
    if not np.allclose(header.antenna_itrf_m, reference.antenna_itrf_m, rtol=0.0, atol=1e-3, equal_nan=True):
        return f"{pair} antenna positions"
    expected = _band(reference)[_channels(header.index, header.freq_hz.size)]
    if np.abs(np.sort(header.freq_hz) - expected).max() > 0.1 * header.channel_width_hz:
        return f"the channels of {header.path} do not continue those of {reference.path}"
    return None


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
        uvw_m=np.full((n_row, 3), np.nan),
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
