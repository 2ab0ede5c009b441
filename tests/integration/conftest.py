"""Whole installations for the tests of the pipeline: small ones for one test, and a finished run for many."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from dsa110_contimg.cli.process import initialize
from dsa110_contimg.config import Settings
from dsa110_contimg.database import reset_engines
from dsa110_contimg.options import ImagingOptions, MosaicOptions, PipelineOptions
from dsa110_contimg.pipeline.catalogs import import_catalog
from dsa110_contimg.pipeline.runner import RunSummary, run
from dsa110_contimg.simulation import SimulationOptions, Truth, load_truth, simulate

QUICK = PipelineOptions(
    imaging=ImagingOptions(size=900, cell_arcsec=12.0, threads=1),
    mosaic=MosaicOptions(tiles=3, overlap=0, min_tiles=2),
)
GOOD_MOSAIC = SimulationOptions(antennas=32, channels=2, integrations=6, tiles=3, transit="3C48")
TINY = SimulationOptions(antennas=5, channels=1, integrations=4, tiles=2, noise=False, min_apparent_jy=0.3)


@contextmanager
def below(root: Path) -> Iterator[Settings]:
    """Put this process below a PIPELINE_ROOT."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ROOT", str(root))
        reset_engines()
        yield Settings()
        reset_engines()


class FinishedRun(NamedTuple):
    """A run that went well: three tiles around the transit of 3C48 and their published mosaic."""

    settings: Settings
    summary: RunSummary
    truth: Truth
    began: float


@pytest.fixture(scope="session")
def good_incoming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Subband files of which a mosaic can be made that passes its QA."""
    folder = tmp_path_factory.mktemp("good") / "incoming"
    simulate(folder, GOOD_MOSAIC)
    return folder


@pytest.fixture(scope="session")
def tiny_incoming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of an array too small for anything but conversion."""
    folder = tmp_path_factory.mktemp("tiny") / "incoming"
    simulate(folder, TINY)
    return folder


@pytest.fixture(scope="session")
def _finished(good_incoming: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    root, began = tmp_path_factory.mktemp("finished"), time.time()
    with below(root) as settings:
        truth = install(settings, good_incoming)
        return FinishedRun(settings, run(settings, QUICK, once=True), truth, began)


@pytest.fixture
def finished(_finished: FinishedRun) -> Iterator[FinishedRun]:
    """The finished run, shared by many tests: look, do not change."""
    with below(_finished.settings.root or Path()):
        yield _finished


@pytest.fixture(scope="session")
def _empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("empty")
    with below(root) as settings:
        initialize(settings)
    return root / "state"


@pytest.fixture
def house(tmp_path: Path, _empty_state: Path) -> Iterator[Settings]:
    """Folders and empty databases for one test."""
    shutil.copytree(_empty_state, tmp_path / "state")
    with below(tmp_path) as settings:
        for folder in (settings.incoming, settings.stage, settings.products):
            folder.mkdir()
        yield settings


@pytest.fixture
def tiny(house: Settings, tiny_incoming: Path) -> Callable[[], list[Path]]:
    """Copy the tiny observation into the house's incoming folder; return its files by group and subband."""

    def copy() -> list[Path]:
        for path in tiny_incoming.iterdir():
            shutil.copy2(path, house.incoming / path.name)
        return [house.incoming / name for group in load_truth(house.incoming).groups for name in group.files]

    return copy


def install(settings: Settings, incoming: Path) -> Truth:
    """Make an installation whose incoming folder holds an observation, with its catalogue imported."""
    initialize(settings)
    shutil.copytree(incoming, settings.incoming, dirs_exist_ok=True)
    import_catalog(settings.incoming / "catalog.csv")
    return load_truth(settings.incoming)
