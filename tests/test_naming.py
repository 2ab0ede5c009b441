"""Names are built and parsed in one place, and parsing undoes building."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg import naming
from dsa110_contimg.telescope import unix_to_mjd

stamps = st.datetimes(datetime(2015, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001 - stamps carry no zone
    lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S")
)


@given(stamps, st.integers(0, 15), st.booleans())
def test_subband_name_round_trip(stamp: str, index: int, unfinished: bool) -> None:
    path = Path("/somewhere") / naming.subband_name(stamp, index, unfinished=unfinished)
    assert naming.parse_subband(path) == naming.Subband(stamp, index, unfinished)


@given(st.text(max_size=40))
def test_other_names_are_nobodys_subband(text: str) -> None:
    assert naming.parse_subband(Path("/x") / f"{text.replace('/', '').replace(chr(0), '')}.txt") is None


@pytest.mark.parametrize("name", ["2025-13-01T00:00:00_sb00.hdf5", "2025-01-01T00:00:00_sb0.hdf5", "a.hdf5"])
def test_almost_names_are_refused(name: str) -> None:
    assert naming.parse_subband(Path(name)) is None


@given(stamps)
def test_group_id_is_the_start_rounded_to_the_second(stamp: str) -> None:
    unix = datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()
    assert naming.group_id_of(unix_to_mjd(unix + 0.4)) == stamp
    assert naming.stamp_unix(stamp) == unix


@given(stamps, st.integers(1, 9))
def test_mosaic_id_round_trip(stamp: str, version: int) -> None:
    assert naming.parse_mosaic_id(naming.mosaic_id(stamp, version)) == (stamp, version)


def test_measurement_set_lies_where_the_specification_says() -> None:
    path = naming.ms_path(Path("/stage"), "2025-01-15T12:30:00")
    assert path == Path("/stage/ms/science/2025-01-15/2025-01-15T12:30:00.ms")
    assert naming.group_id_of_ms(path) == "2025-01-15T12:30:00"


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [
        (24.4220792, 33.1597583, "NVSS J013741.2+330935"),
        (188.74033, -0.5, "NVSS J123457.6-003000"),
        (359.9999, 0.0, "NVSS J235959.9+000000"),
    ],
)
def test_source_names_are_truncated_not_rounded(ra: float, dec: float, name: str) -> None:
    assert naming.source_name(ra, dec) == name
