"""Answers that need not be sent again: entity tags and `If-None-Match` (RFC 9110, 13).

JSON gets a weak tag made from its bytes, whoever makes them; a file has a strong one of its own (see `files`). Who
sends the tag back and would get the same is answered 304 without a body.
"""

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TAGGED = ("application/json", "application/problem+json")
NOT_MODIFIED = 304


def weak_tag(body: bytes) -> str:
    """Return the entity tag of a body."""
    return f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def matches(headers: Headers, tag: str) -> bool:
    """Return whether a request's `If-None-Match` names a tag; the comparison is the weak one, as the RFC asks."""
    asked = headers.get("if-none-match")
    if asked is None:
        return False
    bare = tag.removeprefix("W/")
    return asked.strip() == "*" or bare in {each.strip().removeprefix("W/") for each in asked.split(",")}


class ConditionalAnswers:
    """Gives every JSON answer to a GET an entity tag, and leaves out a body that the client has."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _Tagging(Headers(scope=scope), send))


class _Tagging:
    """Holds back the start of a JSON answer until its body is known."""

    def __init__(self, asked: Headers, send: Send) -> None:
        self.asked, self.send = asked, send
        self.start: Message | None = None
        self.body: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_tagged(message):
            self.start = message
        elif self.start is None:
            await self.send(message)
        else:
            self.body.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._finish(self.start, b"".join(self.body))

    async def _finish(self, start: Message, body: bytes) -> None:
        headers = MutableHeaders(scope=start)
        tag = headers.get("etag") or weak_tag(body)
        headers["etag"] = tag
        headers.setdefault("cache-control", "private, no-cache")
        if matches(self.asked, tag):
            del headers["content-length"]
            start["status"], body = NOT_MODIFIED, b""
        await self.send(start)
        await self.send({"type": "http.response.body", "body": body})


def _is_tagged(start: Message) -> bool:
    kind = Headers(raw=start["headers"]).get("content-type", "").partition(";")[0]
    return bool(start["status"] == 200 and kind in _TAGGED)
