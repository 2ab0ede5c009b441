"""Types of values that many answers and questions share.

`Finite` is a number that becomes null when it is not one: JSON has neither NaN nor infinity. `Words` is what a person
may write: not empty, not endless, and nothing that a database refuses to store.
"""

import math
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StringConstraints

MAX_WORDS = 2000


def finite(value: float | None) -> float | None:
    """Return a number, or None for one that is none."""
    return value if value is not None and math.isfinite(value) else None


def _finite_or_as_it_is(value: object) -> object:
    return finite(value) if isinstance(value, float) else value


def storable(text: str) -> str:
    """Return a text that every database can store; ValueError for one with a NUL or half a character."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("the text has a character that cannot be stored")
    return text


Finite = Annotated[float | None, BeforeValidator(_finite_or_as_it_is)]
Words = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_WORDS, pattern=r"\S"),
    AfterValidator(storable),
]
Storable = Annotated[str, StringConstraints(max_length=MAX_WORDS), AfterValidator(storable)]
"""A name or id that somebody asks for: `source_id: Storable`."""
