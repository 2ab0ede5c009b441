"""Connections: what arrives on one before it is a request.

A head without end would grow in memory, and bytes that are no request never reach the application: both are refused
here, with the same problem document as everything else.
"""

from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dsa110_contimg.api.headers import ALWAYS
from dsa110_contimg.api.problems import document

MAX_HEAD = 65_536
"""Bytes of the first line and the headers of a request."""


class Connection(HttpToolsProtocol):
    """One client's connection, with a limit on what comes before a body."""

    _in_head = True
    _seen = 0

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        super().data_received(data)
        self._seen = self._seen + len(data) if self._in_head else 0
        if self._seen > MAX_HEAD and not self.transport.is_closing():
            sentence = f"the head of a request has at most {MAX_HEAD} bytes"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, sentence)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hand the request to the application; its body follows."""
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        assert msg
        self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP request: see /api/v1/openapi.json")

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        answer = document(status, sentence, "")
        headers = {**ALWAYS, **dict(answer.headers), "connection": "close"}
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + bytes(answer.body))
        self.transport.close()
