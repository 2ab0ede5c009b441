import logging
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from dsa110_contimg.database import Image, MSIndex, get_session
from dsa110_contimg.database.models import Photometry, Verdict
from dsa110_contimg.database.repositories import (
    CaltableRepository,
    CandidateRepository,
    ImageRepository,
    MosaicRepository,
    MSRepository,
    PhotometryRepository,
    QARepository,
    ms_index_upsert,
)
from dsa110_contimg.errors import CalibrationError, MosaicError, PipelineError

pytestmark = pytest.mark.usefixtures("backend")
Columns = dict[str, str | int | float | None]


def tiles(count: int, first: int = 0) -> list[str]:
    paths = [f"/stage/ms/{i:03d}.ms" for i in range(first, first + count)]
    with get_session("products") as session:
        for i, path in enumerate(paths, start=first):
            ms_index_upsert(session, path, mid_mjd=60000.0 + i / 280, stage="converted", status="ok")
    return paths


def test_upsert_keeps_what_it_is_not_told() -> None:
    with get_session("products") as session:
        ms_index_upsert(session, "/a.ms", mid_mjd=60000.0, stage="converted", status="ok", field_name="J1234+42")
        ms_index_upsert(session, "/a.ms", stage="calibrated", cal_applied=1)
        ms_index_upsert(session, "/a.ms")
        row = MSRepository.get(session, "/a.ms")
        assert row is not None
        assert (row.mid_mjd, row.stage, row.cal_applied, row.field_name) == (60000.0, "calibrated", 1, "J1234+42")
        MSRepository.set_stage(session, "/a.ms", "imaged", now=7.0, imagename="/a.fits")
        assert (row.stage, row.stage_updated_at, row.imagename) == ("imaged", 7.0, "/a.fits")
        with pytest.raises(PipelineError, match="has no column nonsense"):
            ms_index_upsert(session, "/a.ms", nonsense=1)


def test_lists_in_time_order() -> None:
    paths = tiles(5)
    with get_session("products", read_only=True) as session:
        assert [row.path for row in MSRepository.list_all(session, stage="converted")] == paths
        window = MSRepository.list_all(session, start_mjd=60000.0 + 1 / 280, end_mjd=60000.0 + 3 / 280)
        assert [row.path for row in window] == paths[1:4]
        assert [row.path for row in MSRepository.list_all(session, limit=2, after=paths[0])] == paths[1:3]
        assert MSRepository.list_all(session, stage="pending") == []


def test_images_are_recorded_once() -> None:
    (ms,) = tiles(1)
    with get_session("products") as session:
        first = ImageRepository.add(session, path="/a.fits", ms_path=ms, type="dirty", created_at=1.0, noise_jy=0.01)
        again = ImageRepository.add(session, path="/a.fits", ms_path=ms, type="dirty", created_at=2.0)
        assert (again.id, again.noise_jy, again.created_at) == (first.id, 0.01, 2.0)
        ImageRepository.add(session, path="/b.fits", ms_path=ms, type="pbcor", created_at=3.0, pbcor=1)
        assert [row.path for row in ImageRepository.list_all(session, type_filter="dirty")] == ["/a.fits"]
        assert [row.path for row in ImageRepository.list_all(session, ms_path=ms)] == ["/b.fits", "/a.fits"]
        assert ImageRepository.get_by_path(session, "/none.fits") is None


def measurement(image: str, source: str, **more: str | float | None) -> Columns:
    position: Columns = {"ra_deg": 10.0, "dec_deg": 20.0, "measured_at": 5.0}
    return position | {"image_path": image, "source_id": source, "peak_jyb": 0.1, "mjd": 60000.0} | more


def test_light_curves_take_one_row_per_transit_and_nothing_retracted() -> None:
    (ms,) = tiles(1)
    with get_session("products") as session:
        for name in ("/1.fits", "/2.fits", "/3.fits", "/4.fits"):
            ImageRepository.add(session, path=name, ms_path=ms, type="image", created_at=1.0)
        PhotometryRepository.store(
            session,
            [
                measurement("/2.fits", "s", mjd=60002.0, in_lightcurve=1, retracted_at=None),
                measurement("/1.fits", "s", mjd=60001.0, in_lightcurve=1, retracted_at=None),
                measurement("/3.fits", "s", mjd=60001.0, in_lightcurve=0, retracted_at=None),
                measurement("/4.fits", "s", mjd=60004.0, in_lightcurve=1, retracted_at=9.0),
            ],
        )
        PhotometryRepository.store(session, [measurement("/1.fits", "s", peak_jyb=0.2, mjd=60001.0)])
        curve = PhotometryRepository.get_lightcurve(session, source_id="s")
        assert [(row.mjd, row.peak_jyb) for row in curve] == [(60001.0, 0.2), (60002.0, 0.1)]
        assert len(PhotometryRepository.get_lightcurve(session, "s", every_measurement=True)) == 4
        rows = session.execute(text("SELECT mjd FROM photometry_timeseries ORDER BY mjd")).all()
        assert [row[0] for row in rows] == [60001.0, 60002.0]
        PhotometryRepository.store_missing(session, "/1.fits", {"t": "outside the image"})
        PhotometryRepository.store_missing(session, "/1.fits", {"t": "beam below 0.2"})
        assert session.execute(text("SELECT reason FROM photometry_missing")).scalars().all() == ["beam below 0.2"]
    with pytest.raises(IntegrityError), get_session("products") as session:
        PhotometryRepository.store(session, [measurement("/none.fits", "s")])


def test_candidates_are_active_once() -> None:
    with get_session("products") as session:
        PhotometryRepository.store_statistics(
            session, [{"source_id": "s", "ra_deg": 1.0, "dec_deg": 2.0, "updated_at": 1.0, "chi2_nu": 9.0}]
        )
        assert CandidateRepository.flag(session, source_id="s", significance=6.0, flag_type="variability", now=1.0)
        assert not CandidateRepository.flag(session, source_id="s", significance=8.0, flag_type="variability", now=2.0)
        assert not CandidateRepository.flag(session, source_id="s", significance=5.0, flag_type="variability", now=3.0)
        session.expire_all()
        (row,) = CandidateRepository.list_all(session)
        assert (row.significance, row.flagged_by, row.flagged_at) == (8.0, "auto", 1.0)
        row.status = "dismissed"
        session.flush()
        assert CandidateRepository.flag(session, source_id="s", significance=7.0, flag_type="user", now=4.0)
        assert len(CandidateRepository.list_all(session, status=None)) == 2
    with pytest.raises(IntegrityError), get_session("products") as session:
        CandidateRepository.flag(session, source_id="unknown", significance=7.0, flag_type="user", now=4.0)


def test_checks_and_the_worst_verdict() -> None:
    def check(name: str, verdict: str, value: float | None = 1.0) -> Columns:
        return {"subject": "m1", "name": name, "value": value, "verdict": verdict, "measured_at": 1.0}

    with get_session("products") as session:
        assert QARepository.worst(session, "m1") is None
        QARepository.store(session, [check("noise", "passed"), check("flux", "passed")])
        assert QARepository.worst(session, "m1") is Verdict.PASSED
        QARepository.store(session, [check("flux", "unmeasured", None)])
        assert QARepository.worst(session, "m1") is Verdict.WARNING
        QARepository.store(session, [check("flux", "failed", 0.5)])
        assert QARepository.worst(session, "m1") is Verdict.FAILED
        assert [(row.name, row.value) for row in QARepository.for_subject(session, "m1")] == [
            ("flux", 0.5),
            ("noise", 1.0),
        ]
    with pytest.raises(IntegrityError), get_session("products") as session:
        QARepository.store(session, [check("noise", "fine")])


def test_a_tile_is_new_in_one_group_only() -> None:
    paths = tiles(14)
    with get_session("products") as session:
        assert MosaicRepository.create_group(session, "mg_a", paths[:10], now=1.0)
        assert not MosaicRepository.create_group(session, "mg_a", paths[:10], now=1.0)
        assert not MosaicRepository.create_group(session, "mg_x", paths[5:12], now=1.0)
        assert [row.path for row in MosaicRepository.unplaced_tiles(session)] == paths[10:]
        assert MosaicRepository.create_group(session, "mg_b", paths[8:14], carried=paths[8:10], now=2.0)
        assert MosaicRepository.unplaced_tiles(session) == []
        assert [row.path for row in MosaicRepository.members(session, "mg_b")] == paths[8:14]
        assert [row.group_id for row in MosaicRepository.list_groups(session, status="pending")] == ["mg_a", "mg_b"]
        MosaicRepository.update_group(session, "mg_b", status="completed", mosaic_id="m")
        assert [row.group_id for row in MosaicRepository.list_groups(session, status="completed")] == ["mg_b"]
        with pytest.raises(MosaicError, match="no mosaic group mg_z"):
            MosaicRepository.update_group(session, "mg_z", status="completed")


def test_failed_and_unfinished_tiles_join_no_group() -> None:
    with get_session("products") as session:
        ms_index_upsert(session, "/ok.ms", mid_mjd=1.0, stage="photometry_complete", status="ok")
        ms_index_upsert(session, "/alias.ms", mid_mjd=2.0, stage="converted", status="converted")
        ms_index_upsert(session, "/failed.ms", mid_mjd=3.0, stage="converted", status="failed")
        ms_index_upsert(session, "/early.ms", mid_mjd=4.0, stage="converting", status="ok")
        assert [row.path for row in MosaicRepository.unplaced_tiles(session)] == ["/ok.ms", "/alias.ms"]


def test_a_mosaic_is_an_image_and_its_photometry_follows_it() -> None:
    (ms,) = tiles(1)
    with get_session("products") as session:
        for _ in range(2):
            row = MosaicRepository.store(
                session,
                path="/stage/mosaics/m.fits",
                name="m",
                reference_ms=ms,
                created_at=1.0,
                start_mjd=1.0,
                end_mjd=2.0,
                noise_jy=0.001,
                thumbnail_path="/stage/mosaics/m.png",
            )
        PhotometryRepository.store(session, [measurement("/stage/mosaics/m.fits", "s")])
        assert row.noise_jy == 0.001
        with pytest.raises(MosaicError, match="start_mjd"):
            MosaicRepository.store(session, path="/x", name="x", reference_ms=ms, created_at=1.0)
    with get_session("products") as session:
        assert MosaicRepository.relocate(session, "/stage/mosaics/m.fits", "/products/mosaics/m.fits")
        assert not MosaicRepository.relocate(session, "/stage/mosaics/m.fits", "/products/mosaics/m.fits")
    with get_session("products", read_only=True) as session:
        mosaic = MosaicRepository.get_by_name(session, "m")
        assert mosaic is not None
        assert (mosaic.path, mosaic.thumbnail_path) == ("/products/mosaics/m.fits", "/products/mosaics/m.png")
        assert session.query(Image).filter_by(type="mosaic").one().path == mosaic.path
        assert session.query(Photometry).one().image_path == mosaic.path
        assert session.query(MSIndex).count() == 1
        assert len(MosaicRepository.list_all(session)) == 1


def table(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    return str(folder / name)


def register(path: str, kind: str, mid: float, **more: str | float | None) -> None:
    half = 1.0 if kind in {"BP", "K"} else 30 / 1440
    with get_session("cal_registry") as session:
        CaltableRepository.register(
            session,
            path=path,
            table_type=kind,
            set_name="bp_3c48_60000",
            mid_mjd=mid,
            half_width_days=half,
            quality={"median_snr": 40.0},
            **more,
        )


def found(mjd: float, **how: str | float | None) -> list[str]:
    with get_session("cal_registry") as session:
        rows = CaltableRepository.find_valid_for_mjd(session, mjd, **how)  # type: ignore[arg-type]
        return [Path(row.path).name for row in rows]


def test_the_nearest_table_wins_and_ties_go_to_the_newest(tmp_path: Path) -> None:
    register(table(tmp_path, "bp0"), "BP", 60000.0, dec_deg=33.0, created_at=1.0)
    register(table(tmp_path, "bp1"), "BP", 60001.0, dec_deg=33.0, created_at=2.0)
    register(table(tmp_path, "k0"), "K", 60000.0, dec_deg=33.0, created_at=1.0)
    register(table(tmp_path, "g0"), "G", 60000.0, dec_deg=33.0, created_at=1.0)
    assert found(60000.4, table_type="BP") == ["bp0", "bp1"]
    assert found(60000.6, table_type="BP") == ["bp1", "bp0"]
    assert found(60000.5, table_type="BP") == ["bp1", "bp0"]
    assert found(60000.01) == ["k0", "bp0", "bp1", "g0"]
    # Ends are included, and observations before the solution are served too.
    assert found(59999.0, table_type="BP") == ["bp0"]
    assert found(59998.999, table_type="BP") == []
    assert found(60000.0, table_type="2G") == ["g0"]
    assert found(60000.0, table_type="GP") == ["g0"]
    assert found(60000.03, table_type="G") == []
    with pytest.raises(CalibrationError, match="'XY' is no type"):
        found(60000.0, table_type="XY")


def test_tables_of_other_strips_are_never_found(tmp_path: Path) -> None:
    register(table(tmp_path, "near"), "BP", 60000.0, dec_deg=33.4)
    register(table(tmp_path, "far"), "BP", 60000.0, dec_deg=34.0)
    register(table(tmp_path, "unknown"), "BP", 60000.0)
    assert found(60000.0, table_type="BP", dec_deg=33.0, dec_tolerance_deg=0.5) == ["near"]


def test_a_table_that_is_gone_is_retired(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = Path(table(tmp_path, "bp0"))
    register(str(path), "BP", 60000.0)
    path.rmdir()
    with get_session("cal_registry", read_only=True) as session, caplog.at_level(logging.WARNING):
        assert CaltableRepository.find_valid_for_mjd(session, mjd=60000.0) == []
    assert "bp0 is gone from disk" in caplog.text
    assert found(60000.0) == []
    with get_session("cal_registry", read_only=True) as session:
        (row,) = CaltableRepository.list_all(session)
        assert (row.active, row.status) == (0, "retired")


def test_registration_rules(tmp_path: Path) -> None:
    path = table(tmp_path, "bp0")
    register(path, "BP", 60000.0, refant="24", flux_anchor="3C48")
    register(path, "BP", 60000.0)
    register(table(tmp_path, "bad"), "BP", 60000.1, qa_status="failed")
    register(table(tmp_path, "second"), "BP", 60000.2)
    with pytest.raises(CalibrationError, match="another solve"):
        register(path, "BP", 60001.0)
    with pytest.raises(CalibrationError, match="not on disk"):
        register(str(tmp_path / "none"), "BP", 60000.0)
    with get_session("cal_registry") as session:
        rows = CaltableRepository.list_all(session, table_type="BP")
        assert [(Path(r.path).name, r.active, r.status) for r in rows] == [
            ("bp0", 1, "active"),
            ("bad", 0, "failed"),
            ("second", 1, "active"),
        ]
        assert [r.set_name for r in rows] == ["bp_3c48_60000", "bp_3c48_60000_2", "bp_3c48_60000_3"]
        assert (rows[0].order_index, rows[0].refant, rows[0].valid_from_mjd, rows[0].valid_until_mjd) == (
            1,
            "24",
            59999.0,
            60001.0,
        )
        assert CaltableRepository.set_status(session, rows[0].path, "retired", superseded_by=rows[2].path)
    assert found(60000.0) == ["second"]
