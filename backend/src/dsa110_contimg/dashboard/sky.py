"""Sky: what was seen of it, drawn as a map, and the sky of all published mosaics in the viewer."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request
from starlette.responses import HTMLResponse, Response

from dsa110_contimg.api import hips
from dsa110_contimg.api.databases import Registry
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.config import current_settings
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.database.hips_queries import find_hips, newest_sky
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import hips_tiles, moc, sky_map
from dsa110_contimg.pipeline.coverage import FILE as COVERAGE_FILE

router = APIRouter(prefix="/sky")


@router.get("")
def sky(request: Request, registry: Registry) -> HTMLResponse:
    """Show where the published mosaics have seen the sky, and the sky itself."""
    newest = newest_sky(registry)
    found = None if newest is None else hips.describe(request, newest)
    return page(request, "sky.html", sky=True, hips=found, coverage=_coverage())


@router.get("/tiles/{data_id}/{part:path}")
def tile(registry: Registry, data_id: Storable, part: Annotated[str, Path(max_length=80)]) -> Response:
    """Return a part of a HiPS for the viewer of the pages: a tile without values is a blank picture, not an error."""
    try:
        return hips.send_part(registry, data_id, part)
    except HTTPException:
        if not part.endswith(".png") or hips.PARTS.fullmatch(part) is None or find_hips(registry, data_id) is None:
            raise
    return Response(hips_tiles.blank_tile(), media_type="image/png", headers={"Cache-Control": hips.KEPT})


def _coverage() -> dict[str, Any] | None:
    """Return the coverage drawn, and its area; None while there is none."""
    path = current_settings().state / COVERAGE_FILE
    if not path.is_file():
        return None
    try:
        covered = moc.load(path)
    except BadInputError:
        return None
    area = moc.area_deg2(covered)
    title = f"Map of the sky: the published mosaics cover {area:.1f} square degrees"
    return {"svg": sky_map.draw(covered, title), "area_deg2": area, "fraction": covered.sky_fraction}
