"""`contimg spectrum`: one source in parts of the band, epoch by epoch: a plasma lens or an error of the gains."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from dsa110_contimg.database import get_session
from dsa110_contimg.database.source_names import resolve_one
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.subband_rows import EpochSpectrum, source_spectra


def spectrum(
    source: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Name or position, in any usual form.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show a source's fluxes in parts of the band, its spectral index, and whether its changes are the same in all.

    Example: contimg spectrum NVSS J123456.7+420312
    """
    with (
        get_session("master_sources", read_only=True) as master,
        get_session("calibrators", read_only=True) as calibrators,
    ):
        name = resolve_one(master, calibrators, " ".join(source)).source_id
    with get_session("products", read_only=True) as session:
        epochs = source_spectra(session, name, PhotometryOptions().baseline_window_days)
    if not epochs:
        raise PipelineError(f"{name} has no fluxes in parts of the band: it needs 20 sigma in the image of a tile")
    if as_json:
        typer.echo(json.dumps({"source_id": name, "epochs": [asdict(epoch) for epoch in epochs]}, indent=1))
        return
    typer.echo(f"{name}: {len(epochs)} epochs; slope: d ln(change) / d ln(frequency), 0 for an error of the flux scale")
    frequencies = "  ".join("" if f is None else f"{1e3 * f:.0f} MHz".rjust(17) for f in epochs[0].freq_ghz)
    typer.echo(f"{'MJD':>11}  {frequencies}  {'index':>14}  {'change':>14}  {'slope':>14}")
    for epoch in epochs:
        typer.echo(_line(epoch))


def _line(epoch: EpochSpectrum) -> str:
    fluxes = (
        _with_error(None if flux is None else 1e3 * flux, None if error is None else 1e3 * error, 17, 2)
        for flux, error in zip(epoch.flux_jy, epoch.flux_err_jy, strict=True)
    )
    rest = ((epoch.index, epoch.index_err), (epoch.change, epoch.change_err), (epoch.slope, epoch.slope_err))
    return "  ".join([f"{epoch.mjd:11.5f}", *fluxes, *(_with_error(*pair, 14, 3) for pair in rest)])


def _with_error(value: float | None, error: float | None, width: int, digits: int) -> str:
    if value is None or error is None:
        return "".rjust(width)
    return f"{value:.{digits}f} ± {error:.{digits}f}".rjust(width)
