"""data_registry.sqlite3: every product's life from staging to published.

staging ──► validated ──► publishing ──► published ──► retracted
   └───────────────────────┘    └──► failed ──► publishing (again)
"""

import json
from enum import StrEnum

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dsa110_contimg.database.models.base import COLUMN_TYPES, NULL, ONE, ZERO


class ProductStatus(StrEnum):
    """Where a product stands."""

    STAGING = "staging"
    """In the staging area, waiting for its gates."""
    VALIDATED = "validated"
    """All gates passed, auto-publish is off: a person publishes it."""
    PUBLISHING = "publishing"
    """An attempt owns it and moves files."""
    PUBLISHED = "published"
    """In the products area, whole and verified."""
    FAILED = "failed"
    """The last attempt failed; publish_error says why."""
    RETRACTED = "retracted"
    """Was published and taken back."""


class QAStatus(StrEnum):
    """What quality assurance said."""

    PENDING = "pending"
    """Not yet run."""
    RUNNING = "running"
    """In progress."""
    PASSED = "passed"
    """Every check passed."""
    FAILED = "failed"
    """A check failed."""
    WARNING = "warning"
    """Passed with warnings: no auto-publish, a person may."""


class ValidationStatus(StrEnum):
    """Whether the product's tiles are consistent."""

    PENDING = "pending"
    """Not yet run."""
    VALIDATED = "validated"
    """Consistent."""
    INVALID = "invalid"
    """Inconsistent."""


class FinalizationStatus(StrEnum):
    """Whether the product has all that it will get."""

    PENDING = "pending"
    """Not yet finalized."""
    FINALIZED = "finalized"
    """Ready for auto-publish."""
    REJECTED = "rejected"
    """QA or validation failed."""


class LinkKind(StrEnum):
    """What ties a product, the child, to one that came before it, the parent."""

    DERIVED_FROM = "derived_from"
    """The child was made from the parent."""
    SUPERSEDES = "supersedes"
    """The child is the parent, made anew."""


class DataRegistryBase(DeclarativeBase):
    """The tables of data_registry.sqlite3."""

    type_annotation_map = COLUMN_TYPES


class DataProduct(DataRegistryBase):
    """One product: a file or a folder."""

    __tablename__ = "data_registry"
    __table_args__ = (
        UniqueConstraint("data_type", "data_id"),
        Index("idx_data_registry_type_status", "data_type", "status"),
        Index("idx_data_registry_status", "status"),
        Index("idx_data_registry_published_at", "published_at"),
        Index("idx_data_registry_finalization", "finalization_status"),
        Index("idx_data_registry_photometry", "photometry_status"),
        Index(
            "idx_data_registry_owned",
            "owner",
            sqlite_where=text("owner IS NOT NULL"),
            postgresql_where=text("owner IS NOT NULL"),
        ),
        Index(
            "idx_data_registry_ready",
            "finalization_status",
            "qa_status",
            "validation_status",
            "auto_publish_enabled",
            sqlite_where=text("status = 'staging'"),
            postgresql_where=text("status = 'staging'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    data_type: Mapped[str]
    data_id: Mapped[str] = mapped_column(unique=True)
    base_path: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'staging'"))
    stage_path: Mapped[str]
    published_path: Mapped[str | None]
    created_at: Mapped[float]
    staged_at: Mapped[float]
    published_at: Mapped[float | None]
    publish_mode: Mapped[str | None]
    metadata_json: Mapped[str | None]
    qa_status: Mapped[str | None]
    validation_status: Mapped[str | None]
    finalization_status: Mapped[str | None] = mapped_column(server_default=text("'pending'"))
    auto_publish_enabled: Mapped[int | None] = mapped_column(server_default=ONE)
    publish_attempts: Mapped[int | None] = mapped_column(server_default=ZERO)
    publish_error: Mapped[str | None]
    photometry_status: Mapped[str | None] = mapped_column(server_default=NULL)
    photometry_job_id: Mapped[str | None] = mapped_column(server_default=NULL)
    owner: Mapped[str | None]
    attempt: Mapped[int | None]
    lease_expires_at: Mapped[float | None]
    sha256: Mapped[str | None]
    size_bytes: Mapped[int | None]
    superseded_by: Mapped[str | None]
    retracted_at: Mapped[float | None]
    retract_reason: Mapped[str | None]
    retry_at: Mapped[float | None]

    @property
    def details(self) -> dict[str, object]:
        """The parsed metadata_json."""
        return dict(json.loads(self.metadata_json or "{}"))


class DataRelationship(DataRegistryBase):
    """One product was made from, or replaces, another."""

    __tablename__ = "data_relationships"
    __table_args__ = (
        UniqueConstraint("parent_id", "child_id", "relationship_type"),
        Index("idx_data_relationships_parent", "parent_id"),
        Index("idx_data_relationships_child", "child_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[str]
    child_id: Mapped[str]
    relationship_type: Mapped[str]
    created_at: Mapped[float]


class DataTag(DataRegistryBase):
    """A word that a person or a stage put on a product."""

    __tablename__ = "data_tags"
    __table_args__ = (
        UniqueConstraint("data_id", "tag"),
        Index("idx_data_tags_tag", "tag"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    data_id: Mapped[str]
    tag: Mapped[str]
    created_at: Mapped[float]
