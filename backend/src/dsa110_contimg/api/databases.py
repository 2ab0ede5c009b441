"""The databases, opened to read, one session for each request that asks.

A database that is missing, locked, or has not the tables of this version (somebody is migrating it) is no fault of
who asks: the answer is 503 with `Retry-After` and the sentence of the error, as a problem document or as a page.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from dsa110_contimg.database.session import get_session


@contextmanager
def reading(name: str) -> Iterator[Session]:
    """Open a database to read, by its session name; ConfigurationError (answered with 503) if that cannot be."""
    with get_session(name, read_only=True, pooled=True) as session:
        yield session


def _products() -> Iterator[Session]:
    with reading("products") as session:
        yield session


def _cal_registry() -> Iterator[Session]:
    with reading("cal_registry") as session:
        yield session


def _ingest() -> Iterator[Session]:
    with reading("ingest") as session:
        yield session


def _hdf5() -> Iterator[Session]:
    with reading("hdf5") as session:
        yield session


def _data_registry() -> Iterator[Session]:
    with reading("data_registry") as session:
        yield session


def _calibrators() -> Iterator[Session]:
    with reading("calibrators") as session:
        yield session


def _master_sources() -> Iterator[Session]:
    with reading("master_sources") as session:
        yield session


Products = Annotated[Session, Depends(_products)]
CalRegistry = Annotated[Session, Depends(_cal_registry)]
Ingest = Annotated[Session, Depends(_ingest)]
Hdf5 = Annotated[Session, Depends(_hdf5)]
Registry = Annotated[Session, Depends(_data_registry)]
Calibrators = Annotated[Session, Depends(_calibrators)]
MasterSources = Annotated[Session, Depends(_master_sources)]
