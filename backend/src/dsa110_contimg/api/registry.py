"""Products: the list, one with all that is known about it, and where it comes from.

A list comes in pages in order of registration, or the newest first. `next` is the cursor of the page behind, or null;
whoever follows the cursors sees each product once, also while others are registered.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from dsa110_contimg.api.paging import Paged
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.database.criteria import publish_blockers
from dsa110_contimg.database.models import ProductStatus
from dsa110_contimg.database.product_report import describe_product
from dsa110_contimg.database.registry_rows import ProductRow, RegistryConnection, list_data, open_registry
from dsa110_contimg.database.session import database_path, on_server
from dsa110_contimg.errors import ConfigurationError, PublishError, UnknownProductError
from dsa110_contimg.prov_json import prov_document

router = APIRouter(prefix="/data-registry", tags=["data-registry"])


class Listing(Paged):
    """Which products a list holds, and in what order."""

    status: ProductStatus | None = Field(None, description="Only products of this status.")
    type: Storable | None = Field(None, description="Only products of this type, such as mosaic.")
    tag: Storable | None = Field(None, description="Only products that carry this tag.")
    sort: Literal["registered", "-registered"] = Field("registered", description="With - the newest first.")


class Entry(BaseModel):
    """One product in a list."""

    data_id: str
    data_type: str
    status: ProductStatus
    qa_status: str | None
    staged_at: float
    published_at: float | None
    published_path: str | None
    size_bytes: int | None
    sha256: str | None
    superseded_by: str | None
    blockers: list[str] = Field(description="Why it is not published yet, one sentence each.")


class Page(BaseModel):
    """A part of the list."""

    items: list[Entry]
    next: str | None = Field(description="Cursor of the page behind; null at the end.")


@router.get("")
def list_products(request: Request, response: Response, wanted: Annotated[Listing, Query()]) -> Page:
    """List products in order of registration."""
    chosen: dict[str, Any] = {"data_type": wanted.type, "status": wanted.status, "tag": wanted.tag}
    with opened(request) as conn:
        try:
            rows = list_data(
                conn, **chosen, after=wanted.cursor, limit=wanted.limit + 1, newest_first=wanted.sort.startswith("-")
            )
        except PublishError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from error
    cursor = rows[wanted.limit - 1].data_id if len(rows) > wanted.limit else None
    if cursor is not None:
        response.headers["Link"] = f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'
    return Page(items=[entry_of(row) for row in rows[: wanted.limit]], next=cursor)


@router.get("/{data_id}")
def get_product(request: Request, data_id: Storable) -> dict[str, Any]:
    """Return a product: its row, each criterion with its figures, attempts, who published it, links, provenance."""
    return _described(request, data_id)


@router.get("/{data_id}/provenance")
def get_provenance(request: Request, data_id: Storable) -> dict[str, Any]:
    """Return where a product comes from, as PROV-JSON."""
    return prov_document(_described(request, data_id))


def _described(request: Request, data_id: str) -> dict[str, Any]:
    with opened(request) as conn:
        try:
            return describe_product(conn, data_id)
        except UnknownProductError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error


def entry_of(row: ProductRow) -> Entry:
    """Return a product for a list."""
    told = {name: getattr(row, name) for name in Entry.model_fields if name != "blockers"}
    done = row.status in {ProductStatus.PUBLISHED, ProductStatus.RETRACTED}
    return Entry(**told, blockers=[] if done else publish_blockers(row))


@contextmanager
def opened(request: Request) -> Iterator[RegistryConnection]:
    """Open the registry; one that does not exist is not made."""
    path: Path | None = request.app.state.registry_file
    check_registry(path)
    with open_registry(path) as conn:
        yield conn


def check_registry(path: Path | None) -> None:
    """Raise ConfigurationError if a registry file, or else the configured one, is not there."""
    if path is None and on_server():
        return
    path = path or database_path("data_registry")
    if not path.exists():
        raise ConfigurationError(f"registry {path} does not exist: run `contimg init`")
