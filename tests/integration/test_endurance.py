"""A day with faults and kills ends as an undisturbed one.

Groups come one by one into the folder of `contimg run --workers 2`, with the faults of `endurance_day`, while processes
of the daemon get SIGKILL. When all has been done that can be, the data are ended by `--once`. The same files, all there
from the beginning and without kills, make the installation to compare with. The whole day has 279 groups, at a hundred
times real time; six groups are its small sister.
"""

import json
import random
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from tests.database.printed_tables import make_as_printed
from tests.integration import snapshot
from tests.integration.endurance_day import (
    Arrival,
    Day,
    Faults,
    Played,
    ask,
    deliver,
    end_the_data,
    plan_arrivals,
    play,
)
from tests.integration.test_kill import OBSERVATION, Server

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database.session import connect
from dsa110_contimg.naming import mosaic_group_id

WHOLE = Day(groups=279, kill_every_s=20.0, tiles=10, overlap=2, calm_daemon=True)
SMALL = Day(groups=6, kill_every_s=6.0, tiles=3, overlap=1, every_s=1.0, most_kills=3)
SHORTEST_GROUP = 3
TILE_IMAGES = ("background", "beam", "image", "pbcor", "residual", "rms")
COMPARED = {
    *("products/ms_index", "products/images", "products/mosaics", "products/mosaic_groups"),
    *("products/mosaic_group_members", "products/photometry", "products/photometry_missing", "products/qa_checks"),
    *("products/qa_artifacts", "products/variability_stats", "products/ese_candidates", "products/pointing_history"),
    *("products/epoch_corrections", "ingest/ingest_queue", "ingest/subband_files", "cal_registry/caltables"),
}
"""Rows that follow from the data; the others tell of files that one of the two never saw, or of what was tried."""
SET_NUMBER = re.compile(r'("set_name": "[a-z]+_\w+?_\d{5})_\d+(?=")')
"""What tells sets of one name apart: two workers may swap it."""
REASONS = Path(__file__).parents[2] / "docs" / "reference" / "empty_columns.toml"


def live_through(day: Day, folder: Path) -> tuple[Path, Path, Played]:
    """Play a day with and without kills; return both installations, and what the hard one was like."""
    fresh, source, chance = folder / "fresh", folder / "day", random.Random(day.seed)
    fresh.mkdir()
    server = Server()
    assert server.run(fresh, simulate=OBSERVATION | {"tiles": day.groups}) == 0
    server.close()
    Settings(root=fresh).incoming.rename(source)
    Settings(root=fresh).incoming.mkdir()
    truth = json.loads((source / "truth.json").read_text())["groups"]
    faults = Faults.draw(day.groups, chance)
    plan = plan_arrivals([group["files"] for group in truth], faults, day, chance)
    quiet, hard = (shutil.copytree(fresh, folder / name) for name in ("quiet", "hard"))
    for arrival in plan:
        if arrival.part == 1.0 and not arrival.again:
            deliver(source, Settings(root=quiet).incoming, arrival)
    if day.calm_daemon:
        calm = play(quiet, source, [], day, None)
        held = f"{calm.hour_mb(0):.0f} MB in the first hour of its day, {calm.hour_mb(23):.0f} MB in the last"
        print(f"undisturbed {calm.seconds:.0f} s, the daemon holds {held}")
    played = play(hard, source, plan, day, chance)
    print(f"seed {day.seed}; disturbed {played.seconds:.0f} s")
    # A group has failed for good, and stands so.
    assert [end_the_data(root, day) for root in (quiet, hard)] == [1, 1]
    names = [group["group_id"] for group in truth]
    report(faults, names, played, hard)
    judge(day, faults, names, plan, hard)
    same_as(quiet, hard)
    return quiet, hard, played


def test_six_groups_with_kills_and_faults_end_as_undisturbed_ones(tmp_path: Path) -> None:
    _quiet, _hard, played = live_through(SMALL, tmp_path)
    assert played.struck["daemon"] + played.struck["worker"] >= 1


@pytest.mark.slow
def test_a_day_with_kills_and_faults_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    # Two workers that compile at once may keep kernels that round differently from those they use: compile them first.
    (tmp_path / "short").mkdir()
    live_through(SMALL, tmp_path / "short")
    _quiet, hard, played = live_through(WHOLE, tmp_path)
    assert played.struck["daemon"] >= 5
    assert played.struck["worker"] >= 5
    empty = columns_without_a_value(hard, tmp_path / "printed")
    assert not empty, f"columns of the specification that are NULL in every row, and nobody says why: {empty}"


def expected_groups(tiles: Sequence[str], day: Day) -> dict[str, list[str]]:
    """Return the members of each mosaic group by the rule: so many tiles, so many of them shared, a short one last."""
    found: dict[str, list[str]] = {}
    start = 0
    while True:
        members = list(tiles[start : start + day.tiles])
        fresh = members[day.overlap if start else 0 :]
        if len(members) < day.tiles and len(fresh) < SHORTEST_GROUP:
            return found
        found[mosaic_group_id(fresh[0])] = members
        start += day.tiles - day.overlap


def judge(day: Day, faults: Faults, groups: Sequence[str], plan: Sequence[Arrival], root: Path) -> None:
    """Hold what a day left against its truth."""
    bad = {groups[number] for number in faults.hopeless}
    good = [group for group in groups if group not in bad]
    queue = dict(ask(root, "ingest", "SELECT group_id, state FROM ingest_queue"))
    assert queue == {group: "failed" if group in bad else "completed" for group in groups}
    refused = {Path(str(path)).name for (path,) in ask(root, "ingest", "SELECT path FROM quarantine")}
    assert refused == {one.under for one in plan if one.part < 1.0}
    failed = dict(ask(root, "products", "SELECT subject, error FROM jobs WHERE state = 'failed'"))
    assert failed.keys() == bad
    assert all("lacks subbands" in str(error) for error in failed.values()), failed
    assert [group for (group,) in ask(root, "products", "SELECT group_id FROM ms_index ORDER BY mid_mjd")] == good
    members: dict[str, list[str]] = {}
    order = "SELECT m.group_id, t.group_id FROM mosaic_group_members m JOIN ms_index t ON t.path = m.ms_path"
    for mosaic_group, tile in ask(root, "products", f"{order} ORDER BY m.group_id, position"):
        members.setdefault(str(mosaic_group), []).append(str(tile))
    assert members == expected_groups(good, day)
    assert Counter(ask(root, "products", "SELECT group_id FROM mosaics")) == Counter((name,) for name in members)
    measured_once(root, good, len(members))
    assert list(root.rglob("*.partial")) == []


def measured_once(root: Path, tiles: Sequence[str], mosaics: int) -> None:
    """Check that each tile has its images once, and that each image and mosaic has one set of photometry rows."""
    kinds = Counter(kind for (kind,) in ask(root, "products", "SELECT type FROM images"))
    per_mosaic = dict.fromkeys(("mosaic", "noise", "weight", "coverage"), mosaics)
    assert kinds == Counter(dict.fromkeys(TILE_IMAGES, len(tiles)) | per_mosaic)
    double = "SELECT image_path, source_id FROM photometry GROUP BY 1, 2 HAVING count(*) > 1"
    assert ask(root, "products", double) == []
    unmeasured = "SELECT path FROM images WHERE type IN ('image', 'mosaic') AND path NOT IN"
    assert ask(root, "products", f"{unmeasured} (SELECT image_path FROM photometry)") == []
    strange = "SELECT image_path FROM photometry WHERE image_path NOT IN"
    assert ask(root, "products", f"{strange} (SELECT path FROM images WHERE type IN ('image', 'mosaic'))") == []


def same_as(quiet: Path, hard: Path) -> None:
    """Check that rows, pixels and visibilities are those of the undisturbed installation."""
    one, other = (
        {name: content for name, content in snapshot.take(root).items() if name in COMPARED or not is_table(name)}
        for root in (quiet, hard)
    )
    for found in (one, other):
        rows = found["cal_registry/caltables"]
        assert isinstance(rows, list)
        found["cal_registry/caltables"] = sorted(SET_NUMBER.sub(r"\1", row) for row in rows)
    differ = snapshot.differences(one, other)
    assert not differ, f"{len(differ)} differences:\n" + "\n".join(line[:300] for line in differ[:20])
    images = sum(name.endswith(".fits") for name in one)
    print(f"{images} images, {len(COMPARED)} tables and {len(one) - images - len(COMPARED)} other files are equal")


def is_table(name: str) -> bool:
    """Return whether a name of a snapshot is that of a table, and not of a file."""
    database, _, table = name.partition("/")
    return database in DATABASES and "/" not in table


def report(faults: Faults, groups: Sequence[str], played: Played, root: Path) -> None:
    """Print each fault and what became of it."""
    hits = ", ".join(f"{number} times a {whom}" for whom, number in sorted(played.struck.items()))
    print(f"killed {hits}, put off {played.put_off}; the daemon was started again {played.restarts} times")
    files = dict(ask(root, "ingest", "SELECT group_id, count(*) FROM subband_files GROUP BY 1"))
    states = dict(ask(root, "ingest", "SELECT group_id, state FROM ingest_queue"))
    refused = dict(ask(root, "ingest", "SELECT group_id, reason FROM quarantine"))
    errors = dict(ask(root, "products", "SELECT subject, error FROM jobs WHERE state = 'failed'"))
    for kind, numbers in vars(faults).items():
        for group in (groups[number] for number in sorted(numbers)):
            why = "; ".join(str(said) for said in (refused.get(group), errors.get(group)) if said)
            print(f"{kind:10} {group} {states[group]} with {files[group]} files {why}")


def columns_without_a_value(root: Path, printed: Path) -> list[str]:
    """Return the columns of the specification's tables that hold nothing, and of which nobody says why."""
    reasons = load_reasons()
    found = []
    for database in DATABASES:
        make_as_printed(printed / f"{database}.sqlite3", database)
        for table, columns in columns_of(printed / f"{database}.sqlite3").items():
            counts = ", ".join(f'count("{column}")' for column in columns)
            (rows, *filled), *_ = ask(root, database, f'SELECT count(*), {counts} FROM "{table}"')
            known = reasons.get(table, {})
            names = [column for column, number in zip(columns, filled, strict=True) if not number] if rows else ["*"]
            found += [f"{table}.{name}" for name in names if name not in known]
    return found


def columns_of(path: Path) -> dict[str, list[str]]:
    """Return the columns of each table of a database file."""
    with closing(connect(path, read_only=True)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return {
            name: [row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')] for (name,) in names.fetchall()
        }


def load_reasons() -> dict[str, dict[str, str]]:
    """Return why a column may be empty after a day, by table; "*" is about a table without rows."""
    return tomllib.loads(REASONS.read_text(encoding="utf-8"))


def test_reasons_are_about_columns_that_exist(tmp_path: Path) -> None:
    for database in DATABASES:
        make_as_printed(tmp_path / f"{database}.sqlite3", database)
    printed = {table: set(names) for path in tmp_path.iterdir() for table, names in columns_of(path).items()}
    for table, names in load_reasons().items():
        assert names.keys() <= printed[table] | {"*"}, table
        assert all(why.strip() for why in names.values()), table


def test_the_rule_of_ten_and_two() -> None:
    """The judge's own rule, by hand."""
    tiles = [f"2025-10-01T{number:02d}:00:00" for number in range(21)]
    found = expected_groups(tiles, WHOLE)
    assert [(members[0][11:13], members[-1][11:13]) for members in found.values()] == [
        ("00", "09"),
        ("08", "17"),
        ("16", "20"),
    ]
    assert list(found)[1] == "mg_2025-10-01T10:00:00"
    assert len(expected_groups(tiles[:20], WHOLE)) == 2
