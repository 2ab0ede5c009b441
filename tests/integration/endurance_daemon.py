"""`contimg` as a day of the endurance test runs it: its own command, with the waits of a night made short.

python -m tests.integration.endurance_daemon run --workers 2 ...
"""

import sys

from tests.integration.kill_server import LENIENT

from dsa110_contimg.cli import process
from dsa110_contimg.cli.main import main
from dsa110_contimg.options import CalibrationOptions, ConversionOptions, PipelineOptions, ScheduleOptions

OPTIONS = PipelineOptions(
    qa=LENIENT,
    conversion=ConversionOptions(settle_s=1.0, wait_s=12.0, relist_s=20.0),
    calibration=CalibrationOptions(transit_wait_h=24.0),
    schedule=ScheduleOptions(retry_s=1.0, pause_s=2.0, lease_s=20.0),
)


def contimg(arguments: list[str]) -> None:
    """Run the command."""
    process.PipelineOptions = lambda: OPTIONS  # type: ignore[attr-defined, misc, assignment]
    sys.argv = ["contimg", *arguments]
    main()


if __name__ == "__main__":
    contimg(sys.argv[1:])
