"""How a product enters the registry: its id, its name, what it was made from and what it replaces.

    parent ──derived_from──► child      the child was made from the parent
    parent ──supersedes────► child      the child is the parent, made anew; it replaces it once it is published

The parent came first. A product is never overwritten: what is made anew gets a new id and a link to the old, whose
`superseded_by` names the newest of its successors that was published. No product can be its own ancestor.
"""

import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from sqlalchemy import bindparam, delete, exists, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from dsa110_contimg.database.models import (
    DataProduct,
    DataRelationship,
    DataTag,
    LinkKind,
    QAStatus,
    ValidationStatus,
)
from dsa110_contimg.database.product_paths import check_name, resolve, type_folder
from dsa110_contimg.database.registry_rows import RegistryConnection, Run, get_data, read, transaction
from dsa110_contimg.errors import PublishError, UnknownProductError

_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+@-]*")
_TAG_PATTERN = re.compile(r"[\w.:+@-]+")


def register_data_instance(  # noqa: PLR0913 - the specification's five, and what ties a product to others
    conn: RegistryConnection,
    data_type: str,
    data_id: str,
    stage_path: Path | str,
    auto_publish: bool = True,
    metadata: Mapping[str, object] | None = None,
    *,
    supersedes: str | None = None,
    derived_from: Iterable[str] = (),
) -> str:
    """Register a product in staging, with its links, in one transaction, and return its id.

    Registering the same id with the same path again changes nothing, however far the product has come.

    Parameters
    ----------
    supersedes
        The product that this one replaces when it is published.
    derived_from
        Registered products that it was made from.

    Raises
    ------
    PublishError
        If the id, type or name cannot be one, the id belongs to another path, or a link is impossible.
    """
    type_folder(data_type)
    if not _ID_PATTERN.fullmatch(data_id) or ".." in data_id:
        raise PublishError(f"{data_id!r} cannot be a product id: use letters, digits and . _ : + @ -")
    path = resolve(stage_path)
    moment = time.time()
    row = insert(DataProduct).values(
        data_type=data_type,
        data_id=data_id,
        base_path=str(path.parent),
        stage_path=str(path),
        created_at=moment,
        staged_at=moment,
        auto_publish_enabled=int(auto_publish),
        metadata_json=None if metadata is None else json.dumps(dict(metadata)),
        qa_status=QAStatus.PENDING.value,
        validation_status=ValidationStatus.PENDING.value,
    )
    with transaction(conn) as run:
        if run(row.on_conflict_do_nothing().returning(DataProduct.id)):
            check_name(data_type, data_id, path)
        else:
            _check_same(run, data_id, data_type, str(path))
        for parent in derived_from:
            _link(run, parent, data_id, LinkKind.DERIVED_FROM)
        if supersedes is not None:
            _link(run, supersedes, data_id, LinkKind.SUPERSEDES)
    return data_id


def _check_same(run: Run, data_id: str, data_type: str, path: str) -> None:
    """Raise PublishError unless the product that has the id is the one that is registered."""
    columns = (DataProduct.data_type, DataProduct.stage_path, DataProduct.status)
    ((*found, status),) = run(select(*columns).where(DataProduct.data_id == data_id))
    if status == "retracted":
        raise PublishError(f"product {data_id} was retracted: a remade product needs a new id")
    if found != [data_type, path]:
        raise PublishError(
            f"product {data_id} is registered already as {' '.join(found)}: a remade product needs a new id"
        )


def link_data(conn: RegistryConnection, parent_id: str, child_id: str, relationship_type: str) -> None:
    """Record that the child was made from the parent ('derived_from') or replaces it ('supersedes'); idempotent.

    Raises
    ------
    PublishError
        If one of the two is not registered, there is no such relationship, or the parent came from the child.
    """
    if relationship_type not in set(LinkKind):
        raise PublishError(f"{relationship_type!r} is no relationship; there are {', '.join(LinkKind)}")
    with transaction(conn) as run:
        _link(run, parent_id, child_id, LinkKind(relationship_type))


def _link(run: Run, parent_id: str, child_id: str, kind: LinkKind) -> None:
    for data_id in (parent_id, child_id):
        if not run(select(DataProduct.id).where(DataProduct.data_id == data_id)):
            raise UnknownProductError(data_id)
    if child_id in _ancestors(run, parent_id):
        raise PublishError(
            f"{child_id} cannot be linked as {kind.value} {parent_id}: {parent_id} comes from {child_id} itself"
        )
    row = {"parent_id": parent_id, "child_id": child_id, "relationship_type": kind.value}
    run(insert(DataRelationship).values(created_at=time.time(), **row).on_conflict_do_nothing())
    if kind is LinkKind.SUPERSEDES:
        mark_superseded(run, child_id)


def _ancestors(run: Run, data_id: str) -> set[str]:
    """Return a product and all that it came from, over every link."""
    family = select(DataProduct.data_id).where(DataProduct.data_id == data_id).cte("family", recursive=True)
    above = select(DataRelationship.parent_id).join(family, DataRelationship.child_id == family.c.data_id)
    return {found for (found,) in run(select(family.union(above).c.data_id))}


_REPLACED = select(DataRelationship.parent_id).where(
    DataRelationship.child_id == bindparam("product"),
    DataRelationship.relationship_type == LinkKind.SUPERSEDES.value,
    exists().where(DataProduct.data_id == bindparam("product"), DataProduct.status == "published"),
)
_MARK_SUPERSEDED = (
    update(DataProduct).where(DataProduct.data_id.in_(_REPLACED)).values(superseded_by=bindparam("product"))
)


def mark_superseded(run: Run, data_id: str) -> None:
    """Within a transaction, let what a product replaces name it, if it is published."""
    run(_MARK_SUPERSEDED, {"product": data_id})


def list_links(conn: RegistryConnection, data_id: str) -> list[tuple[str, str, str]]:
    """Return (parent, child, relationship type) of each link of a product."""
    link = DataRelationship
    query = select(link.parent_id, link.child_id, link.relationship_type)
    found = query.where(or_(link.parent_id == data_id, link.child_id == data_id)).order_by(link.id)
    return [(parent, child, kind) for parent, child, kind in read(conn, found)]


def tag_data(conn: RegistryConnection, data_id: str, tag: str) -> None:
    """Put a tag, one word, on a product; idempotent."""
    get_data(conn, data_id)
    if not _TAG_PATTERN.fullmatch(tag):
        raise PublishError(f"{tag!r} cannot be a tag: use one word of letters, digits and . _ : + @ -")
    with transaction(conn) as run:
        run(insert(DataTag).values(data_id=data_id, tag=tag, created_at=time.time()).on_conflict_do_nothing())


def untag_data(conn: RegistryConnection, data_id: str, tag: str) -> None:
    """Take a tag from a product that has it."""
    get_data(conn, data_id)
    with transaction(conn) as run:
        gone = run(delete(DataTag).where(DataTag.data_id == data_id, DataTag.tag == tag).returning(DataTag.id))
    if not gone:
        raise PublishError(f"product {data_id} has no tag {tag!r}")


def list_tags(conn: RegistryConnection, data_id: str) -> list[str]:
    """Return a product's tags."""
    return [tag for (tag,) in read(conn, select(DataTag.tag).where(DataTag.data_id == data_id).order_by(DataTag.tag))]
