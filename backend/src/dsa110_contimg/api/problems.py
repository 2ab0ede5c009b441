"""Errors as problem documents (RFC 9457): every answer that is not the thing asked for has one shape.

    {"type": "about:blank", "title": "Not Found", "status": 404, "detail": one sentence, "instance": the path asked for}

The sentence is that of the error, in which a folder of this machine is told by what it is for. An error nobody
foresaw gives 500 without its text; the log has it. A browser that asks for a page gets the same as a page, if the
application has one (`app.state.error_page`).
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from dsa110_contimg.config import current_settings
from dsa110_contimg.errors import ConfigurationError, PipelineError

MEDIA_TYPE = "application/problem+json"
RETRY_S = 30
"""When a database that cannot be read now may be worth another question."""
PROGRAMS = ("/api/", "/vo/", "/metrics", "/static/")
"""What programs ask: they get a problem document whatever they accept."""
ErrorPage = Callable[[Request, int, str, str], Response]


def install(app: FastAPI) -> None:
    """Let an application answer every error with a problem document, or a page."""
    app.exception_handler(HTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_misasked)
    app.exception_handler(ConfigurationError)(_unavailable)
    app.exception_handler(PipelineError)(_failed)
    app.exception_handler(Exception)(_unforeseen)


def document(status: int, detail: str, instance: str, **further: object) -> JSONResponse:
    """Return a problem document."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance.encode("utf-8", "replace").decode(),
        **further,
    }
    return JSONResponse(body, status, media_type=MEDIA_TYPE)


def without_folders(sentence: str) -> str:
    """Return a sentence in which this machine's folders are told by what they are for."""
    settings = current_settings()
    folders = {"state": settings.state, "stage": settings.stage, "products": settings.products}
    for name, folder in folders.items():
        sentence = sentence.replace(f"{folder}/", "" if name == "state" else f"{name}/").replace(str(folder), name)
    return sentence


def _problem(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None, **further: object
) -> Response:
    sentence = without_folders(detail)
    page: ErrorPage | None = getattr(request.app.state, "error_page", None)
    wants_page = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(PROGRAMS)
    if page is not None and wants_page:
        answer = page(request, status, HTTPStatus(status).phrase, sentence)
    else:
        answer = document(status, sentence, request.url.path, **further)
    answer.headers.update(headers or {})
    return answer


def _refused(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"
    return _problem(request, error.status_code, str(error.detail), headers)


def _misasked(request: Request, error: RequestValidationError) -> Response:
    wrong = [{"parameter": str(one["loc"][-1]), "detail": one["msg"]} for one in error.errors()]
    sentence = "; ".join(f"{one['parameter']}: {one['detail']}" for one in wrong)
    return _problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, sentence, errors=wrong)


def _unavailable(request: Request, error: ConfigurationError) -> Response:
    return _problem(request, HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": str(RETRY_S)})


def _failed(request: Request, error: PipelineError) -> Response:
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def _unforeseen(request: Request, _error: Exception) -> Response:
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why")
