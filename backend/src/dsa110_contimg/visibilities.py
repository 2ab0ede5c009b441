r"""What travels between the stages.

Conventions, everywhere:

    V(row, f) = Σ S(f) exp(+2πi (u l + v m + w (n − 1)) f/c)        l east, m north, n = √(1 − l² − m²)

with (u, v, w) in metres as in the Measurement Set's UVW column; a row's `antenna1`, `antenna2` are those of
the Measurement Set, so that a gain corrupts it as g[antenna1] · V · conj(g[antenna2]). Rows run time-major;
channels ascend in frequency; polarizations are the parallel hands (XX, YY) or (RR, LL).
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels.beams import BeamMap, beam_power
from dsa110_contimg.kernels.predict import predict_evenly_spaced, predict_numpy, smearing_axes, taper_axes
from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines
from dsa110_contimg.telescope import DISH_DIAMETER_M


class SkyPosition(NamedTuple):
    """An ICRS position in degrees."""

    ra_deg: float
    dec_deg: float


class Beam(NamedTuple):
    """A restoring beam: full widths at half maximum and position angle (east of north)."""

    major_arcsec: float
    minor_arcsec: float
    pa_deg: float


@dataclass
class Visibilities:
    """The visibilities of one tile, in one spectral window, toward one phase center."""

    vis: NDArray[np.complex64]
    """(n_row, n_chan, n_pol); raw correlator units before calibration, Jy after."""
    flags: NDArray[np.bool_]
    """Same shape; True is bad."""
    weights: NDArray[np.float32]
    """(n_row, n_pol); per channel, proportional to 1/σ² (1/Jy² after calibration)."""
    uvw_m: NDArray[np.float64]
    """(n_row, 3)."""
    antenna1: NDArray[np.int32]
    antenna2: NDArray[np.int32]
    """(n_row,), indices into `antenna_names`."""
    time_mjd: NDArray[np.float64]
    """(n_row,), UTC, middle of the integration."""
    freq_hz: NDArray[np.float64]
    """(n_chan,), ascending channel centers."""
    channel_width_hz: float
    integration_s: float
    phase_center: SkyPosition
    antenna_names: list[str]
    antenna_itrf_m: NDArray[np.float64]
    """(n_antenna, 3); NaN where the antenna has no position."""
    telescope: str
    pointing_mjd: NDArray[np.float64]
    """(n_pointing,), one per integration; empty where the set has no pointing table."""
    pointing_icrs_deg: NDArray[np.float64]
    """(n_pointing, 2), ICRS directions on which the dishes looked."""
    field_name: str = ""
    aberration: float = 1.0
    """Factor from measured to true offsets from the phase center (telescope.aberration_scale)."""
    dish_diameter_m: float = DISH_DIAMETER_M
    """NaN where it is not known, or dishes differ."""
    beam_map: BeamMap | None = None
    """A measured primary beam; None is the Airy disk of the telescope's dishes."""

    @property
    def n_antennas(self) -> int:
        """Number of antennas in the table, present or not."""
        return len(self.antenna_names)

    @property
    def times_mjd(self) -> NDArray[np.float64]:
        """The distinct integrations, ascending."""
        return np.unique(self.time_mjd)

    @property
    def mid_mjd(self) -> float:
        """The middle of the observation."""
        return float(0.5 * (self.time_mjd.min() + self.time_mjd.max()))


@dataclass(frozen=True)
class SkyModel:
    """Points and Gaussians with spectra: log10 S(f) = log10 S0 + Σ_k c_k log10(f/f0)^(k+1)."""

    names: list[str]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    """(n_source,), at `ref_freq_hz`."""
    spectrum: NDArray[np.float64]
    """(n_source, n_term); the first term is the spectral index."""
    ref_freq_hz: float = 1.4e9
    gaussian: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    """(n_source, 3): full widths at half maximum of the major and the minor axis, arcsec, and the position angle, deg,
    east of north at the source; zeros (and everything, if nothing is given) are points."""

    def __post_init__(self) -> None:
        if len(self.gaussian) != len(self.names):
            object.__setattr__(self, "gaussian", np.zeros((len(self.names), 3)))

    def __len__(self) -> int:
        return len(self.names)

    def flux_at(self, freq_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return fluxes in Jy, shape (n_source, n_freq)."""
        log_ratio = np.log10(np.asarray(freq_hz) / self.ref_freq_hz)
        exponent = np.zeros((len(self), log_ratio.size))
        for term in range(self.spectrum.shape[1]):
            exponent += self.spectrum[:, term, None] * log_ratio[None, :] ** (term + 1)
        return self.flux_jy[:, None] * 10.0**exponent

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "SkyModel":
        """Return the sources that a mask or index array picks."""
        index = np.flatnonzero(keep) if keep.dtype == bool else keep
        return SkyModel(
            names=[self.names[i] for i in index],
            ra_deg=self.ra_deg[index],
            dec_deg=self.dec_deg[index],
            flux_jy=self.flux_jy[index],
            spectrum=self.spectrum[index],
            ref_freq_hz=self.ref_freq_hz,
            gaussian=self.gaussian[index],
        )

    def taper_axes(self, center: SkyPosition) -> NDArray[np.float64]:
        """Return the axes of the Gaussians as `kernels.predict` takes them, toward a phase center, (n_source, 2, 3)."""
        radians = np.radians(self.gaussian / [3600.0, 3600.0, 1.0])
        ra0, dec0 = np.radians(center).tolist()
        return taper_axes(np.radians(self.ra_deg), np.radians(self.dec_deg), (ra0, dec0), radians)


@dataclass
class Gains:
    """Solutions of one kind for every antenna: what a caltable holds."""

    kind: str
    """K (delay), BP, G, GP or 2G."""
    time_mjd: NDArray[np.float64]
    """(n_time,), middle of each solution interval."""
    freq_hz: NDArray[np.float64]
    """(n_freq,); one entry, mid-band, for K and G."""
    values: NDArray[np.complex128]
    """(n_time, n_antenna, n_freq, n_pol); for K the real part is the delay in ns."""
    flags: NDArray[np.bool_]
    """Same shape; a failed solution is a flag, never one."""
    snr: NDArray[np.float64]
    """Same shape."""
    reference_antenna: str
    antenna_names: list[str]
    antenna_itrf_m: NDArray[np.float64]
    source: str
    """The calibrator, or 'catalogue'."""
    flux_anchor: str
    """What sets the flux scale: a Perley-Butler calibrator's name, 'catalogue', or 'none' for phase only."""
    dec_deg: float
    """Declination of the strip on which it was solved."""
    metadata: dict[str, str] = field(default_factory=dict)
    errors: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Same shape; 1σ of the real part of a value (K: of the delay in ns; GP, 2G: of the phase in radians). NaN where
    flagged, and everywhere if nothing is given."""

    def __post_init__(self) -> None:
        if self.errors.size == 0:
            self.errors = np.full(self.values.shape, np.nan)


@dataclass
class SkyImage:
    """One plane of sky in SIN projection."""

    data: NDArray[np.float32]
    """(ny, nx); right ascension decreases with x, declination increases with y."""
    center: SkyPosition
    cell_deg: float
    """Pixel size on the sky; CDELT = (−cell, +cell)."""
    unit: str = "Jy/beam"
    kind: str = "image"
    """image, pbcor, residual, dirty, psf, model, beam, weight, noise, mosaic."""
    beam: Beam | None = None
    freq_hz: float = float("nan")
    bandwidth_hz: float = float("nan")
    start_mjd: float = float("nan")
    end_mjd: float = float("nan")
    exposure_s: float = float("nan")
    noise_jy: float = float("nan")
    field_name: str = ""
    header: dict[str, str | float | int] = field(default_factory=dict)
    """Further FITS cards (CALTABLES, weighting, version ...)."""
    reference_pixel: tuple[float, float] | None = None
    """Zero-based (x, y) of `center`; None means (nx // 2, ny // 2)."""

    @property
    def center_pixel(self) -> tuple[float, float]:
        """Zero-based (x, y) pixel of the reference position."""
        if self.reference_pixel is not None:
            return self.reference_pixel
        ny, nx = self.data.shape
        return float(nx // 2), float(ny // 2)

    @property
    def middle(self) -> SkyPosition:
        """Direction of pixel (nx // 2, ny // 2), which need not be the reference position."""
        (ny, nx), (x_ref, y_ref), cell = self.data.shape, self.center_pixel, np.radians(self.cell_deg)
        if self.reference_pixel is None:
            return self.center
        ra, dec = from_direction_cosines(-(nx // 2 - x_ref) * cell, (ny // 2 - y_ref) * cell, *np.radians(self.center))
        return SkyPosition(float(np.degrees(ra)), float(np.degrees(dec)))

    def without_pixels(self) -> "SkyImage":
        """Return what describes the image, its reference pixel included, without its data."""
        return replace(
            self, data=np.empty((0, 0), np.float32), reference_pixel=self.center_pixel, header=dict(self.header)
        )


def beam_response(vis: Visibilities, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the primary beam toward directions at each pointing, shape (n_pointing, n_direction, n_chan).

    A set without a pointing table has no known beam: the response is one.
    """
    if vis.pointing_mjd.size == 0:
        return np.ones((1, len(ra_deg), vis.freq_hz.size))
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    looks = np.radians(vis.pointing_icrs_deg).tolist()
    lmn = np.stack([direction_cosines(ra, dec, ra0, dec0) for ra0, dec0 in looks])
    return beam_power(lmn, vis.freq_hz, vis.beam_map or DISH_DIAMETER_M)


def apparent_spectrum(vis: Visibilities, sky: SkyModel) -> NDArray[np.float64]:
    """Return each source's flux behind the beam, the mean over pointings, at some 16 of the channels: (n_source, n)."""
    coarse = replace(vis, freq_hz=vis.freq_hz[:: max(1, vis.freq_hz.size // 16)])
    beam = beam_response(coarse, sky.ra_deg, sky.dec_deg).mean(axis=0)
    return np.asarray(beam * sky.flux_at(coarse.freq_hz))


def sky_directions(vis: Visibilities, sky: SkyModel) -> NDArray[np.float64]:
    """Return the direction cosines of sources in the frame of the uvw, before aberration, (n_source, 3)."""
    return _directions(vis, sky.ra_deg, sky.dec_deg)


def _directions(vis: Visibilities, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    lmn = direction_cosines(np.radians(ra_deg), np.radians(dec_deg), *np.radians(vis.phase_center))
    lmn = np.concatenate([lmn[:, :2] / vis.aberration, lmn[:, 2:]], axis=1)
    lmn[:, 2] = np.sqrt(1.0 - lmn[:, 0] ** 2 - lmn[:, 1] ** 2)
    return lmn


def sky_axes(vis: Visibilities, sky: SkyModel, *, smeared: bool) -> NDArray[np.float64]:
    """Return the axes of sources as `kernels.predict` takes them, with those of smearing if they are wanted."""
    axes = sky.taper_axes(vis.phase_center)
    if not smeared:
        return axes
    away = smearing_axes(
        sky_directions(vis, sky), followed_directions(vis), np.radians(vis.phase_center.dec_deg), vis.integration_s
    )
    return np.concatenate([axes, away], axis=1)


def followed_directions(vis: Visibilities) -> NDArray[np.float64]:
    """Return the direction that the correlator follows at each pointing, (n_pointing, 3), in the frame of the uvw.

    A set without pointings is taken to have followed its phase center.
    """
    if vis.pointing_mjd.size == 0:
        return np.array([[0.0, 0.0, 1.0]])
    return _directions(vis, *vis.pointing_icrs_deg.T)


def predict(
    vis: Visibilities, sky: SkyModel, *, with_beam: bool = True, smeared: bool = False
) -> NDArray[np.complex64]:
    """Predict the Stokes I visibilities of a sky model, (n_row, n_chan), in Jy through the drifting beam.

    Parameters
    ----------
    vis
        Gives uvw, times, channels, phase center and pointings; its visibilities are not looked at.
    sky
        Points and Gaussians; positions are exact, no pixel grid is involved.
    with_beam
        False leaves the primary beam out.
    smeared
        Whether sources lose what the correlator's averaging over an integration and a channel takes away.
    """
    lmn = sky_directions(vis, sky)
    amplitude = sky.flux_at(vis.freq_hz)[None, :, :]
    time_index = np.zeros(vis.time_mjd.size, np.int64)
    if vis.pointing_mjd.size:
        time_index = np.abs(vis.time_mjd[:, None] - vis.pointing_mjd[None, :]).argmin(axis=1)
        seen = beam_response(vis, sky.ra_deg, sky.dec_deg) if with_beam else np.ones((vis.pointing_mjd.size, 1, 1))
        amplitude = amplitude * seen
    single, axes = np.ascontiguousarray(amplitude, np.float32), sky_axes(vis, sky, smeared=smeared)
    steps = np.diff(vis.freq_hz)
    if steps.size and np.allclose(steps, steps[0], rtol=1e-6):
        return np.asarray(predict_evenly_spaced(vis.uvw_m, time_index, vis.freq_hz[0], steps[0], lmn, single, axes))
    return predict_numpy(vis.uvw_m, time_index, vis.freq_hz, lmn, single, axes)
