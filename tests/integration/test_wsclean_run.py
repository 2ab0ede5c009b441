"""A whole run with WSClean as the engine leaves the rows and files that our own leaves, with nearly the same fluxes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from tests.integration.conftest import QUICK, FinishedRun, below, install

from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import Image, Mosaic, Photometry, QACheck
from dsa110_contimg.formats import fits_image
from dsa110_contimg.pipeline.runner import run


def rows() -> dict[str, object]:
    """Return what a run stored, without paths and times."""
    with get_session("products", read_only=True) as session:
        return {
            "images": sorted(f"{Path(i.ms_path).name} {i.type}" for i in session.scalars(select(Image))),
            "filled": sorted(
                {
                    f"{image.type} {name}"
                    for image in session.scalars(select(Image))
                    for name, value in vars(image).items()
                    if value is not None
                }
            ),
            "checks": sorted(f"{c.subject} {c.name}" for c in session.scalars(select(QACheck)) if "." not in c.name),
            "mosaics": [(m.name, m.n_images) for m in session.scalars(select(Mosaic))],
        }


def fluxes() -> dict[tuple[str, str], float]:
    """Return bright fluxes over what the catalogue has, by image and source."""
    with get_session("products", read_only=True) as session:
        return {
            (Path(row.image_path).name, row.source_id): 1e3 * row.flux_jy / row.nvss_flux_mjy
            for row in session.scalars(select(Photometry))
            if row.flux_jy is not None and row.nvss_flux_mjy and (row.snr or 0.0) > 30.0 and not row.flags
        }


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is not installed")
def test_a_run_with_wsclean_fills_the_same_rows(finished: FinishedRun, good_incoming: Path, tmp_path: Path) -> None:
    expected, bright = rows(), fluxes()
    with below(tmp_path) as settings:
        install(settings, good_incoming)
        options = replace(QUICK, imaging=replace(QUICK.imaging, engine="wsclean"))
        summary = run(settings, options, once=True)
        assert not summary.ended("failed")
        assert rows() == expected
        measured = fluxes()
        with get_session("products", read_only=True) as session:
            paths = [Path(i.path) for i in session.scalars(select(Image).where(Image.type == "image"))]
    assert {fits_image.load(path).header["ENGINE"] for path in paths} == {"wsclean"}
    shared = sorted(set(bright) & set(measured))
    ratio = np.array([measured[key] / bright[key] for key in shared])
    for engine, found in (("own", bright), ("wsclean", measured)):
        over = np.array([found[key] for key in shared])
        print(f"{engine}: {len(found)} bright fluxes, shared ones over the catalogue's {np.median(over):.4f}")
    print(f"{len(shared)} fluxes, WSClean's over ours: median {np.median(ratio):.4f}, scatter {ratio.std():.4f}")
    assert len(shared) > 20
    # With three pixels to a beam, as here, engines that clean to different depths differ; with five they agree to 1 %.
    assert np.median(ratio) == pytest.approx(1.0, abs=0.06)
    assert finished.summary.exit_code == 0
