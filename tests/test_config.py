"""Where each path comes from: an argument, its own variable, an older name, the state folder, the specification."""

from pathlib import Path

import pytest

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.errors import ConfigurationError

ALIASES = {"ingest": "PIPELINE_QUEUE_DB", "cal_registry": "CAL_REGISTRY_DB", "data_registry": "DATA_REGISTRY_DB"}
FOLDERS = ("ROOT", "INCOMING_DIR", "STAGE_DIR", "PRODUCTS_DIR", "STATE_DIR")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"PIPELINE_{name}" for name in FOLDERS] + [f"PIPELINE_{name.upper()}_DB" for name in DATABASES]
    for name in (*names, *ALIASES.values(), "PIPELINE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_the_specified_places() -> None:
    settings = Settings()
    state = Path("/data/dsa110-contimg/state")
    assert [settings.incoming, settings.stage, settings.products, settings.state] == [
        Path("/data/incoming"),
        Path("/stage/dsa110-contimg"),
        Path("/data/dsa110-contimg/products"),
        state,
    ]
    for name in DATABASES:
        folder = state / "catalogs" if name == "master_sources" else state
        assert settings.database(name) == folder / f"{name}.sqlite3"


@pytest.mark.parametrize("name", DATABASES)
def test_each_step_of_precedence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = Path("catalogs" if name == "master_sources" else "") / f"{name}.sqlite3"
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path / "root"))
    assert Settings().database(name) == tmp_path / "root" / "state" / below
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / "state"))
    assert Settings().database(name) == tmp_path / "state" / below
    if name in ALIASES:
        monkeypatch.setenv(ALIASES[name], str(tmp_path / "older"))
        assert Settings().database(name) == tmp_path / "older"
    monkeypatch.setenv(f"PIPELINE_{name.upper()}_DB", str(tmp_path / "own"))
    assert Settings().database(name) == tmp_path / "own"
    told = Settings.model_validate({f"{name}_db": tmp_path / "told"})
    assert told.database(name) == tmp_path / "told"


@pytest.mark.parametrize("name", DATABASES)
def test_an_empty_variable_is_not_set(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*(f"PIPELINE_{folder}" for folder in FOLDERS), "PIPELINE_DATABASE_URL"):
        monkeypatch.setenv(variable, "")
    expected = Settings().database(name)
    assert expected.is_relative_to("/data/dsa110-contimg/state")
    monkeypatch.setenv(f"PIPELINE_{name.upper()}_DB", "")
    assert Settings().database(name) == expected
    assert Settings().database_url is None
    if name in ALIASES:
        monkeypatch.setenv(ALIASES[name], str(tmp_path / "older"))
        assert Settings().database(name) == tmp_path / "older", "the older name counts where the newer is empty"


@pytest.mark.parametrize("value", ["abc", "-4"])
def test_a_value_that_cannot_be_used_is_one_sentence(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_MIN_FREE_GB", value)
    with pytest.raises(ConfigurationError, match=f"PIPELINE_MIN_FREE_GB is '{value}': Input should be"):
        Settings()
