"""A survey's catalogue file, read into one shape: `survey_layouts` says which column is what.

A file without the columns of its survey is refused as a whole. A single row that no source can have (no position, a
flux that is not positive, a cell that is no number) is left out and reported with its number, and so is, without a
report, what the survey's own flags call a duplicate or an artifact.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.survey_layouts import LAYOUTS, Layout, Quantities
from dsa110_contimg.formats.table_files import Columns, Table, open_table
from dsa110_contimg.naming import source_name

FloatArray = NDArray[np.float64]

SURVEYS = tuple(dict.fromkeys(layout.survey for layout in LAYOUTS))

_POSITIVE = np.nextafter(0.0, 1.0)
_RANGES = {
    "ra_deg": (0.0, 360.0),
    "dec_deg": (-90.0, 90.0),
    "flux_jy": (_POSITIVE, 1e5),
    "peak_jy": (_POSITIVE, 1e5),
    "rms_jy": (_POSITIVE, 1e3),
    "flux_uncertainty": (0.0, 1e5),
    "major_axis_arcsec": (0.0, 36000.0),
    "minor_axis_arcsec": (0.0, 36000.0),
    "spectral_index": (-20.0, 20.0),
}
_ANY = (-np.inf, np.inf)


@dataclass(frozen=True)
class BadRow:
    """A row that was left out, and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class SurveyTable:
    """The sources of a survey; each array has one number per source, NaN where the survey says nothing."""

    survey: str
    freq_ghz: float
    names: list[str]
    """Unique."""
    ra_deg: FloatArray
    dec_deg: FloatArray
    flux_jy: FloatArray
    flux_uncertainty: FloatArray
    """Jy."""
    snr: FloatArray
    """Peak over noise."""
    spectral_index: FloatArray
    position_uncertainty_arcsec: FloatArray
    is_extended: FloatArray
    """1 where the source is larger than the survey's beam, else 0."""
    is_confused: FloatArray
    """1 where the survey's table marks neighbors, else 0."""
    major_axis_arcsec: FloatArray
    minor_axis_arcsec: FloatArray
    position_angle_deg: FloatArray
    row_word: str
    """What the file's rows are called: line or row."""
    bad_rows: tuple[BadRow, ...]
    set_aside: int
    """Rows that the survey's flags call no sources of their own."""

    def __len__(self) -> int:
        return len(self.names)


_ARRAYS = tuple(field.name for field in fields(SurveyTable) if field.type is FloatArray)


def load(path: Path, survey: str) -> SurveyTable:
    """Read a survey's catalogue.

    Parameters
    ----------
    survey
        One of `SURVEYS`.

    Raises
    ------
    BadInputError
        If the file cannot be read, lacks columns of that survey, or holds no usable row.
    """
    table = open_table(path)
    layout = _layout(table, survey)
    published = {**layout.required, **layout.optional}
    names = () if layout.name_column is None else (layout.name_column,)
    columns = table.read([column.name for column in published.values()], [*layout.texts, *names])
    values = {
        ours: columns.numbers[column.name.lower()] * column.factor
        for ours, column in published.items()
        if column.name.lower() in columns.numbers
    }
    keep = layout.keep(values, columns.texts)
    kept = np.ones(columns.rows.size, np.bool_) if keep is None else keep
    reasons = _reasons(layout, columns, values, kept)
    good = kept.copy()
    good[list(reasons)] = False
    if not good.any():
        first = next((f": {table.row_word} {columns.rows[i]}: {reasons[i]}" for i in sorted(reasons)), "")
        raise BadInputError(f"catalogue {path} holds no usable row of {layout.title}{first}")
    texts = {
        name: [cell for cell, fine in zip(cells, good, strict=True) if fine] for name, cells in columns.texts.items()
    }
    chosen = {ours: array[good] for ours, array in values.items()}
    layout.complete(chosen, texts)
    bad = tuple(BadRow(int(columns.rows[i]), reasons[i]) for i in sorted(reasons))
    return _survey_table(table, layout, chosen, texts, bad, int(np.count_nonzero(~kept)))


def _layout(table: Table, survey: str) -> Layout:
    """Return the layout whose columns the table has."""
    present = {name.lower() for name in table.names}
    layouts = [layout for layout in LAYOUTS if layout.survey == survey]
    if not layouts:
        raise BadInputError(f"{survey} is no survey that can be imported; there are {', '.join(SURVEYS)}")
    missing = [[name for name in _needed(layout) if name.lower() not in present] for layout in layouts]
    best = min(range(len(layouts)), key=lambda i: len(missing[i]))
    if missing[best]:
        several = "columns" if len(missing[best]) > 1 else "column"
        raise BadInputError(
            f"catalogue {table.path} lacks the {several} {', '.join(missing[best])} of {layouts[best].title}: "
            "give the file as the survey publishes it"
        )
    return layouts[best]


def _needed(layout: Layout) -> list[str]:
    names = [column.name for column in layout.required.values()]
    return [layout.name_column, *names] if layout.names_required and layout.name_column else names


def _reasons(layout: Layout, columns: Columns, values: Quantities, kept: NDArray[np.bool_]) -> dict[int, str]:
    """Return why rows cannot be used, by index: one reason each."""
    reasons: dict[int, str] = {}
    for (name, index), text in columns.unread.items():
        if kept[index]:
            reasons.setdefault(index, f"{_spelled(layout, name)} is {text!r}, not a number")
    for ours, array in values.items():
        required = ours in layout.required
        low, high = _RANGES.get(ours, _ANY)
        fine = (array >= low) & (array <= high) & np.isfinite(array)
        if not required:
            fine |= np.isnan(array)
        for index in np.flatnonzero(kept & ~fine).tolist():
            column = (layout.required | layout.optional)[ours]
            value = array[index] / column.factor
            said = f"is {value:g}, which no source can have" if not np.isnan(value) else "has no value"
            reasons.setdefault(index, f"{column.name} {said}")
    if layout.names_required and layout.name_column:
        _check_names(columns, layout.name_column, reasons)
    return reasons


def _spelled(layout: Layout, lower: str) -> str:
    published = [*layout.required.values(), *layout.optional.values()]
    return next(column.name for column in published if column.name.lower() == lower)


def _check_names(columns: Columns, name_column: str, reasons: dict[int, str]) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(columns.texts[name_column.lower()]):
        if index in reasons:
            continue
        if not name:
            reasons[index] = "the source has no name"
        elif name in first:
            reasons[index] = f"{name} is already on line {first[name]}; names must differ"
        else:
            first[name] = int(columns.rows[index])


def _survey_table(
    table: Table, layout: Layout, values: Quantities, texts: dict[str, list[str]], bad: tuple[BadRow, ...], aside: int
) -> SurveyTable:
    values["ra_deg"] = values["ra_deg"] % 360.0
    size = values["ra_deg"].size
    given = None if layout.name_column is None else texts.get(layout.name_column.lower())
    if given is None:
        positions = zip(values["ra_deg"].tolist(), values["dec_deg"].tolist(), strict=True)
        given = [source_name(ra, dec, layout.survey) for ra, dec in positions]
    arrays = {name: np.asarray(values.get(name, np.full(size, np.nan)), dtype=np.float64) for name in _ARRAYS}
    return SurveyTable(
        survey=layout.survey,
        freq_ghz=layout.freq_ghz,
        names=_unique(given),
        row_word=table.row_word,
        bad_rows=bad,
        set_aside=aside,
        **arrays,
    )


def _unique(names: list[str]) -> list[str]:
    """Return names of which a later one of the same text gets a letter behind it: b, c, and so on."""
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name}{_letters(count)}"
        taken.add(candidate)
        unique.append(candidate)
    return unique


def _letters(count: int) -> str:
    """Return a, b, ... z, aa, ab, ... for 1, 2, ..."""
    text = ""
    while count > 0:
        count, rest = divmod(count - 1, 26)
        text = chr(ord("a") + rest) + text
    return text
