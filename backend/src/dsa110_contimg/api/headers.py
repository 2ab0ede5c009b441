"""What every answer carries, and what no request may be: the first thing that a request meets.

The content-security policy lets a page load from this server only, and run no script and take no style that stands in
the page itself; a page with the sky viewer sets its own (see `dashboard.render`).
"""

from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dsa110_contimg.api.problems import document

MAX_BODY = 1_000_000
MAX_QUERY = 8_000
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_ALWAYS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuses what cannot be a request of this API, and gives every answer its security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        secured = _Secured(send)
        refused = _refusal(scope)
        if refused is not None:
            await refused(scope, receive, secured)
            return
        await self.app(scope, _Limited(receive), secured)


class _Secured:
    """Adds the headers."""

    def __init__(self, send: Send) -> None:
        self.send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _ALWAYS.items():
                headers.setdefault(name, value)
        await self.send(message)


class _Limited:
    """Stops a body that grows beyond the limit: the client is as if gone."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.seen = receive, 0

    async def __call__(self) -> Message:
        message = await self.receive()
        self.seen += len(message.get("body", b""))
        return message if self.seen <= MAX_BODY else {"type": "http.disconnect"}


def _refusal(scope: Scope) -> JSONResponse | None:
    query: bytes = scope["query_string"]
    if len(query) > MAX_QUERY:
        return document(HTTPStatus.REQUEST_URI_TOO_LONG, f"a query has at most {MAX_QUERY} characters", scope["path"])
    if "\0" in scope["path"] or b"%00" in query or "\ufffd" in scope["path"]:
        return document(
            HTTPStatus.BAD_REQUEST, "the address has characters that nothing here is named with", scope["path"]
        )
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not length.isdigit():
        return document(HTTPStatus.BAD_REQUEST, "the length of the body is no number", scope["path"])
    if int(length) > MAX_BODY:
        return document(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {MAX_BODY} bytes", scope["path"])
    return None
