"""Calibration must not hide what the telescope is built to find: a source that is fainter than the catalogue says.

The bandpass comes from a tile on 3C48, the phases from the field's own catalogue, in which the dominant source has
the flux that it once had. The simulator knows neither our uvw nor our model.
"""

import csv
from copy import deepcopy
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg import conversion
from dsa110_contimg.calibration.apply import apply
from dsa110_contimg.calibration.flagging import flag
from dsa110_contimg.calibration.sky_model import field_model
from dsa110_contimg.calibration.solve import solve_bandpass, solve_gains
from dsa110_contimg.flux_scale import calibrator_model
from dsa110_contimg.formats.uvh5 import read_header
from dsa110_contimg.imaging.image import image
from dsa110_contimg.options import (
    CalibrationOptions,
    ConversionOptions,
    FlaggingOptions,
    ImagingOptions,
    PhotometryOptions,
)
from dsa110_contimg.photometry.forced import Measurement, measure
from dsa110_contimg.simulation import SimulationOptions, simulate
from dsa110_contimg.simulation.geometry import pointing_icrs
from dsa110_contimg.visibilities import Gains, SkyModel, Visibilities

SEED = 11
ANTENNAS, CHANNELS = 32, 4
DEC_DEG = 33.2
FIELD_MJD = 60949.6
DOMINANT_JY, DIMMED = 5.0, 0.7
OFFSETS_DEG = np.array([[0.25, 0.2], [-0.6, 0.35], [0.45, -0.5], [-0.3, -0.45], [0.05, 0.7], [0.75, 0.1]])
"""(east, north) of the dominant source and of five neighbors of 0.6 Jy."""


def write_sky(path: Path, flux_jy: NDArray[np.float64]) -> SkyModel:
    """Write the field as a catalogue file, and return it as a model."""
    ra0, dec0 = (float(value[0]) for value in pointing_icrs(DEC_DEG, np.array([FIELD_MJD])))
    dec = dec0 + OFFSETS_DEG[:, 1]
    ra = ra0 + OFFSETS_DEG[:, 0] / np.cos(np.radians(dec))
    names = [f"s{i}" for i in range(flux_jy.size)]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "ra_deg", "dec_deg", "flux_jy", "alpha"])
        rows.writerows(zip(names, ra, dec, flux_jy, np.full(flux_jy.size, -0.7), strict=True))
    return SkyModel(names, ra % 360.0, dec, flux_jy, np.full((flux_jy.size, 1), -0.7))


def observe(folder: Path, **more: object) -> Visibilities:
    """Simulate one tile with the gains of SEED, convert and flag it."""
    options = SimulationOptions(
        antennas=ANTENNAS, channels=CHANNELS, declination=DEC_DEG, gain_scatter=0.2, delay_ns=10.0, sefd_jy=300.0,
        seed=SEED, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    simulate(folder, options)
    vis = conversion.assemble([read_header(path) for path in sorted(folder.glob("*.hdf5"))], ConversionOptions())
    flag(vis, FlaggingOptions())
    return vis


@pytest.fixture(scope="module")
def bandpass(tmp_path_factory: pytest.TempPathFactory) -> list[Gains]:
    """Delay and bandpass, solved on the transit of 3C48."""
    vis = observe(tmp_path_factory.mktemp("calibrator"), transit="3C48", min_flux_jy=3.0)
    model = calibrator_model("3C48")
    return list(solve_bandpass(vis, model, CalibrationOptions(), source="3C48", flux_anchor="3C48", dec_deg=DEC_DEG))


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> tuple[Visibilities, SkyModel]:
    """The field of the dimmed source, flagged, and the catalogue that does not know of it."""
    print(f"seed {SEED}")
    folder = tmp_path_factory.mktemp("field")
    flux = np.array([DOMINANT_JY, *np.full(len(OFFSETS_DEG) - 1, 0.6)])
    catalog = write_sky(folder / "catalogue.csv", flux)
    write_sky(folder / "sky.csv", flux * np.array([DIMMED, *np.ones(flux.size - 1)]))
    start = str(np.datetime64(int((FIELD_MJD - 40587.0) * 86400 - 155), "s"))
    return observe(folder / "files", start=start, sky=str(folder / "sky.csv"), calibrators=False), catalog


def measured(
    raw: Visibilities, bandpass: list[Gains], catalog: SkyModel, kind: Literal["G", "GP"], anchor: str = "none"
) -> NDArray[np.float64]:
    """Calibrate with the catalogue, image, and return the fluxes measured over those of the catalogue."""
    options, vis = CalibrationOptions(), deepcopy(raw)
    apply(vis, bandpass, options, measure_weights=False)
    model = field_model(vis, catalog, options)
    own = solve_gains(vis, model, options, kind=kind, source="catalogue", flux_anchor=anchor, dec_deg=DEC_DEG)
    apply(vis, [own], options)
    made = image(vis, ImagingOptions(size=800, cell_arcsec=12.0, threads=1), bright=catalog)
    found = measure(made.image, catalog, PhotometryOptions(), beam=made.beam)
    fluxes = np.array([row.flux_jy for row in found if isinstance(row, Measurement)])
    ratio = np.asarray(fluxes / catalog.flux_at(np.array([made.image.freq_hz]))[:, 0])
    print("measured over catalogue:", np.round(ratio, 4))
    return ratio


def test_a_dominant_source_that_dimmed_is_measured_dim(
    field: tuple[Visibilities, SkyModel], bandpass: list[Gains]
) -> None:
    ratio = measured(field[0], bandpass, field[1], "GP")
    assert ratio[0] == pytest.approx(DIMMED, rel=0.02)
    assert ratio[1:] == pytest.approx(1.0, abs=0.01)


def test_amplitudes_solved_on_the_tile_itself_would_hide_it(
    field: tuple[Visibilities, SkyModel], bandpass: list[Gains]
) -> None:
    """What the pipeline never does: the catalogue's flux of the dominant source as the scale of its own tile."""
    ratio = measured(field[0], bandpass, field[1], "G", "s0")
    assert ratio[0] > 1.1 * DIMMED
    assert ratio[1:].min() > 1.1
