"""One source, written as people write it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from dsa110_contimg.cli.main import app
from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.models import CatalogSource, Source
from dsa110_contimg.database.source_names import resolve, resolve_one
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.naming import parse_box, parse_position, source_name

C286 = "NVSS J133108.2+303032"
SEAM, SOUTH, POLE = "NVSS J000000.0+420312", "NVSS J235959.9-003000", "NVSS J120000.0+895959"
TWO = ("NVSS J133130.0+303100", "NVSS J133131.0+303130")
PLACES = {
    C286: (202.7845333, 30.5091556),
    SEAM: (0.0001, 42.0534),
    SOUTH: (359.9999, -0.50003),
    POLE: (180.0, 89.9998),
    TWO[0]: (202.8750, 30.5167),
    TWO[1]: (202.8792, 30.5251),
}


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, Session]]:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    with get_session("master_sources") as master, get_session("calibrators") as calibrators:
        for name, (ra, dec) in PLACES.items():
            master.add(Source(source_id=name, ra_deg=ra, dec_deg=dec, s_nvss=15.0 if name == C286 else 0.1))
        for name, catalog, where in (
            ("VLASS1QLCIR J133108.29+303033.0", "VLASS", (202.78454, 30.50917)),
            ("1331+305", "VLA", (202.78453, 30.50916)),
        ):
            calibrators.add(
                CatalogSource(
                    source_name=name, catalog_id=name, catalog=catalog, ra_deg=where[0], dec_deg=where[1],
                    created_at=0.0, updated_at=0.0,
                )
            )  # fmt: skip
        master.commit()
        calibrators.commit()
        yield master, calibrators
    reset_engines()


@pytest.mark.parametrize(
    "spelling",
    [
        C286, "nvss j133108.2+303032", "NVSS_J133108.2+303032", "NVSS_J133108+303032", "J133108+303032",
        "133108.2+303032", "3C286", "3c 286", "1331+305", "J1331+305", "VLASS1QLCIR J133108.29+303033.0",
        "FIRST J133108.2+303032", "B1328+307", "PKS 1328+307", "13:31:08.29 +30:30:33", "13h31m08.3s +30d30m33s",
        "13 31 08.3 30 30 33", "202.7845 30.5092", "202.7845, +30.5092",
    ],
)  # fmt: skip
def test_every_spelling_means_the_calibrator(sessions: tuple[Session, Session], spelling: str) -> None:
    found = [one.source_id for one in resolve(*sessions, spelling)]
    assert found[0] == C286
    wide = spelling in ("J1331+305", "B1328+307", "PKS 1328+307")
    assert len(found) == 1 or wide, "a box of arcminutes holds its neighbors too"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("J000000+4203", SEAM), ("0.0 42.0534", SEAM), ("359.99995 -0.5", SOUTH), ("J235959-003000", SOUTH),
     ("12:00:00 +89:59:59", POLE), ("J120000+895959", POLE), ("NVSS J120001+895959", POLE)],
)  # fmt: skip
def test_across_the_seam_and_at_the_pole(sessions: tuple[Session, Session], spelling: str, name: str) -> None:
    assert resolve_one(*sessions, spelling).source_id == name


def test_several_and_nobody_are_said_in_one_sentence(sessions: tuple[Session, Session]) -> None:
    with pytest.raises(PipelineError, match=r"fits 2 sources .*write more digits"):
        resolve_one(*sessions, "J1331+3031")
    for nobody in ("J0505+0505", "M31", "4C +30.26", "", "25:00:00 +10:00:00", "10 95", "J2461+1000"):
        with pytest.raises(PipelineError, match="fits no source"):
            resolve_one(*sessions, nobody)


@pytest.mark.usefixtures("sessions")
def test_the_command() -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["catalog", "resolve", "3C", "286"])
    assert shown.exit_code == 0
    assert C286 in shown.output
    south = runner.invoke(app, ["catalog", "resolve", "--json", "359.99995", "-0.5"])
    assert f'"source_id": "{SOUTH}"' in south.output
    assert runner.invoke(app, ["catalog", "resolve", "M31"]).exit_code == 1


@given(st.floats(0.0, 359.9999999), st.floats(-90.0, 90.0))
def test_a_name_is_a_box_that_holds_its_source(ra_deg: float, dec_deg: float) -> None:
    for name in (source_name(ra_deg, dec_deg), source_name(ra_deg, dec_deg).replace(" ", "_")):
        box = parse_box(name)
        assert box is not None
        assert box.holds(ra_deg, dec_deg, 1e-6)
        assert box.reach_deg < 1.0 / 3600.0
    position = parse_position(f"{ra_deg:.7f} {dec_deg:+.7f}")
    assert position == pytest.approx((ra_deg, dec_deg), abs=1e-6)


@given(st.text(alphabet="0123456789+-:. JBhmsd", max_size=24))
def test_no_spelling_is_a_crash(spelling: str) -> None:
    box, position = parse_box(spelling), parse_position(spelling)
    assert box is None or abs(box.dec_deg) <= 90.0
    assert position is None or abs(position[1]) <= 90.0
