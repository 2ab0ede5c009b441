"""Reasons come back as they went in, are small, and a file that is not whole is refused by name."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import flag_history

NAMES = ["good", "before", "empty", "interference"]


def reasons_like_a_tile(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Carriers, a burst, dead rows and scattered samples."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    reasons = np.zeros((600, 384, 2), np.uint8)
    reasons[:, [30, 31, 200]] = 3
    reasons[40:60] = 3
    reasons[100:150] = 2
    reasons[rng.random(reasons.shape[:2]) < 0.003] = 3
    return reasons


def test_reasons_come_back_and_are_small(tmp_path: Path) -> None:
    reasons = reasons_like_a_tile(1)
    path = flag_history.save(tmp_path, reasons, NAMES)
    history = flag_history.load(tmp_path)
    np.testing.assert_array_equal(history.reasons, reasons)
    assert history.names == NAMES
    assert path.stat().st_size < reasons.size / 20
    flag_history.save(tmp_path, np.zeros_like(reasons), NAMES)
    assert not flag_history.load(tmp_path).reasons.any()
    assert [p.name for p in tmp_path.iterdir()] == [flag_history.FILE_NAME]


@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 4)), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_any_shape_comes_back(tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], seed: int) -> None:
    folder = tmp_path_factory.mktemp("set")
    reasons = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    flag_history.save(folder, reasons, NAMES)
    np.testing.assert_array_equal(flag_history.load(folder).reasons, reasons)


def test_what_is_not_there_or_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no history"):
        flag_history.load(tmp_path)
    with pytest.raises(BadInputError, match="not a Measurement Set"):
        flag_history.save(tmp_path / "missing.ms", np.zeros((1, 1, 1), np.uint8), NAMES)
    path = flag_history.save(tmp_path, reasons_like_a_tile(2), NAMES)
    with h5py.File(path, "r+") as file:
        file["lengths"][0] = file["lengths"][0] + 1
    with pytest.raises(BadInputError, match="contradicts itself"):
        flag_history.load(tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadInputError, match="cannot be read"):
        flag_history.load(tmp_path)
