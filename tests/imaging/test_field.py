"""Pixels from the array and its beam."""

from dataclasses import replace

import numpy as np
import pytest
from tests.imaging.synthetic import Tile, empty_tile

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging.field import choose_field, fast_even_size, neat_cell_arcsec
from dsa110_contimg.options import ImagingOptions


def test_the_full_array_gets_three_arcsec_and_four_degrees() -> None:
    assert neat_cell_arcsec(2550.0, 1.498e9) == pytest.approx(3.0)
    assert fast_even_size(4805.0) == 4800


@pytest.mark.parametrize("baseline_m", [35.0, 484.0, 1203.0, 2700.0, 36000.0])
def test_cells_are_neat_and_sample_the_resolution_five_times(baseline_m: float) -> None:
    cell = neat_cell_arcsec(baseline_m, 1.4e9)
    resolution = np.degrees(299792458.0 / 1.4e9 / baseline_m) * 3600.0
    assert 5.0 <= resolution / cell < 7.6


def test_sizes_are_even_with_small_factors() -> None:
    for pixels in (33.0, 977.0, 1021.0, 4801.0, 7001.0):
        size = fast_even_size(pixels)
        assert size % 2 == 0
        assert abs(size - pixels) < 0.05 * pixels
        while size % 2 == 0 or size % 3 == 0 or size % 5 == 0:
            size //= 2 if size % 2 == 0 else 3 if size % 3 == 0 else 5
        assert size == 1


def test_a_tile_covers_its_beam_and_a_set_without_pointings_does_not_guess() -> None:
    vis = empty_tile(Tile())
    field = choose_field(vis, ImagingOptions())
    assert np.degrees(field.size * field.cell_rad) == pytest.approx(4.05, abs=0.1)
    bare = replace(vis, pointing_mjd=np.empty(0), pointing_icrs_deg=np.empty((0, 2)))
    assert choose_field(bare, ImagingOptions()).size == 1024


def test_aberration_is_in_the_image_not_in_the_uvw() -> None:
    vis = replace(empty_tile(Tile()), aberration=1.0001)
    assert np.degrees(choose_field(vis, ImagingOptions(cell_arcsec=10.0)).cell_rad) * 3600 == pytest.approx(9.999)


def test_bad_input_is_named() -> None:
    vis = empty_tile(Tile())
    with pytest.raises(ImagingError, match="size must be even"):
        choose_field(vis, ImagingOptions(size=501))
    vis.flags[:] = True
    with pytest.raises(ImagingError, match="every visibility of synthetic is flagged"):
        choose_field(vis, ImagingOptions())
