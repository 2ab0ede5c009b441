"""Is it healthy? The verdict with its reasons, and what a load balancer asks: is it alive, can it answer.

`/health` is for people and monitors: 200 with a verdict, whatever that is. `/health/live` is 200 as long as the
process answers; `/health/ready` is 503 while a database cannot be read.
"""

import threading
import time
from http import HTTPStatus

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from dsa110_contimg import __version__
from dsa110_contimg.api.problems import RETRY_S, without_folders
from dsa110_contimg.config import current_settings
from dsa110_contimg.pipeline.health import Health, Reason, examine

router = APIRouter(prefix="/health", tags=["health"])
FRESH_S = 3.0
"""A verdict is kept so long: fifty open pages ask the databases once."""


class Alive(BaseModel):
    """The process answers."""

    alive: bool
    version: str


class Ready(BaseModel):
    """The databases can be read."""

    ready: bool


_asking = threading.Lock()
_kept: dict[str, tuple[float, Health]] = {}


@router.get("")
def get_health() -> Health:
    """Return the verdict and its reasons, the worst first; no severity means that all is well."""
    return verdict()


@router.get("/live")
def get_live() -> Alive:
    """Return that the process answers."""
    return Alive(alive=True, version=__version__)


@router.get("/ready")
def get_ready() -> Ready:
    """Return whether the databases can be read; 503 if not."""
    broken = [reason.sentence for reason in verdict().reasons if reason.about.startswith("database ")]
    if broken:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, " ".join(broken), {"Retry-After": str(RETRY_S)})
    return Ready(ready=True)


def verdict() -> Health:
    """Return the verdict, at most some seconds old, without the folders of this machine."""
    settings = current_settings()
    place = f"{settings.state} {settings.database_url}"
    with _asking:
        asked, health = _kept.get(place, (-FRESH_S, None))
        if health is None or time.monotonic() - asked >= FRESH_S:
            health = _plain(examine(settings))
            _kept.clear()
            _kept[place] = (time.monotonic(), health)
        return health


def _plain(health: Health) -> Health:
    reasons = [
        Reason(reason.severity, reason.about, without_folders(reason.sentence), reason.page)
        for reason in health.reasons
    ]
    return Health(health.severity, health.summary, reasons, health.checked_unix)
