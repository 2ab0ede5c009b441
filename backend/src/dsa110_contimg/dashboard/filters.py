"""The filters of the galleries: what a form sends, in which an empty field asks for nothing."""

from datetime import date
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field

from dsa110_contimg.api.paging import Paged
from dsa110_contimg.database.models import Verdict

GALLERY_PAGE = 24
T = TypeVar("T")


def _blank(value: object) -> object:
    return None if value == "" else value


Asked = Annotated[T | None, BeforeValidator(_blank)]
"""A field of a form that may be left empty."""


class Gallery(Paged):
    """The filters that tiles and mosaics have."""

    limit: int = Field(GALLERY_PAGE, ge=1, le=200)
    day: Asked[date] = None
    dec_min_deg: Asked[Annotated[float, Field(ge=-90.0, le=90.0)]] = None
    dec_max_deg: Asked[Annotated[float, Field(ge=-90.0, le=90.0)]] = None
    noise_max_mjy: Asked[Annotated[float, Field(ge=0.0, le=1e9)]] = None
    verdict: Asked[Verdict] = None

    def shared(self) -> dict[str, object]:
        """Return what the API's question has in common with the form."""
        noise = None if self.noise_max_mjy is None else self.noise_max_mjy / 1000.0
        names = ("cursor", "limit", "day", "dec_min_deg", "dec_max_deg", "verdict")
        return {name: getattr(self, name) for name in names} | {"noise_max_jy": noise}

    @property
    def narrowed(self) -> bool:
        """Whether any filter is set."""
        kept = {"cursor", "limit", "sort"}
        return any(value is not None for name, value in self.model_dump().items() if name not in kept)
