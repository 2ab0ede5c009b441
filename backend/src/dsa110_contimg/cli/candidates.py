"""`contimg candidates`: sources that wait for a person, and what people did about them."""

import getpass
import json
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from dsa110_contimg.database import get_session
from dsa110_contimg.database.candidate_list import flag_by_hand, ranked
from dsa110_contimg.database.candidate_repository import told
from dsa110_contimg.database.models import ESECandidate
from dsa110_contimg.database.repositories import CandidateRepository

app = typer.Typer(help="Sources that vary, and what was done about them.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(metavar="CANDIDATE", help="Number of a candidate, or name of its source.")]
By = Annotated[str, typer.Option(help="Who says so; the login name if empty.")]
Note = Annotated[str, typer.Option(help="Why, in words.")]


@app.callback()
def candidates() -> None:
    """List candidates, and say what became of them."""


@app.command("list")
def list_command(
    status: Annotated[str, typer.Option(help="active, investigated, dismissed or all.")] = "active",
    limit: Annotated[int, typer.Option(help="Most candidates listed.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List candidates: scattering events first, then by significance; a star marks pulsars and known variables.

    Example: contimg candidates list --status all
    """
    with get_session("products", read_only=True) as session:
        rows = [_told(row) for row in ranked(session, None if status == "all" else status)[:limit]]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        typer.echo(
            f"{row['id']:5}  {row['source_id']:24s} {row['flag_type']:12s} {row['significance']:6.1f} sigma  "
            f"{row['status']:12s} {'* ' if row['known_as'] else ''}{row['reason'] or ''}"
        )
        for entry in row["history"] if isinstance(row["history"], list) else ():
            when = datetime.fromtimestamp(entry["at"], tz=UTC).strftime("%Y-%m-%d %H:%M")
            typer.echo(f"       {when} {entry['did']} by {entry['by']}: {entry.get('note', '')}".rstrip(": "))
    typer.echo(f"{len(rows)} candidates")


@app.command("flag")
def flag_command(
    source: Annotated[str, typer.Argument(help="Name of a source that has statistics.")], note: Note = "", by: By = ""
) -> None:
    """Flag a source by hand.

    Example: contimg candidates flag "NVSS J123456.7+420312" --note "flat minimum since May"
    """
    with get_session("products") as session:
        row = flag_by_hand(session, source, by=by or getpass.getuser(), note=note, now=time.time())
        typer.echo(f"candidate {row.id}: {row.source_id}")


@app.command("investigate")
def investigate(which: Which, note: Note = "", by: By = "") -> None:
    """Mark a candidate as investigated.

    Example: contimg candidates investigate 12 --note "VLBA time asked for"
    """
    _close(which, "investigated", note, by)


@app.command("dismiss")
def dismiss(which: Which, note: Note = "", by: By = "") -> None:
    """Dismiss a candidate; the same event does not come back.

    Example: contimg candidates dismiss 12 --note "beside a bad tile"
    """
    _close(which, "dismissed", note, by)


@app.command("note")
def note_command(which: Which, note: Annotated[str, typer.Argument(help="The note.")], by: By = "") -> None:
    """Add a note to a candidate.

    Example: contimg candidates note 12 "also low at 3 GHz"
    """
    with get_session("products") as session:
        row = CandidateRepository.note(session, which, by=by or getpass.getuser(), note=note, now=time.time())
        typer.echo(f"noted on candidate {row.id}, {row.source_id}")


def _close(which: str, status: str, note: str, by: str) -> None:
    with get_session("products") as session:
        row = CandidateRepository.close(
            session, which, status=status, by=by or getpass.getuser(), note=note, now=time.time()
        )
        typer.echo(f"candidate {row.id}, {row.source_id}, is {row.status}")


def _told(row: ESECandidate) -> dict[str, object]:
    names = ("id", "source_id", "flag_type", "significance", "status", "flagged_at", "flagged_by", "known_as")
    content = told(row.notes)
    known = {name: content.get(name) for name in ("reason", "mjd")}
    times = {"investigated_at": row.investigated_at, "dismissed_at": row.dismissed_at}
    return {name: getattr(row, name) for name in names} | known | times | {"history": content.get("history", [])}
