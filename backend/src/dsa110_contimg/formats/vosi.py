"""What a service of the Virtual Observatory says about itself (VOSI 1.1): capabilities, availability, tables.

Each is a small XML document; the schemas are those of VOResource 1.1, VODataService 1.1 and VOSI 1.0.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from dsa110_contimg.formats.row_files import Column

MEDIA_TYPE = "text/xml"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
CAPABILITIES = "http://www.ivoa.net/xml/VOSICapabilities/v1.0"
AVAILABILITY = "http://www.ivoa.net/xml/VOSIAvailability/v1.0"
TABLES = "http://www.ivoa.net/xml/VOSITables/v1.0"
VODATASERVICE = "http://www.ivoa.net/xml/VODataService/v1.1"
VORESOURCE = "http://www.ivoa.net/xml/VOResource/v1.0"
_TYPES = {float: "double", int: "long", str: "char"}


class Capability(NamedTuple):
    """One thing that a service can do."""

    standard_id: str
    """IVOA identifier of the standard, such as ivo://ivoa.net/std/ConeSearch."""
    access_url: str
    base: bool = False
    """The address is completed by parameters."""


def capabilities(told: Sequence[Capability]) -> bytes:
    """Return what a service can do, and where."""
    for prefix, uri in (("vosi", CAPABILITIES), ("xsi", XSI), ("vs", VODATASERVICE), ("vr", VORESOURCE)):
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.Element(f"{{{CAPABILITIES}}}capabilities", {"xmlns:vs": VODATASERVICE})
    for each in told:
        one = ElementTree.SubElement(root, "capability", {"standardID": each.standard_id})
        place = ElementTree.SubElement(one, "interface", {f"{{{XSI}}}type": "vs:ParamHTTP"})
        place.set("role", "std")
        ElementTree.SubElement(place, "accessURL", {"use": "base" if each.base else "full"}).text = each.access_url
    return _document(root)


def availability(note: str | None) -> bytes:
    """Return that a service is up, or that it is not, and why."""
    ElementTree.register_namespace("vosi", AVAILABILITY)
    root = ElementTree.Element(f"{{{AVAILABILITY}}}availability")
    ElementTree.SubElement(root, f"{{{AVAILABILITY}}}available").text = "true" if note is None else "false"
    ElementTree.SubElement(root, f"{{{AVAILABILITY}}}note").text = note or "service is accepting queries"
    return _document(root)


def tables(told: Mapping[str, Mapping[str, Column]]) -> bytes:
    """Return the tables of a service, by name, with their columns."""
    for prefix, uri in (("vosi", TABLES), ("xsi", XSI), ("vs", VODATASERVICE)):
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.Element(f"{{{TABLES}}}tableset", {"xmlns:vs": VODATASERVICE})
    schema = ElementTree.SubElement(root, "schema")
    ElementTree.SubElement(schema, "name").text = "contimg"
    for name, columns in told.items():
        table = ElementTree.SubElement(schema, "table", {"type": "output"})
        ElementTree.SubElement(table, "name").text = name
        for key, column in columns.items():
            _column(ElementTree.SubElement(table, "column"), key, column)
    return _document(root)


def _column(element: ElementTree.Element, name: str, column: Column) -> None:
    texts = {"name": name, "description": column.description, "unit": column.unit, "ucd": column.ucd}
    for tag, text in texts.items():
        if text:
            ElementTree.SubElement(element, tag).text = text
    size = {"arraysize": "*"} if column.kind is str else {}
    ElementTree.SubElement(element, "dataType", {f"{{{XSI}}}type": "vs:VOTableType", **size}).text = _TYPES[column.kind]


def _document(root: ElementTree.Element) -> bytes:
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
