"""Sources: the list in any order, one source, its light curve, its statistics, its neighbors.

A source is asked for by its name in any usual spelling, another survey's name of it, or its position. Fluxes are Jy,
times MJD (UTC). Lists and light curves come as JSON, or as files (`format`).
"""

from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field, model_validator

from dsa110_contimg.api.answers import Answer, answer, attachment, json_bytes, page_answer, remembered
from dsa110_contimg.api.databases import reading
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, encode_cursor
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.database.candidate_queries import candidates_of
from dsa110_contimg.database.lightcurve_queries import Epoch, list_epochs
from dsa110_contimg.database.source_details import (
    CatalogInfo,
    count_measurements,
    find_named,
    get_catalog_info,
    is_measured,
    list_neighbors,
)
from dsa110_contimg.database.source_queries import (
    SEPARATION,
    SORTS,
    SourceFilter,
    SourceRow,
    get_statistics,
    list_sources,
    place_of,
)
from dsa110_contimg.database.variability_queries import Plane, eta_v_plane
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats.lightcurve_files import SERVED_COLUMNS
from dsa110_contimg.formats.row_files import ENDINGS, MEDIA_TYPES, WRITERS, Column
from dsa110_contimg.visibilities import SkyPosition

router = APIRouter(tags=["sources"])
NAMES_DATABASES = ("products", "master_sources", "calibrators")
MOST_EXPORTED = 200_000
AS_FILES: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}}}
"""What else than JSON `format` may ask for, as OpenAPI has it."""
SOURCE_COLUMNS = {
    "source_id": Column("", "name", "meta.id;meta.main", str),
    "ra_deg": Column("deg", "right ascension (ICRS)", "pos.eq.ra;meta.main"),
    "dec_deg": Column("deg", "declination (ICRS)", "pos.eq.dec;meta.main"),
    "nvss_flux_jy": Column("Jy", "flux in NVSS at 1.4 GHz", "phot.flux.density;em.radio.750-1500MHz"),
    "n_obs": Column("", "number of epochs", "meta.number;obs", int),
    "mean_flux_jy": Column("Jy", "mean flux", "phot.flux.density;stat.mean"),
    "std_flux_jy": Column("Jy", "its standard deviation from epoch to epoch", "stat.stdev;phot.flux.density"),
    "min_flux_jy": Column("Jy", "smallest flux", "phot.flux.density;stat.min"),
    "max_flux_jy": Column("Jy", "largest flux", "phot.flux.density;stat.max"),
    "chi2_nu": Column("", "reduced chi-square about a constant", "stat.fit.chi2"),
    "sigma_deviation": Column("", "largest deviation of an epoch in sigma", "stat.value"),
    "eta": Column("", "how surely it varies", "src.var;stat.value"),
    "v": Column("", "how much it varies: standard deviation over mean", "src.var.index"),
    "last_mjd": Column("d", "last epoch (MJD, UTC)", "time.epoch;stat.max"),
    "updated_at": Column("s", "when the statistics were made (unix)", "time.processing"),
    "separation_deg": Column("deg", "distance from the center of the search", "pos.angDistance"),
}
_SORT = "|".join((*SORTS, SEPARATION))
Number = Annotated[float | None, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]


class SourceListing(Paged):
    """Which sources a list holds, and in what order."""

    q: Storable | None = Field(None, description="Name in any usual spelling, or a position.")
    ra_deg: float | None = Field(None, ge=0.0, le=360.0, description="Center of a circle.")
    dec_deg: float | None = Field(None, ge=-90.0, le=90.0, description="Center of a circle.")
    radius_deg: float = Field(0.1, ge=0.0, le=180.0, description="Radius of the circle.")
    min_eta: Number = None
    min_v: Number = None
    min_sigma: Number = Field(None, description="Least deviation of an epoch, in sigma.")
    min_chi2_nu: Number = None
    min_flux_jy: Number = Field(None, description="Least mean flux.")
    max_flux_jy: Number = Field(None, description="Largest mean flux.")
    min_dec_deg: Number = None
    max_dec_deg: Number = None
    min_n_obs: int | None = Field(None, ge=0, le=10**9, description="Fewest epochs.")
    candidate: bool | None = Field(None, description="Only those that await a person as candidates, or only others.")
    sort: str | None = Field(
        None,
        pattern=f"^-?({_SORT})$",
        description=f"One of {', '.join(SORTS)}, or {SEPARATION} within a circle; a minus sign before it: descending."
        " By default -eta, and the nearest first within a circle.",
    )
    format: Literal["json", "csv", "votable", "parquet"] = Field("json", description="Files hold the list whole.")

    @model_validator(mode="after")
    def _circle_is_whole(self) -> "SourceListing":
        """Refuse half a circle, with 400 as no schema can say it."""
        if (self.ra_deg is None) != (self.dec_deg is None):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "a circle needs ra_deg and dec_deg")
        if self.sort is not None and self.sort.endswith(SEPARATION) and self.ra_deg is None:
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"{SEPARATION} needs a circle: ra_deg, dec_deg and radius_deg")
        return self

    @property
    def order(self) -> str:
        """The order that is asked for, or the usual one."""
        return self.sort or ("-eta" if self.ra_deg is None else SEPARATION)

    def filter(self, names: tuple[str, ...] | None) -> SourceFilter:
        """Return which sources are asked for, those of some names only if there are names."""
        center = None if self.ra_deg is None or self.dec_deg is None else SkyPosition(self.ra_deg, self.dec_deg)
        shared = {name for name in type(self).model_fields if name in SourceFilter.__dataclass_fields__}
        return SourceFilter(**{name: getattr(self, name) for name in shared}, names=names, center=center)


class SourceItem(BaseModel):
    """One source with what its light curve says; fluxes in Jy, null where the epochs are too few."""

    source_id: str
    ra_deg: float
    dec_deg: float
    nvss_flux_jy: float | None
    n_obs: int | None
    mean_flux_jy: float | None
    std_flux_jy: float | None
    min_flux_jy: float | None
    max_flux_jy: float | None
    chi2_nu: float | None
    sigma_deviation: float | None
    eta: float | None
    v: float | None
    last_mjd: float | None
    updated_at: float
    separation_deg: float | None = Field(description="From the center of the circle that was asked for, else null.")


class EpochItem(BaseModel):
    """One point of a light curve; null is what was not measured."""

    id: int
    mjd: float
    normalized_flux_jy: float | None
    normalized_flux_err_jy: float | None
    upper_limit_jyb: float | None
    peak_jyb: float | None
    peak_err_jyb: float | None
    local_rms_jyb: float | None
    snr: float | None
    flags: int | None = Field(description="Bits: 1 edge, 2 low beam, 4 confused, 8 negative, 16 near bright, 32 twin.")
    in_lightcurve: bool
    retracted_at: float | None
    epoch_factor: float | None
    epoch_factor_err: float | None
    image_id: int | None
    image: str
    image_noise_jy: float | None


class LightCurveBody(BaseModel):
    """A light curve in time order."""

    source_id: str
    points: list[EpochItem]


class PlaneItem(BaseModel):
    """The eta-V plane: columns of one length, and how many sources they stand for."""

    source_id: list[str]
    eta: list[float]
    v: list[float]
    n_sources: int
    n_outside: int = Field(description="Sources beyond both lines.")
    eta_line: float | None = Field(description="Three robust standard deviations above the median of log eta.")
    v_line: float | None = Field(description="The same of log V.")


class LightCurveQuestion(BaseModel, extra="forbid"):
    """What a light curve holds, and how it comes."""

    every: bool = Field(False, description="Also overlaps of one transit, and what was retracted.")
    format: Literal["json", "csv", "votable", "parquet"] = "json"


class NeighborQuestion(BaseModel, extra="forbid"):
    """How far neighbors lie, and how many are wanted."""

    radius_deg: float = Field(0.5, gt=0.0, le=180.0)
    limit: int = Field(50, ge=1, le=500)


SourceName = Annotated[Storable, Path(description="Name in any usual spelling, or a position.", max_length=200)]


@router.get("/sources", response_model=Page[SourceItem], responses=AS_FILES)
async def get_sources(request: Request, wanted: Annotated[SourceListing, Query()]) -> Response:
    """List sources."""
    databases = ("products",) if wanted.q is None else NAMES_DATABASES
    small = wanted.ra_deg is None or wanted.radius_deg < 1.0
    takes_long = wanted.format != "json" or wanted.q is not None or not small
    return await answer(request, databases, lambda: _listed(request, wanted), takes_long=takes_long)


def _listed(request: Request, wanted: SourceListing) -> Answer:
    names = None if wanted.q is None else tuple(named(wanted.q))
    after = None
    if wanted.cursor is not None:
        by_name = wanted.order.endswith("source_id")
        value, tie = decode_cursor(wanted.cursor, str if by_name else float | None, str)
        after = value, str(tie)
    limit = wanted.limit if wanted.format == "json" else MOST_EXPORTED
    with reading("products") as session:
        rows = list_sources(session, wanted.filter(names), wanted.order, after, limit + 1)
    shown = rows[:limit]
    if wanted.format != "json":
        body = WRITERS[wanted.format]("sources", SOURCE_COLUMNS, shown)
        return attachment(body, MEDIA_TYPES[wanted.format], f"sources{ENDINGS[wanted.format]}")
    cursor = encode_cursor(*place_of(shown[-1], wanted.order)) if len(rows) > limit else None
    return page_answer(request, (row._asdict() for row in shown), cursor)


@router.get("/variability", response_model=PlaneItem)
async def get_variability(request: Request) -> Response:
    """Return the eta-V plane: where many sources lie together, one of them stands for them."""

    def make() -> Answer:
        told = plane()
        columns = {name: [getattr(point, name) for point in told.points] for name in ("source_id", "eta", "v")}
        figures = {name: getattr(told, name) for name in ("n_sources", "n_outside", "eta_line", "v_line")}
        return Answer(json_bytes(columns | figures))

    return await answer(request, ("products",), make, takes_long=True)


def plane() -> Plane:
    """Return the eta-V plane as the database has it now."""

    def make() -> Plane:
        with reading("products") as session:
            return eta_v_plane(session)

    return remembered("eta_v_plane", ("products",), make)


@router.get("/sources/{source_id}")
async def get_source(request: Request, source_id: SourceName) -> dict[str, Any]:
    """Return a source: statistics, what the catalogue says, candidates, and how often it was measured."""
    return await answer(request, NAMES_DATABASES, lambda: _described(source_id), takes_long=True)  # type: ignore[return-value]


def _described(source_id: str) -> Answer:
    return Answer(json_bytes(describe_source(meant(source_id))))


def describe_source(source_id: str) -> dict[str, Any]:
    """Return all that is known of a source, by its name in full, but for its light curve."""
    with reading("products") as session:
        statistics = get_statistics(session, source_id)
        candidates = [row._asdict() | {"history": [one._asdict() for one in row.history]}
                      for row in candidates_of(session, source_id)]  # fmt: skip
        number = count_measurements(session, source_id)
    catalog, note = catalog_info(source_id)
    ra_deg, dec_deg = place_on_sky(statistics, catalog)
    return {
        "source_id": source_id,
        "ra_deg": ra_deg,
        "dec_deg": dec_deg,
        "n_measurements": number,
        "statistics": None if statistics is None else statistics._asdict(),
        "catalog": None if catalog is None else catalog._asdict(),
        "catalog_note": note,
        "candidates": candidates,
        "lightcurve": f"/api/v1/sources/{quote(source_id, safe='')}/lightcurve",
    }


def place_on_sky(statistics: SourceRow | None, catalog: CatalogInfo | None) -> tuple[float | None, float | None]:
    """Return where a source is: as measured, else as the catalogue has it."""
    known = statistics or catalog
    return (None, None) if known is None else (known.ra_deg, known.dec_deg)


def catalog_info(source_id: str) -> tuple[CatalogInfo | None, str | None]:
    """Return what the master catalogue has of a source, or why nothing is told."""
    try:
        with reading("master_sources") as master:
            found = get_catalog_info(master, source_id)
    except ConfigurationError as error:
        return None, str(error)
    return found, None if found else "the catalogue does not have this source"


@router.get("/sources/{source_id}/lightcurve", response_model=LightCurveBody, responses=AS_FILES)
async def get_lightcurve(
    request: Request, source_id: SourceName, wanted: Annotated[LightCurveQuestion, Query()]
) -> Response:
    """Return the light curve of a source, as JSON, CSV, VOTable or Parquet."""
    slow = wanted.format != "json"
    return await answer(request, ("products",), lambda: _lightcurve(source_id, wanted), takes_long=slow)


def _lightcurve(source_id: str, wanted: LightCurveQuestion) -> Answer:
    with reading("products") as session:
        points = list_epochs(session, source_id, every=wanted.every)
        if not points and not is_measured(session, source_id):
            source_id = meant(source_id)
            points = list_epochs(session, source_id, every=wanted.every)
    if wanted.format == "json":
        return Answer(json_bytes({"source_id": source_id, "points": [point._asdict() for point in points]}))
    body = WRITERS[wanted.format](source_id, SERVED_COLUMNS, [_cells(point) for point in points])
    filename = f"{source_id.replace(' ', '_')}_lightcurve{ENDINGS[wanted.format]}"
    return attachment(body, MEDIA_TYPES[wanted.format], filename)


def _cells(point: Epoch) -> list[str | float | int | None]:
    return [int(value) if isinstance(value := getattr(point, name), bool) else value for name in SERVED_COLUMNS]


@router.get("/sources/{source_id}/variability", response_model=SourceItem)
async def get_source_variability(request: Request, source_id: SourceName) -> Response:
    """Return how much and how surely a source varies."""

    def make() -> Answer:
        with reading("products") as session:
            row = get_statistics(session, source_id) or get_statistics(session, meant(source_id))
        if row is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{source_id} has no statistics yet: nothing was measured")
        return Answer(json_bytes(row._asdict()))

    return await answer(request, NAMES_DATABASES, make)


@router.get("/sources/{source_id}/neighbors", response_model=Page[SourceItem])
async def get_neighbors(
    request: Request, source_id: SourceName, wanted: Annotated[NeighborQuestion, Query()]
) -> Response:
    """Return the measured sources around a source, the nearest first, without itself."""

    def make() -> Answer:
        name = meant(source_id)
        with reading("products") as session:
            statistics = get_statistics(session, name)
            ra_deg, dec_deg = place_on_sky(statistics, catalog_info(name)[0] if statistics is None else None)
            if ra_deg is None or dec_deg is None:
                raise HTTPException(HTTPStatus.NOT_FOUND, f"nobody knows where {name} is")
            rows = list_neighbors(session, SkyPosition(ra_deg, dec_deg), name, wanted.radius_deg, wanted.limit)
        return page_answer(request, (row._asdict() for row in rows), None)

    return await answer(request, NAMES_DATABASES, make, takes_long=True)


def named(spelling: str) -> list[str]:
    """Return the sources that a spelling means."""
    with reading("products") as session, reading("master_sources") as master, reading("calibrators") as calibrators:
        return find_named(session, master, calibrators, spelling)


def meant(spelling: str) -> str:
    """Return the one source that a spelling means.

    Raises
    ------
    HTTPException
        404 if it means none, 400 if it means several.
    """
    with reading("products") as session:
        if is_measured(session, spelling):
            return spelling
    found = named(spelling)
    if not found:
        raise HTTPException(
            HTTPStatus.NOT_FOUND,
            f"{spelling!r} fits no source: give a name (NVSS J133108+303032, 3C286) or a position (202.7845 30.5092)",
        )
    if len(found) > 1:
        told = ", ".join(found[:3])
        raise HTTPException(
            HTTPStatus.BAD_REQUEST, f"{spelling!r} fits {len(found)} sources ({told}…): write more digits"
        )
    return found[0]
