"""The files of a mosaic: images, pictures, coverage and HiPS, each whole or not at all.

    mosaic_<...>.fits        the image; -noise.fits, -weight.fits and -coverage.fits (tiles per pixel) beside it
    mosaic_<...>.png         the picture with grid, beam and names; -thumb.png without any of them
    mosaic_<...>-moc.fits    where it has values
    mosaic_<...>-hips/       for sky atlases

All but the image are its companions in the data registry: published with it, retracted with it. The image is written
last, so that a mosaic that is there has all of them.
"""

from pathlib import Path

import numpy as np

from dsa110_contimg import naming
from dsa110_contimg.database.models import Mosaic
from dsa110_contimg.formats import fits_image, hips, moc, previews
from dsa110_contimg.mosaic.build import MosaicResult
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.visibilities import SkyModel

NAMED_SOURCES = 10
WITHOUT_COLUMN = ("coverage", "thumbnail", "moc", "hips")
"""Companions that no column of `mosaics` names; their names follow the mosaic's."""


def save(context: Context, name: str, result: MosaicResult, known: SkyModel) -> dict[str, Path]:
    """Write a mosaic into the staging area, and return its paths by kind.

    Parameters
    ----------
    known
        Catalogue sources on it, of which the brightest are named in the picture.
    """
    options = context.options.products
    paths = {kind: naming.mosaic_path(context.stage_dir, name, kind) for kind in naming.MOSAIC_SUFFIXES}
    fits_image.save(result.noise, paths["noise"])
    fits_image.save(result.weight, paths["weight"])
    fits_image.save(result.coverage, paths["coverage"])
    previews.preview(result.image, paths["preview"], sources=_brightest(known), title=name)
    previews.thumbnail(result.image, paths["thumbnail"])
    moc.save(moc.coverage(result.image), paths["moc"])
    if options.hips:
        hips.save(result.image, paths["hips"], identifier=name)
    fits_image.save(result.image, paths["mosaic"], quantization=options.quantization)
    return paths


def _brightest(known: SkyModel) -> list[previews.NamedSource]:
    order = np.argsort(-known.flux_jy, kind="stable")[:NAMED_SOURCES]
    return [
        previews.NamedSource(known.names[i], float(known.ra_deg[i]), float(known.dec_deg[i]), float(known.flux_jy[i]))
        for i in order
    ]


def companions(row: Mosaic) -> list[str]:
    """Return the files and folders that belong to a mosaic which is not published yet."""
    beside = (naming.beside_mosaic(Path(row.path), kind) for kind in WITHOUT_COLUMN)
    named = [path for path in (row.noise_path, row.weight_path, row.thumbnail_path) if path]
    return [*named, *(str(path) for path in beside if path.exists())]
