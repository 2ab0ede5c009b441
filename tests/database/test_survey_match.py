"""Surveys made of a known sky are matched back into it."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.database.master_sources import CatalogRow
from dsa110_contimg.database.survey_match import SurveyList, merge

SEED = 20260121
ARCSEC = 1.0 / 3600.0


def survey(
    ra: list[float], dec: list[float], flux: list[float], name: str = "s", **columns: float | list[float]
) -> SurveyList:
    count = len(ra)
    arrays = {
        field: np.full(count, np.nan)
        for field in SurveyList.__dataclass_fields__
        if field not in ("catalog_id", "ra_deg", "dec_deg", "flux_jy")
    }
    arrays |= {field: np.broadcast_to(np.asarray(value, dtype=float), count).copy() for field, value in columns.items()}
    ids = np.array([f"{name}{i:05d}" for i in range(count)], dtype=object)
    return SurveyList(ids, np.array(ra, dtype=float), np.array(dec, dtype=float), np.array(flux, dtype=float), **arrays)


def rows(**surveys: SurveyList) -> dict[str, CatalogRow]:
    return {row.source_id: row for row in merge(surveys)}


def test_a_known_sky_is_recovered() -> None:
    """Positions better than the NVSS's, and spectral indices within their errors."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    count = 800
    ra, dec = rng.uniform(0.0, 20.0, count), np.degrees(np.arcsin(rng.uniform(0.0, 0.3, count)))
    flux, alpha = 10.0 ** rng.uniform(-2.0, 0.0, count), rng.normal(-0.7, 0.3, count)

    def seen(freq_ghz: float, error_arcsec: float, keep: NDArray[np.bool_]) -> SurveyList:
        spread = error_arcsec * ARCSEC
        true = flux[keep] * (freq_ghz / 1.4) ** alpha[keep]
        return survey(
            list(ra[keep] + rng.normal(0.0, spread, keep.sum()) / np.cos(np.radians(dec[keep]))),
            list(dec[keep] + rng.normal(0.0, spread, keep.sum())),
            list(true * (1.0 + rng.normal(0.0, 0.03, keep.sum()))),
            flux_uncertainty=list(0.03 * true),
            position_uncertainty_arcsec=error_arcsec,
        )

    everywhere = np.ones(count, np.bool_)
    found = list(
        rows(NVSS=seen(1.4, 2.0, everywhere), VLASS=seen(3.0, 0.3, ra < 12.0), FIRST=seen(1.4, 0.4, ra > 8.0)).values()
    )
    assert len(found) == count
    with_index = [i for i, row in enumerate(found) if row.alpha is not None]
    assert len(with_index) > 0.95 * np.count_nonzero(ra < 12.0)
    pull = [(found[i].alpha - alpha[i]) / found[i].alpha_err for i in with_index]
    assert np.std(pull) == pytest.approx(1.0, abs=0.15)
    assert np.mean(pull) == pytest.approx(0.0, abs=0.15)
    offset = np.array(
        [
            np.hypot((row.ra_deg - ra[i]) * np.cos(np.radians(dec[i])), row.dec_deg - dec[i])
            for i, row in enumerate(found)
        ]
    )
    assert np.median(offset) < 0.5 * ARCSEC
    assert all((row.s_first is None) or ra[i] > 7.99 for i, row in enumerate(found))
    assert all((row.s_vlass is None) == (row.alpha is None) for row in found)


def test_pairs_across_the_seam_and_at_the_pole() -> None:
    nvss = survey([359.9999, 0.0, 40.0], [0.0, 89.9999, -90.0], [1.0, 1.0, 1.0])
    vlass = survey([0.0001, 180.0, 0.0], [0.0, 89.9995, -89.999], [0.5, 0.5, 0.5], "v")
    found = rows(NVSS=nvss, VLASS=vlass)
    assert [row.s_vlass for row in found.values()] == [0.5, 0.5, 0.5]
    # Of 0.5" positions 2" are the same source, and 7.2" are not; of 2" positions they are.
    near = survey([0.0019], [0.0], [0.5], "v", position_uncertainty_arcsec=0.5)
    known = survey([359.9999], [0.0], [1.0], position_uncertainty_arcsec=0.5)
    assert [row.s_vlass for row in rows(NVSS=known, VLASS=near).values()] == [None]
    known = survey([359.9999], [0.0], [1.0], position_uncertainty_arcsec=2.0)
    assert [row.s_vlass for row in rows(NVSS=known, VLASS=near).values()] == [0.5]


def test_a_faint_source_is_found_farther_away_than_a_bright_one() -> None:
    """12" off: within the errors of an NVSS source at the limit, and not of one at 100 σ; or of a large one."""
    first = survey([10.0], [12.0 * ARCSEC], [0.003], "f", position_uncertainty_arcsec=0.5)
    for error, size, expected in ((7.0, np.nan, 0.003), (0.6, np.nan, None), (0.6, 60.0, 0.003)):
        nvss = survey(
            [10.0], [0.0], [0.003], position_uncertainty_arcsec=error, major_axis_arcsec=size, is_extended=size > 0.0
        )
        assert [row.s_first for row in rows(NVSS=nvss, FIRST=first).values()] == [expected]


def test_two_likely_counterparts_confuse_a_source() -> None:
    nvss = survey([10.0], [0.0], [1.0], position_uncertainty_arcsec=6.0)
    first = survey([10.0, 10.0], [9.0 * ARCSEC, -10.0 * ARCSEC], [0.5, 0.4], "f", position_uncertainty_arcsec=0.3)
    (row,) = rows(NVSS=nvss, FIRST=first).values()
    assert (row.s_first, row.confusion_flag) == (0.5, 1)


def test_one_entry_belongs_to_one_source() -> None:
    nvss = survey([10.0, 10.0 + 4.0 * ARCSEC], [0.0, 0.0], [1.0, 0.3])
    first = survey([10.0 + 3.0 * ARCSEC], [0.0], [0.3], "f")
    found = list(rows(NVSS=nvss, FIRST=first).values())
    assert [row.s_first for row in found] == [None, 0.3]
    assert [row.confusion_flag for row in found] == [1, 1]


def test_flags_and_sizes_are_those_of_first() -> None:
    nvss = survey(
        [10.0, 20.0, 30.0, 40.0], [0.0] * 4, [1.0] * 4, is_extended=[0.0, 0.0, 1.0, np.nan], is_confused=[0, 0, 0, 1]
    )
    first = survey(
        [10.0, 20.0, 20.0 + 5.0 * ARCSEC],
        [0.0] * 3,
        [1.0, 0.5, 0.4],
        "f",
        is_extended=[1.0, 0.0, 0.0],
        major_axis_arcsec=[12.0, 0.0, 1.0],
        minor_axis_arcsec=[6.0, 0.0, 1.0],
        position_angle_deg=[30.0, 0.0, 10.0],
        position_uncertainty_arcsec=0.3,
    )
    found = list(rows(NVSS=nvss, FIRST=first).values())
    assert [row.resolved_flag for row in found] == [1, 0, 1, 0]
    assert [row.confusion_flag for row in found] == [0, 1, 0, 1]
    assert found[0][-3:] == (12.0, 6.0, 30.0)
    assert found[3].first_size_maj_arcsec is None


def test_a_confused_source_keeps_the_position_of_the_list() -> None:
    nvss = survey([10.0, 20.0], [0.0, 0.0], [1.0, 1.0], position_uncertainty_arcsec=1.0)
    offsets = [10.0 + 2.0 * ARCSEC, 10.0 - 3.0 * ARCSEC, 20.0 + 2.0 * ARCSEC]
    first = survey(offsets, [0.0] * 3, [0.5] * 3, "f", position_uncertainty_arcsec=0.3)
    worse = survey([20.0 - 1.0 * ARCSEC], [0.0], [0.5], "r", position_uncertainty_arcsec=2.0)
    found = list(rows(NVSS=nvss, FIRST=first, RACS=worse).values())
    assert [row.ra_deg for row in found] == [10.0, offsets[2]]
    assert found[1].s_rax == 0.5


def test_nothing_depends_on_vlass_but_its_own_columns() -> None:
    nvss = survey([10.0, 20.0], [0.0, 0.0], [1.0, 1.0], snr=[60.0, 5.0])
    vlass = survey([10.0], [0.0], [0.5], "v")
    without, with_vlass = rows(NVSS=nvss), rows(NVSS=nvss, VLASS=vlass)
    assert [row._replace(s_vlass=None, alpha=None, alpha_err=None) for row in with_vlass.values()] == list(
        without.values()
    )
    assert with_vlass["s00000"].alpha == pytest.approx(np.log(0.5) / np.log(3.0 / 1.4))
    assert with_vlass["s00000"].alpha_err is None


def test_a_table_of_our_own_goes_before_the_nvss() -> None:
    own = survey([10.0, 20.0], [0.0, 0.0], [2.0, 0.5], "own", spectral_index=[-0.9, np.nan])
    nvss = survey([10.0 + 5.0 * ARCSEC, 30.0], [0.0, 0.0], [1.9, 0.7])
    vlass = survey([10.0, 20.0], [0.0, 0.0], [1.0, 0.25], "v")
    found = rows(CSV=own, NVSS=nvss, VLASS=vlass)
    assert {name: row.s_nvss for name, row in found.items()} == {"own00000": 2.0, "own00001": 0.5, "s00001": 0.7}
    assert found["own00000"].alpha == -0.9
    assert found["own00001"].alpha == pytest.approx(-0.909, abs=0.001)
    same_name = replace(nvss, catalog_id=np.array(["own00000", "own00001"], dtype=object))
    assert {row.s_nvss for row in rows(CSV=own, NVSS=same_name).values()} == {2.0, 0.5}


def test_without_a_list_there_are_no_sources() -> None:
    assert rows(FIRST=survey([1.0], [1.0], [1.0])) == {}
    assert rows() == {}
    assert rows(NVSS=survey([], [], [])) == {}


def test_sources_come_in_the_order_of_their_ids() -> None:
    nvss = survey([1.0, 2.0, 3.0], [0.0] * 3, [1.0, 2.0, 3.0]).select(np.array([2, 0, 1]))
    assert [row.s_nvss for row in merge({"NVSS": nvss})] == [1.0, 2.0, 3.0]
