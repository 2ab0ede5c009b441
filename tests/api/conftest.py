import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.api.night import Night, fill
from tests.api.survey import Survey, build
from tests.database import conftest as database_fixtures

from dsa110_contimg import provenance
from dsa110_contimg.dashboard.app import create_app
from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.access_tokens import add_token
from dsa110_contimg.database.accounts import accept_invitation, add_user
from dsa110_contimg.database.data_registration import finalize_data, publish_data_instance
from dsa110_contimg.database.data_registry import register_data_instance
from dsa110_contimg.database.models import QACheck, Role
from dsa110_contimg.database.registry_rows import open_registry
from dsa110_contimg.options import MosaicOptions

Add = Callable[..., str]

root, house, backend = database_fixtures.root, database_fixtures.house, database_fixtures.backend
empty_databases, postgresql = database_fixtures.empty_databases, database_fixtures.postgresql
house_on_postgresql, on_postgresql = database_fixtures.house_on_postgresql, database_fixtures.on_postgresql


@pytest.fixture
def installation(house: Path) -> Path:
    """A PIPELINE_ROOT with all seven databases."""
    return house


@pytest.fixture
def client(installation: Path) -> Iterator[TestClient]:
    assert installation.is_dir()
    with TestClient(create_app(), raise_server_exceptions=False) as asking:
        yield asking


@pytest.fixture(scope="session")
def built_survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """The small survey of `survey.py`, made once."""
    root = tmp_path_factory.mktemp("survey")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ROOT", str(root))
        init_databases()
        made = build(root)
    reset_engines()
    return made


@pytest.fixture
def survey(built_survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Survey]:
    """The small survey: its files are shared by all tests, its databases are this test's own."""
    shutil.copytree(built_survey.root / "state", tmp_path / "state")
    monkeypatch.setenv("PIPELINE_ROOT", str(built_survey.root))
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / "state"))
    reset_engines()
    yield built_survey
    reset_engines()


@pytest.fixture
def surveyed(survey: Survey) -> Iterator[TestClient]:
    """Who asks about the small survey, without a login."""
    assert survey.root.is_dir()
    with TestClient(create_app(), raise_server_exceptions=False) as asking:
        yield asking


@pytest.fixture(scope="session")
def built_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The night of `night.py`, made once; it is now."""
    root = tmp_path_factory.mktemp("night")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ROOT", str(root))
        patch.setenv("PIPELINE_MIN_FREE_GB", "0")
        init_databases()
        made = fill(root, time.time())
    reset_engines()
    return made


@pytest.fixture
def night(built_night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    """The night: its files are shared by all tests, its databases are this test's own."""
    shutil.copytree(built_night.root / "state", tmp_path / "state")
    monkeypatch.setenv("PIPELINE_ROOT", str(built_night.root))
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PIPELINE_MIN_FREE_GB", "0")
    reset_engines()
    yield built_night
    reset_engines()


@pytest.fixture
def operator(night: Night) -> Iterator[TestClient]:
    """Who looks at the night, without a login."""
    assert night.root.is_dir()
    with TestClient(create_app(), raise_server_exceptions=False) as asking:
        yield asking


PASSWORD = "correct horse battery"


@pytest.fixture
def bearer() -> Callable[[Role], dict[str, str]]:
    """Make a user with a role and a token, and return the header that shows it."""

    def make(role: Role = Role.OPERATOR) -> dict[str, str]:
        name = f"{role.value}-ada"
        accept_invitation(add_user(name, role), PASSWORD)
        return {"Authorization": f"Bearer {add_token(name, 'tests')[1]}"}

    return make


@pytest.fixture
def add(installation: Path) -> Add:
    """Put a product into the registry, in staging or published, with a record of its provenance."""

    def put(data_id: str, *, data_type: str = "mosaic", published: bool = False, **links: Any) -> str:
        path = installation / "stage" / f"{data_type}s" / f"{data_id}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data_id.encode() * 100)
        record = provenance.record(
            activity="mosaic",
            inputs=[{"path": f"{data_id}-tile{n}.fits", "role": "tile", "sha256": f"{n:064x}"} for n in range(3)],
            calibration_tables=["tile_bpcal"],
            options=MosaicOptions(),
            started_at=1.75e9,
            ended_at=1.75e9 + 60.0,
        )
        with open_registry() as registry:
            register_data_instance(registry, data_type, data_id, path, False, {"provenance": record}, **links)
            if published:
                finalize_data(registry, data_id, "passed", "validated")
                assert publish_data_instance(registry, data_id, by="ada", reason="looked at it")
        return data_id

    return put


def measure(data_id: str, name: str, value: float | None, verdict: str) -> None:
    """Enter one check of a product."""
    with get_session("products") as session:
        session.add(
            QACheck(subject=data_id, name=name, value=value, threshold_warning=0.1, threshold_failure=0.2,
                    verdict=verdict, reason=None, measured_at=1.75e9)
        )  # fmt: skip
