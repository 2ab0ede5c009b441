"""What one check of the doctor says."""

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    """As it must be."""
    WARNING = "warning"
    """The pipeline runs, but somebody should look."""
    ERROR = "error"
    """The pipeline must not run so."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor."""

    name: str
    grade: Grade
    found: str
    way_out: str = ""
    """What to do; empty when all is well."""


def ok(name: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(name, Grade.OK, found)


def warning(name: str, found: str, way_out: str) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(name, Grade.WARNING, found, way_out)


def error(name: str, found: str, way_out: str) -> Finding:
    """Return a finding with which the pipeline must not run."""
    return Finding(name, Grade.ERROR, found, way_out)
