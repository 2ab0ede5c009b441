"""All that is known about one product, and what is to be done next, as plain values for JSON.

The registry's row says where a product stands; the figures behind its QA and validation are rows of `qa_checks` in
the products database that belongs to the same registry. Each criterion carries its figures, or the sentence that
says why there are none: a verdict never stands alone.
"""

import time
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.claims import is_abandoned
from dsa110_contimg.database.criteria import (
    MAX_ATTEMPTS,
    Criterion,
    may_be_retried,
    objection,
    publish_blockers,
    publish_criteria,
)
from dsa110_contimg.database.explanations import explaining
from dsa110_contimg.database.models import QACheck
from dsa110_contimg.database.product_entries import list_links, list_tags
from dsa110_contimg.database.registry_rows import ProductRow, RegistryConnection, get_data, location_of
from dsa110_contimg.database.session import database_path, engine_of_file, get_engine
from dsa110_contimg.errors import ConfigurationError

VALIDATION_CHECKS = "tile"
"""What the names of checks of a mosaic's tiles begin with: they decide its validation, the others its QA."""

Figures = list[dict[str, object]]


def describe_product(conn: RegistryConnection, data_id: str, *, now: float | None = None) -> dict[str, object]:
    """Return a product's row, its criteria with the figures behind them, attempts, links, and the next step.

    Keys: the columns of the row but metadata_json; `criteria` ({name, value, wanted, holds, figures, remark}),
    `blockers`, `objection` (what a person would sign for), `max_attempts`, `next_step`, `publish` and `retract` (who,
    when, why, which files), `provenance`, `tags`, `links`, and `metadata` (the rest of metadata_json).

    Raises
    ------
    UnknownProductError
        If there is no such product.
    """
    row = get_data(conn, data_id)
    figures, missing = _figures(conn, data_id)
    details = row.details
    told = asdict(row)
    del told["metadata_json"]
    return {
        **told,
        "criteria": [asdict(one) | _evidence(one, row, figures, missing) for one in publish_criteria(row)],
        "blockers": [] if row.status in {"published", "retracted"} else publish_blockers(row),
        "objection": objection(row),
        "max_attempts": MAX_ATTEMPTS,
        "next_step": next_step(row, time.time() if now is None else now),
        "publish": row.noted or None,
        "retract": details.pop("retract", None),
        "provenance": details.pop("provenance", None),
        "tags": list_tags(conn, data_id),
        "links": [
            {"parent_id": parent, "child_id": child, "relationship_type": kind}
            for parent, child, kind in list_links(conn, data_id)
        ],
        "metadata": {key: value for key, value in details.items() if key != "publish"},
    }


def _evidence(criterion: Criterion, row: ProductRow, figures: Figures, missing: str | None) -> dict[str, object]:
    """Return what was measured for a criterion, and one sentence where that needs one."""
    if criterion.name == "qa_status":
        own = [figure for figure in figures if not str(figure["name"]).startswith(VALIDATION_CHECKS)]
        return {"figures": own, "remark": None if own else missing}
    if criterion.name == "validation_status":
        own = [figure for figure in figures if str(figure["name"]).startswith(VALIDATION_CHECKS)]
        issues = row.details.get("validation_issues")
        told = "; ".join(map(str, issues)) if isinstance(issues, list) else ""
        return {"figures": own, "remark": told or (None if own else missing)}
    if criterion.name == "photometry_status" and row.photometry_status is None:
        return {"figures": [], "remark": "not asked for"}
    return {"figures": [], "remark": row.photometry_job_id if criterion.name == "photometry_status" else None}


def _figures(conn: RegistryConnection, data_id: str) -> tuple[Figures, str | None]:
    """Return the checks of a product, by name, and why there are none."""
    path = _products_file(conn)
    if path is not None and not path.is_file():
        return [], f"no figures: there is no products database {path}"
    engine = get_engine("products", read_only=True) if path is None else engine_of_file(path, read_only=True)
    try:
        with explaining(path or "products", "cannot be read"), closing(Session(engine)) as session:
            checks = session.scalars(select(QACheck).where(QACheck.subject == data_id).order_by(QACheck.name)).all()
    except ConfigurationError as error:
        return [], f"no figures: {error}"
    columns = ("name", "value", "threshold_warning", "threshold_failure", "verdict", "reason", "measured_at")
    figures: Figures = [{column: getattr(check, column) for column in columns} for check in checks]
    return figures, None if figures else f"no figures: nothing was measured on {data_id}"


def _products_file(conn: RegistryConnection) -> Path | None:
    """Return the products database that belongs to a registry: the configured one, or the one beside its file."""
    if isinstance(conn, Connection):
        return None
    registry = Path(location_of(conn))
    if registry == database_path("data_registry").resolve():
        return database_path("products")
    return registry.with_name("products.sqlite3")


def next_step(row: ProductRow, now: float) -> str:
    """Return what happens next to a product, or what somebody has to do, in one sentence."""
    if row.status in {"publishing", "published", "retracted"}:
        return _rest(row, now)
    against = objection(row)
    if against is not None and row.noted.get("despite") != against:
        return f"{against}: look at the figures, then `contimg registry publish {row.data_id} --by NAME --reason WHY`"
    if row.status == "failed":
        return _after_failure(row, now)
    blockers = [blocker for blocker in publish_blockers(row) if not blocker.startswith("auto-publish")]
    if row.status == "staging" and blockers:
        return f"it waits: {'; '.join(blockers)}"
    if row.auto_publish_enabled:
        return f"the next `contimg run` publishes it, or `contimg registry publish {row.data_id}`"
    return f"a person publishes it: `contimg registry publish {row.data_id}`"


def _after_failure(row: ProductRow, now: float) -> str:
    by_hand = f"`contimg registry retry {row.data_id}`"
    if not may_be_retried(row) or (row.publish_attempts or 0) >= MAX_ATTEMPTS:
        return f"it is not tried again by itself: mend what publish_error says, then {by_hand}"
    if row.retry_at is None or row.retry_at <= now:
        return f"the next `contimg run` tries again, or {by_hand}"
    return f"it is tried again by itself after {spoken_time(row.retry_at)}, or now by {by_hand}"


def _rest(row: ProductRow, now: float) -> str:
    held = row.owner is not None or row.status == "publishing"
    if held and is_abandoned(row.owner, row.lease_expires_at, now):
        return "a process stopped in the middle: `contimg registry recover`"
    if held:
        return f"wait: {row.owner} works on it"
    if row.superseded_by is not None:
        return f"use {row.superseded_by}, which replaces it"
    return "nothing" if row.status == "published" else "nothing: what is made anew is registered under a new id"


def spoken_time(unix: float | None) -> str:
    """Return a moment as people read it, UTC."""
    return "unknown" if unix is None else datetime.fromtimestamp(unix, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
