r"""Rows of a three-axis HDF5 dataset, read past the library where its chunks are plain.

The HDF5 library copies chunks piece by piece under one lock for the whole process. A chunk that no filter has packed
lies in the file as it does in memory, so its bytes are read with `pread`, which waits for no lock, and a kernel puts
them in place. Packed, contiguous, foreign-endian and compound datasets are read by the library.
"""

import math
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels.chunks import place_chunks

ROWS_AT_ONCE = 4096


class Rows:
    """The rows of one dataset of an open file.

    Parameters
    ----------
    dataset
        (n_row, n_chan, n_plane), or with an axis of length one after the rows, as older files have it.
    planes
        The indices on the last axis that are wanted, in the order in which they are wanted.
    """

    def __init__(self, dataset: h5py.Dataset, planes: Sequence[int]) -> None:
        self._dataset, self._planes = dataset, list(planes)
        shape: tuple[int, ...] = dataset.shape
        self.n_row, self.n_chan = shape[0], shape[-2]
        self._target_of = np.full(shape[-1], -1)
        self._target_of[self._planes] = np.arange(len(self._planes))
        self.chunk_rows = dataset.chunks[0] if _is_plain(dataset) else ROWS_AT_ONCE
        if _is_plain(dataset):
            found: list[Any] = []
            dataset.id.chunk_iter(found.append)
            found.sort(key=lambda chunk: chunk.byte_offset)
            self._offsets = np.array([chunk.byte_offset for chunk in found], np.int64)
            origins = np.array([chunk.chunk_offset for chunk in found], np.int64).reshape(len(found), dataset.ndim)
            self._origins = origins[:, [0, -2, -1]]
            self._shape = (dataset.chunks[0], *dataset.chunks[-2:])
            self._all_written = len(found) == math.prod(map(math.ceil, np.divide(shape, dataset.chunks)))

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Return rows [first, last), shape (last − first, n_chan, n_wanted).

        Raises
        ------
        OSError
            If the file ends before its data do, or cannot be read.
        """
        if not _is_plain(self._dataset):
            return self._read_by_library(first, last)
        chosen = (self._origins[:, 0] < last) & (self._origins[:, 0] + self._shape[0] > first)
        origins = self._origins[chosen]
        chunks = np.empty((len(origins), *self._shape), self._dataset.dtype)
        _fill(chunks, self._offsets[chosen], self._dataset.file.id.get_vfd_handle())
        out = np.empty((last - first, self.n_chan, len(self._planes)), self._dataset.dtype)
        if not self._all_written:
            # A chunk that was never written holds the fill value.
            out[...] = self._dataset.fillvalue
        place_chunks(chunks, origins, first, self._target_of, out)
        return out

    def _read_by_library(self, first: int, last: int) -> NDArray[Any]:
        values = np.asarray(self._dataset[first:last]).reshape(last - first, self.n_chan, -1)[..., self._planes]
        if values.dtype.names is None:
            return np.ascontiguousarray(values)
        whole = np.empty(values.shape, np.complex64)
        whole.real, whole.imag = values["r"], values["i"]
        return whole


def _is_plain(dataset: h5py.Dataset) -> bool:
    """Return whether the bytes of the file are those of an array in memory."""
    return bool(
        dataset.chunks is not None
        and dataset.id.get_create_plist().get_nfilters() == 0
        and dataset.dtype.isnative
        and dataset.dtype.names is None
        and dataset.id.get_type().get_size() == dataset.dtype.itemsize
        and dataset.file.driver == "sec2"
        and dataset.file.userblock_size == 0
    )


def _fill(chunks: NDArray[Any], offsets: NDArray[np.int64], descriptor: int) -> None:
    """Read chunks from their places in the file, neighbours at once."""
    if len(chunks) == 0:
        return
    raw = chunks.view(np.uint8).reshape(len(chunks), -1)
    starts = [0, *(np.flatnonzero(np.diff(offsets) != raw.shape[1]) + 1).tolist(), len(chunks)]
    for begin, end in pairwise(starts):
        wanted, place = raw[begin:end].reshape(-1).data, int(offsets[begin])
        while wanted:
            count = os.preadv(descriptor, [wanted], place)
            if count == 0:
                raise OSError(f"the file ends at byte {place}, before its data do")
            wanted, place = wanted[count:], place + count
