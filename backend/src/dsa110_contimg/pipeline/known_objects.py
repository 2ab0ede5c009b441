"""Pulsars and known variables among candidates: they may well vary, and nobody need find that out again.

Both are lists that a person imports (`contimg catalog import pulsars FILE`, `variables FILE`); a candidate is the
object that is its likeliest counterpart, by separation, errors and density (`kernels.identify`). It stays a candidate,
marked.
"""

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from dsa110_contimg.database.catalog_import import load_survey
from dsa110_contimg.kernels.identify import Places, identify

FloatArray = NDArray[np.float64]

LISTS = {"PULSARS": "pulsar", "VARIABLES": "known variable"}
OWN_ERROR_ARCSEC = 3.0
"""Of a position of ours or of the NVSS, each axis."""


def known_as(calibrators: Session, ra_deg: FloatArray, dec_deg: FloatArray) -> list[str | None]:
    """Return what known objects some directions (n,) show, None for those that show none.

    The answer reads "pulsar B0329+54 (probability 0.99)".
    """
    told: list[str | None] = [None] * ra_deg.size
    error = np.full(ra_deg.size, np.radians(OWN_ERROR_ARCSEC / 3600.0))
    own = Places(np.radians(ra_deg), np.radians(dec_deg), error)
    for survey, kind in LISTS.items():
        objects = load_survey(calibrators, survey)
        if not len(objects) or not ra_deg.size:
            continue
        found = identify(own, objects.places)
        for place, (entry, likely) in enumerate(zip(found.entry.tolist(), found.probability.tolist(), strict=True)):
            if entry >= 0 and told[place] is None:
                told[place] = f"{kind} {objects.catalog_id[entry]} (probability {likely:.2f})"
    return told
