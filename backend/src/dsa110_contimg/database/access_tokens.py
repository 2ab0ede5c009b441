"""Tokens: what a program shows instead of a password. They are shown once, and the database has their SHA-256 only."""

import time
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import insert, or_, select, update

from dsa110_contimg.database.accounts import DATABASE, User, new_secret, sha256_of, unknown_user
from dsa110_contimg.database.models.access import AccessToken, Account, Role
from dsa110_contimg.database.session import get_session
from dsa110_contimg.database.waiting import in_a_hurry
from dsa110_contimg.errors import AccessError, ConfigurationError

PREFIX = "contimg_"
"""What every token begins with, so that a scanner for leaked secrets knows one."""
_USED_EVERY_S = 60.0
"""How often a token's last use is written: not with each of a program's requests."""


class TokenEntry(NamedTuple):
    """A token in a list."""

    id: int
    user_name: str
    label: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None


def add_token(user_name: str, label: str, days: float | None = None) -> tuple[int, str]:
    """Make a token for a user that works for some days, or until it is revoked; return its number and the token."""
    token, now = PREFIX + new_secret(), time.time()
    row = {
        "user_name": user_name,
        "label": label,
        "sha256": sha256_of(token),
        "created_at": now,
        "expires_at": None if days is None else now + days * 86400.0,
    }
    with get_session(DATABASE) as session:
        if session.get(Account, user_name) is None:
            raise unknown_user(user_name)
        made = session.scalar(insert(AccessToken).values(row).returning(AccessToken.id))
    return int(made or 0), token


def list_tokens(user_name: str | None = None) -> list[TokenEntry]:
    """Return tokens in the order in which they were made, of one user or of all."""
    columns = [getattr(AccessToken, field) for field in TokenEntry._fields]
    wanted = select(*columns).order_by(AccessToken.id)
    if user_name is not None:
        wanted = wanted.where(AccessToken.user_name == user_name)
    with get_session(DATABASE, read_only=True) as session:
        return [TokenEntry(*row) for row in session.execute(wanted)]


def revoke_token(number: int, user_name: str | None = None) -> None:
    """End a token, by its number; with a user's name only one of that user. AccessError if there is none to end."""
    chosen = update(AccessToken).where(AccessToken.id == number, AccessToken.revoked_at.is_(None))
    if user_name is not None:
        chosen = chosen.where(AccessToken.user_name == user_name)
    with get_session(DATABASE) as session:
        ended = session.scalars(chosen.values(revoked_at=time.time()).returning(AccessToken.id)).all()
    if not ended:
        raise AccessError(f"there is no token {number} that works: see `contimg token list`")


def user_of_token(token: str) -> User | None:
    """Return whose token this is, or None if it does not work."""
    now = time.time()
    columns = (AccessToken.id, AccessToken.last_used_at, Account.name, Account.role, Account.session_epoch)
    working = AccessToken.revoked_at.is_(None) & or_(AccessToken.expires_at.is_(None), AccessToken.expires_at > now)
    wanted = select(*columns).join(Account).where(AccessToken.sha256 == sha256_of(token), working)
    with get_session(DATABASE, read_only=True) as session:
        found = session.execute(wanted).one_or_none()
    if found is None:
        return None
    number, used, name, role, epoch = found
    if used is None or now - used > _USED_EVERY_S:
        _note_use(number, now)
    return User(name, Role(role), epoch)


def _note_use(number: int, now: float) -> None:
    """Write when a token was used last; who asks need not wait until the database can be written."""
    with suppress(ConfigurationError), in_a_hurry(0.0), get_session(DATABASE) as session:
        session.execute(update(AccessToken).where(AccessToken.id == number).values(last_used_at=now))
