"""What every test gets: its log handlers end with it."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Kernels compile when they are called first: how long an example takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def restored_log() -> Iterator[None]:
    """Let no handler that a test's command set up write to that test's closed terminal later."""
    before, level = list(logging.root.handlers), logging.root.level
    yield
    for handler in logging.root.handlers:
        if handler not in before:
            handler.close()
    logging.root.handlers[:], logging.root.level = before, level
