"""One table, written in every format, reads the same."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table as AstropyTable

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.table_files import Columns, open_table

NAMES = ["A", "b c", ""]
FLUX = [1.5, np.nan, -3e-4]
COUNT = [1, 2, 3]
TEXT = "Name,Flux,Count\nA,1.5,1\nb c,,2\n,-3e-4,3\n"


def write_fits(folder: Path) -> Path:
    columns = [
        fits.Column("Name", "8A", array=NAMES),
        fits.Column("Flux", "E", array=np.array(FLUX, dtype=">f4")),
        fits.Column("Count", "I", array=COUNT),
        fits.Column("Vector", "3E", array=np.zeros((3, 3))),
    ]
    path = folder / "t.fits"
    fits.BinTableHDU.from_columns(columns).writeto(path)
    return path


def write_votable(folder: Path) -> Path:
    path = folder / "t.vot"
    AstropyTable({"Name": NAMES, "Flux": FLUX, "Count": COUNT}).write(path, format="votable")
    return path


def write_text(folder: Path, text: str = TEXT, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def compressed(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    return target


def read(path: Path) -> Columns:
    return open_table(path).read(["flux", "COUNT", "absent"], ["Name"])


@pytest.mark.parametrize("squeeze", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("write", [write_fits, write_votable, write_text], ids=["fits", "votable", "text"])
def test_every_format_gives_the_same_columns(tmp_path: Path, write: object, squeeze: bool) -> None:
    path: Path = write(tmp_path)  # type: ignore[operator]
    columns = read(compressed(path) if squeeze else path)
    assert columns.texts == {"name": NAMES}
    assert set(columns.numbers) == {"flux", "count"}
    np.testing.assert_allclose(columns.numbers["flux"], FLUX, rtol=1e-6)
    assert columns.numbers["count"].tolist() == COUNT
    assert columns.numbers["flux"].dtype == np.dtype("=f8")
    assert columns.rows.tolist() == ([2, 3, 4] if write is write_text else [1, 2, 3])
    assert columns.unread == {}


@pytest.mark.parametrize("delimiter", ["\t", ";"])
def test_comments_and_delimiters_of_archives(tmp_path: Path, delimiter: str) -> None:
    """An archive's text: comments, names, units, dashes, rows."""
    text = f"# query of today\n\n{TEXT}".replace(",", delimiter).replace("\nA", "\n;mJy;\nA".replace(";", delimiter))
    columns = read(write_text(tmp_path, text))
    assert columns.rows.tolist() == [4, 5, 6, 7]
    assert columns.unread == {("flux", 0): "mJy"}
    np.testing.assert_allclose(columns.numbers["flux"], [np.nan, *FLUX])


def test_what_is_no_number_is_kept_and_sexagesimal_is_read(tmp_path: Path) -> None:
    text = "RAJ2000,DEJ2000\n12 30 00,-00 30 36\n01:00:00.6,+89 59 60\n 7.5 ,north\nnan,1e400\n1,2\n\n3,\n"
    columns = open_table(write_text(tmp_path, text)).read(["RAJ2000", "DEJ2000"], [])
    np.testing.assert_allclose(columns.numbers["raj2000"], [187.5, 15.0025, 7.5, np.nan, 1.0, 3.0])
    np.testing.assert_allclose(columns.numbers["dej2000"], [-0.51, 90.0, np.nan, np.inf, 2.0, np.nan])
    assert columns.unread == {("dej2000", 2): "north"}
    assert columns.rows.tolist() == [2, 3, 4, 5, 6, 8]


def test_rows_beyond_one_block_keep_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsa110_contimg.formats.table_files._BLOCK", 7)
    cells = [str(i) if i != 18 else "x" for i in range(30)]
    columns = open_table(write_text(tmp_path, "n,t\n" + "".join(f"{cell},{cell}\n" for cell in cells))).read(
        ["n"], ["t"]
    )
    assert columns.unread == {("n", 18): "x"}
    assert columns.rows[18] == 20
    assert columns.texts["t"] == cells
    assert np.flatnonzero(columns.numbers["n"] != np.arange(30)).tolist() == [18]


def test_what_is_no_table_is_one_sentence(tmp_path: Path) -> None:
    image, empty, cut = tmp_path / "image.fits", tmp_path / "empty.csv", tmp_path / "cut.gz"
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(image)
    empty.write_text("# nothing\n")
    cut.write_bytes(gzip.compress(TEXT.encode() * 100)[:60])
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    short = tmp_path / "short.fits"
    short.write_bytes(write_fits(tmp_path).read_bytes()[:4000])
    broken = write_text(tmp_path, "<?xml version='1.0'?><VOTABLE><RESOURCE></VOTABLE>", "broken.vot")
    bare = write_text(tmp_path, "<?xml version='1.0'?><VOTABLE version='1.4'><RESOURCE/></VOTABLE>", "bare.vot")
    expected = {
        tmp_path / "absent.fits": "cannot be read",
        image: "holds no table",
        empty: "is empty",
        cut: "cannot be read",
        binary: "cannot be read as CSV",
        short: "cannot be read as FITS",
        broken: "cannot be read as VOTable",
        bare: "VOTable without a table",
        tmp_path: "cannot be read",
    }
    for path, words in expected.items():
        with pytest.raises(BadInputError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
