r"""The columns in which each survey publishes its catalogue, and how they become fluxes on one scale.

    NVSS   AIPS VZ, AIPS VL, VizieR VIII/65     1.4 GHz, 45" beam      Condon et al. 1998, AJ 115, 1693
    FIRST  14dec17, VizieR VIII/92              1.4 GHz, 5.4"          Helfand et al. 2015, ApJ 801, 26
    VLASS  Quick Look components (CIRADA)       3 GHz, 2.5"            Gordon et al. 2021, ApJS 255, 30
    RACS   low and mid, CASDA and VizieR        0.8875, 1.3675 GHz     Hale et al. 2021; Duchesne et al. 2024
    CSV    ours                                 1.4 GHz                name, ra_deg, dec_deg, flux_jy, flux_err_jy
    PULSARS    psrcat                           positions alone        Manchester et al. 2005, AJ 129, 1993
    VARIABLES  ours                             positions alone        name, ra_deg, dec_deg, pos_err_arcsec

The VZ table's peaks stand 2.7 % above the catalogue's flux densities and are divided by that. The VL table holds
raw Gaussian fits (peak P, axes M x m, in a 45" beam): a source that is not resolved has S = P √(M m)/45", the
least noisy product of both; a resolved one S = P M m/45"². Errors of both are the survey's own,
√((0.03 S)² + rms²). Quick Look images lose flux density: components above 3 mJy/beam are underestimated by some 15 %
(Gordon et al. 2021, from the first epoch), so that what is left, 0.87 = 1/1.15, is divided out; by how much they do
scatters by 8 % from one component to the next, which is an error of its own.
Positions of the first two have errors of 0.5" and 45"/(√(2 ln 2) SNR), 7" at the limit, as the survey states: FIRST
confirms both. Signal to noise is the peak over the noise alone: a scale error common to all sources is no noise.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Quantities = dict[str, FloatArray]
Texts = dict[str, list[str]]

BRIGHT_TABLE_EXCESS = 1.027
NVSS_BEAM_ARCSEC = 45.0
NVSS_RMS_JY = 0.45e-3
NVSS_SCALE_ERROR = 0.03
NVSS_POSITION_ARCSEC = 0.5
RESOLVED_SIGMA = 3.0
FIRST_BEAM_ARCSEC = 5.4
FIRST_SCALE_ERROR = 0.05
FIRST_CLEAN_BIAS_JY = 0.25e-3
SIGMAS_OF_90_PERCENT = 1.645
SIDELOBE_LIMIT = 0.5
"""A FIRST entry that is more likely a sidelobe than a source is set aside."""
VLASS_RECOVERED = 0.87
"""Flux density of a Quick Look component over its true one."""
VLASS_SCALE_ERROR = 0.08
VLASS_POSITION_ARCSEC = 0.5
RACS_POSITION_ARCSEC = 1.0


class Published(NamedTuple):
    """A published column, and the factor from its unit to ours."""

    name: str
    factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One form in which a survey publishes its table."""

    survey: str
    title: str
    freq_ghz: float
    required: dict[str, Published]
    """By our name, in our unit; a row without one of them is bad."""
    optional: dict[str, Published] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    """Columns of text that `complete` or `keep` look at."""
    name_column: str | None = None
    names_required: bool = False
    """Rows without a name, or with another row's, are bad; else names come from positions."""
    complete: Callable[[Quantities, Texts], None] = lambda _values, _texts: None
    """Derive what is not published, in place."""
    keep: Callable[[Quantities, Texts], NDArray[np.bool_] | None] = lambda _values, _texts: None
    """Rows that the survey's own flags call sources; None keeps all."""


def _nvss_errors(values: Quantities, rms_jy: FloatArray) -> None:
    values["flux_uncertainty"] = np.hypot(NVSS_SCALE_ERROR * values["flux_jy"], rms_jy)
    noise: FloatArray = NVSS_BEAM_ARCSEC / np.sqrt(2.0 * np.log(2.0)) / np.maximum(values["snr"], 1.0)
    values["position_uncertainty_arcsec"] = np.hypot(NVSS_POSITION_ARCSEC, noise)


def _bright_nvss(values: Quantities, _texts: Texts) -> None:
    values["snr"] = values["flux_jy"] / NVSS_RMS_JY
    values["flux_jy"] = values["flux_jy"] / BRIGHT_TABLE_EXCESS
    values["is_confused"] = (values["quality"] > 0).astype(np.float64)
    _nvss_errors(values, np.full(values["flux_jy"].size, NVSS_RMS_JY))


def _full_nvss(values: Quantities, _texts: Texts) -> None:
    peak, rms = values["flux_jy"], values["rms_jy"]
    axes = [values[f"{axis}_axis_arcsec"] / NVSS_BEAM_ARCSEC for axis in ("major", "minor")]
    snr = peak / np.maximum(rms, 1e-12)
    # Condon's error of a fitted axis for a source of about the beam's size, √2/SNR, beside 1 % of the beam.
    resolved = axes[0] > 1.0 + RESOLVED_SIGMA * np.hypot(np.sqrt(2.0) / snr, 0.01)
    area: FloatArray = np.maximum(axes[0] * axes[1], 1e-6)
    values.update(flux_jy=peak * np.where(resolved, area, np.sqrt(area)), snr=snr, is_extended=resolved * 1.0)
    _nvss_errors(values, rms)


def _vizier_nvss(values: Quantities, texts: Texts) -> None:
    values["snr"] = values["flux_jy"] / NVSS_RMS_JY
    if "l_majaxis" in texts:
        values["is_extended"] = np.array([mark != "<" for mark in texts["l_majaxis"]], dtype=np.float64)


def _first(values: Quantities, _texts: Texts) -> None:
    # Published fluxes include a correction for the CLEAN bias, which is no signal.
    signal: FloatArray = np.maximum(values["peak_jy"] - FIRST_CLEAN_BIAS_JY, 0.0)
    values["snr"] = signal / values["rms_jy"]
    with np.errstate(divide="ignore"):
        error: FloatArray = values["fitted_arcsec"] * (1.0 / values["snr"] + 1.0 / 20.0) / SIGMAS_OF_90_PERCENT
    values["position_uncertainty_arcsec"] = np.where(np.isfinite(error), error, np.nan)
    values["flux_uncertainty"] = np.hypot(FIRST_SCALE_ERROR * values["flux_jy"], values["rms_jy"])
    values["is_extended"] = np.asarray(values["major_axis_arcsec"] > FIRST_BEAM_ARCSEC, dtype=np.float64)


def _no_sidelobe(values: Quantities, _texts: Texts) -> NDArray[np.bool_] | None:
    if "sidelobe" not in values:
        return None
    likely: NDArray[np.bool_] = values["sidelobe"] > SIDELOBE_LIMIT
    return ~likely


def _vlass(values: Quantities, _texts: Texts) -> None:
    for name in ("flux_jy", "flux_uncertainty"):
        values[name] = values[name] / VLASS_RECOVERED
    values["flux_uncertainty"] = np.hypot(values["flux_uncertainty"], VLASS_SCALE_ERROR * values["flux_jy"])
    values["snr"] = values["peak_jy"] / values["rms_jy"]
    error: FloatArray = np.maximum(values["ra_error"], values["dec_error"])
    values["position_uncertainty_arcsec"] = np.hypot(error, VLASS_POSITION_ARCSEC)
    values["is_extended"] = np.asarray(values["major_axis_arcsec"] > 0.0, dtype=np.float64)


def _recommended_components(values: Quantities, texts: Texts) -> NDArray[np.bool_]:
    """Keep what the catalogue's authors recommend: fitted, no duplicate, no flag but "total below peak"."""
    fitted = np.array([code != "E" for code in texts["s_code"]], dtype=np.bool_)
    good: NDArray[np.bool_] = (values["duplicate"] < 2) & np.isin(values["quality"], (0, 4))
    return fitted & good


def _racs(values: Quantities, _texts: Texts) -> None:
    if "dec_error" in values:
        error = np.fmax(values.get("ra_error", values["dec_error"]), values["dec_error"])
        values["position_uncertainty_arcsec"] = np.hypot(error, RACS_POSITION_ARCSEC)
    if {"peak_jy", "rms_jy"} <= set(values):
        with np.errstate(divide="ignore", invalid="ignore"):
            values["snr"] = values["peak_jy"] / values["rms_jy"]


def _own(values: Quantities, _texts: Texts) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        values["snr"] = values["flux_jy"] / values["flux_uncertainty"]


_MJY = 1e-3
_AIPS = {
    "ra_deg": Published("RA(2000)"),
    "dec_deg": Published("DEC(2000)"),
    "flux_jy": Published("PEAK INT"),
}
_CDS_POSITION = {"ra_deg": Published("RAJ2000"), "dec_deg": Published("DEJ2000")}
_ICRS = {"ra_deg": Published("RA"), "dec_deg": Published("Dec")}
_RACS_OPTIONAL = {
    "ra_error": Published("E_RA"),
    "dec_error": Published("E_Dec"),
    "peak_jy": Published("Peak_flux", _MJY),
    "rms_jy": Published("Noise", _MJY),
    "position_angle_deg": Published("PA"),
}

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        survey="NVSS",
        title="the NVSS table of sources above 50 mJy (AIPS VZ)",
        freq_ghz=1.4,
        required={**_AIPS, "quality": Published("QUAL")},
        complete=_bright_nvss,
    ),
    Layout(
        survey="NVSS",
        title="the full NVSS table (AIPS VL)",
        freq_ghz=1.4,
        required={
            **_AIPS,
            "rms_jy": Published("I RMS"),
            "major_axis_arcsec": Published("MAJOR AX", 3600.0),
            "minor_axis_arcsec": Published("MINOR AX", 3600.0),
        },
        optional={"position_angle_deg": Published("POSANGLE")},
        complete=_full_nvss,
    ),
    Layout(
        survey="NVSS",
        title="the NVSS catalogue of VizieR (VIII/65)",
        freq_ghz=1.4,
        required={**_CDS_POSITION, "flux_jy": Published("S1.4", _MJY)},
        optional={
            "flux_uncertainty": Published("e_S1.4", _MJY),
            "position_uncertainty_arcsec": Published("e_DEJ2000"),
            "major_axis_arcsec": Published("MajAxis"),
            "minor_axis_arcsec": Published("MinAxis"),
            "position_angle_deg": Published("PA"),
        },
        texts=("l_MajAxis",),
        complete=_vizier_nvss,
    ),
    Layout(
        survey="FIRST",
        title="the FIRST catalogue (14dec17)",
        freq_ghz=1.4,
        required={
            **_ICRS,
            "flux_jy": Published("FINT", _MJY),
            "peak_jy": Published("FPEAK", _MJY),
            "rms_jy": Published("RMS", _MJY),
            "major_axis_arcsec": Published("MAJOR"),
            "minor_axis_arcsec": Published("MINOR"),
            "fitted_arcsec": Published("FITTED_MAJOR"),
        },
        optional={"position_angle_deg": Published("POSANG"), "sidelobe": Published("SIDEPROB")},
        complete=_first,
        keep=_no_sidelobe,
    ),
    Layout(
        survey="FIRST",
        title="the FIRST catalogue of VizieR (VIII/92)",
        freq_ghz=1.4,
        required={
            **_CDS_POSITION,
            "flux_jy": Published("Fint", _MJY),
            "peak_jy": Published("Fpeak", _MJY),
            "rms_jy": Published("Rms", _MJY),
            "major_axis_arcsec": Published("Maj"),
            "minor_axis_arcsec": Published("Min"),
            "fitted_arcsec": Published("fMaj"),
        },
        optional={"position_angle_deg": Published("PA"), "sidelobe": Published("p(S)")},
        complete=_first,
        keep=_no_sidelobe,
    ),
    Layout(
        survey="VLASS",
        title="the VLASS Quick Look component catalogue",
        freq_ghz=3.0,
        required={
            **_ICRS,
            "flux_jy": Published("Total_flux", _MJY),
            "flux_uncertainty": Published("E_Total_flux", _MJY),
            "peak_jy": Published("Peak_flux", _MJY),
            "rms_jy": Published("Isl_rms", _MJY),
            "ra_error": Published("E_RA", 3600.0),
            "dec_error": Published("E_DEC", 3600.0),
            "major_axis_arcsec": Published("DC_Maj"),
            "minor_axis_arcsec": Published("DC_Min"),
            "duplicate": Published("Duplicate_flag"),
            "quality": Published("Quality_flag"),
        },
        optional={"position_angle_deg": Published("DC_PA")},
        texts=("S_Code",),
        name_column="Component_name",
        complete=_vlass,
        keep=_recommended_components,
    ),
    Layout(
        survey="RACS",
        title="the RACS-low source catalogue (CASDA)",
        freq_ghz=0.8875,
        required={**_ICRS, "flux_jy": Published("Total_flux_Source", _MJY)},
        optional={
            **_RACS_OPTIONAL,
            "flux_uncertainty": Published("E_Total_flux_Source", _MJY),
            "major_axis_arcsec": Published("DC_Maj"),
            "minor_axis_arcsec": Published("DC_Min"),
        },
        name_column="Source_Name",
        complete=_racs,
    ),
    Layout(
        survey="RACS",
        title="the RACS-mid source catalogue (CASDA)",
        freq_ghz=1.3675,
        required={**_ICRS, "flux_jy": Published("Total_flux", _MJY)},
        optional={**_RACS_OPTIONAL, "flux_uncertainty": Published("E_Total_flux", _MJY)},
        name_column="Name",
        complete=_racs,
    ),
    Layout(
        survey="RACS",
        title="the RACS-low catalogue of VizieR (J/other/PASA/38.58)",
        freq_ghz=0.8875,
        required={**_CDS_POSITION, "flux_jy": Published("Ftot", _MJY)},
        optional={"flux_uncertainty": Published("e_Ftot", _MJY)},
        complete=_racs,
    ),
    Layout(
        survey="CSV",
        title="a table of our own",
        freq_ghz=1.4,
        required={"ra_deg": Published("ra_deg"), "dec_deg": Published("dec_deg"), "flux_jy": Published("flux_jy")},
        optional={"spectral_index": Published("spectral_index"), "flux_uncertainty": Published("flux_err_jy")},
        name_column="name",
        names_required=True,
        complete=_own,
    ),
    Layout(
        survey="PULSARS",
        title="the ATNF pulsar catalogue (psrcat, long or short csv)",
        freq_ghz=1.4,
        required={"ra_deg": Published("RAJD"), "dec_deg": Published("DECJD")},
        name_column="NAME",
    ),
    Layout(
        survey="VARIABLES",
        title="a table of known variables",
        freq_ghz=1.4,
        required={"ra_deg": Published("ra_deg"), "dec_deg": Published("dec_deg")},
        optional={"position_uncertainty_arcsec": Published("pos_err_arcsec")},
        name_column="name",
    ),
)
