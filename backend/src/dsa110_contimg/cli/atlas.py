"""`contimg hips` and `contimg moc`: images for sky atlases, and where the sky was seen."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from dsa110_contimg.config import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def hips(
    image: Annotated[
        Path | None, typer.Argument(help="FITS image; without one, all published mosaics.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to make of an image; else beside it, IMAGE-hips.")
    ] = None,
    order: Annotated[
        int | None, typer.Option(help="Deepest order of tiles of an image; else as its beam needs.", min=0, max=9)
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a HiPS, which Aladin and other sky atlases show: of an image, or of the sky of all published mosaics.

    The sky is a product of the data registry, sky_DATE; without new mosaics nothing is done.

    Example: contimg hips mosaic.fits --out mosaic-hips
    """
    told = _sky() if image is None else _of_image(image, out, order)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    elif told["folder"] is None:
        typer.echo("nothing to do: the sky shows every published mosaic that has a HiPS")
    else:
        typer.echo(f"{told['folder']}: {told['tiles']} tiles, deepest order {told['order']}")


def _of_image(image: Path, out: Path | None, order: int | None) -> dict[str, object]:
    # reproject takes a second to import, and other commands need none of it.
    from dsa110_contimg.formats import fits_image
    from dsa110_contimg.formats import hips as hips_files

    picture = fits_image.load(image)
    name = image.name.removesuffix(".fits")
    folder = hips_files.save(picture, out or image.with_name(f"{name}-hips"), identifier=name, order=order)
    return {"id": name} | _described(folder)


def _sky() -> dict[str, object]:
    from dsa110_contimg.database.registry_rows import get_data, open_registry
    from dsa110_contimg.options import ProductOptions
    from dsa110_contimg.pipeline.sky import make_sky

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("adding mosaics", total=None)
        name = make_sky(
            Settings(), ProductOptions(), lambda done, total: progress.update(task, completed=done, total=total)
        )
    if name is None:
        return {"id": None, "folder": None}
    with open_registry() as connection:
        row = get_data(connection, name)
    return {"id": name, "status": row.status} | _described(Path(row.published_path or row.stage_path))


def _described(folder: Path) -> dict[str, object]:
    from dsa110_contimg.formats import hips_tiles

    order = int(hips_tiles.load_properties(folder)["hips_order"])
    tiles = sum(len(hips_tiles.tiles_of(folder, above)) for above in range(order + 1))
    return {"folder": str(folder), "order": order, "tiles": tiles}


def moc(
    images: Annotated[
        list[Path] | None, typer.Argument(help="FITS images; without any, all published mosaics.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the map to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Tell where the sky was seen: the coverage (MOC) of all published mosaics, or of images.

    Example: contimg moc --out coverage.fits
    """
    from dsa110_contimg.formats import fits_image
    from dsa110_contimg.formats import moc as maps

    if images:
        covered, number = maps.union(maps.coverage(fits_image.load(path)) for path in images), len(images)
    else:
        from dsa110_contimg.pipeline.coverage import update_coverage

        coverage = update_coverage(Settings())
        covered, number = coverage.covered, len(coverage.mosaics)
    if out is not None:
        maps.save(covered, out)
    told = {
        "images": number,
        "area_deg2": round(maps.area_deg2(covered), 4),
        "sky_fraction": covered.sky_fraction,
        "order": covered.max_order,
        "file": None if out is None else str(out),
    }
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    else:
        seen = f"{maps.area_deg2(covered):.2f} square degrees, seen by {number} image{'' if number == 1 else 's'}"
        typer.echo(seen if out is None else f"{seen}: {out}")
