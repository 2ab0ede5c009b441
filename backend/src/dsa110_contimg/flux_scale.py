"""The flux scale: Perley & Butler 2017 (ApJS 230, 7), and the positions of its calibrators in our sky.

    log10(S / Jy) = a0 + a1 L + a2 L² + ...        L = log10(f / GHz)

3C286, 3C295 and 3C196 are steady; 3C48, 3C147 and 3C138 vary slowly and anchor 1.4 GHz within 3 %. No other source may
set the scale: the rest of the twenty are resolved, or lie too far south, and what is not in the paper may vary, as
3C454.3 does.
"""

import numpy as np

from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.visibilities import SkyModel, SkyPosition

POLYNOMIALS: dict[str, tuple[float, ...]] = {
    "J0133-3629": (1.044, -0.6619, -0.2252),
    "3C48": (1.3253, -0.7553, -0.1914, 0.0498),
    "FORNAX_A": (2.2175, -0.6606),
    "3C123": (1.8017, -0.7884, -0.1035, -0.0248, 0.009),
    "J0444-2809": (0.971, -0.8938, -0.1176),
    "3C138": (1.0088, -0.4981, -0.1552, -0.0102, 0.0223),
    "PICTOR_A": (1.938, -0.747, -0.0739),
    "TAURUS_A": (2.9516, -0.2173, -0.0473, -0.0674),
    "3C147": (1.4516, -0.6961, -0.2007, 0.064, -0.0464, 0.0289),
    "3C196": (1.2872, -0.853, -0.1534, -0.02, 0.0201),
    "HYDRA_A": (1.7795, -0.9176, -0.0843, -0.0139, 0.0295),
    "VIRGO_A": (2.4466, -0.8116, -0.0483),
    "3C286": (1.2481, -0.4507, -0.1798, 0.0357),
    "3C295": (1.4701, -0.7658, -0.278, -0.0347, 0.0399),
    "HERCULES_A": (1.8298, -1.0247, -0.0951),
    "3C353": (1.8627, -0.6938, -0.0998, -0.0732),
    "3C380": (1.232, -0.7909, 0.0947, 0.0976, -0.1794, -0.1566),
    "CYGNUS_A": (3.3498, -1.0022, -0.2246, 0.0227, 0.0425),
    "3C444": (1.1064, -1.0052, -0.075, -0.0767),
    "CASSIOPEIA_A": (3.3584, -0.7518, -0.0347, -0.0705),
}

POSITIONS = {
    "3C48": SkyPosition(24.4220792, 33.1597583),
    "3C138": SkyPosition(80.2911917, 16.6394583),
    "3C147": SkyPosition(85.6505750, 49.8520083),
    "3C196": SkyPosition(123.4001375, 48.2174000),
    "3C286": SkyPosition(202.7845333, 30.5091556),
    "3C295": SkyPosition(212.8360292, 52.2025389),
}

STEADY = frozenset({"3C196", "3C286", "3C295"})
SLOW_SYSTEMATIC = 0.03
"""Fractional flux error at 1.4 GHz of the calibrators that vary slowly."""


def anchor_systematic(name: str) -> float | None:
    """Return the fractional error of a calibrator as an anchor of the flux scale; None if it may not set it."""
    if name not in POSITIONS:
        return None
    return 0.0 if name in STEADY else SLOW_SYSTEMATIC


def calibrator_model(name: str) -> SkyModel:
    """Return a flux calibrator as a point source with its spectrum, referred to 1 GHz.

    Raises
    ------
    CalibrationError
        If the name has no polynomial or no position here.
    """
    if name not in POLYNOMIALS or name not in POSITIONS:
        raise CalibrationError(f"{name} is not a flux calibrator that we know; known are {', '.join(POSITIONS)}")
    coefficients = np.array(POLYNOMIALS[name])
    position = POSITIONS[name]
    return SkyModel(
        names=[name],
        ra_deg=np.array([position.ra_deg]),
        dec_deg=np.array([position.dec_deg]),
        flux_jy=10.0 ** coefficients[:1],
        spectrum=coefficients[None, 1:],
        ref_freq_hz=1e9,
    )
