"""CASA reads, flags, calibrates and images our Measurement Sets, and its log has nothing to say about them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.casa import casa, needs_casa
from tests.test_conversion import observe

from dsa110_contimg import conversion
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.options import ConversionOptions

BRIGHTEST = 0
POSITION_ARCSEC = 3.0
OF_CASA_ITSELF = ("TAI_UTC", "Until the table is updated", "times and coordinates derived from UTC")
"""The table of leap seconds is as old as the CASA data package."""
WORK = """
import casatasks, casatools, numpy, pathlib
casatasks.listobs(ms, listfile="listobs.txt")
before = casatasks.flagdata(ms, mode="summary")
casatasks.flagdata(ms, mode="manual", antenna="1&6", flagbackup=False)
casatasks.gencal(ms, caltable="amp.cal", caltype="amp", parameter=[2.0])
casatasks.applycal(ms, gaintable=["amp.cal"], flagbackup=False)
table = casatools.table()
table.open(ms)
cross = table.query("ANTENNA1 != ANTENNA2 and not FLAG[0, 0]")
ratio = numpy.abs(cross.getcol("DATA") / cross.getcol("CORRECTED_DATA"))
cross.close()
table.close()
after = casatasks.flagdata(ms, mode="summary")["flagged"]
casatasks.tclean(ms, imagename="im", datacolumn="data", imsize=800, cell="10arcsec", weighting="natural",
                 gridder="wproject", wprojplanes=16, niter=200, restoringbeam="common")
log = pathlib.Path(log_path).read_text()
image = casatools.image()
image.open("im.image")
found = image.maxfit(point=True)["component0"]
beam, pixels, axes = image.restoringbeam(), image.getchunk().squeeze(), image.coordsys()
world, apart = axes.referencevalue()["numeric"], []
for position in places:
    world[:2] = position
    x, y = axes.topixel(world)["numeric"][:2]
    corner = round(x) - 4, round(y) - 4
    box = pixels[corner[0] : corner[0] + 9, corner[1] : corner[1] + 9]
    i, j = numpy.unravel_index(box.argmax(), box.shape)
    apart.append(float(numpy.hypot(corner[0] + i - x, corner[1] + j - y)))
image.close()
direction = found["shape"]["direction"]
history = casatools.table()
history.open(ms + "/HISTORY")
entries = history.nrows()
history.close()
meta = casatools.msmetadata()
meta.open(ms)
told = {"fields": meta.fieldnames(), "nchan": meta.nchan(0), "antennas": len(meta.antennaids()),
        "intents": meta.intents(), "telescope": meta.observatorynames(), "corrs": meta.corrtypesforpol(0).tolist()}
meta.close()
result = {
    "listobs": pathlib.Path("listobs.txt").read_text(), "before": before["flagged"], "total": before["total"],
    "after": after, "apart": apart, "ratio": [float(ratio.min()), float(ratio.max())],
    "ra": direction["m0"]["value"], "dec": direction["m1"]["value"], "frame": direction["refer"],
    "flux": float(found["flux"]["value"][0]), "beam": beam["major"]["value"], "history": entries, "meta": told,
    "log": log,
}
"""


@needs_casa
@pytest.mark.parametrize(("declination", "ra_deg"), [(33.2, 24.0), (16.1, 359.9)])
def test_casa_works_on_our_set(declination: float, ra_deg: float, tmp_path: Path) -> None:
    paths, sky = observe(tmp_path / "tile", declination, ra_deg)
    vis = conversion.load_group(paths, ConversionOptions())
    ms = measurement_set.save(tmp_path / "tile.ms", vis)
    places = np.radians(np.column_stack([sky.ra_deg, sky.dec_deg]))
    told: dict[str, Any] = casa(WORK, ms=ms, places=places.tolist())
    complaints = [line for line in told["log"].splitlines() if "\tWARN\t" in line or "\tSEVERE\t" in line]
    assert [line for line in complaints if not any(known in line for known in OF_CASA_ITSELF)] == []
    assert "Observation: OVRO_MMA" in told["listobs"]
    assert vis.field_name in told["listobs"]
    meta = told["meta"]
    assert (meta["fields"], meta["nchan"], meta["corrs"]) == ([vis.field_name], 32, [9, 12])
    assert (meta["intents"], meta["telescope"]) == (["OBSERVE_TARGET#ON_SOURCE"], ["OVRO_MMA"])
    assert meta["antennas"] == vis.n_antennas
    assert (told["before"], told["total"]) == (vis.flags.sum(), vis.flags.size)
    assert told["after"] > told["before"]
    assert told["history"] > 0, "CASA wrote what it did into HISTORY"
    np.testing.assert_allclose(told["ratio"], 4.0, rtol=1e-5)
    there = places[BRIGHTEST]
    off = np.degrees(float(separation(told["ra"], told["dec"], there[0], there[1]))) * 3600.0
    print(f"dec {declination}: {told['flux']:.3f} Jy, {off:.2f} arcsec from its place, beam {told['beam']:.0f} arcsec")
    assert told["frame"] == "ICRS"
    assert off < POSITION_ARCSEC
    assert max(told["apart"]) < 1.0, "pixels between each source, east, north and southwest, and its peak"
