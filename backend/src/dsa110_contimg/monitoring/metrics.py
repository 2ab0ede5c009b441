"""Figures for Prometheus, counted from the rows when they are asked for.

No process keeps a counter: a figure is right after a restart, and the same whichever of many processes is asked. What
is not known has no sample. A database that cannot be read has `contimg_database_up` 0 and takes only its own figures
with it. Mount `render` at /metrics; its type is `CONTENT_TYPE`.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from dsa110_contimg import __version__
from dsa110_contimg.config import DATABASES, Settings, current_settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import JobState, ProductStatus, QueueState
from dsa110_contimg.database.session import database_path, on_server
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.monitoring import census
from dsa110_contimg.monitoring.backlog import backlog
from dsa110_contimg.monitoring.census import Arrivals, Progress
from dsa110_contimg.monitoring.disks import floor_bytes, measure_disks
from dsa110_contimg.monitoring.throughput import percentile
from dsa110_contimg.monitoring.watch import last_backup_at

logger = logging.getLogger(__name__)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PERCENTILES = (50, 95)
CANDIDATE_STATES = ("active", "investigated", "dismissed")
Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float | None]]


def render(settings: Settings | None = None, *, now: float | None = None) -> bytes:
    """Return all figures in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RowCollector(settings or current_settings(), time.time() if now is None else now))
    return generate_latest(registry)


def gauge(name: str, text: str, labels: Sequence[str], samples: Samples) -> GaugeMetricFamily:
    """Return a family of samples; a value that is None is left out."""
    family = GaugeMetricFamily(f"contimg_{name}", text, labels=list(labels))
    for values, number in samples:
        if number is not None:
            family.add_metric(list(values), number)
    return family


def single(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Return a family of one sample without labels, or of none."""
    return gauge(name, text, (), [((), value)])


class RowCollector(Collector):
    """Reads each database once per collection."""

    def __init__(self, settings: Settings, now: float) -> None:
        self.settings, self.now = settings, now

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are known only by counting, and registering must not count."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield gauge("info", "The program's version", ("version",), [((__version__,), 1.0)])
        yield from self._installation()
        parts: dict[str, Callable[[Session], list[Metric]]] = {
            "ingest": self._ingest,
            "products": self._products,
            "data_registry": self._registry,
        }
        up: dict[Labels, float] = {}
        sizes: dict[Labels, float | None] = {}
        for name in DATABASES:
            families, size, sound = self._read(name, parts.get(name, lambda _session: []))
            up[name,], sizes[name,] = float(sound), size
            yield from families
        yield from self._flow()
        yield gauge("database_up", "Whether a database can be read", ("database",), up.items())
        yield gauge("database_bytes", "Size of a database with its log", ("database",), sizes.items())

    def _read(self, name: str, part: Callable[[Session], list[Metric]]) -> tuple[list[Metric], float | None, bool]:
        try:
            with get_session(name, read_only=True) as session:
                families = part(session)
                size = float(census.schema_bytes(session)) if on_server() else _file_bytes(database_path(name))
        except ConfigurationError as error:
            logger.warning("no figures of %s: %s", name, error)
            return [], None, False
        return families, size, True

    def _installation(self) -> Iterator[Metric]:
        free = {(disk.area,): disk.free_bytes for disk in measure_disks(self.settings)}
        yield gauge("disk_free_bytes", "Room on the disk below a folder", ("area",), free.items())
        yield single("disk_floor_bytes", "Room below which the pipeline pauses", floor_bytes(self.settings))
        yield single(
            "last_backup_timestamp_seconds", "When the databases were last backed up", last_backup_at(self.settings)
        )

    def _ingest(self, session: Session) -> list[Metric]:
        self._arrivals = census.arrivals(session, self.now)
        known = {(state.value,): self._arrivals.groups.get(state.value, 0) for state in QueueState}
        steps = {
            (step, str(percent)): percentile(values, percent)
            for (step, values), percent in product(census.step_seconds(session).items(), PERCENTILES)
        }
        windows = {("1h",): self._arrivals.hour, ("24h",): self._arrivals.day}
        return [
            gauge("groups", "Groups by state", ("state",), known.items()),
            gauge("groups_arrived", "Groups whose first file came in the window", ("window",), windows.items()),
            single("quarantined_files", "Files that were refused", census.quarantined(session)),
            gauge("step_seconds", "Time per step, of the groups recorded last", ("step", "percentile"), steps.items()),
        ]

    def _products(self, session: Session) -> list[Metric]:
        self._progress = census.progress(session, self.now)
        tiles = {(stage,): 0 for stage in (*census.UNFINISHED, census.FINISHED)}
        tiles |= {(stage,): number for stage, number in self._progress.tiles.items()}
        windows = {("1h",): self._progress.hour, ("24h",): self._progress.day}
        found = census.candidates(session)
        known = {(state,): found.get(state, 0) for state in (*CANDIDATE_STATES, *found)}
        pending = {(channel or "unaddressed",): number for channel, number in census.pending_alerts(session).items()}
        return [
            gauge("tiles", "Tiles by stage", ("stage",), tiles.items()),
            gauge("tiles_finished", "Tiles whose measurement ended in the window", ("window",), windows.items()),
            gauge(
                "jobs", "Jobs by stage and state", ("stage", "state"), _filled(census.jobs(session), JobState).items()
            ),
            gauge("candidates", "Candidates by status", ("status",), known.items()),
            gauge("alerts_pending", "Alerts still to be sent", ("channel",), ({("unaddressed",): 0} | pending).items()),
        ]

    def _registry(self, session: Session) -> list[Metric]:
        counts = _filled(census.products(session), ProductStatus)
        return [gauge("products", "Products by type and status", ("type", "status"), counts.items())]

    def _flow(self) -> Iterator[Metric]:
        arrived, done = self._arrivals, self._progress
        if arrived is None or done is None:
            return
        flow = backlog(arrived, done, self.now)
        for name, text, value in (
            ("backlog", "Groups to convert and tiles to finish", flow.waiting),
            ("tiles_lost", "Tiles that failed for good on their way", done.lost),
            ("oldest_waiting_seconds", "How long the oldest group has waited", flow.oldest_wait_s),
            ("behind_sky_seconds", "Age of the sky of the newest measured tile", flow.behind_sky_s),
            ("time_to_clear_seconds", "Time until nothing waits; absent if never", flow.clear_s),
        ):
            yield single(name, text, value)

    _arrivals: Arrivals | None = None
    _progress: Progress | None = None


def _filled(counts: Mapping[tuple[str, str], int], states: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return counts with a zero for every state that a kind is not in, so that a rule sees it begin."""
    kinds = sorted({kind for kind, _state in counts})
    return {(kind, str(state)): counts.get((kind, state), 0) for kind, state in product(kinds, states)}


def _file_bytes(path: Path) -> float:
    beside = (path, path.with_name(f"{path.name}-wal"))
    return float(sum(file.stat().st_size for file in beside if file.exists()))
