"""Rows read past the HDF5 library are those that the library reads."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_contimg.formats.hdf5_rows import Rows

SEED = 110


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4)),
    chunk=st.tuples(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4)),
    old=st.booleans(),
    packed=st.booleans(),
    data=st.data(),
)
def test_any_rows_of_any_chunks(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    chunk: tuple[int, int, int],
    old: bool,
    packed: bool,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(SEED)
    values = rng.normal(size=shape).astype(np.complex64) + 1j
    chunks = tuple(min(length, most) for length, most in zip(chunk, shape, strict=True))
    planes = data.draw(st.permutations(range(shape[2])))[: data.draw(st.integers(1, shape[2]))]
    first = data.draw(st.integers(0, shape[0] - 1))
    last = data.draw(st.integers(first + 1, shape[0]))
    if old:
        values, chunks = values[:, None], (chunks[0], 1, *chunks[1:])
    with h5py.File(tmp_path_factory.mktemp("rows") / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=values, chunks=chunks, compression="lzf" if packed else None)
        file.flush()
        found = Rows(dataset, planes).read(first, last)
    np.testing.assert_array_equal(found, values.reshape(shape)[first:last][..., planes])
    assert found.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.dtype("f4"), np.dtype(">f4"), np.dtype(bool)])
@pytest.mark.parametrize("chunks", [None, (4, 2, 1)], ids=["contiguous", "chunked"])
def test_other_kinds_and_layouts(tmp_path: Path, dtype: np.dtype[np.generic], chunks: tuple[int, ...] | None) -> None:
    values = (np.arange(60).reshape(10, 3, 2) % 3).astype(dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=values, chunks=chunks)
        file.flush()
        np.testing.assert_array_equal(Rows(dataset, (1, 0)).read(3, 9), values[3:9, :, ::-1])


def test_integer_visibilities_become_complex(tmp_path: Path) -> None:
    values = np.zeros((5, 2, 1), [("r", "<i4"), ("i", "<i4")])
    values["r"], values["i"] = 3, -4
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=values)
        np.testing.assert_array_equal(Rows(dataset, (0,)).read(0, 5), np.full((5, 2, 1), 3 - 4j, np.complex64))


def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", (10, 2, 1), "f4", chunks=(5, 2, 1), fillvalue=7.0)
        dataset[:5] = 1.0
        file.flush()
        np.testing.assert_array_equal(Rows(dataset, (0,)).read(0, 10)[:, 0, 0], [1.0] * 5 + [7.0] * 5)


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.ones((1000, 4, 2)), chunks=(100, 4, 2))
    with h5py.File(path, "r") as file:
        rows = Rows(file["x"], (0, 1))
        with path.open("r+b") as other:
            other.truncate(path.stat().st_size // 2)
        with pytest.raises(OSError, match="the file ends at byte"):
            rows.read(0, 1000)
