"""`contimg` as a day of the endurance test runs it: its own command, with the waits of a night made short.

python -m tests.integration.endurance_daemon run --workers 2 ...

The data are of another year, so that by the clock every tile has waited long enough for a transit; here none gives up,
for which solve a tile gets would depend on how fast the machine is.
"""

import sys

from tests.integration.kill_server import LENIENT

from dsa110_contimg.cli import process
from dsa110_contimg.cli.main import main
from dsa110_contimg.options import (
    CalibrationOptions,
    ConversionOptions,
    ImagingOptions,
    PipelineOptions,
    ScheduleOptions,
)

FOREVER_H = 1e9
OPTIONS = PipelineOptions(
    qa=LENIENT,
    conversion=ConversionOptions(settle_s=1.0, wait_s=30.0, relist_s=20.0),
    calibration=CalibrationOptions(transit_wait_h=FOREVER_H),
    # Twenty antennas see too little of the aperture for CLEAN to follow faint sources; the bright ones will do.
    imaging=ImagingOptions(auto_mask=20.0, mgain=0.5),
    schedule=ScheduleOptions(retry_s=1.0, pause_s=2.0, lease_s=20.0),
)


def contimg(arguments: list[str]) -> None:
    """Run the command."""
    process.PipelineOptions = lambda: OPTIONS  # type: ignore[attr-defined, misc, assignment]
    sys.argv = ["contimg", *arguments]
    main()


if __name__ == "__main__":
    contimg(sys.argv[1:])
