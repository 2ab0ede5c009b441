"""What a group cost, and where the dishes looked."""

import math
import time

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time

from dsa110_contimg import telescope
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.ingest_queue import record_subband
from dsa110_contimg.database.models import PerformanceMetrics
from dsa110_contimg.pipeline.jobs import Job, Stage
from dsa110_contimg.pipeline.timings import pointing_row, record_times
from dsa110_contimg.stopwatch import collecting, timed
from dsa110_contimg.visibilities import SkyPosition

GROUP = "2025-10-01T08:49:00"
ONE_ARCMIN_DEG = 1.0 / 60.0


def row() -> PerformanceMetrics:
    with get_session("ingest", read_only=True) as session:
        return session.query(PerformanceMetrics).filter_by(group_id=GROUP).one()


@pytest.mark.usefixtures("house")
def test_the_stages_of_a_group_fill_one_row() -> None:
    with get_session("ingest") as session:
        record_subband(session, group_id=GROUP, subband_idx=0, path="/in/a.hdf5", file_size=1, now=1.0)
    for stage, seconds, parts in [
        (Stage.CONVERT, 60.0, {}),
        (Stage.SOLVE, 30.0, {"K": 5.0, "BP": 10.0, "G": 3.0}),
        (Stage.CALIBRATE, 20.0, {"G": 4.0}),
        (Stage.IMAGE, 100.0, {"another": 1.0}),
        (Stage.MEASURE, 7.0, {}),
    ]:
        assert record_times(Job(stage, GROUP), seconds, parts, now=2.0)
    found = row()
    assert (found.writer_type, found.conversion_time, found.concat_time) == ("direct-subband", 60.0, None)
    assert (found.k_solve_time, found.bp_solve_time, found.g_solve_time) == (5.0, 10.0, 4.0)
    assert (found.imaging_time, found.photometry_time, found.total_time) == (100.0, 7.0, 217.0)
    assert not record_times(Job(Stage.MOSAIC, "mg_" + GROUP), 9.0, {}, now=3.0)
    assert row().total_time == 217.0


@pytest.mark.usefixtures("house")
def test_a_database_that_is_away_loses_the_time_and_nothing_else(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings()
    settings.database("ingest").rename(tmp_path_factory.mktemp("away") / "ingest.sqlite3")
    assert not record_times(Job(Stage.IMAGE, GROUP), 1.0, {}, now=1.0)


def test_parts_are_summed_and_collections_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 2.0, 2.0, 5.0, 5.0, 6.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    with collecting() as outer:
        with timed("K"):
            pass
        with collecting() as inner, pytest.raises(ValueError, match="no antenna"), timed("K"):
            raise ValueError("no antenna")
        with timed("K"):
            pass
    assert (outer, inner) == ({"K": 3.0}, {"K": 3.0})


@pytest.mark.parametrize("dec_deg", [16.3, 60.0])
def test_the_pointing_is_where_astropy_sees_it(dec_deg: float) -> None:
    mjd = 60949.4
    ra, dec = telescope.meridian_icrs(dec_deg, mjd)
    found = pointing_row(SkyPosition(float(ra[0]), float(dec[0])), dec_deg, mjd, "J0000+00")
    site = EarthLocation.from_geodetic(
        math.degrees(telescope.TEE_LONGITUDE_RAD) * units.deg,
        math.degrees(telescope.TEE_LATITUDE_RAD) * units.deg,
        telescope.TEE_HEIGHT_M * units.m,
    )
    when = Time(mjd, format="mjd", location=site)
    seen = SkyCoord(found.ra_deg, found.dec_deg, unit="deg").transform_to(AltAz(obstime=when, location=site))
    assert found.alt_deg == pytest.approx(seen.alt.deg, abs=ONE_ARCMIN_DEG)
    turn = (float(seen.az.deg) - (found.az_deg or 0.0) + 180.0) % 360.0 - 180.0
    assert abs(turn) * np.cos(np.radians(seen.alt.deg)) < ONE_ARCMIN_DEG
    assert found.lst_hours == pytest.approx(when.sidereal_time("apparent").hour, abs=ONE_ARCMIN_DEG / 15.0)
    assert (found.mjd, found.field_name) == (mjd, "J0000+00")
    assert found.timestamp == pytest.approx(when.unix, abs=1e-3)
