r"""How well injected sources come back: fluxes, positions, completeness and reliability, against S/N and distance.

For a source of flux S at a noise of σ, S/N = S/σ before it is measured. With residuals in units of what the noise
predicts,

    flux pull = (measured − true)/σ            position pull = offset / (κ/(S/N))        on either axis of the beam

σ the local rms, have scatter one where noise is all there is. Condon (1997, PASP 109, 166) has κ = θ/(2√(2 ln 2)) for
noise that is correlated like the beam; weights that are not natural make its fine structure stronger, and κ follows
from the autocorrelation that is measured (`kernels.fluxes.offset_covariance`). The ratio to the former is told, that to
the latter judged. What photometry states as its errors is judged too. Beyond an S/N of 100 other errors count (pixels,
CLEAN, smearing): there the scatter is told and not judged. The flux scale is judged on all sources above 10 σ where the
beam is above 0.3: the mean of measured over true with weights 1/(σ²/S² + 0.01²), so that a few bright sources do not
decide it alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.options import QAOptions
from dsa110_contimg.qa.checks import DETECTION_SNR, EXPECTED_SNR, Check, at_least, near_one, unmeasured

FloatArray = NDArray[np.float64]

JUDGED_SNR, NOISE_LIMITED_SNR = 10.0, 100.0
JUDGED_RESPONSE = 0.3
FLOOR = 0.01
WITHIN_ONE_SIGMA, PERCENTILE_ERROR = 68.27, 0.962
"""Per cent of normal values, and √(p (1 − p)) over their density there: the error of that percentile is 0.962/√n."""
FEWEST = 10
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
SNR_EDGES = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 1000.0, np.inf)
DISTANCE_STEP_DEG = 0.25


@dataclass(frozen=True)
class RecoveredSources:
    """What came back of the sources put into one image; arrays (n_source,)."""

    image: str
    """Which image it is: the tile's name, or the mosaic's."""
    true_jy: FloatArray
    flux_jy: FloatArray
    """Measured at the true position, corrected for the primary beam; NaN where that was not possible."""
    error_jy: FloatArray
    """1σ, noise only."""
    noise_jy: FloatArray
    """Local noise, corrected for the primary beam."""
    response: FloatArray
    """Primary beam; of a mosaic its best noise over the local one."""
    distance_deg: FloatArray
    """From the nearest tile's center."""
    along_arcsec: FloatArray
    across_arcsec: FloatArray
    """Fitted less true position along the beam's major and minor axis; NaN where no position was fitted."""
    found: NDArray[np.bool_]
    """Whether a blind search at 5 sigma has it."""
    major_arcsec: float
    minor_arcsec: float
    along_error_arcsec: float
    """1σ that the noise as it is correlated makes of a position at S/N 1, along the major axis."""
    across_error_arcsec: float

    @property
    def snr(self) -> FloatArray:
        """What the signal-to-noise ratio should be, from the true flux."""
        return np.asarray(self.true_jy / self.noise_jy)

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Which sources the flux scale is judged on."""
        return np.isfinite(self.flux_jy) & (self.snr >= JUDGED_SNR) & (self.response >= JUDGED_RESPONSE)

    @property
    def noise_limited(self) -> NDArray[np.bool_]:
        """Which of those have errors that the noise alone makes."""
        return self.judged & (self.snr < NOISE_LIMITED_SNR)

    @property
    def flux_pull(self) -> FloatArray:
        """Measured less true flux in units of the noise."""
        return np.asarray((self.flux_jy - self.true_jy) / self.noise_jy)

    @property
    def position_pulls(self) -> FloatArray:
        """Position errors along major and minor axis in units of what the noise predicts, (2, n_source)."""
        axes = self.along_arcsec / self.along_error_arcsec, self.across_arcsec / self.across_error_arcsec
        return np.asarray(self.snr * np.stack(axes))

    @property
    def condon_pulls(self) -> FloatArray:
        """The same for noise that is correlated like the beam, (2, n_source)."""
        axes = self.along_arcsec / self.major_arcsec, self.across_arcsec / self.minor_arcsec
        return np.asarray(FWHM_PER_SIGMA * self.snr * np.stack(axes))


@dataclass(frozen=True)
class Detections:
    """What a blind search at 5 sigma found in one image; arrays (n_detection,)."""

    snr: FloatArray
    distance_deg: FloatArray
    response: FloatArray
    """As that of recovered sources."""
    real: NDArray[np.bool_]
    """Whether something is there: an injected source, or one that the image showed before."""


class Recovery(NamedTuple):
    """What came back of one image."""

    sources: RecoveredSources
    detections: Detections


class Estimate(NamedTuple):
    """A number and its 1σ error, from n values."""

    value: float
    error: float
    n: int


def flux_scale(recovered: Sequence[RecoveredSources], chosen: Sequence[NDArray[np.bool_]]) -> Estimate:
    """Return the weighted mean of measured over true flux of chosen sources; NaN where there is none."""
    pairs = list(zip(recovered, chosen, strict=True))
    ratio = np.concatenate([(r.flux_jy / r.true_jy)[keep] for r, keep in pairs])
    if not ratio.size:
        return Estimate(np.nan, np.nan, 0)
    weight = 1.0 / (np.concatenate([(r.error_jy / r.true_jy)[keep] for r, keep in pairs]) ** 2 + FLOOR**2)
    mean = float(np.sum(weight * ratio) / weight.sum())
    return Estimate(mean, float(np.sqrt(np.sum((weight * (ratio - mean)) ** 2)) / weight.sum()), ratio.size)


def scatter(values: FloatArray) -> Estimate:
    """Return the scatter about zero, which 68.3 % of the values do not exceed, and its error; NaN without values."""
    known = np.abs(values[np.isfinite(values)])
    if not known.size:
        return Estimate(np.nan, np.nan, 0)
    value = float(np.percentile(known, WITHIN_ONE_SIGMA))
    return Estimate(value, value * PERCENTILE_ERROR / float(np.sqrt(known.size)), known.size)


class RecoveryBin(NamedTuple):
    """What came back between two S/N; scatters are over what the noise predicts."""

    low_snr: float
    high_snr: float
    flux: Estimate
    """Measured over true."""
    flux_scatter: Estimate
    position_scatter: Estimate
    condon_scatter: Estimate


def recovery_bins(images: Sequence[Recovery]) -> list[RecoveryBin]:
    """Return what came back of the judged sources by S/N; bins without any are left out."""
    recovered = [image.sources for image in images]
    bins = []
    for low, high in pairwise(edge for edge in SNR_EDGES if edge >= JUDGED_SNR):
        chosen = [r.judged & (r.snr >= low) & (r.snr < high) for r in recovered]
        if any(keep.any() for keep in chosen):
            bins.append(_bin(recovered, chosen, low, high))
    return bins


def _bin(
    recovered: Sequence[RecoveredSources], chosen: Sequence[NDArray[np.bool_]], low: float, high: float
) -> RecoveryBin:
    pairs = list(zip(recovered, chosen, strict=True))
    return RecoveryBin(
        low,
        high,
        flux_scale(recovered, chosen),
        scatter(np.concatenate([r.flux_pull[keep] for r, keep in pairs])),
        scatter(np.concatenate([r.position_pulls[:, keep].ravel() for r, keep in pairs])),
        scatter(np.concatenate([r.condon_pulls[:, keep].ravel() for r, keep in pairs])),
    )


def recovery_checks(images: Sequence[Recovery], kind: str, qa: QAOptions) -> list[Check]:
    """Judge what came back in images of one kind.

    Parameters
    ----------
    images
        Of one kind.
    kind
        'tile' or 'mosaic': begins the names of the checks.
    qa
        Limits.
    """
    recovered = [image.sources for image in images]
    scale = flux_scale(recovered, [r.judged for r in recovered])
    pulls = np.concatenate([r.flux_pull[r.noise_limited] for r in recovered])
    stated = np.concatenate([(r.flux_pull * r.noise_jy / r.error_jy)[r.noise_limited] for r in recovered])
    positions, condon = (
        scatter(np.concatenate([getattr(r, name)[:, r.noise_limited].ravel() for r in recovered]))
        for name in ("position_pulls", "condon_pulls")
    )
    expected = np.concatenate([r.found[(r.snr >= EXPECTED_SNR) & (r.response >= JUDGED_RESPONSE)] for r in recovered])
    real = np.concatenate([d.real[d.response >= JUDGED_RESPONSE] for d in (image.detections for image in images)])
    where = f"sources above {JUDGED_SNR:g} sigma where the beam is above {JUDGED_RESPONSE:g}"
    within = f"between {JUDGED_SNR:g} and {NOISE_LIMITED_SNR:g} sigma"
    return [
        _near_one(f"{kind}_flux", scale, qa.truth_flux_failure, f"is measured over true flux of {{n}} {where}"),
        _near_one(
            f"{kind}_flux_scatter",
            scatter(pulls),
            qa.truth_scatter_failure,
            f"is the scatter of {{n}} fluxes {within} over what the noise predicts",
        ),
        _near_one(
            f"{kind}_flux_errors",
            scatter(stated),
            qa.truth_scatter_failure,
            f"is the scatter of {{n}} fluxes {within} over the errors that photometry states",
        ),
        _near_one(
            f"{kind}_position_scatter",
            positions,
            qa.truth_scatter_failure,
            f"is the scatter of {{n}} offsets {within} over what the noise predicts; Condon (1997): {condon.value:.2f}",
        ),
        _fraction(f"{kind}_completeness", expected, qa, f"sources above {EXPECTED_SNR:g} sigma were found"),
        _fraction(f"{kind}_reliability", real, qa, f"detections above {DETECTION_SNR:g} sigma are real"),
    ]


def _near_one(name: str, estimate: Estimate, limit: float, what: str) -> Check:
    if estimate.n < FEWEST:
        return unmeasured(name, None, limit, f"{estimate.n} values; {FEWEST} are needed")
    return near_one(name, estimate.value, None, limit, f"± {estimate.error:.4f} {what.format(n=estimate.n)}")


def _fraction(name: str, flags: NDArray[np.bool_], qa: QAOptions, what: str) -> Check:
    if flags.size < FEWEST:
        return unmeasured(name, None, qa.truth_fraction_failure, f"{flags.size} values; {FEWEST} are needed")
    return at_least(name, float(flags.mean()), None, qa.truth_fraction_failure, f"{flags.sum()} of {flags.size} {what}")
