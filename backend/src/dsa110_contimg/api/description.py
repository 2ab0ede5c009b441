"""The OpenAPI document: what FastAPI makes of the routes, and what it cannot know.

Every error is a problem document, so each operation has a `default` answer of that shape; an operation that needs a
role says so, and with which scheme (a token, or the cookie of a login).
"""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from dsa110_contimg.api.access import COOKIE, admin, member, operator
from dsa110_contimg.api.problems import MEDIA_TYPE
from dsa110_contimg.database.models import Role

NEEDS = {member: Role.VIEWER, operator: Role.OPERATOR, admin: Role.ADMIN}
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, in one sentence."},
        "instance": {"type": "string", "description": "The path that was asked for."},
    },
}
_ERROR = {
    "description": "Anything else: a problem document (RFC 9457).",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_REFUSED = {
    "description": "A question that cannot be: a VOTable whose QUERY_STATUS is ERROR.",
    "content": {"application/x-votable+xml": {}},
}
_NOT_MODIFIED = {"description": "The client has it already (`If-None-Match`)."}
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of `contimg token add`."},
    "login": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "A login; changes also need its CSRF."},
}


def describe(app: FastAPI, routers: Iterable[tuple[str, APIRouter]]) -> dict[str, Any]:
    """Return the document of an application, which includes routers below their prefixes; it is made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes)
        roles = dict(_roles(routers))
        for path, operations in made["paths"].items():
            for method, operation in operations.items():
                _complete(operation, method, roles.get((path, method.upper())))
                if path.startswith("/vo/"):
                    operation["responses"]["400"] = _REFUSED
        components = made.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = PROBLEM
        components["securitySchemes"] = _SCHEMES
        app.openapi_schema = made
    return app.openapi_schema


def _complete(operation: dict[str, Any], method: str, role: Role | None) -> None:
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = _ERROR
    if method == "get":
        operation["responses"]["304"] = _NOT_MODIFIED
    if role is not None:
        operation["security"] = [{"token": []}, {"login": []}]
        operation["description"] = f"{operation.get('description', '')} Needs the role {role}.".strip()


def _roles(routers: Iterable[tuple[str, APIRouter]]) -> Iterator[tuple[tuple[str, str], Role]]:
    """Yield (path, method) of each operation that needs a role, with the role."""
    for prefix, router in routers:
        for route in router.routes:
            needed = _needed(route.dependant) if isinstance(route, APIRoute) else None
            if isinstance(route, APIRoute) and needed is not None:
                yield from (((prefix + route.path_format, method), needed) for method in route.methods or ())


def _needed(dependant: Dependant) -> Role | None:
    """Return the highest role that anything asks for which a route depends on."""
    asked = [NEEDS[dependant.call]] if dependant.call in NEEDS else []
    asked += [role for role in map(_needed, dependant.dependencies) if role is not None]
    return max(asked, key=lambda role: role.rank, default=None)
