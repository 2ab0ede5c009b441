"""Parts of a page that stand by themselves: one whose database cannot be read says so, and the others are shown.

A page about one thing needs no such care: without its database it is the page that says why (see `api.databases`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import HTTPException

from dsa110_contimg.api.problems import without_folders
from dsa110_contimg.errors import PipelineError

T = TypeVar("T")


@dataclass(frozen=True)
class Panel(Generic[T]):
    """What a part of a page shows, or why it cannot."""

    value: T | None = None
    trouble: str | None = None


def panel(make: Callable[[], T]) -> Panel[T]:
    """Return what a function makes, or the sentence of the error that it raises."""
    try:
        return Panel(make())
    except PipelineError as error:
        return Panel(trouble=without_folders(str(error)))
    except HTTPException as error:
        return Panel(trouble=without_folders(str(error.detail)))
