"""What every test gets: its log handlers end with it; and which files are begun first."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Kernels compile when they are called first: how long an example takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

COMPILING = [
    "calibration/test_flagging.py",
    "calibration/test_solve.py",
    "imaging/test_image.py",
    "photometry/test_forced.py",
    "mosaic/test_build.py",
    "kernels/test_dips.py",
    "kernels/test_moments.py",
    "formats/test_hips.py",
]
"""Begun first: in a fresh clone one worker compiles the search for interference while the other compiles other kernels.

Else both of them, and each process that a test starts, compile the same ones at the same time.
"""
LONG = [
    "integration/test_endurance.py",
    "integration/test_kill.py",
    "integration/test_bad_input.py",
    "web/test_every_page.py",
    "test_specification_snippets.py",
    "web/test_by_hand.py",
    "housekeeping/test_backups.py",
]
"""Begun next, so that no worker waits at the end for the other's last file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the tests of some files to the front; `--no-loadscope-reorder` keeps them there."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(COMPILING + LONG)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def restored_log() -> Iterator[None]:
    """Let no handler that a test's command set up write to that test's closed terminal later."""
    before, level = list(logging.root.handlers), logging.root.level
    yield
    for handler in logging.root.handlers:
        if handler not in before:
            handler.close()
    logging.root.handlers[:], logging.root.level = before, level
