"""Which path of the products area belongs to which path of staging, and which paths are refused.

    <stage>/<type folder>/a/b.fits  ──►  <products>/<type folder>/a/b.fits

Paths are resolved before they are compared: symbolic links and `..` lead nowhere else.
"""

from pathlib import Path
from typing import NamedTuple

from dsa110_contimg.config import Settings
from dsa110_contimg.database.publishing import Transfer
from dsa110_contimg.errors import PublishError

TYPE_FOLDERS = {
    "ms": "ms",
    "calib_ms": "calib_ms",
    "caltable": "caltables",
    "image": "images",
    "mosaic": "mosaics",
    "catalog": "catalogs",
    "qa": "qa",
    "metadata": "metadata",
    "raw_ms": "ms",
    "calibrated_ms": "calib_ms",
    "calibration_table": "caltables",
}


class Roots(NamedTuple):
    """The two areas, resolved."""

    stage: Path
    products: Path

    @classmethod
    def configured(cls, products: Path | str | None = None) -> "Roots":
        """Return the roots of the settings, or with another products area."""
        settings = Settings()
        return cls(settings.stage.resolve(), Path(products or settings.products).resolve())


def inside(path: Path | str, root: Path, what: str) -> Path:
    """Return a path resolved, or raise PublishError if it leaves its root."""
    resolved = Path(path).resolve()
    if resolved == root or not resolved.is_relative_to(root):
        raise PublishError(f"{what} {path} is not inside {root}")
    return resolved


def type_folder(data_type: str) -> str:
    """Return the folder of a data type below either root."""
    try:
        return TYPE_FOLDERS[data_type]
    except KeyError:
        known = ", ".join(TYPE_FOLDERS)
        raise PublishError(f"{data_type!r} is no data type; there are {known}") from None


def plan_transfers(
    data_type: str,
    stage_path: str,
    companions: list[str],
    published_dir: Path | str | None,
    roots: Roots,
) -> list[Transfer]:
    """Return what goes where: companions first, the product itself last.

    Parameters
    ----------
    published_dir
        The type's folder of the products area; None takes the usual one.

    Raises
    ------
    PublishError
        If a path leaves its root, or the products area lies inside staging.
    """
    folder = type_folder(data_type)
    if roots.products.is_relative_to(roots.stage):
        raise PublishError(
            f"the products area {roots.products} lies inside staging {roots.stage}: set PIPELINE_PRODUCTS_DIR"
        )
    base = Path(published_dir).resolve() if published_dir is not None else roots.products / folder
    if not base.is_relative_to(roots.products):
        raise PublishError(f"the folder {published_dir} is not inside the products area {roots.products}")
    transfers = []
    for path in [*companions, stage_path]:
        if Path(path).is_symlink():
            raise PublishError(f"{path} is a symbolic link: register the file that it points to")
        source = inside(path, roots.stage, "the staged path")
        below = source.relative_to(roots.stage / folder) if source.is_relative_to(roots.stage / folder) else source.name
        target = inside(base / below, roots.products, "the published path")
        if target.is_relative_to(roots.stage):
            raise PublishError(f"the published path {target} lies inside staging {roots.stage}")
        transfers.append(Transfer(source, target))
    return transfers
