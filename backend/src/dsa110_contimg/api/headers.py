"""What every answer carries, and what no request may be: the first thing that a request meets.

The content-security policy lets a page load from this server only, and run no script and take no style that stands in
the page itself; a page with the sky viewer sets its own (see `dashboard.render`).
"""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus

from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dsa110_contimg.api.problems import document
from dsa110_contimg.database.waiting import in_a_hurry

MAX_BODY = 1_000_000
MAX_QUERY = 8_000
MAX_HEADERS = 100
_TOO_LARGE = f"a body has at most {MAX_BODY} bytes"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ALWAYS = {
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
        heads = scope["method"] == "HEAD"
        asks = heads or scope["method"] == "GET"
        patience: AbstractContextManager[None] = in_a_hurry() if asks else nullcontext()
        with patience:
            if heads:
                headless = _Headless(secured)
                await self.app({**scope, "method": "GET", "asked": "HEAD"}, headless.receive, headless)
            else:
                await self.app(scope, _Limited(receive), secured)


class _Secured:
    """Adds the headers."""

    def __init__(self, send: Send) -> None:
        self.send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in ALWAYS.items():
                headers.setdefault(name, value)
        await self.send(message)


class _Limited:
    """Refuses a body that grows beyond the limit."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.seen = receive, 0

    async def __call__(self) -> Message:
        message = await self.receive()
        self.seen += len(message.get("body", b""))
        if self.seen > MAX_BODY:
            # The rest of the body is not waited for.
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, {"Connection": "close"})
        return message


class _Headless:
    """Lets a HEAD be answered as a GET is, without the body: routes know GET only."""

    def __init__(self, send: Send) -> None:
        self.send, self.over = send, asyncio.Event()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self.send(message)
        elif not self.over.is_set():
            self.over.set()
            await self.send({"type": "http.response.body", "body": b""})

    async def receive(self) -> Message:
        """Tell a stream that its client has gone, once the headers are sent: it would never end."""
        await self.over.wait()
        return {"type": "http.disconnect"}


def _refusal(scope: Scope) -> JSONResponse | None:
    query: bytes = scope["query_string"]
    if len(query) > MAX_QUERY:
        return document(HTTPStatus.REQUEST_URI_TOO_LONG, f"a query has at most {MAX_QUERY} characters", scope["path"])
    if "\0" in scope["path"] or b"%00" in query or "\ufffd" in scope["path"]:
        return document(
            HTTPStatus.BAD_REQUEST, "the address has characters that nothing here is named with", scope["path"]
        )
    if len(scope["headers"]) > MAX_HEADERS:
        sentence = f"a request has at most {MAX_HEADERS} headers"
        return document(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, sentence, scope["path"])
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not length.isdigit() or len(length) > 20:
        return document(HTTPStatus.BAD_REQUEST, "the length of the body is no number", scope["path"])
    if int(length) > MAX_BODY:
        return document(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, scope["path"])
    return None
