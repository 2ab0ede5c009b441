"""Everything that a run leaves, as values that can be compared: rows, pixels, visibilities, calibration tables.

A snapshot maps a name ("products/images", "stage/images/x.fits") to what is found there. Left out are the columns
in VOLATILE, which docs/decisions/0009-what-a-kill-may-change.md lists with a reason each; the installation's root
is written as <root>. Of a FITS file pixels and cards are kept, without those of the program's commit.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from casacore import tables
from numpy.typing import NDArray
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database.session import connect

TIMES = {
    *("created_at", "updated_at", "stage_updated_at", "processed_at", "measured_at", "last_measured_at"),
    *("received_at", "last_update", "discovered_at", "indexed_at", "registered_at", "staged_at", "published_at"),
    *("mosaicked_at", "flagged_at", "heartbeat_at", "lease_expires_at", "asked_at"),
    *("closed_at", "calibrated_at", "imaged_at", "computed_at", "detected_at", "last_updated"),
}
ATTEMPTS = {"attempt", "publish_attempts"}
OWNERS = {"owner"}
IDS = {"id", "epoch_correction_id"}
LOST = {"ingest/performance_metrics"}
"""Tables of how long work took: a job that is killed between its result and this note has no time."""
CARDS = {"PIPECOM", "CHECKSUM"}
"""The commit that a file was made with, "-dirty" while somebody edits the working copy, and what it changes."""
VOLATILE = TIMES | ATTEMPTS | OWNERS | IDS
MS_COLUMNS = ("DATA", "CORRECTED_DATA", "FLAG", "FLAG_ROW", "WEIGHT", "SIGMA", "UVW", "TIME", "ANTENNA1", "ANTENNA2")

Snapshot = dict[str, object]


def take(root: Path) -> Snapshot:
    """Return what an installation holds."""
    settings = Settings(root=root)
    found: Snapshot = {}
    for name in DATABASES:
        found |= {f"{name}/{table}": rows for table, rows in _rows(settings.database(name), root).items()}
    for table in LOST:
        del found[table]
    for area in (settings.stage, settings.products):
        found |= {_name(path, content, root): content for path, content in _files(area)}
    return found


def _name(path: Path, content: object, root: Path) -> str:
    """Return a file's name; that of a placed tile, which tells when its tile was written, is what it holds."""
    return str((path if path.parent.name != "placed_tiles" else path.with_name(str(content))).relative_to(root))


def differences(one: Snapshot, other: Snapshot) -> list[str]:
    """Return a line for every row and file in which two snapshots differ."""
    lines = []
    for name in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(name, "absent"), other.get(name, "absent")
        if isinstance(mine, list) and isinstance(theirs, list):
            lines += [f"{name} - {row}" for row in mine if row not in theirs]
            lines += [f"{name} + {row}" for row in theirs if row not in mine]
            if len(mine) != len(theirs):
                lines.append(f"{name}: {len(mine)} rows and {len(theirs)}")
        elif mine != theirs:
            lines.append(f"{name}: {mine} and {theirs}")
    return lines


def _rows(path: Path, root: Path) -> dict[str, list[str]]:
    engine = create_engine("sqlite://", creator=lambda: connect(path, read_only=True), poolclass=NullPool)
    names = inspect(engine).get_table_names()
    found = {}
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok", path
        for name in names:
            rows = connection.execute(text(f'SELECT * FROM "{name}"')).mappings()
            kept = [_without_times(dict(row)) for row in rows]
            found[name] = sorted(json.dumps(row, sort_keys=True).replace(str(root), "<root>") for row in kept)
    engine.dispose()
    return found


def _without_times(row: Mapping[str, object]) -> dict[str, object]:
    """Return the columns of a row that are compared, and of its metadata_json those keys of `publish`."""
    kept = {column: value for column, value in row.items() if column not in VOLATILE}
    details = json.loads(str(kept.get("metadata_json") or "{}"))
    if "publish" in details:
        details["publish"] = {key: value for key, value in details["publish"].items() if key not in VOLATILE}
        kept["metadata_json"] = json.dumps(details)
    return kept


def _files(area: Path) -> list[tuple[Path, object]]:
    found: list[tuple[Path, object]] = []
    for path in sorted(area.rglob("*")):
        inside_table = any((parent / "table.dat").is_file() for parent in path.parents if parent != area)
        if inside_table:
            continue
        if (path / "table.dat").is_file():
            found.append((path, _table(path)))
        elif path.suffix == ".fits":
            found.append((path, _picture(path)))
        elif path.is_file():
            found.append((path, hashlib.sha256(path.read_bytes()).hexdigest()))
    return found


def _picture(path: Path) -> dict[str, str]:
    """Return a digest of the cards and one of the pixels of each part of a FITS file."""
    found = {}
    with fits.open(path, memmap=False) as parts:
        for number, part in enumerate(parts):
            cards = "\n".join(str(card) for card in part.header.cards if card.keyword not in CARDS)
            found[f"{number} cards"] = hashlib.sha256(cards.encode()).hexdigest()
            if part.data is not None:
                found[f"{number} pixels"] = _digest_of(part.data)
    return found


def _table(path: Path) -> dict[str, str]:
    """Return a digest of each column of a Measurement Set, or of a calibration table."""
    with tables.table(str(path), ack=False) as table:
        present = table.colnames()
        names = [name for name in MS_COLUMNS if name in present] if path.suffix == ".ms" else present
        return {name: _digest(table, name) for name in names if table.nrows() and table.iscelldefined(name, 0)}


def _digest(table: tables.table, name: str) -> str:
    return _digest_of(np.asarray(table.getcol(name)))


def _digest_of(values: NDArray[np.generic]) -> str:
    return f"{values.shape} {hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()}"
