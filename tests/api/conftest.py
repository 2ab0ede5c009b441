from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.database import conftest as database_fixtures

from dsa110_contimg import provenance
from dsa110_contimg.api.app import create_app
from dsa110_contimg.database import get_session
from dsa110_contimg.database.data_registration import finalize_data, publish_data_instance
from dsa110_contimg.database.data_registry import register_data_instance
from dsa110_contimg.database.models import QACheck
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
