r"""UVH5 files of other telescopes, phased to one sidereal position.

The file's own UVW are kept: they are what its correlator phased with. Their lengths must be those of the baselines. A
row (ant_1, ant_2) becomes ANTENNA1 = ant_2, ANTENNA2 = ant_1, which needs no change of data or UVW; rows that would
then run against the table's order are conjugated, with UVW negated. Files of adjacent bands are joined in frequency.

Data that are called "drift" or "unprojected" are refused: the name does not say whether fringes were stopped (the
DSA-110 calls its fringe-stopped data so), and to phase data a second time destroys them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import erfa
import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError, InconsistentGroupError
from dsa110_contimg.formats.uvh5_file import (
    antenna_rows,
    antennas,
    check_lengths,
    open_uvh5,
    read_parts,
    scalar,
    text,
)
from dsa110_contimg.kernels.fringes import rotate_into
from dsa110_contimg.telescope import JD_MINUS_MJD
from dsa110_contimg.visibilities import SkyPosition, Visibilities

XX_YY = (-5, -6)
UVW_TOLERANCE_M = 1e-2
EVEN = 1e-3
"""Channels may be off their even places by this fraction of their width."""


@dataclass(frozen=True)
class PhasedHeader:
    """What a file says about itself, checked."""

    path: Path
    telescope: str
    field_name: str
    phase_center: SkyPosition
    time_mjd: NDArray[np.float64]
    """(n_row,), middle of the integration, UTC."""
    integration_s: float
    freq_hz: NDArray[np.float64]
    """(n_chan,), evenly spaced, in the order of the file."""
    channel_width_hz: float
    ant_1: NDArray[np.int64]
    ant_2: NDArray[np.int64]
    """(n_row,), indices into the antenna table."""
    uvw_m: NDArray[np.float64]
    """(n_row, 3), of r(ant_2) − r(ant_1)."""
    antenna_names: tuple[str, ...]
    antenna_itrf_m: NDArray[np.float64]
    dish_diameter_m: float
    pol_index: tuple[int, ...]
    """Where XX and YY stand on the polarization axis; YY may be missing."""


def telescope_of(path: Path) -> str:
    """Return whose file it is.

    Raises
    ------
    BadInputError
        If it is not UVH5.
    """
    with open_uvh5(path) as file:
        return text(file["Header"], "telescope_name")


def read_header(path: Path) -> PhasedHeader:
    """Read and check a file's header.

    Raises
    ------
    BadInputError
        If the file is damaged or inconsistent, or not phased to one sidereal position, or holds what one
        Measurement Set of ours cannot.
    """
    with open_uvh5(path) as file:
        return _parse(path, file)


def load(paths: Sequence[Path]) -> Visibilities:
    """Read files of one observation, joined in frequency, in any order of the files.

    Raises
    ------
    BadInputError
        If a file is not usable: see `read_header`.
    InconsistentGroupError
        If the files contradict each other, or their channels do not continue each other.
    UnreadableDataError
        If the data are damaged behind a sound header.
    """
    headers = sorted((read_header(path) for path in paths), key=lambda header: float(header.freq_hz.min()))
    for header in headers[1:]:
        _check_alike(header, headers[0])
    freq_hz = np.concatenate([np.sort(header.freq_hz) for header in headers])
    _check_even(freq_hz, headers)
    vis = _frame(headers[0], freq_hz)
    first_chan = 0
    for header in headers:
        channels = slice(first_chan, first_chan + header.freq_hz.size)
        shape = header.time_mjd.size, header.freq_hz.size
        for first, raw, bad in read_parts(header.path, shape, header.pol_index):
            rows = slice(first, first + len(raw))
            swap, out, flags = (header.ant_2 > header.ant_1)[rows], vis.vis[rows, channels], vis.flags[rows, channels]
            rotate_into(raw, bad, np.zeros(len(raw)), header.freq_hz, swap, out, flags)
        first_chan = channels.stop
    return vis


def _frame(header: PhasedHeader, freq_hz: NDArray[np.float64]) -> Visibilities:
    """Return the axes of the joined files, with nothing in them."""
    shape = (header.time_mjd.size, freq_hz.size, len(header.pol_index))
    swap = header.ant_2 > header.ant_1
    return Visibilities(
        vis=np.zeros(shape, np.complex64),
        flags=np.ones(shape, bool),
        weights=np.ones((shape[0], shape[2]), np.float32),
        uvw_m=np.where(swap[:, None], -header.uvw_m, header.uvw_m),
        antenna1=np.minimum(header.ant_1, header.ant_2).astype(np.int32),
        antenna2=np.maximum(header.ant_1, header.ant_2).astype(np.int32),
        time_mjd=header.time_mjd,
        freq_hz=freq_hz,
        channel_width_hz=header.channel_width_hz,
        integration_s=header.integration_s,
        phase_center=header.phase_center,
        antenna_names=list(header.antenna_names),
        antenna_itrf_m=header.antenna_itrf_m,
        telescope=header.telescope,
        pointing_mjd=np.empty(0),
        pointing_icrs_deg=np.empty((0, 2)),
        field_name=header.field_name,
        dish_diameter_m=header.dish_diameter_m,
    )


def _check_alike(header: PhasedHeader, reference: PhasedHeader) -> None:
    for what in ("telescope", "phase_center", "integration_s", "antenna_names", "channel_width_hz"):
        ours, theirs = getattr(header, what), getattr(reference, what)
        if ours != theirs:
            raise InconsistentGroupError(f"{header.path} and {reference.path} differ in {what}: {ours} and {theirs}")
    for what in ("time_mjd", "ant_1", "ant_2", "uvw_m", "antenna_itrf_m"):
        if not np.array_equal(getattr(header, what), getattr(reference, what)):
            raise InconsistentGroupError(f"{header.path} and {reference.path} differ in {what}")
    if len(header.pol_index) != len(reference.pol_index):
        raise InconsistentGroupError(f"{header.path} and {reference.path} differ in polarizations")


def _check_even(freq_hz: NDArray[np.float64], headers: Sequence[PhasedHeader]) -> None:
    steps = np.diff(freq_hz) / headers[0].channel_width_hz
    odd = np.flatnonzero(np.abs(steps - 1.0) > EVEN)
    if odd.size:
        low, high = freq_hz[odd[0] : odd[0] + 2] / 1e6
        names = " and ".join(str(header.path) for header in headers)
        raise InconsistentGroupError(
            f"the channels of {names} do not continue each other: {low:.6f} MHz is followed by {high:.6f} MHz"
        )


def _parse(path: Path, file: h5py.File) -> PhasedHeader:
    head = file["Header"]
    n_row = check_lengths(path, file)
    center, field_name = _phase_center(path, head)
    time_mjd = np.asarray(head["time_array"], float) - JD_MINUS_MJD
    durations = np.broadcast_to(np.ravel(head["integration_time"]), n_row)
    if not (np.all(np.isfinite(time_mjd)) and np.all(durations > 0.0) and np.ptp(durations) < 1e-3 * durations[0]):
        raise BadInputError(f"{path} has integrations of {durations.min()} to {durations.max()} s; they must be alike")
    if np.any(np.diff(time_mjd) < 0.0):
        raise BadInputError(f"{path} is not in the order of time: reorder it with pyuvdata's reorder_blts")
    freq_hz, width_hz = _channels(path, head)
    pols = [int(code) for code in np.ravel(head["polarization_array"])]
    if XX_YY[0] not in pols:
        raise BadInputError(f"{path} has polarizations {pols}; XX (-5), and YY (-6) where there is one, are needed")
    names, itrf = antennas(path, head)
    rows = [antenna_rows(path, head, itrf, np.asarray(head[key], np.int64)) for key in ("ant_1_array", "ant_2_array")]
    uvw = np.asarray(head["uvw_array"], float)
    off = np.abs(np.linalg.norm(uvw, axis=1) - np.linalg.norm(itrf[rows[1]] - itrf[rows[0]], axis=1))
    if not np.all(off < UVW_TOLERANCE_M):
        raise BadInputError(
            f"{path} is inconsistent: its UVW differ from its baselines' lengths by up to {off.max()} m"
        )
    diameters = np.unique(head["antenna_diameters"]) if "antenna_diameters" in head else np.empty(0)
    return PhasedHeader(
        path=path,
        telescope=text(head, "telescope_name"),
        field_name=field_name,
        phase_center=center,
        time_mjd=time_mjd,
        integration_s=float(durations[0]),
        freq_hz=freq_hz,
        channel_width_hz=width_hz,
        ant_1=rows[0],
        ant_2=rows[1],
        uvw_m=uvw,
        antenna_names=names,
        antenna_itrf_m=itrf,
        dish_diameter_m=float(diameters[0]) if diameters.size == 1 else float("nan"),
        pol_index=tuple(pols.index(code) for code in XX_YY if code in pols),
    )


def _channels(path: Path, head: h5py.Group) -> tuple[NDArray[np.float64], float]:
    if int(scalar(head, "Nspws")) != 1:
        raise BadInputError(f"{path} has {int(scalar(head, 'Nspws'))} spectral windows; split out one of them first")
    freq_hz = np.ravel(np.asarray(head["freq_array"], float))
    width_hz = abs(scalar(head, "channel_width"))
    steps = np.diff(freq_hz)
    direction = 1.0 if not steps.size else np.sign(steps[0])
    if not (np.all(np.isfinite(freq_hz)) and freq_hz.min() > 0.0 and width_hz > 0.0):
        raise BadInputError(f"{path} has absurd frequencies: from {freq_hz[0]} Hz in channels of {width_hz} Hz")
    if np.any(np.abs(direction * steps / width_hz - 1.0) > EVEN):
        raise BadInputError(
            f"{path} has uneven channels: steps of {steps.min()} to {steps.max()} Hz, {width_hz} Hz wide"
        )
    return freq_hz, width_hz


def _phase_center(path: Path, head: h5py.Group) -> tuple[SkyPosition, str]:
    """Return the one sidereal position that the data are phased to, ICRS, and its name."""
    if "phase_center_catalog" not in head:
        return _older_phase_center(path, head)
    catalog = head["phase_center_catalog"]
    used = np.unique(head["phase_center_id_array"])
    if used.size != 1:
        raise BadInputError(f"{path} has {used.size} phase centers; split out one of them first (pyuvdata's select)")
    entry = catalog[str(int(used[0]))]
    kind, frame = text(entry, "cat_type"), text(entry, "cat_frame")
    if kind != "sidereal":
        _refuse(path, kind)
    moving = [key for key in ("cat_pm_ra", "cat_pm_dec") if key in entry and entry[key].shape is not None]
    if any(scalar(entry, key) != 0.0 for key in moving):
        raise BadInputError(f"{path} follows a phase center with proper motion, which is not understood")
    epoch = scalar(entry, "cat_epoch") if "cat_epoch" in entry and entry["cat_epoch"].shape is not None else 2000.0
    position = _icrs(path, scalar(entry, "cat_lon"), scalar(entry, "cat_lat"), frame, epoch)
    return position, text(entry, "cat_name")


def _older_phase_center(path: Path, head: h5py.Group) -> tuple[SkyPosition, str]:
    kind = text(head, "phase_type")
    if kind != "phased":
        _refuse(path, kind)
    frame = text(head, "phase_center_frame") if "phase_center_frame" in head else "icrs"
    epoch = scalar(head, "phase_center_epoch")
    position = _icrs(path, scalar(head, "phase_center_ra"), scalar(head, "phase_center_dec"), frame, epoch)
    return position, text(head, "object_name")


def _icrs(path: Path, lon_rad: float, lat_rad: float, frame: str, epoch: float) -> SkyPosition:
    if frame not in ("icrs", "fk5") or epoch != 2000.0 or not abs(lat_rad) <= np.pi / 2:
        raise BadInputError(
            f"{path} is phased to ({lon_rad}, {lat_rad}) rad of {frame}, epoch {epoch}; ICRS or FK5 J2000 is needed"
        )
    if frame == "fk5":
        lon_rad, lat_rad = (float(angle) for angle in erfa.fk5hz(lon_rad, lat_rad, JD_MINUS_MJD, 51544.5))
    return SkyPosition(float(np.degrees(lon_rad) % 360.0), float(np.degrees(lat_rad)))


def _refuse(path: Path, kind: str) -> None:
    """Refuse what is not phased to a position of the sky, by name."""
    raise BadInputError(
        f"{path} is of the type {kind!r}, which does not say whether and toward what its fringes were stopped: "
        "phase it to one sidereal position with pyuvdata first"
    )
