"""The cone search, asked by pyvo over a real connection: it returns what the database holds."""

import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import pyvo
import uvicorn
from astropy.coordinates import SkyCoord
from fastapi.testclient import TestClient
from pyvo.dal.exceptions import DALQueryError
from pyvo.io.vosi import parse_availability
from tests.api.survey import SOURCES, Survey

from dsa110_contimg.dashboard.app import create_app

MEASURED = [truth for truth in SOURCES if truth.fluxes_jy]


@pytest.fixture
def address(survey: Survey) -> Iterator[str]:
    """Where a server of the small survey answers."""
    assert survey.root.is_dir()
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def expected(center: SkyCoord, radius_deg: float) -> list[str]:
    places = SkyCoord([truth.ra_deg for truth in MEASURED], [truth.dec_deg for truth in MEASURED], unit="deg")
    apart = places.separation(center).deg
    return [MEASURED[i].name for i in np.argsort(apart) if apart[i] <= radius_deg]


CIRCLES = (
    (0.0, 36.9, 0.5),
    (359.95, 37.0, 0.8),
    (0.1, 36.8, 0.02),
    (120.0, -30.0, 1.0),
    (77.0, 90.0, 53.3),
    (9.0, 0.0, 180.0),
)
"""Across RA 0, around a source, around nobody, with the pole inside, and all of the sky."""


def test_pyvo_gets_what_the_database_holds(address: str) -> None:
    service = pyvo.dal.SCSService(f"{address}/vo/cone")
    truths = {truth.name: truth for truth in MEASURED}
    for ra_deg, dec_deg, radius_deg in CIRCLES:
        center = SkyCoord(ra_deg, dec_deg, unit="deg")
        found = service.search(center, radius_deg, verbosity=3)
        assert [str(record.id) for record in found] == expected(center, radius_deg)
        for record in found:
            truth = truths[str(record.id)]
            assert record.pos.separation(SkyCoord(truth.ra_deg, truth.dec_deg, unit="deg")).arcsec < 1e-6
            assert record["mean_flux_jy"] == pytest.approx(np.mean(truth.fluxes_jy), rel=1e-12)
            assert record["n_obs"] == len(truth.fluxes_jy)
            assert np.isfinite(record["eta"]) == (len(truth.fluxes_jy) > 1)
    # What the limit cuts off is told.
    found = service.search((0.0, 37.0), 180.0, maxrec=4)
    assert [info.value for info in found.votable.resources[0].infos if info.name == "QUERY_STATUS"] == ["OVERFLOW"]
    assert [str(record.id) for record in found] == expected(SkyCoord(0.0, 37.0, unit="deg"), 180.0)[:4]

    # No radius describes the columns.
    found = service.search((0.0, 37.0), 0.0, verbosity=1)
    assert (len(found), found.fieldnames) == (0, ("source_id", "ra_deg", "dec_deg"))
    with pytest.raises(DALQueryError, match="SR is 400"):
        service.search((0.0, 37.0), 400.0)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"RA": "1", "DEC": "91", "SR": "1"}, "DEC is 91"),
        ({"RA": "nan", "DEC": "1", "SR": "1"}, "RA is no number"),
        ({"RA": "1", "DEC": "1"}, "SR is missing"),
        ({"RA": "1", "DEC": "1", "SR": "1", "VERB": "9"}, "VERB is 1, 2 or 3"),
    ],
)
def test_a_bad_question_is_an_error_in_a_votable(
    surveyed: TestClient, parameters: dict[str, str], sentence: str
) -> None:
    answer = surveyed.get("/vo/cone", params=parameters)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-votable+xml")
    assert 'name="Error"' in answer.text
    assert sentence in answer.text


def test_the_service_describes_itself(address: str) -> None:
    service = pyvo.dal.TAPService(f"{address}/vo/cone")
    told = {each.standardid: each.interfaces[0].accessurls[0].content for each in service.capabilities}
    assert told["ivo://ivoa.net/std/ConeSearch"] == f"{address}/vo/cone?"
    assert parse_availability(f"{address}/vo/cone/availability").available
    assert "ivo://ivoa.net/std/VOSI#tables" in told
    ((name, table),) = service.tables.items()
    assert name == "sources"
    assert [column.name for column in table.columns][:3] == ["source_id", "ra_deg", "dec_deg"]
