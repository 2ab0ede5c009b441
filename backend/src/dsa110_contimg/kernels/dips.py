r"""Dips in light curves: the matched filter that looks for extreme scattering events.

A lens of plasma that crosses the line of sight takes light away for weeks and throws some of it into caustics at its
edges (Fiedler et al. 1987, Nature 326, 675). For each duration D and middle c, with inverse-variance means over the
epochs within D/2 of c and over those up to D farther out on either side,

    z = (S_out − S_in)/√(1/W_in + 1/W_out),      W = Σ 1/σ²

is the likelihood ratio of a box on a free baseline; running sums give all c of one D in one pass. It keeps nearly all
of the signal of the other shapes, so that they are fitted where the box finds something. What z is worth depends on
the source: a flaring one shows large z everywhere. The significance is z over

    κ_D = max(1, 1.4826 median |z_D|),      over all middles whose windows do not touch the event,

and where the light curve is too short for that, κ of the longest duration that fits in, its excess over one grown as D
(a random walk). Errors are first raised to the scatter of successive epochs; bad epochs are drawn in, and so are heavy
tails when it comes to the significance.
"""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_in_place

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MAD_TO_SIGMA = 1.482602218505602
SHAPES = ("box", "spikes", "fast_fall", "slow_fall")
BOX, WITH_SPIKES, FAST_FALL, SLOW_FALL = range(4)
RESULTS = ("sigma", "kappa", "start", "end", "depth", "depth_err", "shape", "ongoing", "n_inside")
"""Columns of `search`."""

STEPS = 8
"""Middles in one duration."""
LEAST_INSIDE, LEAST_SIDE = 3, 3
RETURNED = 0.5
"""Of the depth on either side at least: what does not come back is a step, not a dip."""
LOW_FRACTION = 0.7
"""Of the epochs inside lie nearer to the bottom than to the baseline."""
INDEPENDENT = 5.0
"""Durations clear of the event that κ needs."""
CLIP_SIGMA = 3.0
FIT_SIGMA = 3.5
"""From this z up the shapes are fitted."""
MIN_SIDE_DAYS = 20.0
MAX_DAYS = 200.0
BUMP = 4.0
"""What noise alone reaches somewhere in a light curve."""
SPIKES = 0.25
"""Caustics reach this fraction of the duration beyond the dip."""
EDGE = 0.12


@compiled
def _median(values: FloatArray) -> float:
    return float(np.median(values)) if values.size else 0.0


@compiled
def _own_noise(x: FloatArray, error: FloatArray) -> float:
    """Return the scatter of successive points in units of their errors, at least one."""
    if x.size < LEAST_INSIDE:
        return 1.0
    steps = np.abs(x[1:] - x[:-1]) / np.sqrt(error[1:] ** 2 + error[:-1] ** 2)
    return float(max(1.0, MAD_TO_SIGMA * _median(steps)))


@compiled
def _without_bad(x: FloatArray, error: FloatArray) -> FloatArray:
    """Return points no farther than 3σ from the median of the five around: two bad ones in a row vanish."""
    result = np.empty_like(x)
    for i in range(x.size):
        first = max(0, min(i - 2, x.size - 5))
        near, reach = _median(x[first : first + 5]), CLIP_SIGMA * error[i]
        result[i] = min(max(x[i], near - reach), near + reach)
    return result


@compiled
def _without_tails(x: FloatArray, error: FloatArray) -> FloatArray:
    """Return points no farther than 3σ, or three times the scatter of all, from the median of all."""
    middle = _median(x)
    scatter = MAD_TO_SIGMA * _median(np.abs(x - middle))
    reach = CLIP_SIGMA * np.maximum(error, scatter)
    return np.minimum(np.maximum(x, middle - reach), middle + reach)


@compiled_in_place
def _mean(first: int, last: int, weights: FloatArray, sums: FloatArray) -> tuple[float, float]:
    """Return weighted mean and weight of the epochs first to last − 1."""
    weight = weights[last] - weights[first]
    return (sums[last] - sums[first]) / weight, weight


@compiled
def _contrast(edges: IntArray, weights: FloatArray, sums: FloatArray) -> tuple[float, float, bool]:
    """Return z of a box against both sides and against the earlier one (zero: too few epochs), and if it comes back.

    The four edges are the first epochs of the earlier side, the box, the later side, and what follows.
    """
    if edges[2] - edges[1] < LEAST_INSIDE or edges[1] - edges[0] < LEAST_SIDE:
        return 0.0, 0.0, False
    inside, w_in = _mean(edges[1], edges[2], weights, sums)
    before, w_before = _mean(edges[0], edges[1], weights, sums)
    one_sided = (before - inside) / np.sqrt(1.0 / w_in + 1.0 / w_before)
    if edges[3] - edges[2] < LEAST_SIDE:
        return 0.0, one_sided, False
    after, w_after = _mean(edges[2], edges[3], weights, sums)
    w_out = w_before + w_after
    depth = (before * w_before + after * w_after) / w_out - inside
    returned = depth > 0.0 and min(before, after) - inside >= RETURNED * depth
    return depth / np.sqrt(1.0 / w_in + 1.0 / w_out), one_sided, returned


@compiled
def _template(phase: float, shape: int) -> float:
    """Return the fraction of the depth at a phase that is −1 and +1 where the dip begins and ends."""
    if shape == BOX:
        return 1.0 if abs(phase) < 1.0 else 0.0
    if shape == WITH_SPIKES:
        dip = 0.5 * (np.tanh((phase + 1.0) / EDGE) - np.tanh((phase - 1.0) / EDGE))
        spikes = np.exp(-(((phase + 1.0 + 2.0 * EDGE) / EDGE) ** 2)) + np.exp(
            -(((phase - 1.0 - 2.0 * EDGE) / EDGE) ** 2)
        )
        return float(dip - 0.45 * spikes)
    rising = phase if shape == FAST_FALL else -phase
    return 0.5 * (1.0 - rising) if abs(phase) < 1.0 else 0.0


@compiled
def _fit_shape(
    middle: float, days: float, shape: int, mjd: FloatArray, x: FloatArray, error: FloatArray
) -> tuple[float, float, float]:
    """Return depth, its error (both over the baseline of one) and depth/error of a shape on a free baseline."""
    side = max(days, MIN_SIDE_DAYS)
    first = np.searchsorted(mjd, middle - 0.5 * days - side)
    last = np.searchsorted(mjd, middle + 0.5 * days + side)
    s_w = s_t = s_x = s_tt = s_tx = 0.0
    for i in range(first, last):
        weight = 1.0 / error[i] ** 2
        t = _template(2.0 * (mjd[i] - middle) / days, shape)
        s_w += weight
        s_t += weight * t
        s_x += weight * x[i]
        s_tt += weight * t * t
        s_tx += weight * t * x[i]
    spread = s_tt - s_t * s_t / s_w if s_w > 0.0 else 0.0
    if spread <= 0.0:
        return 0.0, 0.0, 0.0
    depth = -(s_tx - s_t * s_x / s_w) / spread
    base = (s_x + depth * s_t) / s_w
    if base <= 0.0:
        return 0.0, 0.0, 0.0
    return depth / base, spread**-0.5 / base, depth * spread**0.5


@compiled
def _is_dip(middle: float, days: float, depth: float, mjd: FloatArray, x: FloatArray) -> bool:
    """Say whether most epochs inside are nearer to the bottom than to the baseline, which comes back."""
    side = max(days, MIN_SIDE_DAYS)
    left, first = np.searchsorted(mjd, middle - 0.5 * days - side), np.searchsorted(mjd, middle - 0.5 * days)
    last, right = np.searchsorted(mjd, middle + 0.5 * days), np.searchsorted(mjd, middle + 0.5 * days + side)
    if last - first < LEAST_INSIDE or first - left < LEAST_SIDE:
        return False
    half = _median(x[left:first]) * (1.0 - 0.5 * depth)
    # A step shows in the weeks next to the dip, whatever lies farther out.
    near = np.searchsorted(mjd, middle - 0.5 * days - MIN_SIDE_DAYS)
    if first - near >= LEAST_SIDE and _median(x[near:first]) < half:
        return False
    if right - last >= LEAST_SIDE and _median(x[last:right]) < half:
        return False
    return bool(np.sum(x[first:last] < half) >= LOW_FRACTION * (last - first))


@compiled
def _scan(
    days: float, mjd: FloatArray, weights: FloatArray, sums: FloatArray, z: FloatArray
) -> tuple[float, float, int]:
    """Fill in z of one duration, (2, n_middle): against both sides and the earlier one; return the best dip.

    Returns
    -------
    tuple
        Its z, its middle, and whether it is still going on (there is nothing after it).
    """
    best, where, ongoing = 0.0, 0.0, 0
    side = max(days, MIN_SIDE_DAYS)
    bounds = np.array([-0.5 * days - side, -0.5 * days, 0.5 * days, 0.5 * days + side])
    edges = np.zeros(4, np.int64)
    for k in range(z.shape[1]):
        middle = mjd[0] + k * days / STEPS
        for edge in range(4):
            while edges[edge] < mjd.size and mjd[edges[edge]] < middle + bounds[edge]:
                edges[edge] += 1
        z[0, k], z[1, k], returned = _contrast(edges, weights, sums)
        last = z[0, k] == 0.0 and middle + 0.5 * days + MIN_SIDE_DAYS >= mjd[-1]
        if returned and z[0, k] > best:
            best, where, ongoing = z[0, k], middle, 0
        elif last and z[1, k] > best:
            best, where, ongoing = z[1, k], middle, 1
    return best, where, ongoing


@compiled
def _kappa(
    where: float, ongoing: int, longest: int, durations: FloatArray, first: float, z: FloatArray, places: IntArray
) -> float:
    """Return κ for an event of the duration with index `longest`, from all that lies clear of it."""
    days = durations[longest]
    for k in range(longest, -1, -1):
        side = max(durations[k], MIN_SIDE_DAYS)
        reach = (0.5 + SPIKES) * days + 0.5 * durations[k] + side
        series = z[ongoing, places[k] : places[k + 1]]
        middles = first + np.arange(series.size) * durations[k] / STEPS
        apart = series[(np.abs(middles - where) > reach) & (series != 0.0)]
        if apart.size >= INDEPENDENT * STEPS:
            grown = 1.0 + max(0.0, MAD_TO_SIGMA * _median(np.abs(apart)) - 1.0) * days / durations[k]
            return float(max(grown, -np.min(apart) / BUMP))
    return 1.0


@compiled
def _refine(where: float, days: float, mjd: FloatArray, x: FloatArray, error: FloatArray, result: FloatArray) -> float:
    """Fit every shape around a box; put the best into a row of results and return its depth over error."""
    best = 0.0
    for shape in range(len(SHAPES)):
        for stretch in (0.8, 0.9, 1.0, 1.12, 1.25, 1.5):
            for shift in (-0.4, -0.25, -0.125, 0.0, 0.125, 0.25, 0.4):
                middle, width = where + shift * days, stretch * days
                if width > MAX_DAYS:
                    continue
                depth, depth_err, z = _fit_shape(middle, width, shape, mjd, x, error)
                if z > best and _is_dip(middle, width, depth if shape < FAST_FALL else 0.3 * depth, mjd, x):
                    best = z
                    result[2], result[3] = middle - 0.5 * width, middle + 0.5 * width
                    result[4], result[5], result[6] = depth, depth_err, shape
                    result[8] = np.searchsorted(mjd, result[3]) - np.searchsorted(mjd, result[2])
    return best


@compiled
def _search_one(
    mjd: FloatArray,
    flux: FloatArray,
    error: FloatArray,
    durations: FloatArray,
    floor: float,
    result: FloatArray,
) -> None:
    """Find the most significant dip of one light curve and put it into a row of results."""
    level = abs(_median(flux))
    if level == 0.0 or flux.size < LEAST_INSIDE + LEAST_SIDE:
        return
    x = flux / level
    # Errors in proportion to the flux would make the lowest epochs count most.
    scaled = np.maximum(error, _median(error)) / level * _own_noise(flux, error)
    x = _without_bad(x, scaled)
    limited = _without_tails(x, scaled)
    weights, sums = np.zeros(x.size + 1), np.zeros(x.size + 1)
    weights[1:] = np.cumsum(scaled**-2.0)
    sums[1:] = np.cumsum(limited * scaled**-2.0)
    places = np.zeros(durations.size + 1, np.int64)
    places[1:] = np.cumsum(((mjd[-1] - mjd[0]) * STEPS / durations).astype(np.int64) + 1)
    z = np.zeros((2, places[-1]))
    found = np.zeros((durations.size, 3))
    for k in range(durations.size):
        series = z[:, places[k] : places[k + 1]]
        found[k, 0], found[k, 1], found[k, 2] = _scan(durations[k], mjd, weights, sums, series)
    trial = np.zeros(result.size)
    for k in range(durations.size):
        if found[k, 0] < FIT_SIGMA:
            continue
        kappa = _kappa(found[k, 1], int(found[k, 2]), k, durations, mjd[0], z, places)
        trial[:] = 0.0
        sigma = _refine(found[k, 1], durations[k], mjd, x, scaled, trial) / kappa
        if sigma > result[0]:
            trial[0], trial[1], trial[7] = sigma, kappa, found[k, 2]
            result[:] = trial
    if result[0] > 0.0:
        middle, width = 0.5 * (result[2] + result[3]), result[3] - result[2]
        _depth, _error, robust = _fit_shape(middle, width, int(result[6]), mjd, limited, scaled)
        # A triangle is half as deep on average as at its bottom.
        least = floor if result[6] < FAST_FALL else 2.0 * floor
        result[0] = robust / result[1] / np.sqrt(1.0 + (robust * least / result[4]) ** 2)


@compiled
def search(
    offsets: IntArray, mjd: FloatArray, flux: FloatArray, error: FloatArray, durations: FloatArray, floor: float
) -> FloatArray:
    """Find the most significant dip of each of many light curves.

    Parameters
    ----------
    offsets
        (n_source + 1,): the points of source s are offsets[s] to offsets[s + 1].
    mjd, flux, error
        (n_point,): in order of time within a source; errors above zero, in the unit of the flux, with the systematic of
        an epoch in them.
    durations
        Widths in days that are tried, ascending, (n_duration,).
    floor
        Error of a depth that no number of epochs averages out, as a fraction of the flux.

    Returns
    -------
    NDArray
        (n_source, 9), columns as in `RESULTS`: significance (zero where no dip stands out), κ, first and last MJD,
        depth over the baseline and its error, index into `SHAPES`, one for a dip that
        has not ended, and epochs inside.
    """
    result = np.zeros((offsets.size - 1, 9))
    for source in range(offsets.size - 1):
        points = slice(offsets[source], offsets[source + 1])
        _search_one(mjd[points], flux[points], error[points], durations, floor, result[source])
    return result
