"""`contimg lightcurve`: the fluxes of one source, as a table, a file or a picture."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dsa110_contimg.database import get_session
from dsa110_contimg.database.photometry_repository import LightCurvePoint, PhotometryRepository
from dsa110_contimg.database.source_names import resolve_one
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.formats.lightcurve_files import COLUMNS, save_lightcurve_table
from dsa110_contimg.kernels.variability import structure_function
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.lightcurves import LightCurve, summarize
from dsa110_contimg.photometry.plots import save_lightcurve


def lightcurve(
    source: Annotated[str, typer.Argument(help="Name or position of the source, in any usual form.")],
    every: Annotated[bool, typer.Option("--every", help="Also overlaps, and what was retracted or set aside.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this PNG.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write it to this .csv, .vot or .parquet file.")] = None,
    structure: Annotated[bool, typer.Option("--structure", help="Also print the structure function.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the light curve of a source with its statistics.

    Example: contimg lightcurve "NVSS J123456.7+420312" --plot lightcurve.png --out lightcurve.csv
    """
    with get_session("products", read_only=True) as session:
        points = PhotometryRepository.get_lightcurve(session, source, every_measurement=every)
        if not points:
            with (
                get_session("master_sources", read_only=True) as master,
                get_session("calibrators", read_only=True) as calibrators,
            ):
                meant = resolve_one(master, calibrators, source).source_id
            points = PhotometryRepository.get_lightcurve(session, meant, every_measurement=every)
    if not points:
        raise PipelineError(f"there is no light curve of {source!r}: is it in the catalogue, and was it measured?")
    curve = _curve(points)
    stats = summarize(curve.mjd, curve.flux_jy, curve.flux_err_jy, PhotometryOptions())
    if out is not None:
        save_lightcurve_table(out, points[0].source_id, {name: [getattr(p, name) for p in points] for name in COLUMNS})
    if plot is not None:
        save_lightcurve(plot, curve)
    lags = structure_function(curve.mjd, curve.flux_jy, curve.flux_err_jy) if structure else None
    if as_json:
        told = {"source_id": points[0].source_id, "points": [p._asdict() for p in points], "statistics": asdict(stats)}
        if lags is not None:
            told["structure_function"] = [row.tolist() for row in lags.T]
        typer.echo(json.dumps(told, indent=1))
        return
    typer.echo(f"{points[0].source_id}: {len(points)} epochs")
    for p in points:
        typer.echo(_line(p))
    typer.echo("  ".join(f"{k} {v:.4g}" for k, v in asdict(stats).items() if v is not None))
    for lag, value, error, pairs in [] if lags is None else lags.T:
        typer.echo(f"lag {lag:8.2f} d   structure {1e6 * value:10.3f} ± {1e6 * error:.3f} mJy²   {pairs:.0f} pairs")


def _curve(points: list[LightCurvePoint]) -> LightCurve:
    """Return the points with a normalized flux."""
    good = [p for p in points if p.normalized_flux_jy is not None and p.normalized_flux_err_jy]
    columns = ("mjd", "normalized_flux_jy", "normalized_flux_err_jy", "upper_limit_jyb")
    mjd, flux, error, limit = (np.array([getattr(p, name) for p in good], np.float64) for name in columns)
    return LightCurve(points[0].source_id, mjd, flux, error, limit)


def _line(point: LightCurvePoint) -> str:
    flux, error, limit = point.normalized_flux_jy, point.normalized_flux_err_jy, point.upper_limit_jyb
    measured = "not normalized" if flux is None else f"{1e3 * flux:10.3f} ± {1e3 * (error or 0.0):.3f} mJy"
    return f"{point.mjd:.5f}  {measured}{f'   < {1e3 * limit:.3f} mJy' if limit is not None else ''}"
