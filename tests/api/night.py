"""An installation in the middle of a night: what an operator sees who looks at it at a given moment.

Groups have come every 309 s for some days. Of the newest ones some are on their way; one lacks thirteen subbands, one
could not be converted, the image of one failed. There are three sets of calibration tables with the telescope's
antennas, of which one antenna is dead and one mostly flagged. Nothing reads a clock: `now` is the caller's.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.calibrators import register_standard_calibrators
from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.database.models import (
    AlertHistory,
    AlertOutbox,
    HDF5FileIndex,
    Image,
    IngestQueue,
    Job,
    MSIndex,
    PerformanceMetrics,
    PointingHistory,
    QACheck,
    Quarantine,
    SubbandFile,
)
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.formats import caltable
from dsa110_contimg.pipeline.notices import Notice, tell
from dsa110_contimg.simulation.array import CORRELATOR_STATIONS, station_positions
from dsa110_contimg.telescope import TILE_SECONDS, lst_deg, meridian_icrs, unix_to_mjd
from dsa110_contimg.visibilities import Gains

STRIP_DEG = 33.2
DEAD, FLAGGED = "13", "27"
"""An antenna without a solution, and one of which 40 % is flagged."""
NOISE_JY, THERMAL_RATIO = 1.2e-3, 1.25
FAILURE = "CLEAN diverges after 3 major cycles: the peak residual grew from 0.02 to 0.4 Jy/beam"
REFUSED = "group lacks subbands [3, 9]; at least 15 are needed (--min-subbands)"
CALIBRATOR_EVERY = 20


class Night(NamedTuple):
    """Which groups are special."""

    root: Path
    now: float
    groups: list[str]
    """All, the oldest first."""
    collecting: str
    """Has 3 of 16 subbands."""
    refused: str
    """Could not be converted."""
    failed: str
    """Its image failed."""
    tables: list[int]
    """Numbers of bandpass tables, the newest last."""


def fill(root: Path, now: float, *, groups: int = 60, channels: int = 24) -> Night:
    """Fill the databases below a root, which exist, and write the calibration tables that their rows name."""
    newest = now - 400.0
    starts = [newest - TILE_SECONDS * (groups - 1 - place) for place in range(groups)]
    names = [naming.group_id_of(unix_to_mjd(start)) for start in starts]
    collecting, refused, failed = names[-1], names[-6], names[-9]
    _files(names, starts, lacking={collecting: range(3, 16), refused: (3, 9)})
    _queue(names, starts, now, collecting=collecting, refused=refused)
    _tiles(root, names, starts, skipped={collecting, refused}, failed=failed)
    _words(now, failed)
    tables = [_solve(root, names[place], starts[place], channels) for place in range(0, groups - 12, CALIBRATOR_EVERY)]
    register_standard_calibrators()
    tell(Settings(), Notice(this_process(), now - 86400.0, now - 5.0, slots=4, running=[f"image:{names[-4]}"]))
    return Night(root, now, names, collecting, refused, failed, tables)


def _files(names: list[str], starts: list[float], lacking: Mapping[str, Collection[int]]) -> None:
    with get_session("hdf5") as session:
        session.add_all(_indexed(names, starts, lacking))


def _indexed(names: list[str], starts: list[float], lacking: Mapping[str, Collection[int]]) -> Iterator[HDF5FileIndex]:
    for name, start in zip(names, starts, strict=True):
        gone = lacking.get(name, ())
        for subband in range(16):
            if subband not in gone:
                file = f"{name}_sb{subband:02d}.hdf5"
                yield HDF5FileIndex(
                    path=f"/in/{file}", filename=file, group_id=name, subband_code=f"sb{subband:02d}",
                    subband_num=subband, timestamp_iso=name, timestamp_mjd=unix_to_mjd(start), stored=1,
                    file_size_bytes=2_500_000_000, indexed_at=start + TILE_SECONDS + 5.0, dec_deg=STRIP_DEG,
                )  # fmt: skip


def _queue(names: list[str], starts: list[float], now: float, *, collecting: str, refused: str) -> None:
    states = {collecting: "collecting", refused: "failed", names[-2]: "pending", names[-3]: "in_progress"}
    with get_session("ingest") as session:
        for name, start in zip(names, starts, strict=True):
            came = start + TILE_SECONDS
            state = states.get(name, "completed")
            late = name == collecting
            session.add(
                IngestQueue(
                    group_id=name, state=state, received_at=now - 1500.0 if late else came, has_calibrator=0,
                    last_update=now - 1200.0 if late else came + 20.0, calibrators="[]",
                    error_message=REFUSED if name == refused else None,
                )
            )  # fmt: skip
            session.flush()
            here = 3 if late else 14 if name == refused else 16
            session.add_all(
                SubbandFile(group_id=name, subband_idx=index, file_path=f"/in/{name}_sb{index:02d}.hdf5",
                            file_size=2_500_000_000, discovered_at=came)
                for index in range(here)
            )  # fmt: skip
            if state == "completed":
                session.add(
                    PerformanceMetrics(group_id=name, conversion_time=14.0, imaging_time=41.0, photometry_time=6.0,
                                       total_time=66.0, recorded_at=came + 80.0)
                )  # fmt: skip
        session.add(
            Quarantine(path="/in/broken_sb04.hdf5", group_id=None, quarantined_at=now - 7000.0,
                       reason="broken_sb04.hdf5 cannot be read to its end: truncated file")
        )  # fmt: skip


def _tiles(root: Path, names: list[str], starts: list[float], *, skipped: set[str], failed: str) -> None:
    stages = {names[-4]: "calibrated", names[-5]: "imaged", failed: "calibrated"}
    skipped = skipped | set(names[-3:])
    with get_session("products") as session:
        for place, (name, start) in enumerate(zip(names, starts, strict=True)):
            mid = unix_to_mjd(start + TILE_SECONDS / 2)
            ra, dec = (float(one[0]) for one in meridian_icrs(STRIP_DEG, mid))
            session.add(
                PointingHistory(timestamp=start + TILE_SECONDS / 2, mjd=mid, ra_deg=ra, dec_deg=dec, alt_deg=85.97,
                                az_deg=180.0, lst_hours=float(lst_deg(mid)[0]) / 15.0, field_name="strip")
            )  # fmt: skip
            if name in skipped:
                continue
            stage = stages.get(name, "photometry_complete")
            ms = str(naming.ms_path(root / "stage", name))
            session.add(
                MSIndex(
                    path=ms, group_id=name, stage=stage, status="ok", start_mjd=unix_to_mjd(start), mid_mjd=mid,
                    end_mjd=unix_to_mjd(start + TILE_SECONDS), stage_updated_at=start + TILE_SECONDS + 120.0,
                    cal_applied=1, field_name="strip", pointing_ra_deg=ra, pointing_dec_deg=dec,
                    calibrator="3C48" if place % CALIBRATOR_EVERY == 0 else None,
                    caltables=json.dumps(["/t/old_bpcal"]),
                )
            )  # fmt: skip
            session.flush()
            session.add_all(_jobs(name, stage, start + TILE_SECONDS, failed=failed))
            if stage != "calibrated":
                created = start + TILE_SECONDS + 90.0
                session.add(Image(path=f"{ms}.fits", ms_path=ms, type="image", created_at=created,
                                  noise_jy=NOISE_JY * (1.0 + 0.1 * np.sin(place))))  # fmt: skip
                session.add(QACheck(subject=name, name="noise_over_thermal", value=THERMAL_RATIO, measured_at=created,
                                    threshold_warning=1.5, threshold_failure=3.0, verdict="passed"))  # fmt: skip


def _jobs(name: str, stage: str, came: float, *, failed: str) -> Iterator[Job]:
    done = {"calibrated": 2, "imaged": 3, "photometry_complete": 4}[stage]
    for place, step in enumerate(("convert", "calibrate", "image", "measure")[:done]):
        when = came + 20.0 * (place + 1)
        yield Job(job_id=f"{step}:{name}", stage=step, subject=name, state="completed", attempt=1, created_at=when,
                  updated_at=when)  # fmt: skip
    if name == failed:
        yield Job(
            job_id=f"image:{name}", stage="image", subject=name, state="failed", attempt=3, failures=3, error=FAILURE,
            log_tail="cycle 1: peak 0.02\ncycle 2: peak 0.1\ncycle 3: peak 0.4", created_at=came,
            updated_at=came + 300.0,
        )  # fmt: skip


def _words(now: float, failed: str) -> None:
    """What people were told."""
    with get_session("products") as session:
        session.add(
            AlertHistory(source_id="system", alert_type="system_error", severity="warning", sent_at=now - 1000.0,
                         message=f"1 job failed for good: image:{failed}", channel="slack")
        )  # fmt: skip
        session.add(
            AlertOutbox(source_id="system", alert_type="quarantine", severity="warning", created_at=now - 30.0,
                        message="1 file was refused: broken_sb04.hdf5")
        )  # fmt: skip


def _solve(root: Path, name: str, start: float, channels: int) -> int:
    """Write and register a set of tables; return the number of the bandpass."""
    mid, ms = unix_to_mjd(start + TILE_SECONDS / 2), naming.ms_path(root / "stage", name)
    numbers = {}
    for kind, half_days in (("K", 1.0), ("BP", 1.0), ("G", 0.5 / 24.0)):
        path = naming.caltable_path(root / "stage", ms, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        caltable.save(path, gains(kind, mid, channels))
        with get_session("cal_registry") as session:
            row = CaltableRepository.register(
                session, path=str(path), table_type=kind, mid_mjd=mid, half_width_days=half_days,
                set_name=naming.caltable_set_name("bp", "3C48", mid), quality={"flagged": 0.02, "median_snr": 81.0},
                cal_field="3C48", refant="1", flux_anchor="3C48", dec_deg=STRIP_DEG, qa_status="passed",
                created_at=start + TILE_SECONDS + 60.0,
            )  # fmt: skip
            numbers[kind] = row.id
    return numbers["BP"]


def gains(kind: str, mid_mjd: float, channels: int) -> Gains:
    """Return solutions of the correlator's 96 antennas: amplitudes of 1.0 and 1.1, phases that grow by antenna."""
    rng, n_freq = np.random.default_rng(int(mid_mjd)), channels if kind == "BP" else 1
    names = [str(station) for station in CORRELATOR_STATIONS]
    shape = (1, len(names), n_freq, 2)
    phase = np.radians(3.0 * np.arange(len(names)))[None, :, None, None] + rng.normal(0.0, 0.02, shape)
    band = 1.0 + 0.1 * np.sin(np.linspace(0.0, 3.0, n_freq))[None, None, :, None]
    hands = np.array([1.0, 1.1])
    values = hands * band / np.median(band) * np.exp(1j * phase)
    if kind == "K":
        values = (rng.normal(0.0, 20.0, shape)).astype(complex)
    flags = np.zeros(shape, bool)
    flags[:, names.index(DEAD)] = True
    flags[:, names.index(FLAGGED), : round(0.4 * n_freq)] = True
    places = station_positions()[[station - 1 for station in CORRELATOR_STATIONS]]
    return Gains(
        kind=kind, time_mjd=np.array([mid_mjd]),
        freq_hz=np.linspace(1.3114e9, 1.4986e9, n_freq) if n_freq > 1 else np.array([1.405e9]), values=values,
        flags=flags, snr=np.where(flags, 0.0, 80.0), reference_antenna="1", antenna_names=names,
        antenna_itrf_m=places, source="3C48", flux_anchor="3C48", dec_deg=STRIP_DEG,
        metadata={"present_antennas": ",".join(names)},
    )  # fmt: skip
