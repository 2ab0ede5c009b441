"""Copy the bandpass calibrators of an old products database into the calibrators database.

    python backend/src/dsa110_contimg/database/migrate_calibrators.py \
        --products-db state/products.sqlite3 --calibrators-db state/calibrators.sqlite3 [--dry-run]

Both databases are backed up first, to `backups/YYYYMMDD_HHMMSS/` beside the calibrators database, and the copies
verified. The products database is only read. A calibrator that the calibrators database knows already stays as it
is there, so that migrating twice changes nothing; a row that no calibrator can have is reported, and stays where
it was. No old calibrators is a success.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.dialects.postgresql import insert

from dsa110_contimg.database import session
from dsa110_contimg.database.backup import back_up, check_integrity
from dsa110_contimg.database.explanations import explaining
from dsa110_contimg.database.models import BandpassCalibrator, CalibratorsBase, ProductsBase
from dsa110_contimg.database.row_checks import CalibratorStatus, Value, check_bandpass_calibrator
from dsa110_contimg.errors import ConfigurationError, PipelineError

TABLE = "bandpass_calibrators"
_NEEDED = ("calibrator_name", "ra_deg", "dec_deg")


@dataclass(frozen=True)
class Plan:
    """What a migration would do."""

    new: tuple[dict[str, Value], ...]
    """Rows to copy."""
    known: tuple[str, ...]
    """Calibrators that are there already."""
    refused: tuple[str, ...]
    """Why a row is not copied."""


def plan_migration(products_db: Path, calibrators_db: Path) -> Plan:
    """Look at both databases and change neither.

    Raises
    ------
    ConfigurationError
        If one is damaged or foreign, or the products database is missing.
    """
    if not products_db.is_file():
        raise ConfigurationError(f"products database {products_db} does not exist: check --products-db")
    if products_db.resolve() == calibrators_db.resolve():
        raise ConfigurationError(f"{products_db} is named as both databases: check --calibrators-db")
    check_integrity(products_db)
    known = set()
    if calibrators_db.exists():
        check_integrity(calibrators_db)
        _must_be_ours(calibrators_db, set(CalibratorsBase.metadata.tables))
        known = {str(row["calibrator_name"]) for row in _rows(calibrators_db)}
    _must_be_ours(products_db, {*ProductsBase.metadata.tables, TABLE})
    new, refused = [], []
    for row in _rows(products_db):
        try:
            new.append(_present_row(row))
        except ConfigurationError as error:
            refused.append(str(error))
    there = tuple(str(row["calibrator_name"]) for row in new if row["calibrator_name"] in known)
    return Plan(tuple(row for row in new if row["calibrator_name"] not in known), there, tuple(refused))


def migrate(products_db: Path, calibrators_db: Path, folder: Path | None = None) -> tuple[Plan, Path]:
    """Back both databases up, copy what is new, and return what was done and the folder of the backups.

    Parameters
    ----------
    products_db, calibrators_db
        The old database, and the new one, which is made where it is missing.
    folder
        Where the backups go; None makes one beside the new database.

    Raises
    ------
    ConfigurationError
        If a database cannot be used or backed up; both are unchanged then.
    """
    plan = plan_migration(products_db, calibrators_db)
    folder = folder or _backup_folder(calibrators_db.parent)
    back_up(products_db, folder)
    engine = session.engine_of_file(calibrators_db)
    with explaining(calibrators_db, "cannot take the calibrators"):
        CalibratorsBase.metadata.create_all(engine)
        back_up(calibrators_db, folder)
        with engine.begin() as connection:
            for row in plan.new:
                connection.execute(insert(BandpassCalibrator).values(**row).on_conflict_do_nothing())
    return plan, folder


def _backup_folder(state: Path) -> Path:
    """Return a folder named after this second (UTC) that no other migration has used."""
    while True:
        folder = state / "backups" / datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            time.sleep(0.1)
        except OSError as error:
            raise ConfigurationError(f"backup folder {folder} cannot be made: {error.strerror}") from error
        else:
            return folder


def _must_be_ours(path: Path, tables: set[str]) -> None:
    """Refuse a database that has tables, but none of ours."""
    with closing(session.connect(path, read_only=True)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if names and not names & tables:
        raise ConfigurationError(
            f"database {path} belongs to another program (it has the table {min(names)}): check the path"
        )


def _rows(path: Path) -> list[dict[str, Value]]:
    """Return the rows of the table, whatever columns it has; none if it is absent."""
    with closing(session.connect(path, read_only=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone():
            return []
        cursor = connection.execute(f"SELECT * FROM {TABLE} ORDER BY rowid")
        names = [column[0] for column in cursor.description]
        lacking = [name for name in _NEEDED if name not in names]
        if lacking:
            raise ConfigurationError(f"table {TABLE} of {path} lacks the column {lacking[0]}: it is not the pipeline's")
        return [dict(zip(names, row, strict=True)) for row in cursor]


def _present_row(old: dict[str, Value]) -> dict[str, Value]:
    """Return an old row as the present table stores it: known columns, present words, no unknown times."""
    columns = BandpassCalibrator.__table__.columns.keys()
    row = {name: value for name, value in old.items() if name in columns and name != "id" and value is not None}
    if row.get("status") not in {None, *CalibratorStatus}:
        row["notes"] = f"{row.get('notes', '')} (status was {row['status']!r})".strip()
        row["status"] = CalibratorStatus.INACTIVE.value
    # The table wants a time; one that the old row does not tell is that of the migration, and says so.
    if "registered_at" not in row:
        row |= {"registered_at": time.time(), "registered_by": row.get("registered_by", "migrate_calibrators")}
    return check_bandpass_calibrator(row)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the migration as a command; the return value is its exit code."""
    parser = argparse.ArgumentParser(
        description="Copy bandpass calibrators from products.sqlite3 to calibrators.sqlite3."
    )
    parser.add_argument("--products-db", type=Path, required=True, help="The old database; it is only read.")
    parser.add_argument(
        "--calibrators-db", type=Path, required=True, help="The new database; made where it is missing."
    )
    parser.add_argument("--backup-dir", type=Path, help="Where the backups go instead.")
    parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and change nothing.")
    told = parser.parse_args(arguments)
    try:
        if told.dry_run:
            report = _report(plan_migration(told.products_db, told.calibrators_db), "would be copied")
        else:
            plan, folder = migrate(told.products_db, told.calibrators_db, told.backup_dir)
            report = f"backups: {folder}\n" + _report(plan, "copied")
    except PipelineError as error:
        sys.stderr.write(f"migrate_calibrators: {error}\n")
        return 1
    sys.stdout.write(report)
    return 0


def _report(plan: Plan, verb: str) -> str:
    lines = [f"{len(plan.new)} calibrators {verb}, {len(plan.known)} known already, {len(plan.refused)} refused"]
    lines += [f"  {row['calibrator_name']} {verb}" for row in plan.new]
    lines += [f"  refused: {reason}" for reason in plan.refused]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
