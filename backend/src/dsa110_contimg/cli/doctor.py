"""`contimg doctor`: whether everything around the pipeline is as it must be."""

import dataclasses
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from dsa110_contimg.config import Settings
from dsa110_contimg.housekeeping.doctor import examine, is_fit
from dsa110_contimg.housekeeping.findings import Finding, Grade

STYLES = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.ERROR: "bold red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Check the machine, the installation and the databases; each line says what was found, and the way out.

    Nothing is changed. The exit code is 1 if there is an error, and 0 with warnings.

    Example: contimg doctor --json
    """
    findings = []
    console = Console(soft_wrap=True, highlight=False)
    for finding in examine(Settings()):
        findings.append(finding)
        if not as_json:
            console.print(_line(finding))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    raise typer.Exit(int(not is_fit(findings)))


def _line(finding: Finding) -> Text:
    way_out = f"; {finding.way_out}" if finding.way_out else ""
    line = Text(f"{finding.grade.value:8s}", style=STYLES[finding.grade])
    return line.append(f"{finding.name}: {finding.found}{way_out}", style="default")
