"""Catalogue files into `calibrators`, where each survey is kept, and into master_sources, where they are one list."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from sqlalchemy import select

from dsa110_contimg.database import get_session
from dsa110_contimg.database.catalog_import import rebuild_master, replace_survey
from dsa110_contimg.database.models import Source
from dsa110_contimg.database.survey_match import SurveyList
from dsa110_contimg.database.vla_calibrators import CATALOG as VLA
from dsa110_contimg.database.vla_calibrators import import_vla_list
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import catalog_files
from dsa110_contimg.formats.catalog_files import SurveyTable

IMPORTABLE = (*(survey.lower() for survey in catalog_files.SURVEYS), VLA.lower())

Report = Callable[[str, int, int], None]
"""Told what is being done, how far it is, and how far it goes (0: not known)."""


@dataclass(frozen=True)
class CatalogImport:
    """What came of an import."""

    n_rows: int
    """Entries of this catalogue in the database."""
    bad_rows: tuple[str, ...] = ()
    """Rows of the file that could not be used: which, and why."""
    set_aside: int = 0
    """Rows that the survey itself calls duplicates or artifacts."""


def _tell_nobody(_what: str, _done: int, _total: int) -> None:
    pass


def import_catalog(path: Path, survey: str = "csv", report: Report = _tell_nobody) -> CatalogImport:
    """Replace a survey by a file's entries and make the master catalogue of all surveys anew.

    Parameters
    ----------
    survey
        One of `IMPORTABLE`.

    Raises
    ------
    BadInputError
        If the file is missing, damaged, or lacks columns: nothing is replaced then.
    """
    report("reading", 0, 0)
    if survey.upper() == VLA:
        vla = import_vla_list(path)
        return CatalogImport(vla.n_rows, tuple(f"line {bad.line}: {bad.reason}" for bad in vla.bad_lines))
    table = catalog_files.load(path, survey.upper())
    # The survey is committed before what follows from it: a crash between the two leaves a list that the next import
    # makes anew, never one that knows a survey which is not stored.
    with get_session("master_sources") as master, get_session("calibrators") as calibrators:
        entries = _survey_list(table)
        replace_survey(calibrators, table.survey, table.freq_ghz, entries, _counter(report, "writing", len(table)))
        report("matching", 0, 0)
        rebuild_master(calibrators, master, {table.survey: entries}, _counter(report, "listing", 0))
    bad = tuple(f"{table.row_word} {row.number}: {row.reason}" for row in table.bad_rows)
    return CatalogImport(len(table), bad, table.set_aside)


def _counter(report: Report, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        report(what, done, total)

    return count


def _survey_list(table: SurveyTable) -> SurveyList:
    arrays = {field.name: getattr(table, field.name) for field in fields(SurveyList) if field.name != "catalog_id"}
    return SurveyList(catalog_id=np.array(table.names, dtype=object), **arrays)


def require_catalog() -> None:
    """Refuse to go on without known sources: neither calibration nor photometry can do without them.

    Raises
    ------
    ConfigurationError
        If no catalogue has been imported.
    """
    with get_session("master_sources", read_only=True) as session:
        if session.scalar(select(Source.source_id).limit(1)) is None:
            raise ConfigurationError(
                "no catalogue of known sources has been imported: run `contimg catalog import nvss FILE` first"
            )
