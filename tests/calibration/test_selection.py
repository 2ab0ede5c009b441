"""Which table calibrates a tile: the nearest of its strip that fits, a calibrator's before the catalogue's."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.calibration.selection import (
    CalibrationState,
    TableFacts,
    TileFacts,
    better_span,
    choose,
    refusal,
    superseded_by,
)
from dsa110_contimg.options import CalibrationOptions

OPTIONS = CalibrationOptions()
NAMES = frozenset(str(number) for number in range(1, 97))
BAND = (1311.4e6, 1498.6e6)
TILE = TileFacts(60000.5, 33.2, NAMES, BAND)


def table(mid: float, dec: float | None = 33.2, **columns: object) -> TableFacts:
    base = TableFacts(f"bp_{mid}_{dec}", mid - 1.0, mid + 1.0, mid, dec, 1.0, "3C48", NAMES, BAND)
    return replace(base, **columns)  # type: ignore[arg-type]


def chosen(*tables: TableFacts, tile: TileFacts = TILE) -> str | None:
    choice = choose(tables, tile, OPTIONS)
    return None if choice.table is None else choice.table.path


def test_the_nearest_wins_and_of_equals_the_newest() -> None:
    far, near = table(59999.8), table(60000.9)
    assert chosen(far, near) == near.path
    older, newer = table(60000.4, path="older", created_at=1.0), table(60000.4, path="newer", created_at=2.0)
    assert chosen(older, newer) == chosen(newer, older) == "newer"


def test_a_calibrator_wins_over_a_nearer_catalogue_solve() -> None:
    assert chosen(table(60000.5, path="sky", flux_anchor="catalogue"), table(59999.6, path="3C48")) == "3C48"
    only = choose([table(60000.5, flux_anchor="catalogue")], TILE, OPTIONS)
    assert only.state is CalibrationState.CATALOGUE_ANCHORED


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"dec_deg": 16.1}, "of another strip: declination 16.10, not 33.20"),
        ({"dec_deg": None}, "an unrecorded declination"),
        ({"end_mjd": 60000.25}, "6.0 h outside the window"),
        ({"start_mjd": 60000.75}, "6.0 h outside the window"),
        ({"antennas": frozenset(map(str, range(60, 97)))}, "solutions of 39% of its antennas, and 50% are needed"),
        ({"antennas": frozenset({"ea01", "ea02"})}, "solutions of 0% of its antennas"),
        ({"band_hz": (1100e6, 1300e6)}, "covers 1100.0 to 1300.0 MHz, and the tile 1311.4 to 1498.6 MHz"),
        ({"band_hz": (1311.4e6, 1450e6)}, "covers 1311.4 to 1450.0 MHz"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(columns: dict[str, object], why: str) -> None:
    good = table(60000.4)
    assert refusal(good, TILE, OPTIONS) is None
    bad = replace(good, path="bad", **columns)  # type: ignore[arg-type]
    assert why in (refusal(bad, TILE, OPTIONS) or "")
    choice = choose([bad], TILE, OPTIONS)
    assert choice.table is None
    assert "bad" in choice.reason
    assert why in choice.reason
    assert chosen(bad, table(60001.3)) == "bp_60001.3_33.2", "the next one that fits is taken"


def test_windows_include_their_ends() -> None:
    for mid in (TILE.mjd - 1.0, TILE.mjd + 1.0):
        assert chosen(table(mid)) is not None


def test_what_old_rows_do_not_tell_is_left_to_apply() -> None:
    assert chosen(table(60000.4, antennas=frozenset(), band_hz=None)) is not None


def test_states_have_names() -> None:
    def state(*tables: TableFacts) -> CalibrationState:
        return choose(tables, TILE, OPTIONS).state

    assert state() is CalibrationState.AWAITING_TRANSIT
    assert state(table(60000.4, dec=16.1)) is CalibrationState.AWAITING_TRANSIT
    assert state(table(59990.0)) is CalibrationState.STALE
    assert state(table(60000.4)) is CalibrationState.ANCHORED
    assert choose([], TILE, OPTIONS).reason == "no bandpass was ever solved"


def test_a_transit_supersedes_catalogue_solves_of_its_strip_and_time_only() -> None:
    new = table(60000.5, path="new")
    near = table(60000.0, path="near", flux_anchor="catalogue")
    others = [
        table(60000.0, path="strip", dec=16.1, flux_anchor="catalogue"),
        table(59990.0, path="long ago", flux_anchor="catalogue"),
        table(59999.51, path="its group sticks out", flux_anchor="catalogue"),
        table(60000.0, path="calibrator"),
    ]
    assert [old.path for old in superseded_by(new, [near, *others], OPTIONS)] == ["near"]
    for anchor in ("catalogue", "none", None):
        assert superseded_by(replace(new, flux_anchor=anchor), [near], OPTIONS) == []


TABLES = st.builds(
    table,
    mid=st.floats(59997.0, 60003.0),
    dec=st.sampled_from([33.2, 33.6, 33.8, 16.1, None]),
    path=st.uuids().map(str),
    flux_anchor=st.sampled_from(["3C48", "catalogue", None]),
    created_at=st.floats(0.0, 10.0),
)


@given(st.lists(TABLES, max_size=8))
def test_never_from_another_strip_or_time_and_never_passing_over_a_better_one(tables: list[TableFacts]) -> None:
    choice = choose(tables, TILE, OPTIONS)
    fit = [t for t in tables if refusal(t, TILE, OPTIONS) is None]
    assert (choice.table is None) == (not fit)
    assert set(choice.refused) == {t.path for t in tables} - {t.path for t in fit}
    if choice.table is not None:
        assert choice.table.dec_deg is not None
        assert abs(choice.table.dec_deg - 33.2) <= OPTIONS.dec_tolerance_deg
        assert choice.table.start_mjd <= TILE.mjd <= choice.table.end_mjd
        same = [t for t in fit if (t.flux_anchor == "catalogue") == (choice.table.flux_anchor == "catalogue")]
        assert abs(choice.table.mid_mjd - TILE.mjd) == min(abs(t.mid_mjd - TILE.mjd) for t in same)


@given(TABLES, TABLES, st.floats(59998.0, 60002.0))
def test_the_span_of_a_rival_is_where_it_is_chosen(one: TableFacts, rival: TableFacts, mjd: float) -> None:
    tile = TileFacts(mjd, 33.2)
    one, rival = replace(one, dec_deg=33.2), replace(rival, dec_deg=33.2)
    span = better_span(one, rival, OPTIONS)
    inside = span is not None and span[0] < mjd < span[1]
    equal = abs(abs(one.mid_mjd - mjd) - abs(rival.mid_mjd - mjd)) < 1e-9
    fits = refusal(one, tile, OPTIONS) is None
    if fits and not equal and not (span is not None and mjd in span):
        taken = choose([one, rival], tile, OPTIONS).table
        assert taken is not None
        assert (taken.path == rival.path) == inside
    assert better_span(one, replace(rival, dec_deg=16.1), OPTIONS) is None
    assert better_span(replace(one, dec_deg=None), rival, OPTIONS) is None


def test_of_two_solves_of_one_transit_the_newer_is_better() -> None:
    old, new = table(60000.4, path="old", created_at=1.0), table(60000.4, path="new", created_at=2.0)
    assert better_span(old, new, OPTIONS) == (new.start_mjd, new.end_mjd)
    assert better_span(new, old, OPTIONS) is None
