"""The databases: reachable, of this version, filled; who works on them, and whose leases are stale."""

from collections.abc import Iterator

from sqlalchemy import Engine, func, select, text

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, leases, session
from dsa110_contimg.database.explanations import explaining
from dsa110_contimg.database.models import Job, JobState, Source
from dsa110_contimg.database.ownership import is_gone
from dsa110_contimg.database.standing import Standing, revisions_of
from dsa110_contimg.database.upgrades import Target, standing
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.housekeeping import dumps, presence
from dsa110_contimg.housekeeping.findings import Finding, error, ok, warning

LEAST_SERVER = 13
"""The oldest PostgreSQL that its makers still mend."""
_SERVER = text(
    "SELECT current_setting('server_version_num')::int, has_database_privilege(current_database(), 'CREATE')"
)


def check_standing(name: str) -> Finding:
    """Check that a database has the tables of this version."""
    title, script = f"database {name}", revisions_of(name)
    try:
        found = standing(Target(name), script)
    except ConfigurationError as failure:
        return error(title, *_split(failure))
    path = Target(name).file
    if path is not None and not path.exists():
        return error(title, f"{path} does not exist", "run `contimg init`")
    if found is not Standing.CURRENT:
        return error(title, f"{session.location(name)} is {found.value}", "run `contimg init`")
    return ok(title, f"{session.location(name)} at {script.get_current_head()}")


def check_server() -> Iterator[Finding]:
    """Check that the server is there, new enough, lets schemas be made, and has a `pg_dump` that knows it."""
    where = session.location("products").removesuffix(" schema products")
    engine = session.get_engine("products", read_only=True)
    try:
        version, may_create = _ask(engine, where)
    except ConfigurationError as failure:
        yield error("server", *_split(failure))
        return
    yield judge_server(where, version, may_create=may_create)
    try:
        client = dumps.program_version()
    except ConfigurationError as failure:
        yield warning("pg_dump", *_split(failure))
        return
    yield judge_client(client, version)


def judge_server(where: str, version: int, *, may_create: bool) -> Finding:
    """Judge what a server says about itself."""
    found = f"{where}, PostgreSQL {version // 10000}.{version % 10000}"
    if version // 10000 < LEAST_SERVER:
        return error("server", found, f"upgrade the server to PostgreSQL {LEAST_SERVER} or later")
    if not may_create:
        return warning(
            "server",
            f"{found}, where this user may not make schemas",
            "run `contimg init` and `contimg restore` as the owner, or grant CREATE on the database",
        )
    return ok("server", found)


def judge_client(client: str, server_version: int) -> Finding:
    """Judge whether a `pg_dump` can back up a server: it must not be older."""
    found = f"pg_dump {client}"
    if int(client.partition(".")[0]) < server_version // 10000:
        way_out = f"install the client programs of PostgreSQL {server_version // 10000}"
        return error("pg_dump", f"{found} is older than the server and cannot back it up", way_out)
    return ok("pg_dump", found)


def check_catalogue() -> Finding:
    """Check that known sources have been imported."""
    try:
        with get_session("master_sources", read_only=True) as opened:
            number = opened.scalar(select(func.count()).select_from(Source)) or 0
    except ConfigurationError as failure:
        return error("catalogue", *_split(failure))
    if not number:
        return error("catalogue", "no known sources", "run `contimg catalog import nvss FILE`")
    return ok("catalogue", f"{number} sources")


def check_owners(settings: Settings, now: float) -> Finding:
    """Tell who runs; a run is no fault."""
    try:
        owners, is_running = presence.owners(now), presence.is_running(settings)
    except ConfigurationError as failure:
        return error("runs", *_split(failure))
    except OSError as failure:
        return error("runs", f"{failure.filename}: {failure.strerror}", "run as the user of the pipeline")
    here = "a run holds the lock" if is_running else "no run on this machine"
    return ok("runs", f"{here}; {', '.join(owners) or 'nobody'} holds a lease")


def check_leases(now: float) -> Finding:
    """Check for jobs that run for an owner that is gone, or whose lease has run out."""
    try:
        with get_session("products", read_only=True) as opened:
            rows = leases.list_jobs(opened, state=JobState.RUNNING)
    except ConfigurationError as failure:
        return error("leases", *_split(failure))
    stale = [row.job_id for row in rows if is_gone(row.owner) or (row.lease_expires_at or 0.0) < now]
    if stale:
        some = ", ".join(stale[:3]) + (" and others" if len(stale) > 3 else "")
        found = f"{len(stale)} of {len(rows)} running jobs belong to nobody: {some}"
        return warning("leases", found, "start a run, which takes them over: `contimg run`")
    return ok("leases", f"{len(rows)} held, none stale")


def newest_row_unix() -> float | None:
    """Return when a job was changed last, or None when that is not known."""
    try:
        with get_session("products", read_only=True) as opened:
            return opened.scalar(select(func.max(Job.updated_at)))
    except ConfigurationError:
        return None


def _ask(engine: Engine, where: str) -> tuple[int, bool]:
    with explaining(where, "cannot be asked"), engine.connect() as connection:
        version, may_create = connection.execute(_SERVER).one()
    return int(version), bool(may_create)


def _split(failure: ConfigurationError) -> tuple[str, str]:
    """Return an error's sentence as what was found and the way out."""
    found, _, way_out = str(failure).rpartition(": ")
    return (found, way_out) if found else (way_out, "see `contimg doctor --help`")
