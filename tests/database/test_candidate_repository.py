"""What people do about candidates: once, with their names, and what they closed stays closed."""

import json

import pytest

from dsa110_contimg.database import get_session
from dsa110_contimg.database.candidate_repository import CandidateRepository, told
from dsa110_contimg.database.repositories import PhotometryRepository
from dsa110_contimg.database.transient_repository import Sighting, store_sightings
from dsa110_contimg.errors import PipelineError

EVENT = json.dumps({"metric": "dip", "mjd": 60100.0, "reason": "fell by 30 %"})


@pytest.fixture
def source(backend: str) -> str:
    assert backend
    with get_session("products") as session:
        PhotometryRepository.store_statistics(
            session, [{"source_id": "S", "ra_deg": 1.0, "dec_deg": 2.0, "updated_at": 0.0, "n_obs": 9}]
        )
    return "S"


def flag(source: str, significance: float, notes: str = EVENT, kind: str = "ese") -> bool:
    with get_session("products") as session:
        return CandidateRepository.flag(
            session, source_id=source, significance=significance, flag_type=kind, now=1.0, notes=notes
        )


def test_closing_and_notes_say_who_and_when(source: str) -> None:
    assert flag(source, 6.0)
    with get_session("products") as session:
        number = str(CandidateRepository.get(session, source).id)
        CandidateRepository.note(session, number, by="ada", note="low at 3 GHz too", now=2.0)
        row = CandidateRepository.close(session, number, status="investigated", by="bob", note="VLBI", now=3.0)
        assert (row.status, row.investigated_at, row.dismissed_at) == ("investigated", 3.0, None)
        content = told(row.notes)
    assert content["reason"] == "fell by 30 %"
    assert [(e["by"], e["did"], e["at"]) for e in content["history"]] == [
        ("ada", "noted", 2.0),
        ("bob", "investigated", 3.0),
    ]
    with pytest.raises(PipelineError, match="is investigated already"), get_session("products") as session:
        CandidateRepository.close(session, number, status="dismissed", by="eve", note="", now=4.0)
    with pytest.raises(PipelineError, match="there is no candidate '99'"), get_session("products") as session:
        CandidateRepository.get(session, "99")
    with pytest.raises(PipelineError, match="closed as"), get_session("products") as session:
        CandidateRepository.close(session, number, status="lost", by="eve", note="", now=4.0)


def test_a_dismissed_event_stays_dismissed_until_it_grows_or_another_comes(source: str) -> None:
    assert flag(source, 6.0)
    with get_session("products") as session:
        CandidateRepository.close(session, source, status="dismissed", by="ada", note="bad tile", now=2.0)
    assert not flag(source, 6.5)
    assert not flag(source, 6.5, EVENT.replace("60100", "60110"))
    assert flag(source, 9.5), "half as significant again: worth another look"
    with get_session("products") as session:
        CandidateRepository.close(session, source, status="dismissed", by="ada", note="", now=3.0)
    assert flag(source, 6.0, EVENT.replace("60100", "60400")), "another event"


def test_an_automatic_candidate_follows_what_is_found_and_keeps_its_history(source: str) -> None:
    assert flag(source, 30.0, kind="variability")
    with get_session("products") as session:
        CandidateRepository.note(session, source, by="ada", note="hm", now=2.0)
    assert not flag(source, 8.0)
    with get_session("products", read_only=True) as session:
        row = CandidateRepository.get(session, source)
        assert (row.flag_type, row.significance) == ("ese", 8.0)
        assert told(row.notes)["reason"] == "fell by 30 %"
        assert told(row.notes)["history"][0]["note"] == "hm"


def test_notes_that_are_plain_text_are_kept(source: str) -> None:
    assert flag(source, 6.0, "seen by eye")
    with get_session("products") as session:
        row = CandidateRepository.note(session, source, by="ada", note="yes", now=2.0)
        assert told(row.notes)["notes"] == "seen by eye"


def test_new_sources_grow_with_their_images(backend: str) -> None:
    """Two images across RA 0 show one new source, the second is searched twice, the first again without it."""
    assert backend
    beam = 30.0 / 3600.0
    first, again = Sighting(359.9999, 54.0, 0.010, 7.0), Sighting(0.0003, 54.0005, 0.012, 8.0)
    with get_session("products") as session:
        store_sightings(session, "/m/a.fits", 60000.0, [first], beam, 1.0)
        for _ in range(2):
            (row,) = store_sightings(session, "/m/b.fits", 60001.0, [again], beam, 2.0)
        assert (row.n_detections, row.significance_sigma, row.priority) == (2, 8.0, "high")
        assert (row.first_detected_at, row.last_detected_at) == (60000.0, 60001.0)
        assert row.mean_flux_jy == pytest.approx(0.011)
        store_sightings(session, "/m/a.fits", 60000.0, [], beam, 3.0)
        assert row.n_detections == 1
        far = Sighting(0.1, 54.0, 0.02, 9.0)
        (other,) = store_sightings(session, "/m/c.fits", 60002.0, [far], beam, 4.0)
        assert other.id != row.id
