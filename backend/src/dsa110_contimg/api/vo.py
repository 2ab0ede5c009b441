"""What the services of the Virtual Observatory share: their media type, wrong questions, and the limit on rows."""

from collections.abc import Iterable, Mapping
from typing import Any

VOTABLE = "application/x-votable+xml"


class BadQuestionError(ValueError):
    """A parameter is missing or cannot be what it is."""


def parameters(words: Mapping[str, str], required: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return query parameters as OpenAPI describes them: these services take their names in any case.

    Parameters
    ----------
    words
        What each one is, by its name.
    required
        Names without which there is no answer.
    """
    needed = set(required)
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": {"type": "string"}, "description": told}
        for name, told in words.items()
    ]


def row_limit(text: str | None, usual: int, most: int) -> int:
    """Return how many rows MAXREC asks for, `usual` where it is not given; BadQuestionError if it is no number."""
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadQuestionError("MAXREC is a number of rows")
    return min(int(text), most)
