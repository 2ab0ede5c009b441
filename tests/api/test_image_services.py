"""SIA2, DataLink and HiPS with pyvo as the client: what they return is what the database holds."""

import io
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import pyvo
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from fastapi.testclient import TestClient
from PIL import Image as Picture
from tests.api.serving import serving
from tests.api.survey import CENTERS, HELD, MJD_0, NIGHTS, PUBLISHED, STAMPS, TILE_DAYS, Survey, picture

from dsa110_contimg import naming
from dsa110_contimg.dashboard.app import create_app
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import Image, Mosaic
from dsa110_contimg.formats import hips
from dsa110_contimg.visibilities import SkyPosition

pytestmark = pytest.mark.filterwarnings("ignore::astropy.io.votable.exceptions.VOWarning")


@pytest.fixture
def address(survey: Survey) -> Iterator[str]:
    assert survey.root.is_dir()
    with serving(create_app()) as served:
        yield served


@pytest.fixture
def sia(address: str) -> Any:
    return pyvo.dal.SIA2Service(f"{address}/vo/sia2")


def names(found: Any) -> list[str]:
    return sorted(str(row["obs_id"]) for row in found)


def at(mjd: float) -> Time:
    return Time(mjd, format="mjd", scale="utc")


def tile_ids() -> list[int]:
    with get_session("products", read_only=True) as session:
        return [row.id for row in session.query(Image).filter(Image.type == "image")]


def with_files() -> list[str]:
    """Return the names of tiles and mosaics whose files are there."""
    with get_session("products", read_only=True) as session:
        mosaics = [row.name for row in session.query(Mosaic) if Path(row.path).is_file()]
    return sorted([*STAMPS, *mosaics])


def test_without_a_filter_every_image_with_a_place_is_there(sia: Any) -> None:
    found = sia.search()
    # The nights that have rows only, and no mosaic of their own, are found by their rows' place.
    with get_session("products", read_only=True) as session:
        nights = session.query(Image).filter(Image.path.like("%night%")).count()
    assert len(found) == len(with_files()) + nights == 3 + NIGHTS
    assert set(with_files()) <= set(names(found))


def test_a_row_says_what_the_database_says(sia: Any) -> None:
    row = next(row for row in sia.search(calib_level=3) if row["obs_id"] == PUBLISHED)
    assert (row["t_min"], row["t_max"]) == pytest.approx((MJD_0, MJD_0 + 3 * TILE_DAYS))
    assert row["t_exptime"] == 927.0
    assert row["s_resolution"] == 180.0
    assert (row["s_xel1"], row["s_xel2"]) == (96, 96)
    assert (float(row["s_ra"]), float(row["s_dec"])) == pytest.approx((0.4, 37.0), abs=0.02)
    assert row["em_min"] == pytest.approx(299792458.0 / 1.49875e9)
    assert row["noise_jyb"] == 1e-3
    tile = next(row for row in sia.search(calib_level=2) if row["obs_id"] == STAMPS[1])
    assert float(tile["s_ra"]) == pytest.approx(CENTERS[1].ra_deg, abs=0.02)
    assert str(tile["s_region"]).startswith("POLYGON ICRS ")


def test_positions_also_across_zero(sia: Any) -> None:
    """Tiles lie at RA 359.1, 0.4 and 1.7, each 1.9 degrees of declination and 2.4 of right ascension wide."""
    tiles = [f"ivo://dsa110.contimg/images?{number}" for number in tile_ids()]

    def stamps(**where: Any) -> list[str]:
        return names(sia.search(**where, publisher_did=tiles))

    assert stamps(pos=(358.2, 37.0, 0.05)) == [STAMPS[0]]
    assert stamps(pos=(2.7, 37.0, 0.05)) == [STAMPS[2]]
    assert stamps(pos=(0.0, 37.0, 0.02)) == [STAMPS[0], STAMPS[1]]
    assert stamps(pos=(0.4, 39.0, 0.01)) == []
    assert stamps(pos=(0.4, 39.0, 1.5)) == list(STAMPS)
    assert stamps(pos=(358.0, 358.4, 36.0, 38.0)) == [STAMPS[0]]
    assert stamps(pos=(357.9, 36.9, 358.3, 36.9, 358.1, 37.2)) == [STAMPS[0]]
    assert stamps(pos=(180.0, -37.0, 5.0)) == []


def test_time_band_level_and_identifier(sia: Any) -> None:
    second, next_day = at(MJD_0 + 1.5 * TILE_DAYS), (at(MJD_0 + 1.0), at(MJD_0 + 1.001))
    assert STAMPS[1] in names(sia.search(time=second, calib_level=2))
    assert STAMPS[2] not in names(sia.search(time=second, calib_level=2))
    assert HELD in names(sia.search(time=next_day, calib_level=3))
    assert PUBLISHED not in names(sia.search(time=next_day, calib_level=3))
    assert len(sia.search(band=(0.01, 0.02))) == 0
    assert len(sia.search(band=(0.20, 0.22))) == len(sia.search())
    one = sia.search(publisher_did=f"ivo://dsa110.contimg/mosaics?{HELD}")
    assert names(one) == [HELD]
    assert len(sia.search(instrument="VLA")) == 0


def test_a_limit_says_that_it_cut(address: str) -> None:
    with urllib.request.urlopen(f"{address}/vo/sia2/query?MAXREC=2") as answer:
        body = answer.read()
    assert b'value="OVERFLOW"' in body
    assert len(Table.read(io.BytesIO(body), format="votable")) == 2
    with urllib.request.urlopen(f"{address}/vo/sia2/query?MAXREC=0") as answer:
        assert len(Table.read(io.BytesIO(answer.read()), format="votable")) == 0


@pytest.mark.parametrize(
    "asked", ["POS=CIRCLE 1 2", "POS=BOX 1 2 3 4", "TIME=now", "BAND=2 1", "MAXREC=-1", "NOSUCH=1", "CALIB=NaN"]
)
def test_a_bad_question_is_a_votable_with_the_reason(surveyed: TestClient, asked: str) -> None:
    name, value = asked.split("=")
    answer = surveyed.get("/vo/sia2/query", params={name: value})
    assert answer.status_code == 400
    assert b'name="Error"' in answer.content
    assert name.encode() in answer.content


def test_what_was_retracted_is_not_offered(sia: Any) -> None:
    with get_session("products") as session:
        session.query(Mosaic).filter(Mosaic.name == HELD).update({"status": "retracted"})
    assert HELD not in names(sia.search())


def test_the_services_describe_themselves(sia: Any, address: str) -> None:
    assert "ivo://ivoa.net/std/SIA#query-2.0" in {one.standardid for one in sia.capabilities}
    tables = pyvo.io.vosi.parse_tables(io.BytesIO(urllib.request.urlopen(f"{address}/vo/sia2/tables").read()))
    assert "s_region" in {column.name for column in tables.get_table_by_name("ivoa.obscore").columns}
    for path in ("capabilities", "availability"):
        with urllib.request.urlopen(f"{address}/vo/datalink/{path}") as answer:
            assert answer.status == 200


def test_links_lead_to_the_files(sia: Any) -> None:
    row = next(row for row in sia.search(calib_level=3) if row["obs_id"] == PUBLISHED)
    links = row.getdatalink()
    found = {str(link["semantics"]): link for link in links}
    assert {"#this", "#noise", "#preview", "#thumbnail", "#documentation", "#progenitor", "#cutout"} <= set(found)
    body = urllib.request.urlopen(str(found["#this"]["access_url"])).read()
    assert len(body) == found["#this"]["content_length"]
    with fits.open(io.BytesIO(body)) as hdus:
        assert hdus[0].header["IMTYPE"] == "mosaic"
    tiles = [link for link in links if link["semantics"] == "#progenitor"]
    assert len(tiles) == 3
    tile = pyvo.dal.adhoc.DatalinkResults.from_result_url(str(tiles[0]["access_url"]))
    assert "#derivation" in {str(link["semantics"]) for link in tile}
    service = links.get_adhocservice_by_id("cutout1")
    inputs = {str(one.name): str(one.unit) for group in service.groups for one in group.entries}
    assert inputs == {"ra": "deg", "dec": "deg", "size_arcmin": "arcmin", "format": "None"}
    (where,) = (str(one.value) for one in service.params if one.name == "accessURL")
    with urllib.request.urlopen(f"{where}?ra=0.6&dec=36.8&size_arcmin=10") as answer, fits.open(answer) as hdus:
        assert hdus[0].data.shape[-1] == 2 * int(np.ceil(10 / 60 / 0.02 / 2)) + 1


def test_an_identifier_of_nothing_is_a_fault(surveyed: TestClient) -> None:
    for did in ("ivo://dsa110.contimg/mosaics?nosuch", "ivo://elsewhere/x", "ivo://dsa110.contimg/images?99999", "'"):
        answer = surveyed.get("/vo/datalink", params={"ID": did})
        table = Table.read(io.BytesIO(answer.content), format="votable")
        assert answer.status_code == 200
        assert str(table["error_message"][0]).startswith("NotFoundFault")


@pytest.fixture
def atlas(survey: Survey) -> str:
    """The published mosaic's HiPS."""
    place = naming.mosaic_path(survey.root / "products", PUBLISHED)
    folder = naming.beside_mosaic(survey.root / "products" / "mosaics" / place.name, "hips")
    if not folder.is_dir():
        hips.save(picture(SkyPosition(0.4, 37.0), "mosaic"), folder, identifier=PUBLISHED, order=3)
    (folder / "secret.txt").write_text("secret")
    return f"/api/v1/hips/{PUBLISHED}"


@pytest.mark.parametrize("name", ["\x01", "\ufffe", "]]>&<x", "\u202e"])
def test_an_identifier_that_xml_cannot_write_is_a_document_all_the_same(surveyed: TestClient, name: str) -> None:
    answer = surveyed.get("/vo/datalink", params={"ID": name})
    assert answer.status_code == 200
    assert "NotFoundFault" in "".join(ElementTree.fromstring(answer.content).itertext())


def test_an_error_of_ours_is_not_told_as_one_of_who_asks(surveyed: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("dsa110_contimg.api.sia.observations", broken)
    answer = surveyed.get("/vo/sia2/query")
    assert (answer.status_code, "a defect" in answer.text) == (500, False)


def test_hips_by_id_and_nothing_else(surveyed: TestClient, atlas: str) -> None:
    told = surveyed.get(atlas).json()
    assert (told["id"], told["order"], told["status"]) == (PUBLISHED, 3, "published")
    assert [one["id"] for one in surveyed.get("/api/v1/hips").json()["items"]] == [PUBLISHED]
    assert "hips_order" in surveyed.get(f"{atlas}/properties").text
    assert surveyed.get(f"{atlas}/Moc.fits").content.startswith(b"SIMPLE")
    whole = Picture.open(io.BytesIO(surveyed.get(f"{atlas}/Norder3/Allsky.png").content))
    assert whole.size == (27 * 64, 29 * 64)
    assert 1 <= int((np.asarray(whole)[..., 3] > 0).sum() / 64**2 * 100) < 900
    for part in ("secret.txt", "../x", "%2e%2e/x", "Norder3", "Norder3/Dir0/Npix9.png", "Norder3/Dir0/Npix1.exe", ""):
        assert surveyed.get(f"{atlas}/{part}").status_code in {404, 307, 200} - ({200} if part else set()), part
    assert surveyed.get(f"{atlas}/secret.txt").status_code == 404
    blank = surveyed.get(f"/sky/tiles/{PUBLISHED}/Norder3/Dir0/Npix9.png")
    assert (np.asarray(Picture.open(io.BytesIO(blank.content)).convert("RGBA"))[..., 3] == 0).all()
    assert surveyed.get(f"/sky/tiles/{PUBLISHED}/secret.txt").status_code == 404
    assert surveyed.get("/sky/tiles/nosuch/Norder3/Dir0/Npix9.png").status_code == 404
    listed = surveyed.get("/vo/hips/hipslist").text
    assert f"/api/v1/hips/{PUBLISHED}\n" in listed
    assert surveyed.get("/api/v1/hips/nosuch").status_code == 404
    assert surveyed.get(f"/api/v1/hips/{HELD}").status_code == 404
    assert surveyed.get("/api/v1/coverage/moc").status_code == 404
