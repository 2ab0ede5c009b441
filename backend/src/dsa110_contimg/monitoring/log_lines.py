"""The last lines of the log that belong to one job or subject: what was said before something went wrong."""

import json
import os
from pathlib import Path

LOOKED_AT = 2_000_000
"""Bytes at the end of the log, a few hours of it."""


def last_lines(file: Path, name: str, *, limit: int = 20) -> list[str]:
    """Return the last lines about a job id, group, mosaic group or mosaic, the oldest first; none without a log."""
    try:
        with file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - LOOKED_AT))
            lines = log.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        if f'"{name}"' not in line:
            continue
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if name in (told.get("job_id"), told.get("subject")):
            found.append(
                f"{told.get('timestamp', '')} {told.get('level', '')} {told.get('job_id', '')}: {told.get('event', '')}"
            )
    return found[-limit:]
