"""Where the pipeline's images come from: the records behind their headers and registry rows.

A record tells the options of its own step. A tile may have been imaged by an earlier run with other options: each
input of a mosaic therefore carries the sum of its own, and `input_options` holds the options of each sum.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from astropy.io import fits

from dsa110_contimg.database.models import MSIndex
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.provenance import record

Record = dict[str, object]


def tile_record(context: Context, tile: MSIndex) -> Record:
    """Return what the images of a tile are made from."""
    chosen = context.options
    return record(
        activity="image",
        inputs=[{"path": tile.path, "role": "Measurement Set"}],
        calibration_tables=_tables([tile]),
        options=[chosen.conversion, chosen.flagging, chosen.calibration, chosen.imaging],
    )


def mosaic_record(options: MosaicOptions, members: Sequence[MSIndex]) -> Record:
    """Return what a mosaic of tiles is made from."""
    inputs, earlier = [], {}
    for tile in members:
        if tile.imagename:
            cards = _cards(Path(tile.imagename))
            told = {"path": tile.imagename, "role": "tile image", "options_sha256": cards.get("OPTHASH")}
            inputs.append(told)
            if "OPTIONS" in cards:
                earlier[cards["OPTHASH"]] = json.loads(cards["OPTIONS"])
    made = record(activity="mosaic", inputs=inputs, calibration_tables=_tables(members), options=options)
    return {**made, "input_options": earlier}


def made_as_told(made: Record, path: Path) -> Record:
    """Return a record with the program and options that a file names, which an earlier run may have made.

    What the file does not name, as those of older versions, is None.
    """
    cards = _cards(path)
    commit, _, dirty = str(cards.get("PIPECOM", "")).partition("-")
    name, _, version = str(cards.get("ORIGIN", "")).partition(" ")
    software = {"name": name, "version": version, "commit": commit or None, "dirty": bool(dirty) if commit else None}
    options = json.loads(cards["OPTIONS"]) if "OPTIONS" in cards else None
    return {**made, "software": software, "options": options, "options_sha256": cards.get("OPTHASH")}


def _cards(path: Path) -> fits.Header:
    try:
        return fits_image.load_header(path)
    except OSError as error:
        raise BadInputError(f"{path} is not a readable FITS image ({error}); make it again") from error


def _tables(members: Sequence[MSIndex]) -> list[str]:
    return sorted({table for tile in members for table in json.loads(tile.caltables or "[]")})
