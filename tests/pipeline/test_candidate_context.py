"""What the parts of the band and lists of known objects say of candidates."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.conftest import photometry_row

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import VariabilityStats
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.repositories import CandidateRepository, PhotometryRepository, ms_index_upsert
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.candidates import Candidate
from dsa110_contimg.pipeline.candidate_context import in_context
from dsa110_contimg.pipeline.catalogs import import_catalog
from dsa110_contimg.pipeline.known_objects import known_as

FREQ_GHZ = np.array([1.334, 1.381, 1.428, 1.475])
EPOCHS, EVENT = 30, slice(20, 26)
PSRCAT = """#;NAME;RAJD;DECJD;S1400
;;(deg);(deg);(mJy)
1;B0329+54;53.247;54.5787;203.00
2;B0355+54;59.724;54.2204;23.00
3;J0000+0001;0.0005;0.02;*
"""


@pytest.fixture
def lists(house: Settings, tmp_path: Path) -> Iterator[Settings]:
    (tmp_path / "psrcat.csv").write_text(PSRCAT)
    (tmp_path / "variables.csv").write_text("name,ra_deg,dec_deg,pos_err_arcsec\nBL Lac,330.6804,42.2778,0.1\n")
    told = import_catalog(tmp_path / "psrcat.csv", "pulsars")
    assert (told.n_rows, len(told.bad_rows)) == (3, 1), "the line of units is no pulsar"
    assert import_catalog(tmp_path / "variables.csv", "variables").n_rows == 1
    yield house


def test_what_is_known_is_named_and_neighbors_are_not(lists: Settings) -> None:
    """On both axes off by arcseconds, across RA 0; an arcminute away it is another source."""
    assert lists
    ra = np.array([53.247 + 3.0 / 3600.0, 359.9999, 330.6804, 53.247, 120.0])
    dec = np.array([54.5787 - 2.0 / 3600.0, 0.02 + 1.0 / 3600.0, 42.2778, 54.5787 + 1.0 / 60.0, 33.0])
    with get_session("calibrators", read_only=True) as session:
        told = known_as(session, ra, dec)
        assert known_as(session, np.zeros(0), np.zeros(0)) == []
    assert told[0] is not None
    assert told[0].startswith("pulsar B0329+54 (probability ")
    assert told[1] is not None
    assert "J0000+0001" in told[1]
    assert told[2] is not None
    assert told[2].startswith("known variable BL Lac")
    assert told[3:] == [None, None]


def enter(source: str, slope: float, *, ra_deg: float = 53.247, dec_deg: float = 54.5787) -> None:
    """Enter thirty epochs of a source that falls by 30 % in six of them, more so at one end of the band."""
    rng = np.random.default_rng(5)
    with get_session("products") as session:
        session.add(VariabilityStats(source_id=source, ra_deg=ra_deg, dec_deg=dec_deg, updated_at=0.0))
        for epoch in range(EPOCHS):
            path, mjd = f"/m/{epoch:02d}.fits", 60000.0 + 8.0 * epoch
            if MosaicRepository.get_by_name(session, f"m{epoch}") is None:
                ms_index_upsert(session, f"/ms/{epoch}", stage="photometry_complete", mid_mjd=mjd)
                MosaicRepository.store(
                    session, path=path, name=f"m{epoch}", reference_ms=f"/ms/{epoch}", created_at=0.0, start_mjd=mjd,
                    end_mjd=mjd,
                )  # fmt: skip
            change = 0.7 * (FREQ_GHZ / 1.4) ** slope if EVENT.start <= epoch < EVENT.stop else np.ones(4)
            flux = change * (1.0 + 0.01 * rng.normal(size=4))
            PhotometryRepository.store(session, [photometry_row(path, source, ra_deg, 1.0, mjd) | {"in_lightcurve": 1}])
            parts = [
                {"image_path": path, "source_id": source, "subband_idx": i, "freq_ghz": f, "flux_jy": s,
                 "flux_err_jy": 0.01} for i, (f, s) in enumerate(zip(FREQ_GHZ.tolist(), flux.tolist(), strict=True))
            ]  # fmt: skip
            PhotometryRepository.store_subbands(session, path, parts)


def event(source: str, *, neighbors_changed: bool = False) -> Candidate:
    span = (60000.0 + 8.0 * EVENT.start - 1.0, 60000.0 + 8.0 * EVENT.stop - 7.0)
    return Candidate(
        source, "ese", 9.0, "dip", 60184.0, "fell by 30 %", span_mjd=span, neighbors_changed=neighbors_changed
    )


def told(candidate: Candidate) -> Candidate | None:
    with get_session("products") as session:
        found = in_context(session, {candidate.source_id: candidate}, PhotometryOptions())
    return found.get(candidate.source_id)


def test_a_chromatic_event_is_called_so_whatever_the_neighbors_did(lists: Settings) -> None:
    assert lists
    enter("A", 3.0, ra_deg=10.0)
    for shared in (False, True):
        found = told(event("A", neighbors_changed=shared))
        assert found is not None
        assert "chromatic (d ln S/d ln f +3." in found.reason
        assert found.known_as is None


def test_an_event_alike_in_all_parts_is_a_gain_error_if_neighbors_share_it(lists: Settings) -> None:
    assert lists
    enter("B", 0.0)
    assert told(event("B", neighbors_changed=True)) is None
    alone = told(event("B"))
    assert alone is not None
    assert "alike in all parts of the band" in alone.reason
    assert alone.reason.endswith(alone.known_as or "-")
    assert (alone.known_as or "").startswith("pulsar B0329+54")


def test_a_candidate_without_parts_of_the_band_stays_as_it_is(lists: Settings) -> None:
    assert lists
    with get_session("products") as session:
        session.add(VariabilityStats(source_id="C", ra_deg=10.0, dec_deg=0.0, updated_at=0.0))
    assert told(event("C", neighbors_changed=True)) == event("C", neighbors_changed=True)


def test_the_mark_is_stored_with_the_candidate(lists: Settings) -> None:
    assert lists
    notes = '{"reason": "fell, pulsar B0329+54", "mjd": 1.0, "known_as": "pulsar B0329+54"}'
    with get_session("products") as session:
        session.add(VariabilityStats(source_id="D", ra_deg=10.0, dec_deg=0.0, updated_at=0.0))
        session.flush()
        for _ in range(2):
            CandidateRepository.flag(session, source_id="D", significance=5.0, flag_type="ese", now=1.0, notes=notes)
        assert CandidateRepository.get(session, "D").known_as == "pulsar B0329+54"
