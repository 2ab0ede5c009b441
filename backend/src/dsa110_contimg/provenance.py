"""Where a product comes from: inputs, calibration tables, options, and the program that made it.

One record per product, made by the step that makes it, is told three times:

    the registry's row    the record itself, below "provenance" in metadata_json
    the FITS header       `header_cards`: names and options, no times, so that a step done twice makes the same bytes
    PROV-JSON             `provenance_document.prov_document`: a graph that other archives read

Options are one canonical text (JSON, sorted, no spaces) with its SHA-256: two products with the same sum were made
alike, and the card OPTHASH is the sum of the card OPTIONS. The commit is that of the working copy the program runs
from, or of the source that pip fetched; a program from neither has none.
"""

import dataclasses
import functools
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from dsa110_contimg.errors import ConfigurationError

DISTRIBUTION = "dsa110-contimg"
GIT_TIMEOUT_S = 5.0
_HERE = Path(__file__).resolve().parent

Software = dict[str, str | bool | None]
Input = Mapping[str, object] | Path | str
"""{"id" or "path", "role", "sha256" if known ...}; a path alone stands for {"path": ...}."""


def software() -> Software:
    """Return name, version, commit and whether files differ from that commit ("dirty"); None is not known.

    Read once per process: what was imported is what works, whatever happens to the working copy afterwards.
    """
    return dict(_software())


@functools.cache
def _software() -> Software:
    commit, dirty = _working_copy(_HERE)
    return {
        "name": DISTRIBUTION,
        "version": metadata.version(DISTRIBUTION),
        "commit": commit or _fetched_commit(),
        "dirty": dirty,
    }


def _working_copy(folder: Path) -> tuple[str | None, bool | None]:
    """Return commit and dirtiness of the repository that tracks the program in a folder, or (None, None)."""
    # A program installed below somebody else's repository is not tracked by it, and its commit is not ours.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit, None if commit is None or changes is None else bool(changes)


def _git(folder: Path, *words: str) -> str | None:
    """Return what git prints, or None where it fails, is missing or takes too long."""
    program = shutil.which("git")
    if program is None:
        return None
    # No environment: GIT_DIR of a hook names another repository. Nothing of the repository is run, so that one of
    # another owner, as in a container, may be asked.
    safe = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false", "--no-optional-locks")
    try:
        done = subprocess.run(
            [program, *safe, "-C", str(folder), *words], capture_output=True, env={}, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def _fetched_commit() -> str | None:
    """Return the commit from which pip installed the program, if it fetched it from a repository."""
    told = json.loads(metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    commit = told.get("vcs_info", {}).get("commit_id")
    return None if commit is None else str(commit)


def record(
    *,
    activity: str,
    inputs: Iterable[Input],
    calibration_tables: Iterable[Input] = (),
    options: object,
    started_at: float | None = None,
    ended_at: float | None = None,
) -> dict[str, Any]:
    """Return what made a product, ready for JSON.

    Parameters
    ----------
    activity
        What was done, such as 'image' or 'mosaic'.
    inputs, calibration_tables
        What was read.
    options
        An options object, or several.
    started_at, ended_at
        Unix seconds, if known.

    Raises
    ------
    ConfigurationError
        If an input names neither an id nor a path, or an option cannot be written as JSON.
    """
    chosen = _options(options)
    times = {"started_at": started_at, "ended_at": ended_at}
    return {
        "activity": activity,
        "software": software(),
        "inputs": [_input(one, "input") for one in inputs],
        "calibration_tables": [_input(one, "calibration table") for one in calibration_tables],
        "options": chosen,
        "options_sha256": _sum(_text(chosen)),
        **{name: moment for name, moment in times.items() if moment is not None},
    }


def header_cards(record: Mapping[str, Any]) -> dict[str, str | float | int]:
    """Return the cards that tell a record in a FITS header; what is not known has none. The version is in ORIGIN.

    PIPECOM is the commit, with `-dirty` behind it if files differed; INPUTS and CALTABLES are names joined by commas;
    OPTIONS is the canonical text and OPTHASH its SHA-256.
    """
    program = record["software"]
    commit = program["commit"]
    cards = {
        "PIPECOM": f"{commit}-dirty" if commit and program["dirty"] else commit,
        "INPUTS": ",".join(_name(one) for one in record["inputs"]),
        "CALTABLES": ",".join(_name(one) for one in record["calibration_tables"]),
        "OPTHASH": record["options_sha256"],
        "OPTIONS": _text(record["options"]),
    }
    return {key: str(value) for key, value in cards.items() if value}


def _input(one: Input, role: str) -> dict[str, object]:
    told = {"path": str(one)} if isinstance(one, Path | str) else dict(one)
    if not (told.get("id") or told.get("path")):
        raise ConfigurationError(f"the provenance of {told} is not known: an input needs an id or a path")
    return {"role": role} | {
        key: str(value) if isinstance(value, Path) else value for key, value in told.items() if value is not None
    }


def _name(one: Mapping[str, object]) -> str:
    return Path(str(one["path"])).name if "path" in one else str(one["id"])


def _options(options: object) -> dict[str, object]:
    """Return options objects as {stage: {option: value}}; one object of several stages is taken apart."""
    several = options if isinstance(options, list | tuple) else [options]
    found: dict[str, object] = {}
    for one in several:
        if not dataclasses.is_dataclass(one) or isinstance(one, type):
            raise ConfigurationError(f"{one!r} is no options object: see dsa110_contimg.options")
        stages = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
        if stages and all(map(dataclasses.is_dataclass, stages.values())):
            found |= {stage: dataclasses.asdict(chosen) for stage, chosen in stages.items()}
        else:
            found[type(one).__name__.removesuffix("Options").lower()] = stages
    return dict(json.loads(_text(found)))


def _text(options: Mapping[str, object]) -> str:
    try:
        return json.dumps(options, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the options {options} cannot be recorded ({error})") from error


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
