"""eta and V as the VAST pipeline computed them, from its own component lists."""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.variability import eta_index, v_index
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.lightcurves import summarize

FloatArray = NDArray[np.float64]

BEAM = (15.0, 10.0)
"""Arcsec, of all four images."""
FOLDER = Path(os.environ.get("CONTIMG_DATA", ".")) / "images" / "vast"


def components(kind: str) -> tuple[FloatArray, FloatArray]:
    """Fluxes of all components of four epochs in the order of VAST's measurement ids, and errors as VAST takes them.

    Those of Condon (1997, PASP 109, 166) from the fitted axes, the beam and the local noise.
    """
    rows: list[dict[str, str]] = []
    for epoch in range(1, 5):
        lines = (FOLDER / f"epoch0{epoch}.selavy.components.txt").read_text().splitlines()
        head = next(line for line in lines if line.startswith("#")).split()[1:]
        rows += [dict(zip(head, line.split(), strict=False)) for line in lines if not line.startswith("#")]
    names = ("flux_peak", "flux_int", "rms_image", "maj_axis", "min_axis")
    peak, whole, rms, major, minor = (np.array([float(row[name]) for row in rows]) for name in names)

    def rho2(along: float, across: float) -> FloatArray:
        ratios = (1.0 + (BEAM[0] / major) ** 2) ** along * (1.0 + (BEAM[1] / minor) ** 2) ** across
        return np.asarray(major * minor / (4.0 * BEAM[0] * BEAM[1]) * ratios * (peak / rms) ** 2)

    relative = 2.0 / rho2(1.5, 1.5)
    if kind == "peak":
        return peak, peak * np.sqrt(relative)
    axes = 2.0 / rho2(2.5, 0.5) + 2.0 / rho2(0.5, 2.5)
    return whole, whole * np.sqrt(relative + BEAM[0] * BEAM[1] / (major * minor) * axes)


@pytest.mark.parametrize("kind", ["int", "peak"])
def test_the_statistics_of_vast_are_reproduced(kind: str) -> None:
    if not FOLDER.is_dir():
        pytest.skip("CONTIMG_DATA does not hold images/vast")
    fluxes, errors = components(kind)
    pairs = pyarrow.parquet.read_table(FOLDER / "associations.parquet").to_pydict()
    sources = pyarrow.parquet.read_table(FOLDER / "sources.parquet").to_pydict()
    compared = 0
    for index, source in enumerate(sources["id"]):
        own = [meas - 1 for name, meas in zip(pairs["source_id"], pairs["meas_id"], strict=True) if name == source]
        flux, error = fluxes[own], errors[own]
        assert flux.mean() == pytest.approx(sources[f"avg_flux_{kind}"][index], rel=1e-9)
        if len(own) > 1:
            assert eta_index(flux, error) == pytest.approx(sources[f"eta_{kind}"][index], rel=1e-6)
            assert v_index(flux) == pytest.approx(sources[f"v_{kind}"][index], rel=1e-6)
            stored = summarize(np.arange(float(flux.size)), flux, error, PhotometryOptions())
            assert stored.eta_metric == pytest.approx(sources[f"eta_{kind}"][index], rel=1e-6)
            assert stored.v_metric == pytest.approx(sources[f"v_{kind}"][index], rel=1e-6)
            compared += 1
    assert compared == 6
