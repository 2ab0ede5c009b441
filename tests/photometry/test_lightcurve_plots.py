"""Light-curve pictures are whole files with something on them."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from dsa110_contimg.photometry.lightcurves import LightCurve
from dsa110_contimg.photometry.plots import save_lightcurve


def curve(limits: bool = False) -> LightCurve:
    mjd = 60000.0 + 7.97 * np.arange(12.0)
    flux = np.where(np.abs(mjd - 60045.0) < 20.0, 0.065, 0.1)
    upper = np.where(np.arange(12) == 5, 0.02, np.nan) if limits else None
    return LightCurve("NVSS J013741.2+330935", mjd, flux, np.full(12, 0.004), upper)


def test_picture_has_points_limits_and_truth(tmp_path: Path) -> None:
    plain = imread(save_lightcurve(tmp_path / "plain.png", curve()))
    full = imread(save_lightcurve(tmp_path / "full.png", curve(limits=True), truth=(curve().mjd, curve().flux_jy)))
    assert plain.shape[:2] == full.shape[:2] == (552, 1080)
    for color in (np.array([0.0, 114.0, 178.0]) / 255.0,):
        assert np.count_nonzero(np.abs(plain[..., :3] - color).max(axis=-1) < 0.02) > 100
    orange = np.array([213.0, 94.0, 0.0]) / 255.0
    assert np.count_nonzero(np.abs(full[..., :3] - orange).max(axis=-1) < 0.02) > 30
    assert np.count_nonzero(np.abs(plain[..., :3] - orange).max(axis=-1) < 0.02) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full.png", "plain.png"]


def test_one_point_and_all_limits_are_drawn(tmp_path: Path) -> None:
    one = LightCurve("S", np.array([60000.0]), np.array([0.1]), np.array([0.01]))
    limits = LightCurve("S", np.array([60000.0, 60000.4]), np.zeros(2), np.ones(2), np.array([0.01, 0.02]))
    for index, item in enumerate((one, limits)):
        assert save_lightcurve(tmp_path / f"{index}.png", item).stat().st_size > 5000
