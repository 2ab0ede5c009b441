"""Tables on disk, in whichever of three formats an archive hands them out: FITS, VOTable, and text with a header.

A text table starts with the names of its columns, separated by commas, tabs or semicolons; lines that begin with #
before them are skipped. All three may be compressed with gzip. Column names are compared without regard to case:
archives change it. A cell of numbers may be sexagesimal (12 34 56.7 or 12:34:56.7); it is read as degrees, after
hours where the column's name begins with RA. A blank cell is NaN, and so is one that is no number, whose text is
kept for the report.
"""

import csv
import gzip
import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from astropy.io import fits, votable
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError

FloatArray = NDArray[np.float64]

_BLOCK = 50_000
_DAMAGED = r"(?s).*(truncated|corrupted)"
_SEXAGESIMAL = re.compile(r"([+-]?)(\d{1,3})[ :](\d{1,2})[ :](\d{1,2}(?:\.\d*)?)")


@dataclass(frozen=True)
class Columns:
    """Columns of a table, by lower-case name."""

    numbers: dict[str, FloatArray]
    texts: dict[str, list[str]]
    rows: NDArray[np.int64]
    """The number of each row: the line in a text, else counted from one."""
    unread: dict[tuple[str, int], str]
    """Cells of number columns that are no numbers, by column and index."""


@dataclass(frozen=True)
class Table:
    """A table whose column names are known and whose rows are read on demand."""

    path: Path
    names: tuple[str, ...]
    """As the file writes them."""
    row_word: str
    """What a row is called: line or row."""
    read: Callable[[Iterable[str], Iterable[str]], Columns]
    """Return the named columns that exist: those of numbers, and those of text."""


def open_table(path: Path) -> Table:
    """Open a table, whose format its first bytes tell.

    Raises
    ------
    BadInputError
        If the file is missing, damaged, or holds no table.
    """
    try:
        head = _head(path)
    except (OSError, EOFError) as error:
        raise BadInputError(f"catalogue {path} cannot be read ({error}): check the path, or copy it again") from error
    if head.startswith(b"SIMPLE"):
        return _open_fits(path)
    return _open_votable(path) if b"<VOTABLE" in head.upper() else _open_text(path)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _head(path: Path) -> bytes:
    with gzip.open(path) if _is_gzip(path) else path.open("rb") as file:
        return file.read(2000)


def _open_fits(path: Path) -> Table:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=_DAMAGED, category=AstropyWarning)
            cells = _fits_cells(path)
    except (OSError, EOFError, ValueError, TypeError, KeyError, AstropyWarning) as error:
        raise BadInputError(f"catalogue {path} cannot be read as FITS ({_first_line(error)}): copy it again") from error
    return _in_memory(path, cells)


def _fits_cells(path: Path) -> dict[str, NDArray[Any]]:
    with fits.open(path, memmap=False) as hdus:
        data = next((hdu.data for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
        if data is None:
            raise BadInputError(f"catalogue {path} holds no table: give the survey's catalogue, not an image")
        return {name: np.asarray(data[name]) for name in data.names}


def _open_votable(path: Path) -> Table:
    try:
        table = next(votable.parse(str(path), verify="ignore").iter_tables())
        cells = {field.name: table.array[field.ID] for field in table.fields}
    except StopIteration:
        raise BadInputError(f"catalogue {path} is a VOTable without a table: query the archive again") from None
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise BadInputError(f"catalogue {path} cannot be read as VOTable ({_first_line(error)}): copy again") from error
    return _in_memory(path, cells)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _in_memory(path: Path, cells: dict[str, NDArray[Any]]) -> Table:
    """Return a table of arrays; columns of more than one value per row are left out."""
    by_name = {name.lower(): values for name, values in cells.items() if values.ndim == 1}
    count = min((values.size for values in by_name.values()), default=0)

    def read(numbers: Iterable[str], texts: Iterable[str]) -> Columns:
        found, unread = {}, {}
        for name in _present(numbers, by_name):
            values = by_name[name]
            if values.dtype.kind in "fiub":
                found[name] = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
            else:
                found[name], bad = _parse(name, _strings(values))
                unread.update({(name, index): text for index, text in bad.items()})
        strings = {name: _strings(by_name[name]) for name in _present(texts, by_name)}
        return Columns(found, strings, np.arange(1, count + 1), unread)

    return Table(path, tuple(cells), "row", read)


def _present(wanted: Iterable[str], names: Iterable[str]) -> list[str]:
    return sorted({name.lower() for name in wanted} & set(names))


def _strings(values: NDArray[Any]) -> list[str]:
    plain = np.ma.filled(values, "") if values.dtype.kind in "OSU" else np.asarray(values)
    return [(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip() for value in plain]


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    """Open a text table; what turns out to be wrong with it is said of the file."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if _is_gzip(path)
            else path.open(encoding="utf-8-sig", newline="") as file
        ):
            yield file
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"catalogue {path} cannot be read as CSV ({error}): check the path and the file") from error


def _header(path: Path, file: TextIO) -> tuple[list[str], str, int]:
    """Return the column names, what separates them, and the line that they are on."""
    for number, line in enumerate(file, start=1):
        # psrcat numbers its rows, in a column that is named #.
        if line.strip() and (not line.startswith("#") or line.startswith(("#;", "#,"))):
            delimiter = max(",\t;", key=line.count)
            return [name.strip() for name in next(csv.reader([line], delimiter=delimiter))], delimiter, number
    raise BadInputError(f"catalogue {path} is empty: its first line must name the columns")


def _open_text(path: Path) -> Table:
    with _text(path) as file:
        names, _delimiter, _line = _header(path, file)

    def read(numbers: Iterable[str], texts: Iterable[str]) -> Columns:
        with _text(path) as file:
            names, delimiter, line = _header(path, file)
            wanted = {name.lower(): index for index, name in enumerate(names)}
            cells = csv.reader(file, delimiter=delimiter)
            rows = ((line + cells.line_num, row) for row in cells if row)
            return _read_rows(rows, wanted, _present(numbers, wanted), _present(texts, wanted))

    return Table(path, tuple(names), "line", read)


def _read_rows(
    rows: Iterator[tuple[int, list[str]]], position: dict[str, int], numbers: Sequence[str], texts: Sequence[str]
) -> Columns:
    """Read rows in blocks, so that only numbers stay in memory of columns of numbers."""
    parts: dict[str, list[FloatArray]] = {name: [np.empty(0)] for name in numbers}
    strings: dict[str, list[str]] = {name: [] for name in texts}
    lines: list[int] = []
    unread: dict[tuple[str, int], str] = {}
    while block := list(itertools.islice(rows, _BLOCK)):
        for name in numbers:
            values, bad = _parse(name, _cells(block, position[name]))
            parts[name].append(values)
            unread.update({(name, len(lines) + index): text for index, text in bad.items()})
        for name in texts:
            strings[name].extend(cell.strip() for cell in _cells(block, position[name]))
        lines.extend(line for line, _row in block)
    found = {name: np.concatenate(values) for name, values in parts.items()}
    return Columns(found, strings, np.array(lines, dtype=np.int64), unread)


def _cells(block: list[tuple[int, list[str]]], position: int) -> list[str]:
    """Return one column; where a row is too short its cell is blank."""
    return [row[position] if position < len(row) else "" for _line, row in block]


def _parse(name: str, cells: list[str]) -> tuple[FloatArray, dict[int, str]]:
    """Return cells as numbers, and those that are none by index."""
    try:
        return np.array([cell or "nan" for cell in cells], dtype=np.float64), {}
    except ValueError:
        pass
    values, bad = np.full(len(cells), np.nan), {}
    for index, cell in enumerate(cells):
        text = cell.strip()
        try:
            values[index] = float(text or "nan")
        except ValueError:
            match = _SEXAGESIMAL.fullmatch(text)
            if match is None:
                bad[index] = text
            else:
                values[index] = _sexagesimal(match, 15.0 if name.startswith("ra") else 1.0)
    return values, bad


def _sexagesimal(match: re.Match[str], scale: float) -> float:
    value = float(match[2]) + float(match[3]) / 60.0 + float(match[4]) / 3600.0
    return scale * (-value if match[1] == "-" else value)
