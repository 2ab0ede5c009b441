"""Users: who there is, what they may do, and how they set a password.

A password is hashed with Argon2id (argon2-cffi's parameters, RFC 9106's second recommendation). An invitation is a
link that works once and for a day: 256 random bits, of which the database has the SHA-256 only.
"""

import hashlib
import re
import secrets
import time
from typing import NamedTuple

from argon2 import PasswordHasher
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from dsa110_contimg.database.explanations import is_duplicate
from dsa110_contimg.database.models.access import AccessToken, Account, Invitation, Role
from dsa110_contimg.database.session import get_session
from dsa110_contimg.errors import AccessError

DATABASE = "data_registry"
MIN_PASSWORD, MAX_PASSWORD = 12, 200
INVITATION_S = 24 * 3600.0
HASHER = PasswordHasher()
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,62}")


class User(NamedTuple):
    """Who asks."""

    name: str
    role: Role
    session_epoch: int = 0
    """Raised when a new password, a new role or a logout ends all sessions."""

    def may(self, role: Role) -> bool:
        """Return whether the user's role includes another."""
        return self.role.rank >= role.rank


class UserEntry(NamedTuple):
    """A user in a list."""

    name: str
    role: str
    has_password: bool
    n_tokens: int
    created_at: float
    last_login_at: float | None


def sha256_of(secret: str) -> str:
    """Return what the database keeps of a token or link."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_secret() -> str:
    """Return 256 random bits that an address can hold."""
    return secrets.token_urlsafe(32)


def add_user(name: str, role: Role) -> str:
    """Add a user without a password and return the secret of the link that sets one.

    Raises
    ------
    AccessError
        If the name cannot be one, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise AccessError(
            f"{name!r} cannot be a user's name: use lower-case letters, digits, dots and dashes, a letter first"
        )
    # A cookie of who was called so before, and was removed, must not fit.
    epoch = secrets.randbelow(2**30)
    row = {"name": name, "role": role.value, "created_at": time.time(), "session_epoch": epoch}
    try:
        with get_session(DATABASE) as session:
            session.execute(insert(Account).values(row))
    except IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise AccessError(f"there is a user {name} already: see `contimg user list`") from error
    return invite(name)


def invite(name: str) -> str:
    """Return the secret of a new link with which a user sets the password; links of before no longer work."""
    secret, now = new_secret(), time.time()
    with get_session(DATABASE) as session:
        if session.get(Account, name) is None:
            raise unknown_user(name)
        unused = (Invitation.user_name == name) & Invitation.used_at.is_(None)
        session.execute(update(Invitation).where(unused).values(used_at=now))
        row = {"sha256": sha256_of(secret), "user_name": name, "created_at": now, "expires_at": now + INVITATION_S}
        session.execute(insert(Invitation).values(row))
    return secret


def invited(secret: str) -> str | None:
    """Return whose password a link sets, or None if it works no more."""
    with get_session(DATABASE, read_only=True) as session:
        open_link = (Invitation.used_at.is_(None)) & (Invitation.expires_at > time.time())
        return session.scalar(select(Invitation.user_name).where(Invitation.sha256 == sha256_of(secret), open_link))


def accept_invitation(secret: str, password: str) -> User:
    """Set the password of whom a link was made for; the link is used up, and all sessions of the user end.

    Raises
    ------
    AccessError
        If the link works no more, or the password is too short or too long.
    """
    hashed, now = hashed_password(password), time.time()
    with get_session(DATABASE) as session:
        spent = (
            update(Invitation)
            .where(Invitation.sha256 == sha256_of(secret), Invitation.used_at.is_(None), Invitation.expires_at > now)
            .values(used_at=now)
            .returning(Invitation.user_name)
        )
        name = session.scalar(spent)
        if name is None:
            raise AccessError("this link works no more: ask an admin for a new one (`contimg user link NAME`)")
        values = {"password_hash": hashed, "session_epoch": Account.session_epoch + 1}
        session.execute(update(Account).where(Account.name == name).values(values))
        return _user(session.get_one(Account, name, populate_existing=True))


def hashed_password(password: str) -> str:
    """Return the hash of a new password, or raise AccessError if it is too short or too long to be one."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise AccessError(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters: choose another one")
    return HASHER.hash(password.encode("utf-8", "surrogatepass"))


def find_user(name: str) -> User | None:
    """Return a user, or None."""
    with get_session(DATABASE, read_only=True) as session:
        row = session.get(Account, name)
        return None if row is None else _user(row)


def list_users() -> list[UserEntry]:
    """Return all users by name."""
    active = AccessToken.revoked_at.is_(None)
    tokens = select(func.count()).where(AccessToken.user_name == Account.name, active).scalar_subquery()
    columns = (Account.name, Account.role, Account.password_hash, tokens, Account.created_at, Account.last_login_at)
    with get_session(DATABASE, read_only=True) as session:
        found = session.execute(select(*columns).order_by(Account.name)).all()
    return [UserEntry(name, role, hashed is not None, n, made, last) for name, role, hashed, n, made, last in found]


def change_role(name: str, role: Role) -> None:
    """Give a user another role; sessions end. AccessError if there is no such user or it is the last admin."""
    with get_session(DATABASE) as session:
        row = session.get(Account, name)
        if row is None:
            raise unknown_user(name)
        if role is not Role.ADMIN:
            _keep_an_admin(session.scalars(select(Account.name).where(Account.role == Role.ADMIN)).all(), name)
        row.role, row.session_epoch = role.value, row.session_epoch + 1


def remove_user(name: str) -> None:
    """Remove a user with tokens and links; what the user did stays in the audit."""
    with get_session(DATABASE) as session:
        row = session.get(Account, name)
        if row is None:
            raise unknown_user(name)
        _keep_an_admin(session.scalars(select(Account.name).where(Account.role == Role.ADMIN)).all(), name)
        session.delete(row)


def end_sessions(name: str) -> None:
    """End all sessions of a user."""
    raised = {"session_epoch": Account.session_epoch + 1}
    with get_session(DATABASE) as session:
        session.execute(update(Account).where(Account.name == name).values(raised))


def lacks_admin() -> bool:
    """Return whether nobody can log in as an admin yet."""
    ready = (Account.role == Role.ADMIN) & Account.password_hash.is_not(None)
    with get_session(DATABASE, read_only=True) as session:
        return session.scalar(select(func.count()).select_from(Account).where(ready)) == 0


def first_admin(name: str = "admin") -> str:
    """Return the secret of a link for the first admin, who is added if need be."""
    return invite(name) if find_user(name) is not None else add_user(name, Role.ADMIN)


def unknown_user(name: str) -> AccessError:
    """Return the error about a user who is not there."""
    return AccessError(f"there is no user {name!r}: see `contimg user list`")


def _user(row: Account) -> User:
    return User(row.name, Role(row.role), row.session_epoch)


def _keep_an_admin(admins: object, name: str) -> None:
    if admins == [name]:
        raise AccessError(f"{name} is the only admin: make another user one first (`contimg user role NAME admin`)")
