"""Where an image comes from, as the cards of its header tell it: the inverse of `provenance.header_cards`."""

import json
import warnings
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import fits_image


def provenance_of(path: Path | str, name: str, kind: str) -> dict[str, Any]:
    """Return what `prov_json.prov_document` takes, for an image that is no product of the registry.

    Parameters
    ----------
    path
        The file.
    name, kind
        What the image is called, and what it shows.

    Raises
    ------
    BadInputError
        If the file cannot be read.
    """
    with warnings.catch_warnings():
        # What is odd about a damaged file is told by the error.
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            header = fits_image.load_header(Path(path))
        except (OSError, fits.VerifyError, ValueError, TypeError, KeyError, IndexError) as error:
            raise BadInputError(f"{path} is not a readable FITS image ({error}); make it again") from error
    facts = dict.fromkeys(("status", "sha256", "size_bytes", "qa_status", "validation_status"))
    ends = dict.fromkeys(("published_at", "retracted_at", "published_path"))
    place = {"data_id": name, "data_type": kind, "stage_path": Path(path).name, "links": []}
    return {**facts, **ends, **place, "provenance": _record(header)}


def _record(header: fits.Header) -> dict[str, Any] | None:
    """Return the record that a header tells, or None."""
    if "OPTHASH" not in header:
        return None
    program, _, version = str(header.get("ORIGIN", "")).partition(" ")
    commit = str(header.get("PIPECOM", "")) or None
    try:
        options = json.loads(str(header.get("OPTIONS", "{}")))
    except ValueError:
        options = {}
    return {
        "activity": "image",
        "software": {
            "name": program or None,
            "version": version or None,
            "commit": commit.removesuffix("-dirty") if commit else None,
            "dirty": commit.endswith("-dirty") if commit else None,
        },
        "inputs": [{"path": one, "role": "Measurement Set"} for one in _names(header, "INPUTS")],
        "calibration_tables": [{"path": one, "role": "calibration table"} for one in _names(header, "CALTABLES")],
        "options": options,
        "options_sha256": str(header["OPTHASH"]),
    }


def _names(header: fits.Header, key: str) -> list[str]:
    return [name for name in str(header.get(key, "")).split(",") if name]
