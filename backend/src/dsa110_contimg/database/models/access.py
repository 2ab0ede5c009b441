"""data_registry.sqlite3, second part: who may change what, and who changed what.

A password is stored as its Argon2 hash and a token or link as its SHA-256, so that whoever reads the database, or a
backup of it, can log in with nothing that stands there.
"""

from enum import StrEnum

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from dsa110_contimg.database.models.base import ZERO, one_of
from dsa110_contimg.database.models.data_registry import DataRegistryBase


class Role(StrEnum):
    """What a user may do, in rising order; each may do what those before it may."""

    VIEWER = "viewer"
    """Reads, where reading needs a login."""
    OPERATOR = "operator"
    """Publishes, retries, retracts, judges candidates."""
    ADMIN = "admin"
    """Manages users and reads the audit."""

    @property
    def rank(self) -> int:
        """The place in rising order."""
        return list(Role).index(self)


class Account(DataRegistryBase):
    """A person, or a program, that may log in or hold tokens."""

    __tablename__ = "users"
    __table_args__ = (one_of("role", Role, "ck_user_role"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    password_hash: Mapped[str | None]
    session_epoch: Mapped[int] = mapped_column(server_default=ZERO)
    created_at: Mapped[float]
    last_login_at: Mapped[float | None]


class AccessToken(DataRegistryBase):
    """What a program shows instead of a password."""

    __tablename__ = "access_tokens"
    __table_args__ = (Index("idx_access_tokens_user", "user_name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    user_name: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"))
    label: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    last_used_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


class Invitation(DataRegistryBase):
    """A link with which a user sets the password, once."""

    __tablename__ = "invitations"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    user_name: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"))
    created_at: Mapped[float]
    expires_at: Mapped[float]
    used_at: Mapped[float | None]


class LoginAttempt(DataRegistryBase):
    """An attempt to log in that has not succeeded; rows of an hour ago are deleted."""

    __tablename__ = "login_attempts"
    __table_args__ = (
        Index("idx_login_attempts_at", "attempted_at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_name: Mapped[str]
    address: Mapped[str]
    attempted_at: Mapped[float]


class AuditEntry(DataRegistryBase):
    """What somebody changed through the API or a page, or tried to."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("idx_audit_target", "target"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at_unix: Mapped[float]
    user_name: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    detail: Mapped[str | None]
