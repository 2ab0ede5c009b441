"""Rows as files for other programs: CSV, VOTable and Parquet, with the same columns, units and descriptions.

What was not measured is empty: nothing in CSV, NaN for a number in VOTable and null in Parquet. Every digit of a
number is kept.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
from astropy.io.votable.tree import Info, VOTableFile
from astropy.table import MaskedColumn, Table

Cell = str | float | int | None
Columns = Mapping[str, "Column"]


class Column(NamedTuple):
    """What a column holds."""

    unit: str
    description: str
    ucd: str = ""
    """What it is in the words of the Virtual Observatory (UCD1+)."""
    kind: type = float
    """float, int or str."""


def to_csv(_name: str, columns: Columns, rows: Sequence[Sequence[Cell]]) -> bytes:
    """Return rows as CSV with a line of names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows if not _has_nan(rows) else [["" if cell != cell else cell for cell in row] for row in rows])
    return text.getvalue().encode()


def to_votable(name: str, columns: Columns, rows: Sequence[Sequence[Cell]], *, overflow: bool = False) -> bytes:
    """Return rows as a VOTable (1.4) with one table of that name; `overflow` says that a limit cut rows off."""
    return votable_bytes(votable_of(name, columns, rows, overflow=overflow))


def votable_of(name: str, columns: Columns, rows: Sequence[Sequence[Cell]], *, overflow: bool = False) -> VOTableFile:
    """Return the document of `to_votable`, to be added to."""
    table = Table(_arrays(columns, rows))
    for key, column in columns.items():
        table[key].description = column.description
        if column.unit:
            table[key].unit = column.unit
    document = VOTableFile.from_table(table)
    resource = document.resources[0]
    resource.type = "results"
    resource.infos.append(Info(name="QUERY_STATUS", value="OVERFLOW" if overflow else "OK"))
    inside = resource.tables[0]
    inside.name = name
    inside.format = "tabledata"
    for field, (key, column) in zip(inside.fields, columns.items(), strict=True):
        # An ID must be unique in a document, and a program finds a column by its name.
        field.ID = field.name = key
        field.ucd = column.ucd or None
    return document


def votable_bytes(document: VOTableFile) -> bytes:
    """Return a document as it is sent."""
    written = io.BytesIO()
    # astropy's writer in C puts one byte behind its buffer when a row fills it exactly, and the process dies later.
    document.to_xml(written, _debug_python_based_parser=True)
    return written.getvalue()


def votable_error(sentence: str) -> bytes:
    """Return how a service of the Virtual Observatory tells that it cannot answer: a VOTable with the reason."""
    document = VOTableFile()
    document.infos.append(Info(ID="Error", name="Error", value=sentence))
    written = io.BytesIO()
    document.to_xml(written)
    return written.getvalue()


def to_parquet(name: str, columns: Columns, rows: Sequence[Sequence[Cell]]) -> bytes:
    """Return rows as Parquet; units and descriptions are metadata of the fields, the name that of the table."""
    types = {float: pyarrow.float64(), int: pyarrow.int64(), str: pyarrow.string()}
    fields = [
        pyarrow.field(key, types[column.kind], metadata={"unit": column.unit, "description": column.description})
        for key, column in columns.items()
    ]
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = [
        pyarrow.array([None if cell != cell else cell for cell in column], type=field.type)
        for column, field in zip(cells, fields, strict=True)
    ]
    written = io.BytesIO()
    table = pyarrow.table(arrays, schema=pyarrow.schema(fields, metadata={"name": name, "source_id": name}))
    pyarrow.parquet.write_table(table, written)
    return written.getvalue()


def _has_nan(rows: Sequence[Sequence[Cell]]) -> bool:
    return any(cell != cell for row in rows for cell in row)


def _arrays(columns: Columns, rows: Sequence[Sequence[Cell]]) -> dict[str, MaskedColumn]:
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    return {key: _array(column.kind, values) for (key, column), values in zip(columns.items(), cells, strict=True)}


def _array(kind: type, cells: Sequence[Cell]) -> MaskedColumn:
    if kind is float:
        return MaskedColumn(np.array(cells, np.float64))
    empty = [cell is None for cell in cells]
    if kind is int:
        return MaskedColumn(np.array([cell or 0 for cell in cells], np.int64), mask=empty if any(empty) else False)
    return MaskedColumn(np.array(["" if cell is None else str(cell) for cell in cells], np.str_))


WRITERS: dict[str, Callable[[str, Columns, Sequence[Sequence[Cell]]], bytes]] = {
    "csv": to_csv,
    "votable": to_votable,
    "parquet": to_parquet,
}
"""How each format is written."""
MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "votable": "application/x-votable+xml",
    "parquet": "application/vnd.apache.parquet",
}
ENDINGS = {"csv": ".csv", "votable": ".vot", "parquet": ".parquet"}
