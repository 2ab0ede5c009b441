"""AOFlagger, where it is installed, as another finder of interference.

The program works on Measurement Sets: the visibilities go into a scratch set in the folder for temporary files, with
what is flagged already, and its FLAG column is read back. The tile's own set is never touched.
"""

import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import CalibrationError, ConfigurationError
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.visibilities import Visibilities

TIME_LIMIT_S = 1800.0


def find_interference(vis: Visibilities, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the flags that AOFlagger's default strategy leaves, (n_row, n_chan, n_pol).

    Raises
    ------
    ConfigurationError
        If it is not installed.
    CalibrationError
        If it fails.
    """
    program = shutil.which("aoflagger")
    if program is None:
        raise ConfigurationError("aoflagger is not installed: install it, or flag with the engine 'own'")
    with tempfile.TemporaryDirectory(prefix="contimg_aoflagger_") as folder:
        path = measurement_set.save(Path(folder) / "scratch.ms", replace(vis, flags=flags))
        try:
            done = subprocess.run(
                [program, str(path)], capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S
            )
        except subprocess.TimeoutExpired as error:
            raise CalibrationError(f"aoflagger did not end within {TIME_LIMIT_S:.0f} s on {vis.field_name}") from error
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise CalibrationError(f"aoflagger failed on {vis.field_name}: {' '.join(last) or done.returncode}")
        return measurement_set.load(path, "DATA").flags
