"""What else tells on a candidate, beside its light curve: the parts of the band, and what is known of its place.

A plasma lens bends light by the square of the wavelength, an error of the gains dims all parts of the band alike.
What is the same in all parts and shared with the neighbors is a gain error, and no candidate. The rest is said in the
reason.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database import get_session
from dsa110_contimg.database.bulk import fetch_all, in_parts
from dsa110_contimg.database.models import VariabilityStats
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.candidates import Candidate
from dsa110_contimg.pipeline.known_objects import known_as
from dsa110_contimg.pipeline.subband_rows import event_slope

CHROMATIC_SIGMA = 3.0
TELLING_ERROR = 1.0
"""Of a slope: with a larger one, equal fluxes in all parts say nothing."""


def in_context(
    session: Session, candidates: Mapping[str, Candidate], options: PhotometryOptions
) -> dict[str, Candidate]:
    """Return the candidates that no gain error explains, with what the band and the catalogues say of them."""
    told = {}
    for name, candidate in candidates.items():
        judged = _by_band(session, candidate, options)
        if judged is not None:
            told[name] = judged
    return _by_catalog(session, told)


def _by_band(session: Session, candidate: Candidate, options: PhotometryOptions) -> Candidate | None:
    """Return a candidate with what the parts of the band say, None if that is a gain error."""
    if candidate.span_mjd is None:
        return candidate
    window = max(options.baseline_window_days, candidate.span_mjd[1] - candidate.span_mjd[0])
    found = event_slope(session, candidate.source_id, candidate.span_mjd, window)
    if found is None:
        return candidate
    slope, error = found
    words = f"d ln S/d ln f {slope:+.1f} ± {error:.1f}"
    if abs(slope) > CHROMATIC_SIGMA * error:
        return replace(candidate, reason=f"{candidate.reason}, chromatic ({words})")
    if error > TELLING_ERROR:
        return candidate
    if candidate.neighbors_changed:
        return None
    return replace(candidate, reason=f"{candidate.reason}, alike in all parts of the band ({words})")


def _by_catalog(session: Session, candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
    """Return candidates marked with the pulsars and known variables that they are."""
    columns = (VariabilityStats.source_id, VariabilityStats.ra_deg, VariabilityStats.dec_deg)
    rows = [
        row for part in in_parts(candidates) for row in fetch_all(session, select(*columns).where(columns[0].in_(part)))
    ]
    if not rows:
        return dict(candidates)
    names, ra, dec = zip(*rows, strict=True)
    with get_session("calibrators", read_only=True) as calibrators:
        known = known_as(calibrators, np.array(ra, float), np.array(dec, float))
    told = {
        name: replace(candidates[name], known_as=found, reason=f"{candidates[name].reason}, {found}")
        for name, found in zip(names, known, strict=True)
        if found is not None
    }
    return dict(candidates) | told
