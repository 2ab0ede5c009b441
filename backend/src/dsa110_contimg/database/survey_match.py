r"""Several surveys of one sky become one list of sources: arrays in, rows out.

The list is the NVSS's, and that of a table of our own, which goes before the NVSS where both have a source. An
entry of another survey belongs to a source if separation, errors and local density make it its likeliest counterpart
(`kernels.identify`). From 1.4 GHz to VLASS,

    α = ln(S_VLASS / S_1.4) / ln(3.0 / 1.4)          σ_α = √((σ/S)²_VLASS + (σ/S)²_1.4) / ln(3.0 / 1.4)

A source is resolved if FIRST or the list calls it larger than the beam, and confused if any survey has more than one
entry within 7.5", or a second candidate of a probability above 0.05. Its position is that of the survey with the
smallest error, unless it is confused: the nearest of several components is no better a place for all of them than the
list's. No field depends on a survey that has not covered the source; such fields are None.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.database.bulk import Value
from dsa110_contimg.database.master_sources import CatalogRow
from dsa110_contimg.kernels import match
from dsa110_contimg.kernels.identify import Places, identify

FloatArray = NDArray[np.float64]

MATCH_RADIUS_ARCSEC = 7.5
"""Two entries of one list within this are one source; of a survey, they confuse a source."""
UNKNOWN_ERROR_ARCSEC = 1.5
"""Of a position whose list states none: 5 σ are the match radius."""
EXTENT_ERROR = 0.1
"""A source larger than the beam has no one place: over its size."""
LISTS = ("CSV", "NVSS")
"""Surveys that name sources, the first before the second."""
COMPANIONS = ("FIRST", "VLASS", "RACS")
"""Surveys that add to named sources; of equal position errors the first one's counts."""

_RADIUS = math.radians(MATCH_RADIUS_ARCSEC / 3600.0)
_LN_FREQ_RATIO = math.log(3.0 / 1.4)


@dataclass(frozen=True)
class SurveyList:
    """The entries of a survey; NaN where it says nothing."""

    catalog_id: NDArray[np.object_]
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
    """1 where the source is larger than the survey's beam."""
    is_confused: FloatArray
    """1 where the survey's table marks neighbors."""
    major_axis_arcsec: FloatArray
    minor_axis_arcsec: FloatArray
    position_angle_deg: FloatArray

    def __len__(self) -> int:
        return self.catalog_id.size

    @property
    def radians(self) -> tuple[FloatArray, FloatArray]:
        """Right ascension and declination."""
        return np.radians(self.ra_deg), np.radians(self.dec_deg)

    @property
    def places(self) -> Places:
        """Positions and their errors: unknown ones by a default, and a tenth of the size of what is extended."""
        size = np.where(self.is_extended == 1.0, np.nan_to_num(self.major_axis_arcsec), 0.0)
        known = np.nan_to_num(self.position_uncertainty_arcsec, nan=UNKNOWN_ERROR_ARCSEC)
        error = np.hypot(known, EXTENT_ERROR * size)
        return Places(*self.radians, np.radians(error / 3600.0))

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> "SurveyList":
        """Return the entries that a mask or an index picks."""
        return SurveyList(*(getattr(self, field.name)[index] for field in fields(self)))

    def in_order(self) -> "SurveyList":
        """Return the entries in the order of their ids."""
        return self.select(np.argsort(self.catalog_id, kind="stable"))

    def joined(self, other: "SurveyList") -> "SurveyList":
        """Return the entries of both, in the order of their ids."""
        columns = [np.concatenate([getattr(one, field.name) for one in (self, other)]) for field in fields(self)]
        return SurveyList(*columns).in_order()

    def cells(self) -> dict[str, list[Value]]:
        """Return the columns as the database stores them: None for NaN, and flags that are not known as 0."""
        return {field.name: _cells(getattr(self, field.name), field.name) for field in fields(self)}


def merge(surveys: Mapping[str, SurveyList]) -> Iterator[CatalogRow]:
    """Yield the sources of surveys, by the names in `LISTS` and `COMPANIONS`, in the order of their ids.

    The answer does not depend on the order in which surveys were added. Without a list there are no sources.
    """
    sources = _named_sources([surveys[name] for name in LISTS if name in surveys])
    if sources is None:
        return
    # Of entries at one distance the first is matched, so the order must not be that of the import.
    companions = {name: surveys[name].in_order() for name in COMPANIONS if name in surveys}
    found = {name: identify(sources.places, survey.places) for name, survey in companions.items()}
    matched = {name: _matched(survey, found[name].entry) for name, survey in companions.items()}
    confused = _confused(sources, [sources, *companions.values()])
    confused |= np.any([np.zeros(len(sources), np.int64), *(one.rivals for one in found.values())], axis=0)
    ra_deg, dec_deg = _best_positions(sources, matched, confused)
    nothing = np.full(ra_deg.size, np.nan)

    def told(survey: str, column: str) -> FloatArray:
        values: FloatArray = getattr(matched[survey], column) if survey in matched else nothing
        return values

    alpha, alpha_err = _spectral_index(sources, told("VLASS", "flux_jy"), told("VLASS", "flux_uncertainty"))
    resolved = (sources.is_extended == 1.0) | (told("FIRST", "is_extended") == 1.0)
    columns = {
        "source_id": sources.catalog_id.tolist(),
        "ra_deg": ra_deg.tolist(),
        "dec_deg": dec_deg.tolist(),
        "s_nvss": _cells(sources.flux_jy),
        "snr_nvss": _cells(sources.snr),
        "resolved_flag": resolved.astype(int).tolist(),
        "confusion_flag": confused.astype(int).tolist(),
        "alpha": _cells(alpha),
        "alpha_err": _cells(alpha_err),
        "s_vlass": _cells(told("VLASS", "flux_jy")),
        "s_first": _cells(told("FIRST", "flux_jy")),
        "s_rax": _cells(told("RACS", "flux_jy")),
        "first_size_maj_arcsec": _cells(told("FIRST", "major_axis_arcsec")),
        "first_size_min_arcsec": _cells(told("FIRST", "minor_axis_arcsec")),
        "first_size_pa_deg": _cells(told("FIRST", "position_angle_deg")),
    }
    yield from map(CatalogRow._make, zip(*(columns[name] for name in CatalogRow._fields), strict=True))


def _cells(values: NDArray[np.object_] | FloatArray, name: str = "") -> list[Value]:
    unknown = 0 if name.startswith("is_") else None
    return [unknown if value != value else value for value in values.tolist()]


def _named_sources(lists: list[SurveyList]) -> SurveyList | None:
    """Return the entries of the first list and those of later ones that it lacks."""
    if not lists:
        return None
    sources = lists[0].in_order()
    for survey in lists[1:]:
        index, _angle = match.nearest(*survey.radians, *sources.radians, radius=_RADIUS)
        known = set(sources.catalog_id.tolist())
        new = (index < 0) & np.array([name not in known for name in survey.catalog_id.tolist()], dtype=np.bool_)
        sources = sources.joined(survey.select(new))
    return sources


def _matched(survey: SurveyList, entry: NDArray[np.int64]) -> SurveyList:
    """Return each source's entry of a survey: NaN, and no id, where it has none."""
    here = np.flatnonzero(entry >= 0)
    columns = []
    for field in fields(survey):
        values = getattr(survey, field.name)
        column = np.full(entry.size, None if field.name == "catalog_id" else np.nan, dtype=values.dtype)
        column[here] = values[entry[here]]
        columns.append(column)
    return SurveyList(*columns)


def _confused(sources: SurveyList, surveys: list[SurveyList]) -> NDArray[np.bool_]:
    confused: NDArray[np.bool_] = sources.is_confused == 1.0
    for survey in surveys:
        confused |= match.count_within(*sources.radians, *survey.radians, radius=_RADIUS) > 1
    return confused


def _best_positions(
    sources: SurveyList, matched: dict[str, SurveyList], confused: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    ra_deg, dec_deg = sources.ra_deg.copy(), sources.dec_deg.copy()
    error = np.nan_to_num(sources.position_uncertainty_arcsec, nan=np.inf)
    for entries in matched.values():
        better = (entries.position_uncertainty_arcsec < error) & ~confused
        ra_deg[better], dec_deg[better] = entries.ra_deg[better], entries.dec_deg[better]
        error[better] = entries.position_uncertainty_arcsec[better]
    return ra_deg, dec_deg


def _spectral_index(sources: SurveyList, flux_jy: FloatArray, error_jy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the index that the list states, else the one toward 3 GHz, and the error of the latter."""
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = np.log(flux_jy / sources.flux_jy) / _LN_FREQ_RATIO
        alpha_err = np.hypot(error_jy / flux_jy, sources.flux_uncertainty / sources.flux_jy) / _LN_FREQ_RATIO
    told = np.isfinite(sources.spectral_index)
    return np.where(told, sources.spectral_index, alpha), np.where(told, np.nan, alpha_err)
