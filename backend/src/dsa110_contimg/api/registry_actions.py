"""What operators do to products: explain, publish, retry, retract, verify.

They call what the commands of `contimg registry` call, and answer with the same sentences; who asked is the user, and
stays in the product's row and in the audit. A product that cannot be published or retracted as it is, is a conflict.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, BeforeValidator, Field

from dsa110_contimg.api.access import Operator, record, recorded
from dsa110_contimg.api.registry import opened
from dsa110_contimg.api.schemas import Storable, Words
from dsa110_contimg.database import fixity
from dsa110_contimg.database.accounts import User
from dsa110_contimg.database.product_actions import publish_by_hand, retry_by_hand
from dsa110_contimg.database.product_report import describe_product
from dsa110_contimg.database.registry_rows import RegistryConnection, get_data
from dsa110_contimg.database.retraction import retract
from dsa110_contimg.errors import PublishError, UnknownProductError
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.reconcile import follow_products

router = APIRouter(prefix="/data-registry", tags=["data-registry"])


class Mode(StrEnum):
    """What becomes of the staged file."""

    MOVE = "move"
    COPY = "copy"


class Publication(BaseModel, extra="forbid"):
    """How a product is to be published."""

    mode: Mode = Mode.MOVE
    reason: Words | None = Field(None, description="Why; needed where QA or validation objects.")


class Repetition(BaseModel, extra="forbid"):
    """How a failed publication is tried again."""

    reset: bool = Field(False, description="Forget the failures first: the count starts anew.")
    reason: Words | None = Field(None, description="Why; it stays in the audit.")


class Retraction(BaseModel, extra="forbid"):
    """Why a published product is taken back."""

    reason: Words
    successor: Storable | None = Field(None, description="The product that replaces it; else its newer version.")


def _written(moment: object) -> object:
    """Refuse a time that is a number: in which unit nobody knows."""
    if not isinstance(moment, str | datetime | None):
        raise ValueError("a time is written as 2026-01-31T12:00:00Z")  # noqa: TRY004 - pydantic's word for bad input
    return moment


class Verification(BaseModel, extra="forbid"):
    """What is read again."""

    data_id: Storable | None = Field(None, description="Only this product.")
    since: Annotated[datetime | None, BeforeValidator(_written)] = Field(
        None, description="Only what was published since then."
    )


class Explanation(BaseModel):
    """Why a product is where it is, and what comes next."""

    data_id: str
    status: str
    criteria: list[dict[str, Any]]
    blockers: list[str]
    objection: str | None
    next_step: str
    publish_attempts: int | None
    publish_error: str | None


@contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except UnknownProductError as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error
    except PublishError as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error


@router.get("/{data_id}/explain")
def explain_product(request: Request, data_id: Storable) -> Explanation:
    """Tell why a product is not published: each criterion with its figures, and the next step."""
    with opened(request) as conn:
        return explain(conn, data_id)


def explain(conn: RegistryConnection, data_id: str) -> Explanation:
    """Return why a product is where it is; HTTPException 404 for one that does not exist."""
    told = _told(conn, data_id)
    return Explanation.model_validate({name: told[name] for name in Explanation.model_fields})


def _told(conn: RegistryConnection, data_id: str) -> dict[str, Any]:
    try:
        return describe_product(conn, data_id)
    except UnknownProductError as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error


@router.post("/{data_id}/publish")
def publish(request: Request, data_id: Storable, wanted: Publication, user: Operator) -> dict[str, Any]:
    """Publish a product by hand; where QA or validation speaks against it, the reason is the signature."""
    with opened(request) as conn:
        publish_for(conn, data_id, user, wanted)
        return _told(conn, data_id)


def publish_for(conn: RegistryConnection, data_id: str, user: User, wanted: Publication) -> None:
    """Publish a product for a user; HTTPException 404, or 409 with the sentence that the command prints."""
    with _conflicts(), recorded(user, "publish", f"product {data_id}", wanted.reason):
        publish_by_hand(conn, data_id, mode=wanted.mode.value, by=user.name, reason=wanted.reason)


@router.post("/{data_id}/retry")
def retry(request: Request, data_id: Storable, wanted: Repetition, user: Operator) -> dict[str, Any]:
    """Publish again what failed, at once and as it was asked for, also beyond the limit of attempts."""
    with opened(request) as conn:
        retry_for(conn, data_id, user, wanted)
        return _told(conn, data_id)


def retry_for(conn: RegistryConnection, data_id: str, user: User, wanted: Repetition) -> None:
    """Try a failed publication again for a user; errors as `publish_for`."""
    with _conflicts(), recorded(user, "retry", f"product {data_id}", wanted.reason):
        retry_by_hand(conn, data_id, reset=wanted.reset)


@router.post("/{data_id}/retract")
def take_back(request: Request, data_id: Storable, wanted: Retraction, user: Operator) -> dict[str, Any]:
    """Take a published product back: its file goes to a tombstone folder, its fluxes leave the light curves."""
    with opened(request) as conn:
        retract_for(conn, data_id, user, wanted)
        return _told(conn, data_id)


def retract_for(conn: RegistryConnection, data_id: str, user: User, wanted: Retraction) -> None:
    """Retract a product for a user; errors as `publish_for`."""
    with _conflicts(), recorded(user, "retract", f"product {data_id}", wanted.reason):
        successor = wanted.successor or get_data(conn, data_id).superseded_by
        retract(conn, data_id, reason=wanted.reason, by=user.name, successor=successor)
    follow_products(PhotometryOptions())


@router.post("/verify")
def verify(request: Request, wanted: Verification, user: Operator) -> dict[str, Any]:
    """Read published products again and compare them with their checksums."""
    with opened(request) as conn, _conflicts():
        if wanted.data_id is not None:
            get_data(conn, wanted.data_id)
        moment = None if wanted.since is None else wanted.since.timestamp()
        report = fixity.verify(conn, since=moment, data_id=wanted.data_id)
    told = report.as_dict()
    record(user, "verify", f"product {wanted.data_id or 'all'}", f"intact: {report.intact}")
    return told
