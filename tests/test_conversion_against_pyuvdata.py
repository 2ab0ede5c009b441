"""UVW and phases of a converted tile against pyuvdata's, on every baseline, at several declinations and across RA 0."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyuvdata")

from tests.pyuvdata_oracle import read_and_phase, uvw_of
from tests.test_conversion import STRIPS, observe

from dsa110_contimg import conversion
from dsa110_contimg.formats import uvh5
from dsa110_contimg.options import ConversionOptions

UVW_M = 0.3e-3
PHASE_RAD = 0.01
DIURNAL_ABERRATION = 1.6e-6
TURN_OF_NORTH_RAD = 1e-4


@pytest.mark.parametrize(("declination", "ra_deg"), STRIPS)
def test_uvw_and_phases_are_pyuvdatas(declination: float, ra_deg: float, tmp_path: Path) -> None:
    paths, _sky = observe(tmp_path / "tile", declination, ra_deg)
    vis = conversion.load_group(paths, ConversionOptions())
    header = uvh5.read_header(paths[5])
    peer = read_and_phase(paths[5], *vis.phase_center)
    swap = np.tile(header.ant_2 > header.ant_1, header.times_mjd.size)
    sign = np.where(swap, -1.0, 1.0)[:, None]
    refined = sign * uvw_of(peer, *vis.phase_center, refined=True)
    usual = sign * uvw_of(peer, *vis.phase_center, refined=False)
    np.testing.assert_allclose(sign * peer.uvw_array, usual, atol=1e-6)
    off, off_usual = np.abs(vis.uvw_m - refined).max(axis=0), np.abs(vis.uvw_m - usual).max(axis=0)
    n_chan = header.freq_hz.size
    ours = vis.vis[:, (15 - header.index) * n_chan :][:, :n_chan]
    theirs = peer.data_array.reshape(ours.shape)[:, ::-1]
    theirs = np.where(swap[:, None, None], theirs.conj(), theirs)
    cross = vis.antenna1 != vis.antenna2
    phase = np.abs(np.angle(ours[cross] * theirs[cross].conj())).max()
    print(
        f"dec {declination}: UVW off by {off * 1e3} mm, by its defaults {off_usual * 1e3} mm, phases by {phase:.1e} rad"
    )
    assert off.max() < UVW_M
    assert phase < PHASE_RAD
    longest = np.linalg.norm(vis.uvw_m, axis=1).max()
    assert off_usual[2] < DIURNAL_ABERRATION * longest, "w differs by diurnal aberration only"
    assert off_usual[:2].max() < TURN_OF_NORTH_RAD * longest, "u and v by how north is found"
