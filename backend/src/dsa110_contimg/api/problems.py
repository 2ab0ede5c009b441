"""Errors as problem documents (RFC 9457): every answer that is not the thing asked for has one shape.

    {"type": "about:blank", "title": "Not Found", "status": 404, "detail": one sentence, "instance": the path asked for}

The sentence is that of the error. An error nobody foresaw gives 500 without its text; the log has it.
"""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from dsa110_contimg.errors import ConfigurationError, PipelineError

MEDIA_TYPE = "application/problem+json"


def install(app: FastAPI) -> None:
    """Let an application answer every error with a problem document."""
    app.exception_handler(HTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_misasked)
    app.exception_handler(ConfigurationError)(_unavailable)
    app.exception_handler(PipelineError)(_failed)
    app.exception_handler(Exception)(_unforeseen)


def _problem(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None, **further: object
) -> JSONResponse:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        **further,
    }
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def _refused(request: Request, error: HTTPException) -> JSONResponse:
    return _problem(request, error.status_code, str(error.detail), error.headers)


def _misasked(request: Request, error: RequestValidationError) -> JSONResponse:
    wrong = [{"parameter": str(one["loc"][-1]), "detail": one["msg"]} for one in error.errors()]
    sentence = "; ".join(f"{one['parameter']}: {one['detail']}" for one in wrong)
    return _problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, sentence, errors=wrong)


def _unavailable(request: Request, error: ConfigurationError) -> JSONResponse:
    return _problem(request, HTTPStatus.SERVICE_UNAVAILABLE, str(error))


def _failed(request: Request, error: PipelineError) -> JSONResponse:
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def _unforeseen(request: Request, _error: Exception) -> JSONResponse:
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why")
