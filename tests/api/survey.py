"""A small filled installation: three tiles, two mosaics, a dozen sources around RA 0 and dec +37, and what went wrong.

Rows go in through the models, files through `formats`. The truths that tests ask for are constants and `SOURCES`.
"""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg import naming
from dsa110_contimg.database import get_session
from dsa110_contimg.database.data_registration import finalize_data, publish_data_instance
from dsa110_contimg.database.data_registry import register_data_instance
from dsa110_contimg.database.models import (
    AlertHistory,
    BandpassCalibrator,
    Caltable,
    EpochCorrection,
    ESECandidate,
    HDF5FileIndex,
    Image,
    IngestQueue,
    Job,
    Mosaic,
    MosaicGroup,
    MosaicGroupMember,
    MSIndex,
    PerformanceMetrics,
    Photometry,
    PhotometryMissing,
    PointingHistory,
    QAArtifact,
    QACheck,
    Quarantine,
    Source,
    SubbandFile,
    TransientCandidate,
    VariabilityStats,
)
from dsa110_contimg.database.registry_rows import open_registry
from dsa110_contimg.formats import caltable, fits_image, previews
from dsa110_contimg.visibilities import Beam, Gains, SkyImage, SkyPosition

STAMPS = ("2025-12-24T03:12:56", "2025-12-24T03:18:05", "2025-12-24T03:23:14")
"""The tiles' groups; the field of the second straddles RA 0."""
COLLECTING, FAILED_GROUP = "2025-12-24T03:28:23", "2025-12-24T02:00:00"
MJD_0 = 61033.13398
TILE_DAYS = 309.0 / 86400.0
CENTERS = tuple(SkyPosition((ra - 0.9) % 360.0, 37.0) for ra in (0.0, 1.3, 2.6))
PUBLISHED, HELD = naming.mosaic_id("2025-12-24T03:12:56"), naming.mosaic_id("2025-12-25T03:09:00")
"""One mosaic is published, the other's QA failed."""
NIGHTS = 12
SIZE = 96
CELL_DEG = 0.02


class Truth(NamedTuple):
    """A source as it was put in."""

    name: str
    ra_deg: float
    dec_deg: float
    fluxes_jy: tuple[float, ...]
    """One for each night."""


def _sources() -> tuple[Truth, ...]:
    noise = np.random.default_rng(110)
    found = []
    for number in range(12):
        ra, dec = (359.3 + 0.27 * number) % 360.0, 36.55 + 0.083 * number
        nights = {10: 1, 11: 0}.get(number, NIGHTS)
        steady = 0.02 * (number + 1) + noise.normal(0.0, 0.001, nights)
        if number == 3:
            steady = steady * np.where((np.arange(nights) > 4) & (np.arange(nights) < 8), 0.4, 1.0)
        found.append(Truth(naming.source_name(ra, dec), ra, dec, tuple(float(flux) for flux in steady)))
    return tuple(found)


SOURCES = _sources()
"""The fourth dips for three nights; the last but one has one point, the last none."""
CANDIDATE = SOURCES[3]


class Survey(NamedTuple):
    """Where it is."""

    root: Path
    mosaic_id: int
    """Of the row in `mosaics` that is published."""
    held_id: int
    image_id: int
    """Of a tile's image."""
    caltable_id: int
    candidate_id: int
    transient_id: int


def build(root: Path) -> Survey:
    """Fill the databases below a root, which exist, and write the files that their rows name."""
    stage = root / "stage"
    tiles = _tiles(stage)
    table = _caltables(stage)
    mosaics = [_mosaic(root, name, mjd, tiles) for name, mjd in ((PUBLISHED, MJD_0), (HELD, MJD_0 + 1.0))]
    _registry(root)
    image = _first_image(tiles[0])
    candidate, transient = _sky(root)
    _work(root)
    return Survey(root, mosaics[0], mosaics[1], image, table, candidate, transient)


def picture(center: SkyPosition, kind: str = "image", mjd: float = MJD_0) -> SkyImage:
    """Return an image with noise of 1 mJy/beam and the sources that lie in it; its corner is NaN."""
    rng = np.random.default_rng(7)
    data = rng.normal(0.0, 1e-3, (SIZE, SIZE)).astype(np.float32)
    for truth in SOURCES:
        if truth.fluxes_jy:
            _add(data, center, truth)
    data[:8, :8] = np.nan
    return SkyImage(
        data, center, CELL_DEG, kind=kind, beam=Beam(0.05, 0.04, 12.0), freq_hz=1.405e9, bandwidth_hz=187.5e6,
        start_mjd=mjd, end_mjd=mjd + TILE_DAYS, exposure_s=309.0, noise_jy=1e-3, field_name="dec+37",
    )  # fmt: skip


def _add(data: NDArray[np.float32], center: SkyPosition, truth: Truth) -> None:
    offset = (truth.ra_deg - center.ra_deg + 180.0) % 360.0 - 180.0
    x = SIZE // 2 - offset * np.cos(np.radians(center.dec_deg)) / CELL_DEG
    y = SIZE // 2 + (truth.dec_deg - center.dec_deg) / CELL_DEG
    rows, columns = np.mgrid[:SIZE, :SIZE]
    data += (truth.fluxes_jy[0] * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2.0)).astype(np.float32)


def _tiles(stage: Path) -> list[Path]:
    paths = []
    with get_session("products") as session:
        for number, (stamp, center) in enumerate(zip(STAMPS, CENTERS, strict=True)):
            ms = naming.ms_path(stage, stamp)
            ms.mkdir(parents=True)
            start = MJD_0 + number * TILE_DAYS
            image = fits_image.save(picture(center, mjd=start), _made(naming.image_path(stage, ms)))
            session.add(
                MSIndex(
                    path=str(ms), start_mjd=start, end_mjd=start + TILE_DAYS, mid_mjd=start + TILE_DAYS / 2,
                    processed_at=naming.stamp_unix(stamp) + 400.0, status="ok", stage="photometry_complete",
                    stage_updated_at=naming.stamp_unix(stamp) + 500.0, cal_applied=1, imagename=str(image),
                    field_name="dec+37", pointing_ra_deg=center.ra_deg, pointing_dec_deg=center.dec_deg,
                    group_id=stamp,
                )
            )  # fmt: skip
            session.flush()
            session.add(_image_row(image, ms, "image", center, naming.stamp_unix(stamp) + 450.0))
            paths.append(ms)
    return paths


def _image_row(path: Path, ms: Path, kind: str, center: SkyPosition, created: float) -> Image:
    return Image(
        path=str(path), ms_path=str(ms), created_at=created, type=kind, beam_major_arcsec=180.0,
        beam_minor_arcsec=144.0, beam_pa_deg=12.0, noise_jy=1e-3, dynamic_range=80.0, field_name="dec+37",
        center_ra_deg=center.ra_deg, center_dec_deg=center.dec_deg, imsize_x=SIZE, imsize_y=SIZE,
        cellsize_arcsec=3600 * CELL_DEG, freq_ghz=1.405, bandwidth_mhz=187.5, integration_sec=309.0,
    )  # fmt: skip


def _first_image(ms: Path) -> int:
    with get_session("products", read_only=True) as session:
        return int(session.query(Image.id).filter(Image.ms_path == str(ms), Image.type == "image").scalar())


def _caltables(stage: Path) -> int:
    ms = naming.ms_path(stage, STAMPS[0])
    rows = []
    for order, kind in enumerate(("K", "BP", "G")):
        path = _made(naming.caltable_path(stage, ms, kind))
        caltable.save(path, _gains(kind))
        half = 1.0 if kind == "BP" else 0.02
        rows.append(
            Caltable(
                set_name=naming.caltable_set_name("bp" if kind != "G" else "g", "3C48", MJD_0), path=str(path),
                table_type=kind, order_index=order, valid_start_mjd=MJD_0 - half, valid_end_mjd=MJD_0 + half,
                created_at=naming.stamp_unix(STAMPS[0]) + 300.0, mid_mjd=MJD_0, dec_deg=37.0, cal_field="3C48",
                refant="103", flux_anchor="3C48", source_ms_path=str(ms), qa_status="passed",
            )
        )  # fmt: skip
    with get_session("cal_registry") as session:
        session.add_all(rows)
        session.flush()
        return rows[1].id


def _gains(kind: str) -> Gains:
    rng, antennas, channels = np.random.default_rng(3), 12, 48 if kind == "BP" else 1
    shape = (1, antennas, channels, 2)
    values = rng.normal(1.0, 0.05, shape) * np.exp(1j * rng.normal(0.0, 0.3, shape))
    flags = np.zeros(shape, bool)
    flags[:, 5] = True
    return Gains(
        kind, np.array([MJD_0]), np.linspace(1.311e9, 1.498e9, channels) if channels > 1 else np.array([1.405e9]),
        np.where(flags, 1.0, values), flags, np.full(shape, 40.0), "103", [str(103 + n) for n in range(antennas)],
        rng.normal(0.0, 500.0, (antennas, 3)), "3C48", "3C48", 37.0,
    )  # fmt: skip


def _mosaic(root: Path, name: str, mjd: float, tiles: list[Path]) -> int:
    path = _made(naming.mosaic_path(root / "stage", name))
    sky = picture(SkyPosition(0.4, 37.0), "mosaic", mjd)
    fits_image.save(sky, path)
    noise = naming.beside_mosaic(path, "noise")
    fits_image.save(picture(SkyPosition(0.4, 37.0), "noise", mjd), noise)
    small = previews.preview(sky, naming.beside_mosaic(path, "preview"))
    previews.thumbnail(sky, naming.beside_mosaic(path, "thumbnail"))
    created = time.mktime(time.gmtime(naming.stamp_unix(STAMPS[-1]) + 900.0)) + 86400.0 * (mjd - MJD_0)
    group = f"group_{name}"
    with get_session("products") as session:
        session.add(
            MosaicGroup(
                group_id=group, ms_paths="[]", status="completed", created_at=created, mosaic_id=name,
                calibration_ms_path=str(tiles[0]), mosaicked_at=created, mosaic_path=str(path),
            )
        )  # fmt: skip
        session.flush()
        for position, ms in enumerate(tiles):
            new = int(name == PUBLISHED)
            session.add(MosaicGroupMember(group_id=group, ms_path=str(ms), position=position, is_new=new))
        session.add(_image_row(path, tiles[0], "mosaic", SkyPosition(0.4, 37.0), created))
        row = Mosaic(
            path=str(path), name=name, created_at=created, start_mjd=mjd, end_mjd=mjd + 3 * TILE_DAYS,
            integration_sec=927.0, n_images=3, center_ra_deg=0.4, center_dec_deg=37.0, dec_min_deg=35.5,
            dec_max_deg=38.5, noise_jy=1e-3, beam_major_arcsec=180.0, beam_minor_arcsec=144.0, beam_pa_deg=12.0,
            n_sources=11, thumbnail_path=str(small), status="completed", group_id=group, noise_path=str(noise),
        )  # fmt: skip
        session.add(row)
        good = name == PUBLISHED
        for check, value, verdict in (("noise", 1e-3 if good else 9e-3, "passed" if good else "failed"),
                                      ("flux_scale", 1.01, "passed"), ("astrometry", None, "unmeasured")):  # fmt: skip
            reason = "too few sources" if value is None else None if verdict == "passed" else "above the threshold"
            session.add(
                QACheck(subject=name, name=check, value=value, threshold_warning=5e-3, threshold_failure=8e-3,
                        verdict=verdict, reason=reason, measured_at=created)
            )  # fmt: skip
        plot = _made(root / "stage" / "qa" / name / "flux_scale.png")
        previews.thumbnail(sky, plot)
        session.add(
            QAArtifact(group_id=name, name="flux_scale", path=str(plot), type="plot", category="qa", created_at=created)
        )
        session.flush()
        return row.id


def _registry(root: Path) -> None:
    with open_registry() as registry:
        for name, verdict in ((PUBLISHED, "passed"), (HELD, "failed")):
            path = naming.mosaic_path(root / "stage", name)
            beside = [str(naming.beside_mosaic(path, kind)) for kind in ("noise", "preview", "thumbnail")]
            register_data_instance(registry, "mosaic", name, path, False, {"n_images": 3, "companions": beside})
            finalize_data(registry, name, verdict, "validated")
        assert publish_data_instance(registry, PUBLISHED, by="ada", reason="looked at it")
    _follow(root)


def _follow(root: Path) -> None:
    """Let the rows of the published mosaic name its new place, as the pipeline does."""
    old = naming.mosaic_path(root / "stage", PUBLISHED)
    new = root / "products" / "mosaics" / old.name
    assert new.is_file()
    with get_session("products") as session:
        row = session.query(Mosaic).filter(Mosaic.name == PUBLISHED).one()
        row.path, row.noise_path = str(new), str(naming.beside_mosaic(new, "noise"))
        row.thumbnail_path = str(naming.beside_mosaic(new, "preview"))
        session.query(Image).filter(Image.path == str(old)).update({"path": str(new)})


def _sky(root: Path) -> tuple[int, int]:
    """Put in the light curves: one mosaic image for each night, of which two have files."""
    with get_session("products") as session:
        first = session.query(MSIndex).order_by(MSIndex.path).first()
        assert first is not None
        ms = Path(first.path)
        for night in range(2, NIGHTS):
            path = root / "stage" / "mosaics" / f"night{night:02d}.fits"
            session.add(_image_row(path, ms, "mosaic", SkyPosition(0.4, 37.0), 1.7665e9 + 86400.0 * night))
        session.flush()
        kept = [str(name) for (name,) in session.query(Image.path).filter(Image.type == "mosaic").order_by(Image.id)]
        for night, mosaic in enumerate(kept):
            session.add(EpochCorrection(image_path=mosaic, mjd=MJD_0 + night, factor=1.0, factor_err=0.01,
                                        n_references=9, computed_at=1.7665e9))  # fmt: skip
        for truth in SOURCES:
            for night, flux in enumerate(truth.fluxes_jy):
                session.add(_measurement(truth, kept[night], MJD_0 + night, flux))
            if truth.fluxes_jy:
                session.add(_statistics(truth))
        session.add(PhotometryMissing(image_path=kept[0], source_id=SOURCES[11].name, reason="outside the image"))
        session.flush()
        candidate = ESECandidate(source_id=CANDIDATE.name, flagged_at=1.7666e9, significance=9.4,
                                 flag_type="ese", notes="dips by 60 % for three nights")  # fmt: skip
        older = ESECandidate(source_id=SOURCES[5].name, flagged_at=1.7665e9, significance=5.1, flag_type="variable",
                             status="dismissed", dismissed_at=1.76655e9, notes="a sidelobe")  # fmt: skip
        transient = TransientCandidate(
            ra_deg=0.123, dec_deg=36.7, detection_type="new_source", significance_sigma=7.7, detected_at=1.7666e9,
            n_detections=2, mean_flux_jy=0.008, first_detected_at=MJD_0, last_detected_at=MJD_0 + 1.0,
        )  # fmt: skip
        session.add_all([candidate, older, transient])
        session.add(
            AlertHistory(source_id=CANDIDATE.name, alert_type="ese_candidate", severity="warning", sent_at=1.7666e9,
                         message=f"{CANDIDATE.name} dips", channel="slack")
        )  # fmt: skip
        for number in range(24):
            stamp = naming.stamp_unix(STAMPS[0]) + 3600.0 * number
            session.add(
                PointingHistory(timestamp=stamp, mjd=MJD_0 + number / 24, ra_deg=(15.0 * number) % 360.0, dec_deg=37.0,
                                alt_deg=89.8, az_deg=0.0, lst_hours=number % 24)
            )  # fmt: skip
        session.flush()
        numbers = candidate.id, transient.id
    with get_session("master_sources") as session:
        session.add_all(
            Source(source_id=truth.name, ra_deg=truth.ra_deg, dec_deg=truth.dec_deg,
                   s_nvss=0.02 * (number + 1), snr_nvss=50.0, s_vlass=0.01 * (number + 1), alpha=-0.7)
            for number, truth in enumerate(SOURCES)
        )  # fmt: skip
    return numbers


def _measurement(truth: Truth, path: str, mjd: float, flux: float) -> Photometry:
    faint = flux < 0.005
    return Photometry(
        image_path=path, source_id=truth.name, ra_deg=truth.ra_deg, dec_deg=truth.dec_deg,
        nvss_flux_mjy=1000 * (truth.fluxes_jy[0]), peak_jyb=flux, peak_err_jyb=0.001, snr=flux / 0.001,
        measured_at=1.7665e9, mjd=mjd, sep_from_center_deg=0.5, flux_jy=flux, flux_err_jy=0.0012,
        local_rms_jyb=0.001, upper_limit_jyb=0.003 if faint else None, pb_response=0.9, normalized_flux_jy=flux,
        normalized_flux_err_jy=0.0012, in_lightcurve=1,
    )  # fmt: skip


def _statistics(truth: Truth) -> VariabilityStats:
    fluxes, n = 1000.0 * np.array(truth.fluxes_jy), len(truth.fluxes_jy)
    mean, many = float(fluxes.mean()), n > 1
    chi2 = float(((fluxes - mean) ** 2 / 1.2**2).sum() / (n - 1)) if many else None
    return VariabilityStats(
        source_id=truth.name, ra_deg=truth.ra_deg, dec_deg=truth.dec_deg, nvss_flux_mjy=float(fluxes[0]), n_obs=n,
        mean_flux_mjy=mean, std_flux_mjy=float(fluxes.std(ddof=1)) if many else None,
        min_flux_mjy=float(fluxes.min()), max_flux_mjy=float(fluxes.max()), chi2_nu=chi2,
        sigma_deviation=float(np.abs(fluxes - mean).max() / 1.2), last_measured_at=1.7666e9,
        last_mjd=MJD_0 + n - 1, updated_at=1.7666e9, eta_metric=chi2,
        v_metric=float(fluxes.std(ddof=1) / mean) if many else None,
    )  # fmt: skip


def _work(root: Path) -> None:
    incoming = root / "incoming"
    with get_session("ingest") as session:
        groups: dict[str, tuple[str, int, str | None]] = {stamp: ("completed", 16, None) for stamp in STAMPS}  # noqa: C420
        groups |= {COLLECTING: ("collecting", 3, None), FAILED_GROUP: ("failed", 16, "subband 7 cannot be read")}
        for stamp, (state, present, why) in groups.items():
            at = naming.stamp_unix(stamp)
            session.add(
                IngestQueue(group_id=stamp, state=state, received_at=at + 320.0, last_update=at + 500.0,
                            has_calibrator=0, error_message=why, retry_count=3 if why else 0)
            )  # fmt: skip
            session.flush()
            for index in range(present):
                path = incoming / naming.subband_name(stamp, index)
                session.add(
                    SubbandFile(group_id=stamp, subband_idx=index, file_path=str(path), file_size=10_000_000,
                                discovered_at=at + 320.0)
                )  # fmt: skip
            if state == "completed":
                session.add(
                    PerformanceMetrics(group_id=stamp, writer_type="direct-subband", conversion_time=4.0,
                                       imaging_time=21.0, photometry_time=2.5, total_time=31.0, recorded_at=at + 500.0)
                )  # fmt: skip
        session.add(Quarantine(path=str(incoming / "broken.hdf5"), group_id=FAILED_GROUP, reason="no HDF5 file",
                               quarantined_at=naming.stamp_unix(FAILED_GROUP)))  # fmt: skip
    with get_session("hdf5") as session:
        for number, (stamp, (_, present, _)) in enumerate(groups.items()):
            for index in range(present):
                name = naming.subband_name(stamp, index)
                session.add(
                    HDF5FileIndex(
                        path=str(incoming / name), filename=name, group_id=stamp, subband_code=f"sb{index:02d}",
                        subband_num=index, timestamp_iso=stamp, timestamp_mjd=MJD_0 + number * TILE_DAYS,
                        file_size_bytes=10_000_000, indexed_at=naming.stamp_unix(stamp) + 320.0, ra_deg=0.4,
                        dec_deg=37.0, obs_date=stamp[:10], obs_time=stamp[11:], n_times=24,
                    )
                )  # fmt: skip
    with get_session("products") as session:
        for stage, subject, state, why in (
            ("image", STAMPS[0], "completed", None),
            ("calibrate", FAILED_GROUP, "failed", "no solution: all of antenna 103 is flagged"),
            ("calibrate", COLLECTING, "waiting", "waits for a calibrator's transit"),
        ):
            at = naming.stamp_unix(subject)
            session.add(
                Job(job_id=f"{stage}:{subject}", stage=stage, subject=subject, state=state, attempt=3, error=why,
                    log_tail=why, created_at=at + 330.0, updated_at=at + 500.0, failures=3 if why else 0)
            )  # fmt: skip
    with get_session("calibrators") as session:
        session.add(
            BandpassCalibrator(calibrator_name="3C48", ra_deg=24.4221, dec_deg=33.1598, dec_range_min=31.0,
                               dec_range_max=39.0, source_catalog="VLA", flux_jy=16.0, registered_at=1.7e9,
                               flux_freq_ghz=1.4)
        )  # fmt: skip


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
