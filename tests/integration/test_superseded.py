"""Tiles that had no transit stand on the catalogue; when one comes they are calibrated, imaged and measured anew."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from tests.integration.conftest import GOOD_MOSAIC, QUICK

from dsa110_contimg.cli.process import initialize
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import Caltable, MSIndex, Photometry, QAArtifact, QACheck
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.pipeline.catalogs import import_catalog
from dsa110_contimg.pipeline.recalibrate import recalibrate
from dsa110_contimg.pipeline.runner import run
from dsa110_contimg.pipeline.status import overview
from dsa110_contimg.simulation import Truth, load_truth, simulate


def arrive(settings: Settings, observed: Path, truth: Truth, groups: slice) -> list[str]:
    """Have some groups of an observation arrive; return their ids."""
    for group in truth.groups[groups]:
        for name in group.files:
            shutil.copy2(observed / name, settings.incoming / name)
    return [group.group_id for group in truth.groups[groups]]


def work(settings: Settings) -> None:
    summary = run(settings, QUICK, once=True)
    assert summary.ended("completed")
    assert set(summary.counts) == {"completed"}, summary


def tables_of(group_id: str) -> list[Caltable]:
    with get_session("products", read_only=True) as session:
        tile = session.scalars(select(MSIndex).where(MSIndex.group_id == group_id)).one()
        assert tile.stage == "photometry_complete"
    with get_session("cal_registry", read_only=True) as session:
        paths = json.loads(tile.caltables or "[]")
        return [session.scalars(select(Caltable).where(Caltable.path == path)).one() for path in paths]


def fluxes_of(group_id: str) -> dict[str, float]:
    with get_session("products", read_only=True) as session:
        rows = session.scalars(select(Photometry).where(Photometry.image_path.contains(group_id)))
        found = {row.source_id: row.flux_jy for row in rows if row.flux_jy is not None}
        assert len(found) == len(set(found))
    return found


@pytest.mark.slow
def test_a_transit_that_arrives_later_takes_the_place_of_the_catalogue(house: Settings, tmp_path: Path) -> None:
    observed = tmp_path / "observed"
    simulate(observed, replace(GOOD_MOSAIC, tiles=4))
    truth = load_truth(observed)
    initialize(house)
    import_catalog(observed / "catalog.csv")

    first = arrive(house, observed, truth, slice(0, 2))
    work(house)
    for group_id in first:
        before = tables_of(group_id)
        assert [table.flux_anchor for table in before] == ["catalogue", "catalogue", "none"]
    old = before[1]
    assert overview().calibration[old.path].startswith("catalogue_anchored, and 2 tiles stand on it")
    catalogue_fluxes = {group_id: fluxes_of(group_id) for group_id in first}

    arrive(house, observed, truth, slice(2, 4))
    work(house)
    assert "superseded by" in overview().calibration[old.path]
    assert recalibrate(old.path, CalibrationOptions()) == first
    work(house)
    assert overview().calibration == {}
    for group_id in first:
        after = tables_of(group_id)
        assert [table.flux_anchor for table in after] == ["3C48", "3C48", "none"]
        assert after[2].path != before[2].path, "its own phases were solved anew on top of the new bandpass"
        again = fluxes_of(group_id)
        common = sorted(set(again) & set(catalogue_fluxes[group_id]))
        bright = [name for name in common if catalogue_fluxes[group_id][name] > 0.1]
        ratio = np.array([again[name] / catalogue_fluxes[group_id][name] for name in bright])
        print(group_id, f"{len(bright)} fluxes, anew over before {np.median(ratio):.3f}")
        assert np.median(ratio) == pytest.approx(1.0, abs=0.03), "the catalogue of this sky is right"
        assert (ratio != 1.0).all()
    with get_session("products", read_only=True) as session:
        pages = {Path(page).name for page in session.scalars(select(QAArtifact.path))}
        checks = set(session.scalars(select(QACheck.name).where(QACheck.subject == first[0])))
    assert {f"{Path(table.path).name}.png" for table in after} <= pages
    assert "GP.median_snr" in checks
