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
from dsa110_contimg.formats.measurement_set import load
from dsa110_contimg.imaging.image import ImagingResult, ImagingSummary
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.naming import IMAGE_SUFFIXES
from dsa110_contimg.options import ImagingOptions


@flags_from(ImagingOptions)
def image(
    ms: Annotated[Path, typer.Argument(help="Measurement Set with one spectral window.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the FITS files.")] = Path(),
    field: Annotated[int | None, typer.Option("--field", help="Row of FIELD, where there are several.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the measurements as JSON.")] = False,
    *,
    options: ImagingOptions,
) -> None:
    """Image a Measurement Set: dirty image, CLEAN, restored and beam-corrected FITS files.

    Example: contimg image 3c273.ms --out images --size 512 --cell-arcsec 0.3 --robust 0.5
    """
    try:
        result = make_image(load(ms, options.column, field=field), options)
        files = _save(result, out, ms)
    except (PipelineError, OSError) as error:
        Console(stderr=True).print(f"contimg image: {error}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    measured = _measured(result.summary)
    if as_json:
        print(json.dumps(measured | {"files": {kind: str(path) for kind, path in files.items()}}, indent=2))
        return
    table = Table(show_header=False, box=None)
    for name, value in measured.items():
        table.add_row(name, f"{value:.9g}" if isinstance(value, float) else str(value))
    console = Console(highlight=False)
    console.print(table)
    for path in files.values():
        console.print(str(path), soft_wrap=True)


def _save(result: ImagingResult, folder: Path, ms: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    stem = ms.name.removesuffix(".ms")
    planes = {"image": result.image, "pbcor": result.pbcor, "residual": result.residual, "psf": result.psf}
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
