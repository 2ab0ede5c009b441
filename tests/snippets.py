"""The code in the specification's documents and in our own, and what a test may change in it before it runs.

The rows of SUBSTITUTIONS and the names of UNDEFINED are all that is changed or added; programs that would run
these tests again, or change the checkout, are replaced on PATH by stand-ins (see `stand_ins`).
"""

import os
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPECIFICATION = Path(os.environ.get("CONTIMG_SPEC", ""))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.M | re.S)
LANGUAGES = {"sql", "python", "bash", "sh"}

HOME = "data/dsa110-contimg"
"""The installation, below a test's temporary root."""
MOSAIC = "mosaic_2025-11-18_12-00-00"
BACKUP = "20251118_120000"

SUBSTITUTIONS: dict[str, tuple[str, str]] = {
    "data root": ("/data/dsa110-contimg", "{root}/data/dsa110-contimg"),
    "stage root": ("/stage/dsa110-contimg", "{root}/stage/dsa110-contimg"),
    "an image's other columns": (
        'Image(path="/path/to/image.fits", ...)',
        'Image(path="/path/to/image.fits", ms_path="{root}/1.ms", type="dirty")',
    ),
    "an image's type": ('ms_path="/test.ms", ...)', 'ms_path="/test.ms", type="dirty")'),
    "the rest of a query": ("FROM bandpass_calibrators ...", "FROM bandpass_calibrators WHERE status = 'active'"),
    "the rest of an insertion": (
        "INTO bandpass_calibrators ...",
        "INTO bandpass_calibrators (calibrator_name, ra_deg, dec_deg, registered_at) VALUES ('3C48', 24.42, 33.16, 1)",
    ),
    "a backup's stamp": ("YYYYMMDD_HHMMSS", BACKUP),
    "going back in history": ("git checkout main", "git --version"),
}
"""Why → what is printed, what runs. `state/` is below the folder in which a block runs."""

UNDEFINED = {
    "conn": "the registry, open",
    "cursor": "a cursor of it whose rows have names",
    "mosaic_id": "a product",
    "stage_path": "its file",
    "published_dir": "where it goes",
    "run_qa_checks": "of pipeline.streaming_mosaic",
    "submit_photometry_job": "of pipeline.streaming_mosaic",
    "session": "of the database that the block is about",
    "target_mjd": "a time for which a calibration table holds",
    "self": "has products_db, an old products database",
}
"""Names that the documents use and do not define."""

NOT_RUN = {
    "cd dsa110-contimg; make demo": "makes an environment and runs the demo for minutes: CI does both",
    "contimg run --workers 2": "watches a folder until it is stopped; tests/test_cli.py runs it with --once",
    "contimg convert ": "converts files that are not here; tests/formats converts its own",
    "contimg flags ": "needs a flagged Measurement Set; tests/calibration/test_flag_commands.py runs them on its own",
    "contimg calibrators plot ": "needs a solved table; tests/test_calibrators_command.py draws its own",
    "contimg calibrators redo ": "needs calibrated tiles; tests/integration/test_superseded.py does it",
    "contimg image ": "images a Measurement Set that is not here; tests/integration images ours",
    "contimg catalog resolve ": "needs that source in the catalogue; tests/database/test_source_names.py has its own",
    "contimg spectrum ": "needs measured sources; tests/pipeline/test_subband_rows.py measures its own",
    "contimg lightcurve ": "needs measured sources; tests/test_candidates_command.py draws its own",
    "contimg candidates ": "needs candidates; tests/test_candidates_command.py has its own",
    "contimg report completeness": "searches for minutes; tests/test_candidates_command.py does it in small",
    "contimg user ": "needs users of that name; tests/test_users_command.py makes its own",
    "contimg token ": "needs users of that name; tests/test_users_command.py makes its own",
    "contimg hips ": "draws mosaics that are not here; tests/integration/test_mosaic_products.py draws ours",
    "contimg moc ": "reads mosaics that are not here; tests/pipeline/test_coverage.py reads its own",
    "contimg report truth ": "images for minutes; tests/pipeline/test_injection_report.py does it in small",
    "contimg simulate ": "simulates for minutes; tests/simulation does it in small",
    "contimg serve": "serves until it is stopped; tests/api runs it",
    "contimg demo ": "the demo takes minutes: CI runs it",
    "contimg worker ": "waits for a scheduler that is not here; tests/pipeline/test_dask_crew.py runs it",
    "pip install 'dsa110-contimg[dask]'": "installs from a registry; tests/integration/test_dask.py runs it",
    "docker build ": "builds an image; tests/test_deployment.py checks its files",
    "contimg doctor": "judges the machine it runs on; tests/housekeeping makes each of its findings",
    "contimg restore ": "needs a backup of that name; tests/housekeeping restores its own",
    "slack=": "sends to addresses that do not exist; tests/monitoring sends to servers of its own",
}
"""Blocks of our own documents with a line that begins so are only parsed (tests/test_docs.py) → why.

Of the specification all blocks run.
"""

SLOW = ("contimg catalog import ", "contimg status", "contimg registry ")
"""Blocks of our own documents with such a line start many programs, or import a whole survey."""


@dataclass(frozen=True)
class Snippet:
    """One fenced block."""

    document: str
    """S0 to S4, or a path of ours without its suffix."""
    language: str
    number: int
    """Counts the blocks of this language in the document."""
    text: str

    @property
    def name(self) -> str:
        return f"{self.document}-{self.language}-{self.number:02d}"

    def begins(self, starts: Iterable[str]) -> str | None:
        """Return which of some beginnings a line of the block has."""
        lines = self.text.splitlines()
        return next((start for start in starts if any(line.startswith(start) for line in lines)), None)

    def runs_as(self, root: Path) -> str:
        """Return the text with its substitutions."""
        text = self.text
        for printed, runs in SUBSTITUTIONS.values():
            text = text.replace(printed, runs.replace("{root}", str(root)))
        return text


def collect(path: Path, document: str) -> list[Snippet]:
    """Return the blocks of one document in a language that runs."""
    counts: dict[str, int] = {}
    found = []
    for _indent, language, body in FENCE.findall(path.read_text(encoding="utf-8")):
        if language:
            counts[language] = counts.get(language, 0) + 1
            found.append(Snippet(document, language, counts[language], textwrap.dedent(body)))
    return found


def printed() -> list[Snippet]:
    """Return every block of the specification; none where its documents are absent."""
    if not SPECIFICATION.name or not SPECIFICATION.is_dir():
        return []
    return [s for path in sorted(SPECIFICATION.glob("S*.md")) for s in collect(path, path.name.partition("_")[0])]


def ours() -> list[Snippet]:
    """Return every block of our own documents."""
    paths = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    return [s for path in paths for s in collect(path, path.relative_to(ROOT).with_suffix("").as_posix())]


def stand_ins(folder: Path, python: Path) -> None:
    """Write programs that come first on PATH.

    `pytest`, also as `python -m pytest`, asks whether the files named are there: this suite runs them. `pip` and
    `sqlite3` are the real ones, where they exist.
    """
    folder.mkdir()
    check = 'for file; do case "$file" in *.py) test -f "$file" || exit 4;; esac; done; exit 0'
    scripts = {
        "pytest": check,
        "python": f'if [ "$1 $2" = "-m pytest" ]; then {check}; fi; exec "{python}" "$@"',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
