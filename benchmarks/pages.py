"""The dashboard's pages in Chromium, on the database of `serving.py`: first view, load and size of each.

    python benchmarks/pages.py [--rows 1000000] [--sources 50000] [--rounds 3] [--keep FOLDER]

Each page is opened in a fresh profile, with nothing kept from before; the server has answered each page once, and
Chromium runs. The first view is when Chromium first paints content; sizes are what goes over the wire, without the sky
viewer. The database's images have no files, so that pictures are missing.
"""

import argparse
import os
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from benchmarks.serving import Size, build, mosaic_path, ours, running
from tests.web.browser import Visit, chromium

from dsa110_contimg.database import reset_engines

ASKED_MS, ASKED_KB = 1000.0, 300.0
PAINTED = "performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)[0]"
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def pages(names: list[str]) -> list[str]:
    """Return the addresses of one page of each kind that this database fills."""
    source, mosaic = urllib.parse.quote(names[7], safe=""), Path(mosaic_path(3)).stem
    lists = ["", "observing", "queue", "calibration", "tiles", "mosaics", "sky", "sources", "sources?sort=-chi2_nu"]
    others = ["sources/plane", "candidates", "publishing", "health", "inventory"]
    return [f"/{name}" for name in (*lists, *others, f"sources/{source}", f"mosaics/{mosaic}")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sources", type=int, default=50_000)
    parser.add_argument("--mosaics", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder for the database, which is used again")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PIPELINE_ROOT"] = str(asked.keep or scratch)
        reset_engines()
        names = build(Size(asked.rows, asked.sources, asked.mosaics))
        print(f"{asked.rows:,} rows, {len(names):,} sources; asked < {ASKED_MS:.0f} ms, < {ASKED_KB:.0f} kB")
        with running(*ours(1)) as address, chromium() as browser:
            visit = Visit(browser, address, None)
            visit.open("/login")
            visit.close()
            for path in pages(names):
                urllib.request.urlopen(address + path).read()
                seen = []
                for _ in range(asked.rounds):
                    visit = Visit(browser, address, None)
                    visit.open(path)
                    visit.settle()
                    while visit.page.evaluate(PAINTED) is None:
                        visit.page.wait_for_timeout(50)
                    seen.append(
                        [visit.page.evaluate(PAINTED), visit.page.evaluate(LOADED), visit.bytes_of_page() / 1e3]
                    )
                    visit.close()
                first, loaded, size = np.median(seen, axis=0)
                print(
                    f"{path[:44]:44s} first view {first:5.0f} ms  loaded {loaded:5.0f} ms  {size:4.0f} kB", flush=True
                )


if __name__ == "__main__":
    main()
