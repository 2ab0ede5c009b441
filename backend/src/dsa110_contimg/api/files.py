"""Files that are sent: found by a row's id, never by a path that somebody asks for.

Only what lies below a configured root leaves this machine, after every symbolic link was followed. A file that a row
names and the disk has not is told with the product's name, not its path.
"""

import mimetypes
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

from fastapi import HTTPException
from fastapi.responses import FileResponse
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dsa110_contimg.api.conditional import NOT_MODIFIED, matches
from dsa110_contimg.config import current_settings
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.footprints import Footprint, footprint


def data_roots() -> tuple[Path, ...]:
    """Return the folders of which files may be sent: what is made, what is published, and the plots of both."""
    settings = current_settings()
    return (settings.stage, settings.products)


def send_file(
    path: Path | str | None,
    roots: Iterable[Path],
    media_type: str | None,
    filename: str,
    *,
    attachment: bool = True,
) -> Response:
    """Return a file as an answer: with ranges, a strong entity tag and a name to save it under.

    Parameters
    ----------
    path
        Where a row says that the file is; None if it names none.
    roots
        Folders below which it must lie, such as `data_roots()`.
    media_type
        None takes it from the file's name.
    filename
        What a browser saves it as; also how an error names it.
    attachment
        Offer to save it; otherwise the browser shows it.

    Raises
    ------
    HTTPException
        404 if there is no such file below the roots.
    """
    found = locate(path, roots, filename)
    kind = media_type or mimetypes.guess_type(found.name)[0] or "application/octet-stream"
    shown = "attachment" if attachment else "inline"
    return _ConditionalFile(found, media_type=kind, filename=filename, content_disposition_type=shown)


def locate(path: Path | str | None, roots: Iterable[Path], name: str) -> Path:
    """Return the real place of a regular file below one of the roots, or raise HTTPException 404 that names *name*."""
    found = None if path is None else _below(path, tuple(roots))
    if found is None:
        raise HTTPException(
            HTTPStatus.NOT_FOUND, f"the file of {name} is not on disk any more: see what the registry says of it"
        )
    return found


def readable(path: Path | str) -> Path | None:
    """Return the real place of a file that a row names, if it may be looked at; else it is as if it were not there."""
    return _below(path, data_roots())


def footprint_at(path: Path | str) -> Footprint | None:
    """Return where an image lies, if its file may be looked at and is one."""
    found = readable(path)
    try:
        return None if found is None else footprint(found)
    except BadInputError:
        return None


def size_of(path: Path | str) -> int | None:
    """Return the bytes of a file that may be looked at."""
    found = readable(path)
    try:
        return None if found is None else found.stat().st_size
    except OSError:
        return None


def _below(path: Path | str, roots: tuple[Path, ...]) -> Path | None:
    try:
        found = Path(path).resolve(strict=True)
        inside = any(found.is_relative_to(root.resolve()) for root in roots)
        return found if inside and found.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


class _ConditionalFile(FileResponse):
    """A file that is not read when the client has it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.stat_result is None:
            self.stat_result = Path(self.path).stat()
            self.set_stat_headers(self.stat_result)
        tag = self.headers["etag"]
        if scope["method"] in {"GET", "HEAD"} and matches(Headers(scope=scope), tag):
            same = Response(status_code=NOT_MODIFIED, headers={"etag": tag, "cache-control": "private, no-cache"})
            await same(scope, receive, send)
            return
        self.headers.setdefault("cache-control", "private, no-cache")
        await super().__call__({**scope, "method": scope.get("asked", scope["method"])}, receive, send)
