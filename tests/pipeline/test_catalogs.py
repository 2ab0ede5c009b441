"""Catalogue files into the databases: what is good arrives, what is bad is told, and real surveys make sense."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event, func, select, text

from dsa110_contimg.database import get_engine, get_session, init_databases, reset_engines
from dsa110_contimg.database.catalog_query import cone_search
from dsa110_contimg.database.models import CatalogSource, Source, VLACalibrator
from dsa110_contimg.errors import BadInputError, ConfigurationError
from dsa110_contimg.pipeline.catalogs import CatalogImport, import_catalog, require_catalog
from dsa110_contimg.visibilities import SkyPosition

HEADER = "name,ra_deg,dec_deg,flux_jy,flux_err_jy,spectral_index\n"
GOOD = HEADER + "A,10,20,1,0.01,-0.5\nB,11,20,0.1,,\n"
PATCH = {"nvss": "patch_nvss.fits", "first": "patch_first.fits", "vlass": "patch_vlass_components.csv"}


@pytest.fixture(autouse=True)
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path / "house"))
    reset_engines()
    init_databases()
    yield tmp_path
    reset_engines()


def real(name: str) -> Path:
    path = Path(os.environ.get("CONTIMG_DATA") or ".") / "catalogs" / name
    if not path.exists():
        pytest.skip(f"CONTIMG_DATA does not hold catalogs/{name}")
    return path


def sources() -> dict[str, Source]:
    with get_session("master_sources", read_only=True) as session:
        return {row.source_id: row for row in session.scalars(select(Source))}


def count(model: type[CatalogSource | VLACalibrator]) -> int:
    with get_session("calibrators", read_only=True) as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_our_own_table_becomes_sources(house: Path) -> None:
    with pytest.raises(ConfigurationError, match="contimg catalog import nvss"):
        require_catalog()
    path = house / "own.csv"
    path.write_text(GOOD)
    told: list[tuple[str, int, int]] = []
    assert import_catalog(path, report=lambda *step: told.append(step)) == CatalogImport(2)
    require_catalog()
    found = sources()
    assert (found["A"].s_nvss, found["A"].snr_nvss, found["A"].alpha) == (1.0, 100.0, -0.5)
    assert (found["B"].s_nvss, found["B"].snr_nvss, found["B"].alpha) == (0.1, None, None)
    assert [step[0] for step in told] == ["reading", "writing", "matching", "listing"]
    assert told[1][1:] == (2, 2)
    entry = cone_search(SkyPosition(10.0, 20.0), 0.1, ["csv"])[0]
    assert (entry.source_id, entry.spectral_index) == ("A", -0.5)


def test_good_rows_are_kept_and_bad_ones_are_told(house: Path) -> None:
    path = house / "own.csv"
    path.write_text(GOOD + "C,12,95,1,,\nD,13,20,bright,,\n")
    expected = ("line 4: dec_deg is 95, which no source can have", "line 5: flux_jy is 'bright', not a number")
    assert import_catalog(path) == CatalogImport(2, expected)
    assert sorted(sources()) == ["A", "B"]


@pytest.mark.parametrize(
    "content", ["name,ra_deg\n", HEADER, HEADER + "A,nan,1,1,,\n", "\x00"], ids=["columns", "empty", "bad", "binary"]
)
def test_a_file_that_is_refused_changes_nothing(house: Path, content: str) -> None:
    good, bad = house / "good.csv", house / "bad.csv"
    good.write_text(GOOD)
    bad.write_text(content)
    import_catalog(good)
    with pytest.raises(BadInputError, match=str(bad)):
        import_catalog(bad)
    assert sorted(sources()) == ["A", "B"]
    assert count(CatalogSource) == 2


@pytest.mark.parametrize("database", ["calibrators", "master_sources"])
def test_sources_never_know_a_survey_that_is_not_stored(house: Path, database: str) -> None:
    """A crash at either commit leaves both as they were, or sources that the next import brings up to date."""
    own, racs = house / "own.csv", house / "racs.csv"
    own.write_text(GOOD)
    racs.write_text("Name,RA,Dec,Total_flux\nr,10.0,20.0,900\n")
    import_catalog(own)
    engine = get_engine(database)

    def crash(_connection: object) -> None:
        raise KeyboardInterrupt

    event.listen(engine, "commit", crash)
    with pytest.raises(KeyboardInterrupt):
        import_catalog(racs, "racs")
    event.remove(engine, "commit", crash)
    assert sources()["A"].s_rax is None
    assert count(CatalogSource) == (2 if database == "calibrators" else 3)
    import_catalog(own)
    assert sources()["A"].s_rax == (None if database == "calibrators" else 0.9)
    import_catalog(racs, "racs")
    assert sources()["A"].s_rax == 0.9


def test_real_surveys_of_one_patch() -> None:
    """Known of this sky: a typical spectral index near -0.7, and FIRST and NVSS on one flux scale."""
    for survey in ("vlass", "nvss", "first"):
        import_catalog(real(PATCH[survey]), survey)
    rows = list(sources().values())
    assert len(rows) == 562
    alpha = np.array([row.alpha for row in rows if row.alpha is not None])
    assert len(alpha) > 250
    # Gordon et al. (2021) find -0.71 between FIRST and VLASS; without the Quick Look correction it would be -0.86.
    assert np.median(alpha) == pytest.approx(-0.7, abs=0.07)
    assert all(row.alpha_err is not None and 0.0 < row.alpha_err < 1.0 for row in rows if row.alpha is not None)
    clean = [row for row in rows if not row.resolved_flag and not row.confusion_flag and (row.snr_nvss or 0.0) > 20.0]
    ratio = np.array([row.s_first / row.s_nvss for row in clean if row.s_first is not None and row.s_nvss is not None])
    assert len(ratio) > 70
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)
    # FIRST is some five times as good a place as the NVSS for a bright source.
    offsets = [
        3600.0 * cone_search(SkyPosition(row.ra_deg, row.dec_deg), 0.01, ["first"])[0].separation_deg
        for row in clean
        if row.s_first is not None
    ]
    assert np.median(offsets) < 0.3
    with get_session("master_sources", read_only=True) as session:
        views = [
            session.scalar(text(f"SELECT count(*) FROM {view}_references")) for view in ("good", "final", "strict")
        ]
    assert views == [206, 156, 38]


def test_real_calibrators_are_found_beside_the_surveys() -> None:
    result = import_catalog(real("vlacalibrators.txt"), "vla")
    assert result.n_rows == count(VLACalibrator) > 1800
    assert cone_search(SkyPosition(202.7845, 30.5092), 0.01)[0].catalog == "VLA"
    assert sources() == {}


@pytest.mark.slow
def test_real_nvss_whole() -> None:
    assert import_catalog(real("NVSSVZ.FIT.gz"), "nvss") == CatalogImport(125_309)
    assert len(sources()) == 125_309
