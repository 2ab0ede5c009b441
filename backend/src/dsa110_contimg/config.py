"""Every path and environment variable, read once.

`PIPELINE_ROOT` puts all folders below one; without it the specification's paths hold. Each folder and each
database has a variable of its own, which wins: `PIPELINE_INCOMING_DIR`, `PIPELINE_STAGE_DIR`,
`PIPELINE_PRODUCTS_DIR`, `PIPELINE_STATE_DIR`, `PIPELINE_BACKUP_DIR`, `PIPELINE_<NAME>_DB`. A variable that is empty is
not set. With `PIPELINE_DATABASE_URL` the databases are schemas of a PostgreSQL server instead of files.
"""

import functools
import os
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from dsa110_contimg.errors import ConfigurationError

DATABASES = ("ingest", "cal_registry", "products", "hdf5", "data_registry", "calibrators", "master_sources")


def _database(name: str, *legacy: str) -> Path | None:
    aliases = AliasChoices(f"PIPELINE_{name.upper()}_DB", *legacy)
    return Field(default=None, validation_alias=aliases)


class Settings(BaseSettings):
    """The environment of one run.

    Raises
    ------
    ConfigurationError
        If a variable has a value that cannot be used.
    """

    model_config = SettingsConfigDict(
        env_prefix="PIPELINE_", env_ignore_empty=True, populate_by_name=True, frozen=True, extra="ignore"
    )

    root: Path | None = None
    incoming_dir: Path | None = None
    stage_dir: Path | None = None
    products_dir: Path | None = None
    state_dir: Path | None = None
    backup_dir: Path | None = None
    database_url: str | None = None
    require_login: bool = False
    alert_urls: SecretStr | None = None
    min_free_gb: float = Field(default=50.0, ge=0.0)
    alembic_database: str | None = Field(default=None, validation_alias="DATABASE")
    ingest_db: Path | None = _database("ingest", "PIPELINE_QUEUE_DB")
    cal_registry_db: Path | None = _database("cal_registry", "CAL_REGISTRY_DB")
    products_db: Path | None = _database("products")
    hdf5_db: Path | None = _database("hdf5")
    data_registry_db: Path | None = _database("data_registry", "DATA_REGISTRY_DB")
    calibrators_db: Path | None = _database("calibrators")
    master_sources_db: Path | None = _database("master_sources")

    def __init__(self, **values: Any) -> None:  # noqa: ANN401 - whatever the fields are
        try:
            super().__init__(**values)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            variable = f"PIPELINE_{wrong['loc'][0]}".upper()
            raise ConfigurationError(f"{variable} is {wrong['input']!r}: {wrong['msg']}") from error

    @property
    def incoming(self) -> Path:
        """Where the correlator's files arrive; never written."""
        return self._folder(self.incoming_dir, "incoming", "/data/incoming")

    @property
    def stage(self) -> Path:
        """Where Measurement Sets, caltables, images and mosaics are made."""
        return self._folder(self.stage_dir, "stage", "/stage/dsa110-contimg")

    @property
    def products(self) -> Path:
        """Where published products live."""
        return self._folder(self.products_dir, "products", "/data/dsa110-contimg/products")

    @functools.cached_property
    def state(self) -> Path:
        """Where the databases live."""
        return self._folder(self.state_dir, "state", "/data/dsa110-contimg/state")

    @property
    def backups(self) -> Path:
        """Where daily backups go; best on another disk than the databases."""
        return self.state / "backups" if self.backup_dir is None else self.backup_dir.resolve()

    @property
    def logs(self) -> Path:
        """Where log files are."""
        return self.state / "logs"

    def database(self, name: str) -> Path:
        """Return the file of a database by its session name."""
        own: Path | None = getattr(self, f"{name}_db")
        if own is not None:
            return own.resolve()
        folder = self.state / "catalogs" if name == "master_sources" else self.state
        return folder / f"{name}.sqlite3"

    def _folder(self, own: Path | None, below_root: str, default: str) -> Path:
        if own is not None:
            return own.resolve()
        return (self.root / below_root).resolve() if self.root is not None else Path(default)


def _variables() -> tuple[str, ...]:
    """Return the names of all variables that a setting may have."""
    names = []
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias or f"PIPELINE_{name.upper()}"
        names += [str(one) for one in (alias.choices if isinstance(alias, AliasChoices) else [alias])]
    return tuple(names)


_VARIABLES = _variables()


@functools.lru_cache(maxsize=4)
def _read(_values: tuple[str | None, ...]) -> Settings:
    return Settings()


def current_settings() -> Settings:
    """Return the settings of the environment as it is now; it is read again only after one of them changed."""
    return _read(tuple(map(os.environ.get, _VARIABLES)))


def child_environment(**additions: str) -> dict[str, str]:
    """Return the environment for a program that is started: this process's own, and more."""
    return {**os.environ, **additions}


def use_root(root: Path) -> Settings:
    """Put this process, and those that it starts, below a root folder."""
    os.environ["PIPELINE_ROOT"] = str(root)
    return Settings()
