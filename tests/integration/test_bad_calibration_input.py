"""What calibration is given when things go wrong: a named error or a named state, and only what may go on goes on.

Each case breaks one converted tile of two, the one with the transit of 3C48 or the field before it, and runs the
pipeline's own stages on both.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from casacore.tables import table
from numpy.typing import NDArray
from sqlalchemy import select
from tests.integration.conftest import below, install

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import MSIndex, get_session, ingest_queue
from dsa110_contimg.database.calibrators import register_bandpass_calibrator
from dsa110_contimg.database.models import Caltable
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.options import CalibrationOptions, ConversionOptions, PipelineOptions
from dsa110_contimg.pipeline.calibrator_transits import list_transits
from dsa110_contimg.pipeline.ingest import bootstrap_directory, close_groups
from dsa110_contimg.pipeline.jobs import Job, Stage
from dsa110_contimg.pipeline.runner import execute
from dsa110_contimg.simulation import SimulationOptions, simulate

OPTIONS = PipelineOptions()
TWO_TILES = SimulationOptions(antennas=14, channels=2, integrations=6, tiles=2, transit="3C48", sefd_jy=1000.0)
SEED = 4
AREAS = ("state", "stage")


class Tiles(NamedTuple):
    """Two converted tiles; the second holds the transit."""

    settings: Settings
    groups: list[str]

    def ms(self, which: int) -> Path:
        return naming.ms_path(self.settings.stage, self.groups[which])

    def run(self, stage: Stage, which: int, options: PipelineOptions = OPTIONS) -> str:
        """Run a stage on a tile; return "completed", or the result with its sentence."""
        outcome = execute(Job(stage, self.groups[which]), this_process(), self.settings, options)
        assert "Traceback" not in (outcome.error or "")
        return f"{outcome.result} {outcome.error or ''}".strip()


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Tiles:
    root = tmp_path_factory.mktemp("converted")
    simulate(root / "files", TWO_TILES)
    with below(root) as settings:
        install(settings, root / "files")
        bootstrap_directory(settings.incoming, ConversionOptions(settle_s=0.0))
        close_groups()
        with get_session("ingest", read_only=True) as session:
            groups = sorted(group.group_id for group in ingest_queue.list_groups(session, "pending"))
        for group_id in groups:
            assert execute(Job(Stage.CONVERT, group_id), this_process(), settings, OPTIONS).result == "completed"
    tiles = Tiles(settings, groups)
    keep(tiles, "converted")
    return tiles


@pytest.fixture(scope="module")
def solved(converted: Tiles) -> Tiles:
    """The same, with tables from the transit, kept too."""
    with restored(converted, "converted") as tiles:
        assert tiles.run(Stage.SOLVE, 1) == "completed"
        keep(tiles, "solved")
    return converted


def keep(tiles: Tiles, name: str) -> None:
    """Copy rows and files as they are now."""
    root = tiles.settings.root or Path()
    for area in AREAS:
        shutil.copytree(root / area, root / name / area)


@contextmanager
def restored(tiles: Tiles, name: str) -> Iterator[Tiles]:
    """Go back to what was kept under a name."""
    root = tiles.settings.root or Path()
    for area in AREAS:
        shutil.rmtree(root / area)
        shutil.copytree(root / name / area, root / area)
    with below(root) as settings:
        yield Tiles(settings, tiles.groups)


@pytest.fixture
def tiles(converted: Tiles) -> Iterator[Tiles]:
    """Both tiles as they were converted."""
    with restored(converted, "converted") as found:
        yield found


@pytest.fixture
def solved_tiles(solved: Tiles) -> Iterator[Tiles]:
    """Both tiles, and tables that fit them."""
    with restored(solved, "solved") as found:
        yield found


def rewrite(ms: Path, column: str, change: Callable[[NDArray[Any]], NDArray[Any]], subtable: str = "") -> None:
    """Change a column of a Measurement Set."""
    with table(str(ms / subtable) if subtable else str(ms), readonly=False, ack=False) as opened:
        opened.putcol(column, change(np.asarray(opened.getcol(column))))


def put(value: complex, share: float, seed: int = SEED) -> Callable[[Path], None]:
    """Return what puts a value into a share of the samples."""

    def into(ms: Path) -> None:
        chosen = np.random.default_rng(seed)
        rewrite(ms, "DATA", lambda data: np.where(chosen.random(data.shape) < share, np.complex64(value), data))

    return into


def leave_one_antenna(ms: Path) -> None:
    """Flag every baseline but that of one antenna with itself; a raw sample is flagged where it is zero."""
    with table(str(ms), readonly=False, ack=False) as opened:
        one, two, data = (opened.getcol(name) for name in ("ANTENNA1", "ANTENNA2", "DATA"))
        data[~((one == one[0]) & (two == one[0]))] = 0.0
        opened.putcol("DATA", data)


def lose_half(ms: Path) -> None:
    """Cut the largest file of the set in half: what a crash in the middle of writing would leave."""
    largest = max((path for path in ms.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 2)


def lose_a_subtable(ms: Path) -> None:
    shutil.rmtree(ms / "SPECTRAL_WINDOW")


def rename_antennas(ms: Path) -> None:
    with table(str(ms / "ANTENNA"), readonly=False, ack=False) as opened:
        opened.putcol("NAME", [f"pad{i}" for i in range(opened.nrows())])


def move_band(ms: Path) -> None:
    rewrite(ms, "CHAN_FREQ", lambda freq: freq + 1e9, "SPECTRAL_WINDOW")


AT_THE_TRANSIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN everywhere": (put(np.nan, 1.0), "no antenna of .* has a solution"),
    "infinity everywhere": (put(np.inf, 1.0), "no antenna of .* has a solution"),
    "zero, and so flagged, everywhere": (put(0.0, 1.0), "no antenna of .* has a solution"),
    "a single antenna": (leave_one_antenna, "no antenna of .* has a solution"),
    "half written": (lose_half, "cannot be read to its end"),
    "a subtable missing": (lose_a_subtable, "SPECTRAL_WINDOW does not exist"),
}
IN_THE_FIELD: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN everywhere": (put(np.nan, 1.0), "no antenna of .* has a solution"),
    "zero, and so flagged, everywhere": (put(0.0, 1.0), "no antenna of .* has a solution"),
    "half written": (lose_half, "cannot be read to its end"),
    "another array": (rename_antennas, "solutions of 0% of its antennas"),
    "another band": (move_band, "covers 1314.2 to 1495.8 MHz, and the tile 2314.2"),
}


def active_tables() -> list[str]:
    with get_session("cal_registry", read_only=True) as session:
        return [row.table_type for row in session.scalars(select(Caltable)) if row.active]


def is_calibrated(tiles: Tiles, which: int) -> bool:
    with get_session("products", read_only=True) as session:
        row = session.scalars(select(MSIndex).where(MSIndex.group_id == tiles.groups[which])).one()
    return row.stage == "calibrated"


@pytest.mark.parametrize("defect", AT_THE_TRANSIT)
def test_a_bad_transit_is_named_and_gives_no_tables(tiles: Tiles, defect: str) -> None:
    break_it, words = AT_THE_TRANSIT[defect]
    break_it(tiles.ms(1))
    said = tiles.run(Stage.SOLVE, 1)
    print(said)
    assert said.startswith("failed")
    assert tiles.groups[1] in said or tiles.ms(1).name in said or "J01" in said, "the sentence names the tile"
    assert re.search(words, said)
    assert active_tables() == []
    waits = tiles.run(Stage.CALIBRATE, 0)
    assert "awaiting_transit" in waits
    assert not is_calibrated(tiles, 0)
    assert not list(tiles.settings.stage.rglob("*.partial"))


@pytest.mark.parametrize("defect", IN_THE_FIELD)
def test_a_bad_field_is_named_and_its_neighbor_goes_on(solved_tiles: Tiles, defect: str) -> None:
    tiles = solved_tiles
    break_it, words = IN_THE_FIELD[defect]
    break_it(tiles.ms(0))
    said = tiles.run(Stage.CALIBRATE, 0)
    print(said)
    assert said.startswith("failed")
    assert re.search(words, said)
    assert not is_calibrated(tiles, 0)
    assert tiles.run(Stage.CALIBRATE, 1) == "completed"
    assert is_calibrated(tiles, 1)


def test_some_bad_values_are_flagged_and_both_tiles_go_on(tiles: Tiles) -> None:
    for which in range(2):
        for number, value in enumerate((np.nan, complex(0.0, np.inf), 0.0, 1e30)):
            put(value, 0.01, SEED + number)(tiles.ms(which))
    assert tiles.run(Stage.SOLVE, 1) == "completed"
    for which in range(2):
        assert tiles.run(Stage.CALIBRATE, which) == "completed"
        vis = measurement_set.load(tiles.ms(which))
        good = ~vis.flags
        assert good[vis.antenna1 != vis.antenna2].mean() > 0.7
        assert np.isfinite(vis.vis[good]).all()
        assert np.abs(vis.vis[good]).max() < 100.0, "Jy: 16 of 3C48, and noise"


def test_a_calibrator_outside_the_model_sets_no_scale(tiles: Tiles) -> None:
    without = replace(OPTIONS, calibration=CalibrationOptions(model_radius_deg=0.01))
    said = tiles.run(Stage.SOLVE, 1, without)
    assert said.startswith("failed")
    assert "model_min_flux_jy" in said or "model_radius_deg" in said
    assert active_tables() == []


@pytest.mark.usefixtures("tiles")
def test_a_calibrator_below_the_horizon_is_an_error_by_name() -> None:
    register_bandpass_calibrator("J1939-6342", 294.854, -63.713, flux_jy=14.9)
    with pytest.raises(CalibrationError, match="J1939-6342 never rises at the telescope"):
        list_transits(33.2, 60949.0, 60950.0, OPTIONS.calibration, ["J1939-6342"])
