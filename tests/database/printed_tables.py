"""The tables as the documents print them, and what a database file holds."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

TABLES_OF = {
    "ingest": ("ingest_queue", "subband_files", "performance_metrics"),
    "cal_registry": ("caltables",),
    "master_sources": ("sources", "good_references", "final_references"),
    "data_registry": ("data_registry", "data_relationships", "data_tags"),
    "calibrators": (
        "bandpass_calibrators",
        "gain_calibrators",
        "catalog_sources",
        "vla_calibrators",
        "vla_flux_info",
        "skymodel_metadata",
    ),
    "hdf5": ("hdf5_file_index",),
}
NAME_OF = {table: name for name, tables in TABLES_OF.items() for table in tables}
"""The database of a printed table or view; the others are of products."""

DECIDED = """
CREATE TABLE bandpass_calibrators (id INTEGER PRIMARY KEY AUTOINCREMENT, calibrator_name TEXT NOT NULL UNIQUE,
    ra_deg REAL NOT NULL, dec_deg REAL NOT NULL, dec_range_min REAL, dec_range_max REAL, source_catalog TEXT,
    flux_jy REAL, registered_at REAL NOT NULL, registered_by TEXT, status TEXT DEFAULT 'active', notes TEXT,
    flux_freq_ghz REAL, spectral_index REAL);
CREATE TABLE gain_calibrators (id INTEGER PRIMARY KEY AUTOINCREMENT, field_id TEXT NOT NULL, source_name TEXT NOT NULL,
    ra_deg REAL NOT NULL, dec_deg REAL NOT NULL, flux_jy REAL, catalog_source TEXT, catalog_id TEXT,
    created_at REAL NOT NULL, skymodel_path TEXT, notes TEXT, UNIQUE(field_id, source_name));
CREATE TABLE catalog_sources (id INTEGER PRIMARY KEY AUTOINCREMENT, source_name TEXT NOT NULL, ra_deg REAL NOT NULL,
    dec_deg REAL NOT NULL, flux_jy REAL, flux_freq_ghz REAL, spectral_index REAL, catalog TEXT NOT NULL,
    catalog_id TEXT,
    position_uncertainty_arcsec REAL, flux_uncertainty REAL, is_extended INTEGER DEFAULT 0, major_axis_arcsec REAL,
    minor_axis_arcsec REAL, position_angle_deg REAL, matched_to TEXT, created_at REAL NOT NULL,
    updated_at REAL NOT NULL, UNIQUE(catalog, catalog_id));
CREATE TABLE vla_calibrators (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, ra_deg REAL NOT NULL,
    dec_deg REAL NOT NULL, flux_jy REAL, flux_freq_ghz REAL, code_20_cm TEXT, registered_at REAL NOT NULL, notes TEXT);
CREATE TABLE vla_flux_info (id INTEGER PRIMARY KEY AUTOINCREMENT,
    vla_calibrator_id INTEGER NOT NULL REFERENCES vla_calibrators(id), frequency_ghz REAL NOT NULL,
    flux_jy REAL NOT NULL, flux_uncertainty REAL, measurement_date TEXT, UNIQUE(vla_calibrator_id, frequency_ghz));
CREATE TABLE skymodel_metadata (id INTEGER PRIMARY KEY AUTOINCREMENT, field_id TEXT NOT NULL,
    skymodel_path TEXT NOT NULL, n_sources INTEGER NOT NULL, total_flux_jy REAL, created_at REAL NOT NULL,
    created_by TEXT, notes TEXT, UNIQUE(field_id, skymodel_path));
CREATE TABLE hdf5_file_index (path TEXT PRIMARY KEY, filename TEXT NOT NULL, group_id TEXT NOT NULL,
    subband_code TEXT NOT NULL, subband_num INTEGER, timestamp_iso TEXT NOT NULL, timestamp_mjd REAL NOT NULL,
    file_size_bytes INTEGER, modified_time REAL, indexed_at REAL, stored INTEGER DEFAULT 1, ra_deg REAL, dec_deg REAL,
    obs_date TEXT, obs_time TEXT, start_jd REAL, n_times INTEGER);
CREATE TABLE transient_candidates (id INTEGER PRIMARY KEY AUTOINCREMENT, source_id TEXT, ra_deg REAL NOT NULL,
    dec_deg REAL NOT NULL, detection_type TEXT NOT NULL, significance_sigma REAL, detected_at REAL,
    priority TEXT DEFAULT 'normal', n_detections INTEGER DEFAULT 0, mean_flux_jy REAL, std_flux_jy REAL, eta REAL,
    v_index REAL, chi_squared REAL, is_variable INTEGER DEFAULT 0, ese_candidate INTEGER DEFAULT 0,
    first_detected_at REAL, last_detected_at REAL, last_updated REAL, notes TEXT);
CREATE TABLE monitoring_sources (id INTEGER PRIMARY KEY AUTOINCREMENT, source_id TEXT NOT NULL UNIQUE,
    ra_deg REAL NOT NULL, dec_deg REAL NOT NULL, n_detections INTEGER DEFAULT 0, mean_flux_jy REAL, std_flux_jy REAL,
    eta REAL, v_index REAL, is_variable INTEGER DEFAULT 0, ese_candidate INTEGER DEFAULT 0, first_detected_at REAL,
    last_detected_at REAL, name TEXT, priority TEXT, notes TEXT);
"""
"""The tables that the documents name without printing their columns, as was decided (columns of our own left out)."""

_SUBJECT = re.compile(r"CREATE (?:TABLE|VIEW)(?: IF NOT EXISTS)? (\w+)|CREATE INDEX.*? ON (\w+)", re.DOTALL)
_CLAUSES = re.compile(r",(?![^()]*\))")


def sql_blocks(document: str) -> list[str]:
    folder = os.environ.get("CONTIMG_SPEC")
    if not folder:
        pytest.skip("CONTIMG_SPEC does not name the folder of the specification's documents")
    return re.findall(r"```sql\n(.*?)```", (Path(folder) / document).read_text(), re.DOTALL)


def printed_ddl(document: str) -> str:
    return "\n".join(block for block in sql_blocks(document) if "CREATE" in block)


def statements(ddl: str) -> Iterator[str]:
    part = ""
    for line in ddl.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            yield part
            part = ""


def make_as_printed(path: Path, name: str) -> None:
    """Make a database by the printed DDL alone, with the settings of SQLite's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        for document in ("S0_data_registry.md", "S1_database_schema.md"):
            for statement in statements(printed_ddl(document)):
                match = _SUBJECT.search(statement)
                assert match is not None, statement
                if NAME_OF.get(match[1] or match[2], "products") == name:
                    conn.execute(statement)
        conn.commit()


def plain(sql: str) -> tuple[str, ...]:
    """Return a definition without spaces and quotes, a table's with its constraints in any order."""
    squeezed = "".join(sql.split()).replace('"', "")
    if not squeezed.startswith("CREATETABLE"):
        return (squeezed,)
    head, _, body = squeezed.partition("(")
    clauses = _CLAUSES.split(body.removesuffix(")"))
    columns = [
        clause for clause in clauses if not clause.startswith(("UNIQUE(", "FOREIGNKEY(", "PRIMARYKEY(", "CONSTR"))
    ]
    return (head, *columns, *sorted(set(clauses) - set(columns)))


def shape(path: Path) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Return everything that a database file defines, save Alembic's own table."""
    with closing(sqlite3.connect(path)) as conn:
        rows = conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    return {(k, name, table): plain(sql or "") for k, name, table, sql in rows if table != "alembic_version"}


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of every table."""
    with closing(sqlite3.connect(path)) as conn:
        tables = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: sorted(conn.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for (name,) in tables}
