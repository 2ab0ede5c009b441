"""Logging in and out, and setting a password with a link.

The forms carry the CSRF token of a session without a user, which the page that shows the form begins.
"""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_contimg.api.access import Session, begin_session, check_csrf, csrf_of, session_of
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.database import accounts, audit, logins
from dsa110_contimg.database.accounts import MAX_PASSWORD, MIN_PASSWORD
from dsa110_contimg.errors import AccessError, TooManyAttemptsError

router = APIRouter()


async def visit(request: Request) -> Session:
    """Return the session of a form that was sent; HTTPException 403 if the form is from elsewhere."""
    session = session_of(request)
    if session is None:
        raise HTTPException(HTTPStatus.FORBIDDEN, "this form was open for too long: load the page again, and repeat")
    await check_csrf(request, session)
    return session


Visit = Annotated[Session, Depends(visit)]
Name = Annotated[str, Form(max_length=200)]
Password = Annotated[str, Form(max_length=MAX_PASSWORD)]


@router.get("/login")
def show_login(request: Request, then: str = "/") -> Response:
    """Show the form."""
    return _form(request, "account/login.html", then=local_address(then))


@router.post("/login")
def log_in(
    request: Request, _visit: Visit, name: Name, password: Password, then: Annotated[str, Form()] = "/"
) -> Response:
    """Log in, and go to the page that was asked for."""
    address = request.client.host if request.client else "unknown"
    try:
        user = logins.log_in(name.strip(), password, address)
    except TooManyAttemptsError as error:
        told = _form(request, "account/login.html", HTTPStatus.TOO_MANY_REQUESTS, then=then, error=str(error))
        told.headers["Retry-After"] = str(int(error.wait_s))
        return told
    except AccessError as error:
        return _form(request, "account/login.html", HTTPStatus.UNAUTHORIZED, then=then, error=str(error))
    audit.record(user.name, "log in", f"address {address}")
    answer = RedirectResponse(local_address(then), HTTPStatus.SEE_OTHER)
    begin_session(request, answer, user)
    return answer


@router.post("/logout")
def log_out(request: Request, session: Visit) -> Response:
    """End all sessions of the user, so that a copied cookie is worth nothing."""
    if session.name is not None:
        accounts.end_sessions(session.name)
        audit.record(session.name, "log out", "all sessions")
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    begin_session(request, answer)
    return answer


@router.get("/invitation/{secret}")
def show_invitation(request: Request, secret: str) -> Response:
    """Show the form that sets a password; looking at it does not use the link up."""
    name = accounts.invited(secret)
    status = HTTPStatus.OK if name else HTTPStatus.GONE
    return _form(request, "account/invitation.html", status, name=name, shortest=MIN_PASSWORD)


@router.post("/invitation/{secret}")
def accept_invitation(request: Request, _visit: Visit, secret: str, password: Password, again: Password) -> Response:
    """Set the password and log in."""
    try:
        user = accounts.accept_invitation(secret, _typed_twice(password, again))
    except AccessError as error:
        shown = {"name": accounts.invited(secret), "shortest": MIN_PASSWORD, "error": str(error)}
        return _form(request, "account/invitation.html", HTTPStatus.BAD_REQUEST, **shown)
    audit.record(user.name, "set password", f"user {user.name}", "with a link")
    answer = RedirectResponse("/account", HTTPStatus.SEE_OTHER)
    begin_session(request, answer, user)
    return answer


def _typed_twice(password: str, again: str) -> str:
    if password != again:
        raise AccessError("the two passwords differ: type the same one twice")
    return password


def local_address(address: str) -> str:
    """Return an address of this server, or the home page instead of one that leads elsewhere."""
    plain = address.startswith("/") and address[1:2] not in {"/", "\\"} and address.isprintable() and address.isascii()
    return address if plain else "/"


def _form(request: Request, template: str, status: int = HTTPStatus.OK, **context: str | int | None) -> Response:
    """Return a page with a form, with a session for it if there is none."""
    shown: dict[str, Any] = {"error": None, **context}
    session = session_of(request)
    if session is not None:
        return page(request, template, status_code=status, **shown)
    carrier = Response()
    session = begin_session(request, carrier)
    answer = page(request, template, status_code=status, **shown, csrf=csrf_of(session))
    answer.headers["set-cookie"] = carrier.headers["set-cookie"]
    return answer
