"""Links as DataLink 1.1 has them: a table of links, and the services that the table names.

A cutout service takes RA, Dec and a size beside its table's identifiers: its parameters are told with their units, so
that a client can build the question by itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

from astropy.io.votable.tree import Group, Param, Resource, VOTableFile

from dsa110_contimg.formats.row_files import Cell, Columns, votable_bytes, votable_of

_INPUTS = (
    ("ra", "double", "deg", "pos.eq.ra", "right ascension of the middle, ICRS"),
    ("dec", "double", "deg", "pos.eq.dec", "declination of the middle, ICRS"),
    ("size_arcmin", "double", "arcmin", "phys.angSize", "side of the square"),
    ("format", "char", "", "meta.code.mime", "fits or png"),
)


class CutoutService(NamedTuple):
    """A service that cuts squares out of one image."""

    name: str
    """Which rows refer to."""
    address: str
    most_arcmin: float


def link_table(columns: Columns, rows: Sequence[Sequence[Cell]], services: Sequence[CutoutService]) -> bytes:
    """Return a document with a table of links and its services."""
    document = votable_of("links", columns, rows)
    document.resources.extend(_service(document, service) for service in services)
    return votable_bytes(document)


def _service(document: VOTableFile, service: CutoutService) -> Resource:
    made = Resource(ID=service.name, type="meta", utype="adhoc:service")
    made.params.append(_param(document, "accessURL", "char", value=service.address))
    inputs = Group(made, name="inputParams")
    for name, kind, unit, ucd, words in _INPUTS:
        param = _param(document, name, kind, unit=unit or None, ucd=ucd, value="fits" if name == "format" else "")
        param.description = f"{words}, at most {service.most_arcmin:g}" if name == "size_arcmin" else words
        inputs.entries.append(param)
    made.groups.append(inputs)
    return made


def _param(document: VOTableFile, name: str, kind: str, **told: str | None) -> Param:
    value = told.pop("value", "") or ("" if kind == "char" else "NaN")
    size = {"arraysize": "*"} if kind == "char" else {}
    return Param(document, name=name, datatype=kind, value=value, **size, **told)
