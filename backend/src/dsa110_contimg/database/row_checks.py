"""What a row must be before it is written: pydantic checks it, and says in one sentence what is wrong.

A check sees only the columns that it is told; `told_columns` returns those, so that an update keeps the rest.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsa110_contimg.errors import ConfigurationError

Value = str | float | None
Name = Annotated[str, Field(min_length=1)]
RightAscension = Annotated[float, Field(ge=0.0, lt=360.0)]
Declination = Annotated[float, Field(ge=-90.0, le=90.0)]
Positive = Annotated[float, Field(gt=0.0)]


class RowCheck(BaseModel):
    """A source at a position (deg, ICRS); no column may be unknown, and no number NaN or infinite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    ra_deg: RightAscension
    dec_deg: Declination


class CalibratorStatus(StrEnum):
    """Whether a bandpass calibrator is used."""

    ACTIVE = "active"
    """Chosen when its strip is observed."""
    INACTIVE = "inactive"
    """Not chosen for now: it flares, or is resolved by the present array."""
    RETIRED = "retired"
    """Kept for the record only."""


class _BandpassColumns(RowCheck):
    calibrator_name: Name
    dec_range_min: Declination | None = None
    dec_range_max: Declination | None = None
    source_catalog: str | None = None
    flux_jy: Positive | None = None
    registered_at: float = 0.0
    registered_by: str | None = None
    status: CalibratorStatus = CalibratorStatus.ACTIVE
    notes: str | None = None
    flux_freq_ghz: Positive | None = None
    spectral_index: float | None = None


class _GainColumns(RowCheck):
    field_id: Name
    source_name: Name
    flux_jy: Positive | None = None
    catalog_source: str | None = None
    catalog_id: str | None = None
    created_at: float = 0.0
    skymodel_path: str | None = None
    notes: str | None = None


Check = TypeVar("Check", bound=BaseModel)


def checked(kind: type[Check], what: str, columns: Mapping[str, object]) -> Check:
    """Return columns that have passed a check.

    Raises
    ------
    ConfigurationError
        If they have not; `what` names the row.
    """
    try:
        return kind.model_validate(dict(columns))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column, message = ".".join(map(str, first["loc"])), first["msg"]
        if first["type"] == "missing":
            raise ConfigurationError(f"{what} lacks {column}: give it") from None
        if first["type"] == "extra_forbidden":
            raise ConfigurationError(
                f"{what}: there is no column {column}; there are {', '.join(kind.model_fields)}"
            ) from None
        raise ConfigurationError(f"{what}: {column} is {first['input']!r}; {message[0].lower()}{message[1:]}") from None


def told_columns(row: BaseModel) -> dict[str, Value]:
    """Return the columns that a checked row was told, as the database stores them."""
    return row.model_dump(mode="json", exclude_unset=True)


def check_bandpass_calibrator(columns: Mapping[str, object]) -> dict[str, Value]:
    """Return the columns of a bandpass calibrator as they are stored.

    Raises
    ------
    ConfigurationError
        If one is unknown or impossible; the sentence names the calibrator.
    """
    name = columns.get("calibrator_name")
    told = told_columns(checked(_BandpassColumns, f"calibrator {name}", columns))
    low, high = told.get("dec_range_min"), told.get("dec_range_max")
    if isinstance(low, float) and isinstance(high, float) and low > high:
        raise ConfigurationError(
            f"calibrator {name}: the declination range {low} to {high} is empty; give the smaller limit first"
        )
    return told


def check_gain_calibrator(columns: Mapping[str, object]) -> dict[str, Value]:
    """Return the columns of a gain calibrator as they are stored.

    Raises
    ------
    ConfigurationError
        If one is unknown or impossible; the sentence names source and field.
    """
    what = f"gain calibrator {columns.get('source_name')} of field {columns.get('field_id')}"
    return told_columns(checked(_GainColumns, what, columns))
