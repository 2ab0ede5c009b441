r"""Sources and their neighbors on the pixels of an image: who reaches whom, and what each shows of the others.

The links of a list of sources are rows of neighbors behind each other, as in a sparse matrix: those of source i are
`other[first[i]:first[i + 1]]`. With A the response of the estimators to the sources (kernels.fluxes), A_ii = 1 and
A_ij of the links, and C the covariance of the estimates, the fluxes are f = A⁻¹ y and

    var f_i = gᵀ C g      with Aᵀ g = e_i      on the source and its neighbors alone

since what reaches i by way of a neighbor's neighbor is of the order of A² and less.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dsa110_contimg.compiled import compiled
from dsa110_contimg.kernels.fluxes import BeamShape, beam_kernel

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Links(NamedTuple):
    """Which sources reach which; every link is there in both directions."""

    first: IntArray
    """(n_source + 1,)."""
    other: IntArray
    """(n_link,), ascending for each source."""

    @property
    def source(self) -> IntArray:
        """The source of each link, (n_link,)."""
        return np.repeat(np.arange(self.first.size - 1), np.diff(self.first))


def link(x: FloatArray, y: FloatArray, shape: BeamShape, level: float) -> Links:
    """Link the sources of which one lies where the beam of the other is above a level."""
    radius = shape.major_px * np.sqrt(np.log(1.0 / level) / (4.0 * np.log(2.0)))
    pairs = cKDTree(np.stack([x, y], axis=1)).query_pairs(radius, output_type="ndarray")
    one, two = pairs[:, 0], pairs[:, 1]
    reached = beam_kernel(x[one] - x[two], y[one] - y[two], shape) > level
    both = np.concatenate([pairs[reached], pairs[reached][:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    first = np.zeros(x.size + 1, np.int64)
    np.cumsum(np.bincount(both[:, 0], minlength=x.size), out=first[1:])
    return Links(first, np.ascontiguousarray(both[:, 1], dtype=np.int64))


@compiled
def _place(first: IntArray, other: IntArray, source: int, wanted: int) -> int:
    """Return the link from one source to another; −1 where there is none."""
    for place in range(first[source], first[source + 1]):
        if other[place] == wanted:
            return place
    return -1


@compiled
def _local_variance(
    first: IntArray, other: IntArray, response: FloatArray, covariance: FloatArray, own: FloatArray
) -> FloatArray:
    n_source = own.size
    variance = own.copy()
    for source in range(n_source):
        count = first[source + 1] - first[source] + 1
        if count == 1:
            continue
        members = np.empty(count, np.int64)
        members[0] = source
        members[1:] = other[first[source] : first[source + 1]]
        matrix, shared, wanted = np.eye(count), np.zeros((count, count)), np.zeros(count)
        wanted[0] = 1.0
        for i in range(count):
            shared[i, i] = own[members[i]]
            for j in range(count):
                if i != j:
                    place = _place(first, other, members[i], members[j])
                    if place >= 0:
                        # Transposed: the matrix of Aᵀ g = e.
                        matrix[j, i], shared[i, j] = response[place], covariance[place]
        solved = np.linalg.solve(matrix, wanted)
        variance[source] = 0.0
        for i in range(count):
            for j in range(count):
                variance[source] += solved[i] * shared[i, j] * solved[j]
    return variance


def local_variance(links: Links, response: FloatArray, covariance: FloatArray, own: FloatArray) -> FloatArray:
    """Return the variances of fluxes that are solved with their neighbors' ones.

    Parameters
    ----------
    links
        Who reaches whom.
    response
        (n_link,), what the estimator of a link's source reads of one unit of the other.
    covariance
        (n_link,), of the two estimates.
    own
        (n_source,), the variance of each estimate.

    Returns
    -------
    NDArray
        (n_source,).
    """
    return np.asarray(_local_variance(links.first, links.other, response, covariance, own))


@compiled
def _brightest(
    x: FloatArray, y: FloatArray, brightness: FloatArray, radius: float, cells: tuple[IntArray, IntArray, int]
) -> FloatArray:
    order, begin, n_column = cells
    n_row = (begin.size - 1) // n_column
    found = np.full(x.size, -np.inf)
    for source in range(x.size):
        column, row = int(x[source] / radius), int(y[source] / radius)
        for i in range(max(0, row - 1), min(n_row, row + 2)):
            for j in range(max(0, column - 1), min(n_column, column + 2)):
                for place in range(begin[i * n_column + j], begin[i * n_column + j + 1]):
                    other = order[place]
                    if brightness[other] <= found[source]:
                        break
                    square = (x[other] - x[source]) ** 2 + (y[other] - y[source]) ** 2
                    if other != source and square < radius**2:
                        found[source] = brightness[other]
    return found


def brightest_within(x: FloatArray, y: FloatArray, brightness: FloatArray, radius_px: float) -> FloatArray:
    """Return the brightness of each source's brightest neighbor within a radius, (n_source,); −inf without one."""
    left, low = x - x.min(), y - y.min()
    n_column = int(left.max() / radius_px) + 1
    cell = (low / radius_px).astype(np.int64) * n_column + (left / radius_px).astype(np.int64)
    # The brightest of a cell come first, so that the rest of it need not be looked at.
    order = np.lexsort((-brightness, cell))
    n_cell = (int(low.max() / radius_px) + 1) * n_column
    begin = np.searchsorted(cell[order], np.arange(n_cell + 1))
    return np.asarray(_brightest(left, low, brightness, radius_px, (order, begin, n_column)))


@compiled
def take_off_neighbors(
    values: FloatArray,
    pixels: tuple[FloatArray, FloatArray],
    positions: tuple[FloatArray, FloatArray],
    flux: FloatArray,
    links: tuple[IntArray, IntArray],
    form: tuple[float, float, float],
) -> None:
    """Take the beams of neighbors off the pixels around some of the sources, in place.

    Parameters
    ----------
    values
        (n_some, n_pixel).
    pixels
        Where the pixels are, x and y, (n_some, n_pixel) each.
    positions
        Of all sources, x and y, (n_source,) each.
    flux
        (n_source,); NaN counts as none.
    links
        As `Links`, `first` from the first one of the some to the one behind the last.
    form
        The beam's `kernels.fluxes.quadratic_form`.
    """
    (column, row), (x, y), (first, other), (xx, xy, yy) = pixels, positions, links, form
    for source in range(values.shape[0]):
        for place in range(first[source], first[source + 1]):
            neighbor = other[place]
            height = flux[neighbor]
            if not -np.inf < height < np.inf:
                continue
            for pixel in range(values.shape[1]):
                u, v = column[source, pixel] - x[neighbor], row[source, pixel] - y[neighbor]
                values[source, pixel] -= height * np.exp(-(xx * u * u + 2.0 * xy * u * v + yy * v * v))


@compiled
def hide_sources(
    usable: NDArray[np.bool_],
    positions: tuple[FloatArray, FloatArray],
    level: FloatArray,
    form: tuple[float, float, float],
) -> None:
    """Mark the pixels where a source's beam is above a level of its own as not usable, in place.

    Parameters
    ----------
    usable
        (ny, nx).
    positions
        Of the sources, x and y, (n_source,) each.
    level
        (n_source,), fractions of the peak; a source of 1 and more is not hidden.
    form
        The beam's `kernels.fluxes.quadratic_form`.
    """
    (x, y), (xx, xy, yy) = positions, form
    ny, nx = usable.shape
    for source in range(x.size):
        if level[source] >= 1.0:
            continue
        reach = -np.log(level[source])
        half_x, half_y = np.sqrt(reach * yy / (xx * yy - xy * xy)), np.sqrt(reach * xx / (xx * yy - xy * xy))
        column, line = int(np.rint(x[source])), int(np.rint(y[source]))
        for row in range(max(0, int(line - half_y)), min(ny, int(line + half_y) + 2)):
            for pixel in range(max(0, int(column - half_x)), min(nx, int(column + half_x) + 2)):
                u, v = pixel - column, row - line
                if xx * u * u + 2.0 * xy * u * v + yy * v * v < reach:
                    usable[row, pixel] = False
