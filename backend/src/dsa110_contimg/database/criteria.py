"""When a product is published: by itself, again after a failure, or only with a person's signature.

By itself when S0's six criteria hold, and again after a failure while the five that are not the status still do and
fewer than `MAX_ATTEMPTS` attempts have failed; each failure waits longer than the one before (`retry_at`). A person
may publish without them. Where QA or validation speaks against it, who and why are asked for and stay in the row:
a product that a pipeline doubts is published on somebody's word.

Each rule is here twice, as a condition on rows for the database and as sentences for people.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, or_

from dsa110_contimg.database.models import DataProduct, FinalizationStatus, QAStatus, ValidationStatus
from dsa110_contimg.database.registry_rows import ProductRow

MAX_ATTEMPTS = 3

_GATES = and_(
    DataProduct.auto_publish_enabled == 1,
    DataProduct.qa_status == "passed",
    DataProduct.validation_status == "validated",
    DataProduct.finalization_status == "finalized",
    or_(DataProduct.photometry_status == "completed", DataProduct.photometry_status.is_(None)),
)
AUTO_CRITERIA = and_(DataProduct.status == "staging", _GATES)
MAY_FAIL_AGAIN = and_(DataProduct.status == "failed", func.coalesce(DataProduct.publish_attempts, 0) < MAX_ATTEMPTS)
AUTO_CLAIM = or_(AUTO_CRITERIA, and_(MAY_FAIL_AGAIN, _GATES))
"""What an attempt that nobody asked for may claim."""


def due(now: float) -> ColumnElement[bool]:
    """Return the condition on a failed product that its next attempt by itself has come."""
    return and_(MAY_FAIL_AGAIN, or_(DataProduct.retry_at.is_(None), DataProduct.retry_at <= now))


@dataclass(frozen=True)
class Criterion:
    """One of S0's criteria, and what a product has."""

    name: str
    """The column."""
    value: str | int | None
    """What the row says; None: not asked for."""
    wanted: str | int
    holds: bool


def publish_criteria(row: ProductRow) -> list[Criterion]:
    """Return S0's six criteria in S0's order."""
    found: list[tuple[str, str | int | None, str | int]] = [
        ("status", row.status, "staging"),
        ("auto_publish_enabled", row.auto_publish_enabled or 0, 1),
        ("qa_status", row.qa_status or QAStatus.PENDING.value, QAStatus.PASSED.value),
        ("validation_status", row.validation_status or ValidationStatus.PENDING.value, "validated"),
        ("finalization_status", row.finalization_status or FinalizationStatus.PENDING.value, "finalized"),
        ("photometry_status", row.photometry_status, "completed"),
    ]
    return [
        Criterion(name, value, wanted, value == wanted or (name == "photometry_status" and value is None))
        for name, value, wanted in found
    ]


_SPOKEN = {"qa_status": "QA", "auto_publish_enabled": "auto-publish"}


def spoken_name(criterion: Criterion) -> str:
    """Return what people call a criterion."""
    return _SPOKEN.get(criterion.name, criterion.name.removesuffix("_status"))


def _blocker(criterion: Criterion) -> str:
    if criterion.name == "auto_publish_enabled":
        return "auto-publish is off"
    return f"{spoken_name(criterion)} is {criterion.value!r}, not {criterion.wanted!r}"


def publish_blockers(row: ProductRow) -> list[str]:
    """Return why a product may not be published by itself yet: one sentence per criterion that does not hold."""
    return [_blocker(criterion) for criterion in publish_criteria(row) if not criterion.holds]


def objection(row: ProductRow) -> str | None:
    """Return what speaks against publishing a product, so that a person has to sign for it, or None."""
    if row.qa_status in {QAStatus.WARNING, QAStatus.FAILED}:
        return f"its QA is {row.qa_status!r}"
    if row.validation_status == ValidationStatus.INVALID:
        return "its validation is 'invalid'"
    return "it was rejected" if row.finalization_status == FinalizationStatus.REJECTED else None


def may_be_retried(row: ProductRow) -> bool:
    """Return whether what allowed a failed attempt, six criteria or a person's word, still allows another."""
    if row.noted.get("automatic", True):
        return all(criterion.holds for criterion in publish_criteria(row) if criterion.name != "status")
    return objection(row) in {None, row.noted.get("despite")}
