import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.database import conftest as database_fixtures

from dsa110_contimg.config import Settings
from dsa110_contimg.database import reset_engines

empty_databases = database_fixtures.empty_databases


@pytest.fixture
def house(tmp_path: Path, empty_databases: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Empty databases and an empty incoming folder."""
    shutil.copytree(empty_databases, tmp_path / "state")
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    settings = Settings()
    settings.incoming.mkdir()
    yield settings
    reset_engines()


def photometry_row(
    path: str, source: str, ra_deg: float, flux_jy: float, mjd: float
) -> dict[str, str | float | int | None]:
    """Return a measurement as `photometry` holds it, with an error of 1 mJy and 0.5 %."""
    return {
        "image_path": path,
        "source_id": source,
        "ra_deg": ra_deg,
        "dec_deg": 33.0,
        "peak_jyb": flux_jy,
        "flux_jy": flux_jy,
        "flux_err_jy": 0.001 + 0.005 * abs(flux_jy),
        "local_rms_jyb": 0.001,
        "flags": 0,
        "mjd": mjd,
        "measured_at": time.time(),
    }
