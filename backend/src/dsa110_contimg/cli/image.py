"""`contimg image MS`: image a Measurement Set, ours or another telescope's."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dsa110_contimg.cli.options import flags_from
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.formats.measurement_set import columns, load
from dsa110_contimg.imaging.image import ImagingResult, ImagingSummary
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.naming import IMAGE_SUFFIXES
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.pipeline.engine_comparison import Comparison, compare_engines
from dsa110_contimg.visibilities import SkyImage

SAVED = ("image", "pbcor", "residual", "beam", "rms", "background", "psf")


@flags_from(ImagingOptions)
def image(
    ms: Annotated[Path, typer.Argument(help="Measurement Set with one spectral window.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the FITS files.")] = Path(),
    field: Annotated[int | None, typer.Option("--field", help="Row of FIELD, where there are several.")] = None,
    compare: Annotated[
        str, typer.Option("--compare", help="Engine that images the set too: its differences are printed.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the measurements as JSON.")] = False,
    *,
    options: ImagingOptions,
) -> None:
    """Image a Measurement Set: dirty image, CLEAN, restored and beam-corrected FITS files.

    Example: contimg image 3c273.ms --out images --size 512 --cell-arcsec 0.3 --robust 0.5
    """
    try:
        vis = load(ms, options.column, field=field)
        result = make_image(vis, options)
        column = _column(ms, options.column)
        files = _save(result, out, ms)
        comparison = compare_engines(vis, result, options, compare) if compare else None
    except (PipelineError, OSError) as error:
        Console(stderr=True).print(f"contimg image: {error}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    measured = {"column": column, **_measured(result.summary)}
    if as_json:
        told = measured | {"files": {kind: str(path) for kind, path in files.items()}}
        print(json.dumps(told if comparison is None else told | {"comparison": comparison.to_dict()}, indent=2))
        return
    table = Table(show_header=False, box=None)
    for name, value in measured.items():
        table.add_row(name, f"{value:.9g}" if isinstance(value, float) else str(value))
    console = Console(highlight=False)
    console.print(table)
    for path in files.values():
        console.print(str(path), soft_wrap=True)
    if comparison is not None:
        console.print(_figures_table(comparison), _told(comparison), _sources_table(comparison), sep="\n")


def _column(ms: Path, wanted: str) -> str:
    """Return the column that was read, and say so if it is not the one that was asked for."""
    if wanted in columns(ms):
        return wanted
    Console(stderr=True).print(
        f"contimg image: {ms} has no {wanted}: its DATA are imaged as they are, calibrated or not",
        style="yellow", highlight=False, soft_wrap=True,
    )  # fmt: skip
    return "DATA"


def _figures_table(compared: Comparison) -> Table:
    """Return what the engines made of noise and beam, and how far apart they are."""
    one, two = compared.first, compared.second
    table = Table("", one.engine, two.engine, f"{two.engine}/{one.engine}", box=None)
    rows = {
        "noise (mJy/beam)": (1e3 * one.noise_jy, 1e3 * two.noise_jy),
        "residual rms (mJy/beam)": (1e3 * one.residual_rms_jy, 1e3 * two.residual_rms_jy),
        "peak (mJy/beam)": (1e3 * one.peak_jy, 1e3 * two.peak_jy),
        "beam, major axis (arcsec)": (one.beam.major_arcsec, two.beam.major_arcsec),
        "beam, minor axis (arcsec)": (one.beam.minor_arcsec, two.beam.minor_arcsec),
    }
    for name, (first, second) in rows.items():
        table.add_row(name, f"{first:.5g}", f"{second:.5g}", f"{second / first:.4f}")
    table.add_row("beam, position angle (deg)", f"{one.beam.pa_deg:.2f}", f"{two.beam.pa_deg:.2f}", "")
    table.add_row("components", str(one.iterations), str(two.iterations), "")
    table.add_row("major cycles", str(one.major_cycles), str(two.major_cycles), "")
    return table


def _told(compared: Comparison) -> str:
    summary = compared.summary()
    told = f"{summary['n_sources']} isolated sources"
    if not summary["n_sources"]:
        return told
    return (
        f"{told}: flux ratio {summary['flux_ratio_median']:.4f} median, {summary['flux_ratio_scatter']:.4f} scatter, "
        f"{summary['flux_ratio_farthest']:.4f} farthest; {summary['n_within_1_percent']} within 1 %"
    )


def _sources_table(compared: Comparison) -> Table:
    """Return the fluxes of each source, before the correction for the primary beam."""
    one, two = compared.first.engine, compared.second.engine
    table = Table("ra (deg)", "dec (deg)", f"{one} (mJy)", f"{two} (mJy)", "± (mJy)", "ratio", box=None)
    for source in compared.sources:
        fluxes = (f"{1e3 * value:.3f}" for value in (source.first_jy, source.second_jy, source.error_jy))
        table.add_row(
            f"{source.ra_deg:.5f}", f"{source.dec_deg:+.5f}", *fluxes, f"{source.second_jy / source.first_jy:.4f}"
        )
    return table


def _save(result: ImagingResult, folder: Path, ms: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    stem = ms.name.removesuffix(".ms")
    planes: dict[str, SkyImage | None] = {kind: getattr(result, kind) for kind in SAVED}
    return {
        kind: fits_image.save(plane, folder / f"{stem}.img{IMAGE_SUFFIXES[kind]}")
        for kind, plane in planes.items()
        if plane is not None
    }


def _measured(summary: ImagingSummary) -> dict[str, float | int | str]:
    return {
        "beam_major_arcsec": summary.beam.major_arcsec,
        "beam_minor_arcsec": summary.beam.minor_arcsec,
        "beam_pa_deg": summary.beam.pa_deg,
        "noise_jy": summary.noise_jy,
        "peak_jy": summary.peak_jy,
        "peak_ra_deg": round(summary.peak_position.ra_deg, 7),
        "peak_dec_deg": round(summary.peak_position.dec_deg, 7),
        "dynamic_range": summary.dynamic_range,
        "size": summary.size,
        "cell_arcsec": summary.cell_arcsec,
        "iterations": summary.iterations,
        "major_cycles": summary.major_cycles,
    }
