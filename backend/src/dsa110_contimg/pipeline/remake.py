"""A mosaic made anew: the next version of it, from the tiles as they are now.

Nothing is overwritten: the group's `mosaic` job runs again and makes `mosaic_..._2` beside the first, with its own
row, files and product. Who asked and why is noted in the old product first, from where the new one takes it when it is
registered; then, in one transaction of products, the group waits for its mosaic again. A call that was killed between
the two is finished by calling again. `versions` says which version the light curves count.
"""

import json
import time
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.database import get_session, leases
from dsa110_contimg.database.models import DataProduct, Job, JobState, Mosaic, MosaicGroup
from dsa110_contimg.database.registry_rows import (
    RegistryConnection,
    get_data,
    open_registry,
    parse_details,
    transaction,
)
from dsa110_contimg.errors import MosaicError
from dsa110_contimg.pipeline.jobs import Stage


class _Latest(NamedTuple):
    """The newest version of a mosaic, and its group."""

    name: str
    group_id: str
    waiting: bool
    """Whether the group waits for its next version already, and the job for it has not failed."""


def remake(mosaic_id: str, *, by: str, reason: str) -> str:
    """Have a mosaic made anew by the next `contimg run`, and return the id of the version to come.

    Raises
    ------
    MosaicError
        If there is no such mosaic or a newer version of it, it is not registered, or nobody says who and why.
    """
    if not by.strip() or not reason.strip():
        raise MosaicError(f"{mosaic_id} is made anew only if it is told who asks for it and why")
    with get_session("products", read_only=True) as session:
        latest = _latest(session, mosaic_id)
    if latest.name != mosaic_id:
        raise MosaicError(f"{mosaic_id} has a newer version, {latest.name}: have that one made anew")
    successor = next_version(mosaic_id)
    if latest.waiting:
        raise MosaicError(f"{successor} is on its way: `contimg run` makes it")
    _note(mosaic_id, {"by": by, "reason": reason, "at": time.time(), "successor": successor})
    with get_session("products") as session:
        if not _latest(session, mosaic_id).waiting:
            group = update(MosaicGroup).where(MosaicGroup.group_id == latest.group_id)
            session.execute(group.values(status="pending", error=None))
            leases.reopen_job(session, f"{Stage.MOSAIC}:{latest.group_id}", time.time())
    return successor


def next_version(mosaic_id: str) -> str:
    """Return the id of the version after a mosaic."""
    parsed = naming.parse_mosaic_id(mosaic_id)
    if parsed is None:
        raise MosaicError(f"{mosaic_id} is not named like a mosaic of a group: it has no next version")
    first_group, number = parsed
    return naming.mosaic_id(first_group, number + 1)


def version_to_make(session: Session, group_id: str) -> str:
    """Return the id that a group's next mosaic gets."""
    names = session.scalars(select(Mosaic.name).where(Mosaic.group_id == group_id)).all()
    numbers = [parsed[1] for name in names if (parsed := naming.parse_mosaic_id(name)) is not None]
    return naming.mosaic_id(naming.first_group_id(group_id), max(numbers, default=0) + 1)


def replaced_by(mosaic_id: str) -> str | None:
    """Return the version that a mosaic replaces, or None if it is the first."""
    parsed = naming.parse_mosaic_id(mosaic_id)
    return None if parsed is None or parsed[1] == 1 else naming.mosaic_id(parsed[0], parsed[1] - 1)


def request_for(connection: RegistryConnection, mosaic_id: str) -> dict[str, object]:
    """Return who asked when for a mosaic to be made anew, and why; empty if nobody is noted."""
    note = get_data(connection, mosaic_id).details.get("remake")
    return {key: value for key, value in note.items() if key != "successor"} if isinstance(note, dict) else {}


def _latest(session: Session, mosaic_id: str) -> _Latest:
    mosaic = session.scalar(select(Mosaic).where(Mosaic.name == mosaic_id))
    group = None if mosaic is None else session.get(MosaicGroup, mosaic.group_id)
    if group is None:
        raise MosaicError(f"there is no mosaic {mosaic_id} of a known group: `contimg registry list` names them")
    names = session.scalars(select(Mosaic.name).where(Mosaic.group_id == group.group_id)).all()
    job = session.get(Job, f"{Stage.MOSAIC}:{group.group_id}")
    failed = job is not None and job.state == JobState.FAILED.value
    newest = max(names, key=lambda name: (naming.parse_mosaic_id(name) or ("", 0))[1])
    return _Latest(newest, group.group_id, group.status == "pending" and not failed)


def _note(mosaic_id: str, request: dict[str, object]) -> None:
    """Note in a product that it is being replaced; what was asked first stands."""
    with open_registry() as connection:
        get_data(connection, mosaic_id)
        product = DataProduct.data_id == mosaic_id
        with transaction(connection) as run:
            ((text,),) = run(select(DataProduct.metadata_json).where(product))
            details = {"remake": request} | parse_details(mosaic_id, text)
            run(update(DataProduct).where(product).values(metadata_json=json.dumps(details)))
