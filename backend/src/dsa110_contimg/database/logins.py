"""Logging in with a password, and how often somebody may be wrong.

Attempts are counted in the database, because a server has several processes that must count together. An attempt is
counted before its password is looked at, and taken back when it was right: many at once are not many guesses. An
account that is being guessed at from elsewhere stays open to its owner for as long as possible: the limit for an
account at one address is far below that for an account from everywhere.
"""

import time

from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from dsa110_contimg.database.accounts import DATABASE, HASHER, MAX_PASSWORD, User
from dsa110_contimg.database.models.access import Account, LoginAttempt, Role
from dsa110_contimg.database.session import get_session
from dsa110_contimg.errors import AccessError, TooManyAttemptsError

WINDOW_S = 15 * 60.0
MAX_AT_ADDRESS, MAX_OF_ADDRESS, MAX_OF_ACCOUNT = 5, 30, 100
"""Failed attempts in a window: for an account from one address, from one address, for an account from everywhere."""
_NOBODY = HASHER.hash("nobody")
"""What a password is compared with when there is no such user, so that the answer takes as long."""


def log_in(name: str, password: str, address: str) -> User:
    """Return the user whose name and password these are.

    Raises
    ------
    TooManyAttemptsError
        If too many attempts failed in the last quarter of an hour.
    AccessError
        If they are wrong; which of the two is not said.
    """
    name = name[:MAX_PASSWORD]
    attempt = _count_attempt(name, address)
    with get_session(DATABASE, read_only=True) as session:
        row = session.get(Account, name)
    known = row.password_hash if row is not None else None
    right = _verified(known or _NOBODY, password) and known is not None
    if row is None or known is None or not right:
        raise AccessError("this name or password is wrong")
    with get_session(DATABASE) as session:
        session.execute(delete(LoginAttempt).where(LoginAttempt.id == attempt))
        values: dict[str, object] = {"last_login_at": time.time()}
        if HASHER.check_needs_rehash(known):
            values["password_hash"] = HASHER.hash(_bytes(password))
        session.execute(update(Account).where(Account.name == row.name).values(values))
    return User(row.name, Role(row.role), row.session_epoch)


def _count_attempt(name: str, address: str) -> int:
    """Count an attempt and return its number, or raise TooManyAttemptsError."""
    now = time.time()
    with get_session(DATABASE) as session:
        session.execute(delete(LoginAttempt).where(LoginAttempt.attempted_at < now - WINDOW_S))
        same_name, same_address = LoginAttempt.user_name == name, LoginAttempt.address == address
        too_many = (
            _failed(session, same_name & same_address) >= MAX_AT_ADDRESS
            or _failed(session, same_address) >= MAX_OF_ADDRESS
            or _failed(session, same_name) >= MAX_OF_ACCOUNT
        )
        if not too_many:
            row = {"user_name": name, "address": address, "attempted_at": now}
            return int(session.scalar(insert(LoginAttempt).values(row).returning(LoginAttempt.id)) or 0)
    raise TooManyAttemptsError(WINDOW_S)


def _failed(session: Session, of: object) -> int:
    return session.scalar(select(func.count()).select_from(LoginAttempt).where(of)) or 0  # type: ignore[arg-type]


def _verified(hashed: str, password: str) -> bool:
    try:
        return len(password) <= MAX_PASSWORD and HASHER.verify(hashed, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
