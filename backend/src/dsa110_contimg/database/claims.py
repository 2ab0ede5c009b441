"""The right of one attempt to publish one product, and how it is lost.

A claim is one guarded UPDATE: owner, attempt, lease. Whoever finds a lease run out, or its owner gone, claims the
product with the next attempt, and the older one is fenced: `Claim.holding` is a writing transaction that begins by
asking whether the attempt is still the newest, and until it ends nobody else can claim the product. All that changes a
file with a final name happens in there. So an attempt that was overtaken, because a clock jumped or a machine slept,
can do nothing, and says so.
"""

import functools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Update, and_, bindparam, case, func, or_, select, update

from dsa110_contimg.database.criteria import AUTO_CLAIM
from dsa110_contimg.database.models import DataProduct
from dsa110_contimg.database.ownership import is_gone, this_process
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.registry_rows import ProductRow, RegistryConnection, Run, parse_details, transaction
from dsa110_contimg.errors import FencedError, PublishError

LEASE_S = 600.0
CLOCKS_APART_S = 60.0
"""How far the clocks of two machines may differ."""


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """What is asked for."""

    mode: str = "move"
    """'move' or 'copy'."""
    published_dir: Path | str | None = None
    """The type's folder of the products area; None takes the usual one."""
    roots: Roots | None = None
    """None takes the configured ones."""
    automatic: bool = False
    """Nobody asked: claim only if the criteria hold at that moment."""
    by: str | None = None
    reason: str | None = None
    """Who published by hand, and why."""
    despite: str | None = None
    """What spoke against it, and was signed for."""


_PRODUCT = DataProduct.data_id == bindparam("product")
_FAILURES_SO_FAR = func.coalesce(DataProduct.publish_attempts, 0)
_LEASE = DataProduct.lease_expires_at
_LATE = or_(_LEASE.is_(None), bindparam("now") > _LEASE, bindparam("horizon") < _LEASE)
_AT_REST = or_(*(DataProduct.status == status for status in ("staging", "validated", "failed")))
_CLAIMABLE = or_(
    _AT_REST,
    and_(DataProduct.status == "publishing", or_(_LATE, DataProduct.owner == bindparam("gone"))),
)
_OWN_ROW = (
    select(DataProduct.metadata_json, _FAILURES_SO_FAR)
    .where(
        _PRODUCT,
        DataProduct.attempt == bindparam("attempt"),
        DataProduct.status == bindparam("owned"),
        DataProduct.owner.is_not(None),
    )
    .with_for_update()
)


def _claiming(condition: ColumnElement[bool]) -> Update:
    return (
        update(DataProduct)
        .where(_PRODUCT, condition)
        .values(
            publish_attempts=_FAILURES_SO_FAR + case((DataProduct.status == "publishing", 1), else_=0),
            status="publishing",
            owner=bindparam("claimer"),
            attempt=func.coalesce(DataProduct.attempt, 0) + 1,
            lease_expires_at=bindparam("lease"),
            publish_mode=bindparam("mode"),
        )
        .returning(DataProduct.attempt, DataProduct.metadata_json, _FAILURES_SO_FAR)
    )


_CLAIMING, _CLAIMING_BY_ITSELF = _claiming(_CLAIMABLE), _claiming(AUTO_CLAIM)


@functools.cache
def _changing(*columns: str) -> Update:
    return update(DataProduct).where(_PRODUCT).values({name: bindparam(f"new_{name}") for name in columns})


@dataclass(frozen=True)
class Held:
    """The row of a product while nobody else can change it."""

    run: Run
    data_id: str
    metadata_json: str | None
    failures: int

    def change(self, **columns: object) -> None:
        """Update the row."""
        values = {f"new_{name}": value for name, value in columns.items()}
        self.run(_changing(*columns), values | {"product": self.data_id})

    def note(self, **told: object) -> None:
        """Add to what is noted of the attempt."""
        self.change(metadata_json=_with_note(self.data_id, self.metadata_json, told))


@dataclass
class Claim:
    """The right of one attempt to publish one product."""

    conn: RegistryConnection
    data_id: str
    attempt: int
    extended_at: float

    @contextmanager
    def holding(self, owned: str = "publishing") -> Iterator[Held]:
        """Hold the row, if this attempt still owns it, until the block ends; else raise FencedError."""
        with transaction(self.conn) as run:
            found = run(_OWN_ROW, {"product": self.data_id, "attempt": self.attempt, "owned": owned})
            if not found:
                raise FencedError(
                    f"attempt {self.attempt} to publish {self.data_id} was overtaken; it changes nothing more"
                )
            yield Held(run, self.data_id, *found[0])

    def change(self, *, owned: str = "publishing", **columns: object) -> None:
        """Update the row, if this attempt still owns it, else raise FencedError."""
        with self.holding(owned) as held:
            held.change(**columns)

    def beat(self) -> None:
        """Extend the lease when a good part of it has passed, or the clock jumped."""
        now = time.time()
        if abs(now - self.extended_at) > LEASE_S / 10:
            self.change(lease_expires_at=now + LEASE_S)
            self.extended_at = now


def _with_note(data_id: str, metadata_json: str | None, note: dict[str, object]) -> str:
    details = parse_details(data_id, metadata_json)
    earlier = details.get("publish")
    return json.dumps(details | {"publish": (earlier if isinstance(earlier, dict) else {}) | note})


def _request_note(row: ProductRow, request: PublishRequest) -> dict[str, object]:
    """Return what is noted with the claim; the fingerprints of an interrupted attempt stay noted."""
    earlier = row.noted
    folder = None if request.published_dir is None else str(Path(request.published_dir).resolve())
    told = {name: getattr(request, name) for name in ("automatic", "by", "reason", "despite")} | {
        "asked_at": time.time()
    }
    if row.status == "publishing" and request.by is None:
        # An attempt that takes over from one that crashed goes on for the same reason.
        told = {name: earlier.get(name, value) for name, value in told.items()}
    return {"published_dir": folder, **told, "items": earlier.get("items", [])}


def claim(conn: RegistryConnection, row: ProductRow, request: PublishRequest) -> Claim | None:
    """Take a product for publishing; None when another process has it or its state forbids it.

    Taking over from an attempt that crashed counts that attempt as a failure.
    """
    now = time.time()
    about = {"product": row.data_id, "claimer": this_process(), "lease": now + LEASE_S, "mode": request.mode}
    state = {
        "now": now,
        "horizon": now + LEASE_S + CLOCKS_APART_S,
        # Nobody is called None, and NULL equals nothing.
        "gone": row.owner if is_gone(row.owner) else None,
    }
    with transaction(conn) as run:
        taken = run(_CLAIMING_BY_ITSELF, about) if request.automatic else run(_CLAIMING, about | state)
        if not taken:
            return None
        attempt, metadata_json, failures = taken[0]
        # Metadata that were damaged are left as they are; the attempt fails by them and says so in the row.
        with suppress(PublishError):
            Held(run, row.data_id, metadata_json, failures).note(**_request_note(row, request))
    return Claim(conn, row.data_id, int(attempt), now)


def is_late(lease_expires_at: float | None, now: float) -> bool:
    """Return whether a lease has run out, or ends later than any can: then a clock was set back since it was given."""
    return lease_expires_at is None or not now <= lease_expires_at <= now + LEASE_S + CLOCKS_APART_S


def is_abandoned(owner: str | None, lease_expires_at: float | None, now: float) -> bool:
    """Return whether nobody works any more on a product that is held: its owner is gone, or late."""
    return is_gone(owner) or is_late(lease_expires_at, now)
