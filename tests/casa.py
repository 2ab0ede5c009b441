"""CASA as an oracle: in a process of its own, from the environment of the peers (`make bench-peers`).

CASA and python-casacore cannot share a process, nor an environment: what CASA is to do is a piece of code, run by
the peers' Python in a temporary folder, with no network and no trace left behind.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = """\
import casadata
measurespath = casadata.datapath
datapath = [casadata.datapath]
measures_auto_update = False
data_auto_update = False
nologger = True
nogui = True
agg = True
casaconfig_verbose = 0
logfile = {log!r}
"""
FRAME = """\
import json, pathlib
values = json.loads(pathlib.Path({inputs!r}).read_text())
globals().update(values)
result = None
{code}
pathlib.Path({outputs!r}).write_text(json.dumps(result))
"""


class CasaError(RuntimeError):
    """The code failed inside CASA."""


def peers_python() -> Path | None:
    """Return the interpreter that has CASA and pyuvdata, or None where `make bench-peers` has not run."""
    if "CONTIMG_PEERS" in os.environ:
        return Path(os.environ["CONTIMG_PEERS"])
    # The mark is set last: an installation that failed halfway has an interpreter too.
    ready = (ROOT / ".venv-peers" / "ready").is_file()
    return ROOT / ".venv-peers" / "bin" / "python" if ready else None


needs_casa = pytest.mark.skipif(peers_python() is None, reason="CASA is not installed: run make bench-peers")


def casa(code: str, **values: object) -> Any:
    """Run code in a fresh process of the peers' Python and return what it assigned to `result`.

    Parameters
    ----------
    code
        Statements; they import what they need (casatasks, casatools, pyuvdata) and see `values` as variables, and
        `log_path`, the file of CASA's log.
    values
        Whatever JSON can hold; paths become strings.

    Raises
    ------
    CasaError
        If the process fails: with the end of its output and log.
    """
    python = peers_python()
    if python is None:
        raise CasaError("CASA is not installed: run make bench-peers")
    with tempfile.TemporaryDirectory(prefix="casa-") as scratch:
        home = Path(scratch)
        log, inputs, outputs, script = (home / name for name in ("casa.log", "in.json", "out.json", "for_casa.py"))
        (home / ".casa").mkdir()
        (home / ".casa" / "config.py").write_text(CONFIG.format(log=str(log)))
        inputs.write_text(json.dumps(values | {"log_path": str(log)}, default=str))
        script.write_text(FRAME.format(inputs=str(inputs), outputs=str(outputs), code=code))
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        environment |= {
            "HOME": str(home),
            "MPLBACKEND": "Agg",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        }
        done = subprocess.run(
            [str(python), str(script)], cwd=home, env=environment, capture_output=True, text=True, check=False
        )
        if not outputs.is_file():
            tail = log.read_text()[-2000:] if log.is_file() else ""
            raise CasaError(f"CASA failed with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-3000:]}\n{tail}")
        return json.loads(outputs.read_text())
