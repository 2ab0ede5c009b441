"""Sources put into a tile's visibilities come back from its image, and only tiles of some places get any."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.imaging.synthetic import Tile, add_noise, empty_tile

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import InjectedFlux, InjectedSource
from dsa110_contimg.database.repositories import ImageRepository, ms_index_upsert
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.options import ImagingOptions, PhotometryOptions
from dsa110_contimg.pipeline import planting_tiles
from dsa110_contimg.pipeline.planting import follow_planted, planted_recovery, store_planted
from dsa110_contimg.pipeline.planting_tiles import is_chosen, plant_in_tile
from dsa110_contimg.visibilities import SkyModel, SkyPosition

SMALL = Tile(n_antennas=26, n_times=4, n_channels=8, extent_m=300.0, channel_width_hz=187.5e6 / 8)
IMAGING = ImagingOptions(size=256, cell_arcsec=36.0, threads=1, smearing=False)
NOTHING = SkyModel([], np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 1)))
OPTIONS = PhotometryOptions()


def test_a_fraction_of_all_places_is_chosen_and_always_the_same() -> None:
    rng = np.random.default_rng(1)
    places = [
        SkyPosition(ra, dec) for ra, dec in zip(rng.uniform(0, 360, 4000), rng.uniform(-30, 85, 4000), strict=True)
    ]
    assert [is_chosen(place, 0.05) for place in places] == [is_chosen(place, 0.05) for place in places]
    assert 0.02 < np.mean([is_chosen(place, 0.05) for place in places]) < 0.09
    assert not any(is_chosen(place, 0.0) for place in places)
    assert all(is_chosen(place, 1.0) for place in places)
    assert is_chosen(SkyPosition(0.0, 33.0), 0.5) == is_chosen(SkyPosition(360.0, 33.0), 0.5)


def test_what_is_put_into_visibilities_is_measured_and_kept_apart(
    house: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house
    monkeypatch.setattr(planting_tiles, "RADIUS_DEG", 1.0)
    vis = empty_tile(SMALL)
    add_noise(vis, 0.02, 3)
    shown = make_image(vis, IMAGING).image
    sources, fluxes = plant_in_tile(vis, NOTHING, shown, IMAGING, OPTIONS)
    assert sources
    for source, flux in zip(sources, fluxes, strict=True):
        print(source["source_id"], flux["true_flux_jy"], flux["flux_jy"], flux["flux_err_jy"])
        assert source["put_into"] == "visibilities"
        assert str(source["source_id"]).endswith("in visibilities")
    pulls = [
        (float(f["flux_jy"]) - float(f["true_flux_jy"]))
        / np.hypot(float(f["flux_err_jy"]), 0.05 * float(f["true_flux_jy"]))
        for f in fluxes
        if f["flux_jy"] is not None and f["flux_err_jy"] is not None and f["true_flux_jy"] is not None
    ]
    assert pulls
    assert float(np.median(np.abs(pulls))) < 2.0
    with get_session("products") as session:
        ms_index_upsert(session, "/a.ms", stage="imaged")
        ImageRepository.add(session, path="/a", ms_path="/a.ms", type="image", created_at=0.0)
        store_planted(session, "/a", (sources, fluxes))
        follow_planted(session, OPTIONS)
        assert {s.put_into for s in session.scalars(select(InjectedSource))} == {"visibilities"}
        assert len(session.scalars(select(InjectedFlux)).all()) == len(fluxes)
        few = PhotometryOptions(min_epochs=1)
        assert all(kind.endswith("(in visibilities)") for kind in planted_recovery(session, few))
