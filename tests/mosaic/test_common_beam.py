"""The common beam encloses all beams with the smallest area, and convolution gives it."""

import numpy as np
import pytest

from dsa110_contimg.mosaic.common_beam import beam_matrix, beams_agree, common_beam, convolve_to, matrix_beam
from dsa110_contimg.visibilities import Beam


def area(beam: Beam) -> float:
    return beam.major_arcsec * beam.minor_arcsec


def test_matrix_and_back() -> None:
    for pa in (-80.0, -10.0, 0.0, 45.0, 90.0):
        assert matrix_beam(beam_matrix(Beam(59.0, 18.0, pa))) == pytest.approx(Beam(59.0, 18.0, pa))
    assert matrix_beam(beam_matrix(Beam(59.0, 18.0, 110.0))).pa_deg == pytest.approx(-70.0)


def test_largest_beam_that_holds_all_is_taken_as_it_is() -> None:
    beams = [Beam(50.0, 40.0, 20.0), Beam(60.0, 45.0, 20.0), Beam(44.0, 30.0, 80.0)]
    assert common_beam(beams) == pytest.approx(Beam(60.0, 45.0, 20.0), rel=1e-5)


def test_crossed_beams_need_the_circle_around_them() -> None:
    assert common_beam([Beam(50.0, 30.0, 0.0), Beam(50.0, 30.0, 90.0)])[:2] == pytest.approx((50.0, 50.0), rel=1e-4)


def test_encloses_and_none_smaller_does() -> None:
    rng = np.random.default_rng(6)
    for _ in range(3):
        beams = [Beam(rng.uniform(45, 65), rng.uniform(20, 40), rng.uniform(80, 130)) for _ in range(6)]
        common = common_beam(beams)
        for beam in beams:
            assert np.linalg.eigvalsh(beam_matrix(common) - beam_matrix(beam)).min() > -1e-6 * area(beam)
        tries = [
            Beam(common.major_arcsec * a, common.minor_arcsec * b, common.pa_deg + c)
            for a, b, c in zip(
                rng.uniform(0.9, 1.1, 1500), rng.uniform(0.9, 1.1, 1500), rng.uniform(-8, 8, 1500), strict=True
            )
        ]
        smaller = [t for t in tries if area(t) < area(common) * 0.999]
        holds = [
            all(np.linalg.eigvalsh(beam_matrix(t) - beam_matrix(beam)).min() >= 0 for beam in beams) for t in smaller
        ]
        assert smaller
        assert not any(holds)


def test_agreement_is_within_a_thousandth() -> None:
    beam = Beam(60.0, 40.0, 110.0)
    assert beams_agree(beam, Beam(60.05, 39.97, 110.0))
    assert beams_agree(beam, Beam(60.0, 40.0, -70.0))
    assert not beams_agree(beam, Beam(60.2, 40.0, 110.0))
    assert not beams_agree(beam, Beam(60.0, 40.0, 112.0))


@pytest.mark.parametrize("pa", [0.0, 30.0, 120.0])
def test_convolved_point_has_the_target_beam_and_its_flux(pa: float) -> None:
    """Position angles run from north to east, and east is left: a transposed or mirrored kernel fails."""
    cell, beam, target = 8.0, Beam(45.0, 30.0, 20.0), Beam(80.0, 50.0, pa)
    y, x = np.mgrid[:101, :121]
    east, north = -(x - 60) * cell, (y - 50) * cell

    def point(shape: Beam) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        inverse = np.linalg.inv(beam_matrix(shape))
        square = inverse[0, 0] * east**2 + 2 * inverse[0, 1] * east * north + inverse[1, 1] * north**2
        return np.asarray(2.5 * np.exp(-4 * np.log(2) * square))

    image = point(beam).astype(np.float32)
    image[0, 0] = np.nan
    result = convolve_to(image, cell, beam, target)
    assert np.isnan(result[0, 0])
    result[0, 0] = 0.0
    np.testing.assert_allclose(result, point(target), atol=2e-5)
