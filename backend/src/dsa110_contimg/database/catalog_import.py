"""Surveys into `catalog_sources`, and from there, matched with each other, into the master catalogue.

A survey is replaced whole by its file, and the master catalogue is made anew of all surveys that are stored, so
that neither the order of imports nor a repetition changes the outcome.
"""

import time
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.bulk import Progress, Value, insert_columns, no_progress
from dsa110_contimg.database.master_sources import replace_catalog
from dsa110_contimg.database.models import CatalogSource, Source
from dsa110_contimg.database.survey_match import COMPANIONS, LISTS, SurveyList, merge


def replace_survey(
    session: Session, catalog: str, freq_ghz: float, survey: SurveyList, progress: Progress = no_progress
) -> int:
    """Replace the entries of one survey in `calibrators` and return how many there are.

    Entries that are stored already, all of them alike, stay as they are.
    """
    if _is_stored(session, catalog, freq_ghz, survey):
        return len(survey)
    session.execute(delete(CatalogSource).where(CatalogSource.catalog == catalog))
    now, count = time.time(), len(survey)
    columns: dict[str, Sequence[Value]] = dict(survey.cells())
    columns["source_name"] = columns["catalog_id"]
    same: dict[str, Value] = {"catalog": catalog, "flux_freq_ghz": freq_ghz, "created_at": now, "updated_at": now}
    columns |= {name: [value] * count for name, value in same.items()}
    return insert_columns(session, CatalogSource, columns, progress)


def _is_stored(session: Session, catalog: str, freq_ghz: float, survey: SurveyList) -> bool:
    query = select(CatalogSource.flux_freq_ghz, func.count()).where(CatalogSource.catalog == catalog)
    stored = [tuple(row) for row in session.execute(query.group_by(CatalogSource.flux_freq_ghz))]
    if stored != [(freq_ghz, len(survey))]:
        return False
    return load_survey(session, catalog).in_order().cells() == survey.in_order().cells()


def rebuild_master(
    calibrators: Session,
    master: Session,
    known: dict[str, SurveyList] | None = None,
    progress: Progress = no_progress,
) -> int:
    """Make the master catalogue of all stored surveys and return how many sources it holds.

    Without a survey that names sources (the NVSS, or a table of our own) it stays as it is.

    Parameters
    ----------
    known
        Surveys that need not be read again.
    """
    surveys = dict(known or {})
    for name in (*LISTS, *COMPANIONS):
        if name not in surveys and len(survey := load_survey(calibrators, name)):
            surveys[name] = survey
    if not any(name in surveys for name in LISTS):
        return master.scalar(select(func.count()).select_from(Source)) or 0
    return replace_catalog(master, merge(surveys), progress)


def load_survey(session: Session, catalog: str) -> SurveyList:
    """Return the entries of a survey."""
    names = [field.name for field in fields(SurveyList)]
    query = select(*(getattr(CatalogSource, name) for name in names)).where(CatalogSource.catalog == catalog)
    rows = session.execute(query).all()
    columns = [np.array([row[i] for row in rows], dtype=object if i == 0 else np.float64) for i in range(len(names))]
    return SurveyList(*columns)
