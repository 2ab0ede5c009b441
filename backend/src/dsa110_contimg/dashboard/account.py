"""The own account with its tokens, and, for admins, the users and what everybody has changed."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_contimg.api.access import Admin, Member, record
from dsa110_contimg.api.audit import Asked, changes
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.database import access_tokens, accounts
from dsa110_contimg.errors import AccessError

router = APIRouter()
Label = Annotated[str, Form(max_length=200)]
Days = Annotated[int, Form(ge=1, le=3650)]


@router.get("/account")
def show_account(request: Request, user: Member) -> Response:
    """Show who one is, and the own tokens."""
    return _account(request, user)


@router.post("/account/tokens")
def add_token(request: Request, user: Member, label: Label, days: Days) -> Response:
    """Make a token, and show it this once."""
    number, token = access_tokens.add_token(user.name, label.strip(), float(days))
    record(user, "make token", f"token {number}", label.strip())
    return _account(request, user, made=token)


@router.post("/account/tokens/{number}/revoke")
def revoke_token(request: Request, user: Member, number: int) -> Response:
    """End one of the own tokens."""
    try:
        access_tokens.revoke_token(number, user.name)
    except AccessError as error:
        return _account(request, user, HTTPStatus.NOT_FOUND, error=str(error))
    record(user, "revoke token", f"token {number}")
    return RedirectResponse("/account", HTTPStatus.SEE_OTHER)


@router.get("/audit")
def show_audit(request: Request, _user: Admin, asked: Annotated[Asked, Query()]) -> Response:
    """Show who there is, and who changed what, the latest first."""
    found = changes(asked)
    return page(
        request, "account/audit.html", changes=found.items, next=found.next, asked=asked, users=accounts.list_users()
    )


def _account(
    request: Request,
    user: accounts.User,
    status: int = HTTPStatus.OK,
    made: str | None = None,
    error: str | None = None,
) -> Response:
    tokens = access_tokens.list_tokens(user.name)
    return page(request, "account/account.html", status_code=status, tokens=tokens, made=made, error=error)
