"""Who asks, and whether they may.

Reading is open unless `PIPELINE_REQUIRE_LOGIN` is set. A change needs a token (`Authorization: Bearer …`) or a login:
a session cookie, and with it a CSRF token, as the form field `csrf_token` or the header `X-CSRF-Token`, which a page
of another site cannot know. The cookie holds nothing secret; it is signed with the key of `state/session.key`, and
holds the number of the user's sessions, so that a logout, a new password or a new role ends those of before.

    def publish(data_id: str, user: Operator) -> ...:
        ...
        record(user, "publish", f"product {data_id}", reason)
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from itsdangerous import BadSignature, URLSafeTimedSerializer

from dsa110_contimg.config import current_settings
from dsa110_contimg.database import audit
from dsa110_contimg.database.access_tokens import user_of_token
from dsa110_contimg.database.accounts import User, find_user
from dsa110_contimg.database.models import Role
from dsa110_contimg.errors import PipelineError, UnknownProductError

COOKIE = "contimg_session"
SESSION_S = 12 * 3600
FIELD, HEADER = "csrf_token", "x-csrf-token"
_SAFE = {"GET", "HEAD", "OPTIONS"}
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
NOBODY = User("", Role.VIEWER)
"""Who reads without a login."""


class Session(NamedTuple):
    """What a cookie says."""

    nonce: str
    """Random; its CSRF token is made from it."""
    name: str | None = None
    """The user, or None before the login."""
    epoch: int = 0


def session_key() -> bytes:
    """Return the key that signs cookies; it is made when the first server starts, for this user's eyes only."""
    path = current_settings().state / "session.key"
    key = _keys.get(path)
    if key is None:
        key = _keys[path] = _read_key(path)
    return key


_keys: dict[Path, bytes] = {}


def _read_key(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    except OSError:
        # Where nothing can be written sessions end with the process.
        return secrets.token_bytes(32)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
    return path.read_bytes()


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        session_key(), salt="contimg session", signer_kwargs={"digest_method": hashlib.sha256}
    )


def session_of(request: Request) -> Session | None:
    """Return the session of a request's cookie, or None if it has none that is signed, whole and fresh."""
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        return None
    try:
        return Session(*_serializer().loads(cookie, max_age=SESSION_S))
    except (BadSignature, TypeError):
        return None


def begin_session(request: Request, response: Response, user: User | None = None) -> Session:
    """Give a response a new session's cookie: before a login without a user, after it with one."""
    made = Session(secrets.token_urlsafe(16), *((user.name, user.session_epoch) if user else ()))
    response.set_cookie(
        COOKIE,
        _serializer().dumps(made),
        max_age=SESSION_S,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return made


def csrf_of(session: Session) -> str:
    """Return the CSRF token of a session."""
    return hmac.new(session_key(), f"csrf {session.nonce}".encode(), hashlib.sha256).hexdigest()


def csrf_token(request: Request) -> str:
    """Return the CSRF token for the forms of a page, or '' without a session."""
    session = session_of(request)
    return "" if session is None else csrf_of(session)


async def check_csrf(request: Request, session: Session) -> None:
    """Raise HTTPException 403 unless a request that changes something carries its session's CSRF token."""
    given = request.headers.get(HEADER)
    kind = request.headers.get("content-type", "")
    if given is None and kind.startswith(_FORMS):
        field = (await request.form()).get(FIELD)
        given = field if isinstance(field, str) else None
    if given is None or not hmac.compare_digest(given.encode(), csrf_of(session).encode()):
        raise HTTPException(
            HTTPStatus.FORBIDDEN, "this form is not from a page of this session: load the page again, and repeat"
        )


def visitor(request: Request) -> User | None:
    """Return the user whom `Reader` and its likes found for this request, or None without a login."""
    user: User | None = getattr(request.state, "user", None)
    return user


async def _identify(request: Request) -> User | None:
    """Return who asks, or None; a change by a session needs its CSRF token. HTTPException if a token is wrong."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        user = await run_in_threadpool(user_of_token, token.strip())
        if user is None:
            raise _unknown("this token is unknown, expired or revoked: make one with `contimg token add`")
        return user
    session = session_of(request)
    if session is None or session.name is None:
        return None
    user = await run_in_threadpool(find_user, session.name)
    if user is None or user.session_epoch != session.epoch:
        return None
    if request.method not in _SAFE:
        await check_csrf(request, session)
    return user


async def reader(request: Request) -> User:
    """Return who reads; HTTPException 401 if reading needs a login and there is none."""
    user = await _identify(request)
    request.state.user = user
    if user is None and current_settings().require_login:
        raise _unknown("reading needs a login here: log in, or send a token (`Authorization: Bearer …`)")
    return user or NOBODY


def _unknown(sentence: str) -> HTTPException:
    return HTTPException(HTTPStatus.UNAUTHORIZED, sentence, {"WWW-Authenticate": "Bearer"})


Reader = Annotated[User, Depends(reader)]


def _at_least(user: User, role: Role) -> User:
    if user is NOBODY:
        raise _unknown(f"this needs a login or a token of a user with the role {role}")
    if not user.may(role):
        raise HTTPException(HTTPStatus.FORBIDDEN, f"{user.name} is {user.role}; this needs the role {role}")
    return user


async def member(user: Reader) -> User:
    """Return who asks; HTTPException 401 without a login."""
    return _at_least(user, Role.VIEWER)


async def operator(user: Reader) -> User:
    """Return an operator who asks; HTTPException 401 without a login, 403 with a lesser role."""
    return _at_least(user, Role.OPERATOR)


async def admin(user: Reader) -> User:
    """Return an admin who asks; HTTPException 401 without a login, 403 with a lesser role."""
    return _at_least(user, Role.ADMIN)


Member = Annotated[User, Depends(member)]
Operator = Annotated[User, Depends(operator)]
Admin = Annotated[User, Depends(admin)]


@contextmanager
def recorded(user: User, action: str, target: str, detail: str | None = None) -> Iterator[None]:
    """Write the audit row of what a block does, also if it fails: it may have changed something by then."""
    try:
        yield
    except UnknownProductError:
        raise
    except PipelineError as error:
        record(user, action, target, f"failed: {error}")
        raise
    record(user, action, target, detail)


def record(user: User, action: str, target: str, detail: str | None = None) -> None:
    """Write the audit row of a change: `record(user, "publish", "product m1", reason)`."""
    audit.record(user.name, action, target, detail)
