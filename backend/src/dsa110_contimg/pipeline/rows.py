"""What science returns, as columns of rows: the one place where the two meet."""

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dsa110_contimg.photometry.forced import Measurement, Missing
from dsa110_contimg.qa.checks import Check
from dsa110_contimg.visibilities import SkyImage

Column = str | float | int | None


def image_columns(image: SkyImage) -> dict[str, Column]:
    """Return the columns of `images` that an image fills."""
    ny, nx = image.data.shape
    peak = float(np.nanmax(image.data)) if np.isfinite(image.data).any() else None
    noise = image.noise_jy if np.isfinite(image.noise_jy) else None
    return {
        "beam_major_arcsec": image.beam.major_arcsec if image.beam else None,
        "beam_minor_arcsec": image.beam.minor_arcsec if image.beam else None,
        "beam_pa_deg": image.beam.pa_deg if image.beam else None,
        "noise_jy": noise,
        "dynamic_range": peak / noise if peak is not None and noise else None,
        "pbcor": int(image.kind in ("pbcor", "mosaic")),
        "field_name": image.field_name or None,
        "center_ra_deg": image.middle.ra_deg,
        "center_dec_deg": image.middle.dec_deg,
        "imsize_x": nx,
        "imsize_y": ny,
        "cellsize_arcsec": image.cell_deg * 3600.0,
        "freq_ghz": image.freq_hz / 1e9,
        "bandwidth_mhz": image.bandwidth_hz / 1e6,
        "integration_sec": image.exposure_s,
    }


def check_rows(subject: str, checks: Iterable[Check]) -> list[dict[str, Column]]:
    """Return rows of `qa_checks`."""
    return [
        {
            "subject": subject,
            "name": check.name,
            "value": check.value,
            "threshold_warning": check.warning,
            "threshold_failure": check.failure,
            "verdict": check.verdict,
            "reason": check.reason,
            "measured_at": time.time(),
        }
        for check in checks
    ]


def photometry_rows(
    image_path: str, measurements: Sequence[Measurement | Missing], mjd_of: Callable[[Measurement], float]
) -> tuple[list[dict[str, Column]], dict[str, str]]:
    """Return rows of `photometry`, and the reasons of `photometry_missing` by source."""
    rows: list[dict[str, Column]] = []
    missing: dict[str, str] = {}
    for item in measurements:
        if isinstance(item, Missing):
            missing[item.source_id] = item.reason
            continue
        rows.append(
            {
                "image_path": image_path,
                "source_id": item.source_id,
                "ra_deg": item.ra_deg,
                "dec_deg": item.dec_deg,
                "nvss_flux_mjy": item.nvss_flux_mjy,
                "peak_jyb": item.peak_jyb,
                "peak_err_jyb": item.peak_err_jyb,
                "snr": item.snr,
                "measured_at": time.time(),
                "mjd": mjd_of(item),
                "sep_from_center_deg": item.sep_from_center_deg,
                "flags": int(item.flags),
                "flux_jy": item.flux_jy,
                "flux_err_jy": item.flux_err_jy,
                "local_rms_jyb": item.local_rms_jyb,
                "background_jyb": item.background_jyb,
                "upper_limit_jyb": item.upper_limit_jyb,
                "pb_response": item.pb_response,
            }
        )
    return rows, missing
