"""Which path of the products area belongs to which path of staging, and which paths are refused.

    <stage>/<type folder>/a/b.fits       ──publish──►  <products>/<type folder>/a/b.fits
    <products>/<type folder>/a/b.fits    ──retract──►  <products>/retracted/<data_id>/<type folder>/a/b.fits

Paths are resolved before they are compared: symbolic links and `..` lead nowhere else. The two areas share nothing:
neither lies in the other, under any name. The name of a published file begins with the id of its product, so that
nobody needs the registry to tell what a file is, and no product can take the name of another.
"""

import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from dsa110_contimg import naming
from dsa110_contimg.config import current_settings
from dsa110_contimg.database.publishing import Transfer, scratch_path
from dsa110_contimg.errors import ConfigurationError, PublishError

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
TOMBSTONES = "retracted"
"""The folder of the products area that keeps what was retracted."""
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4096
_MANY_ATTEMPTS = 10**6


class Roots(NamedTuple):
    """The two areas, resolved."""

    stage: Path
    products: Path

    @classmethod
    def configured(cls, products: Path | str | None = None) -> "Roots":
        """Return the roots of the settings, or with another products area."""
        settings = current_settings()
        return cls(settings.stage.resolve(), Path(products or settings.products).resolve())


def check_areas(roots: Roots, folders: Iterable[str] = (*TYPE_FOLDERS.values(), TOMBSTONES)) -> None:
    """Raise ConfigurationError unless the two areas share nothing, by path, by link or by mount.

    A folder of the products area that leads out of it is refused too, of all or of those named: what is published
    there would be elsewhere.
    """
    stage, products = roots.stage.resolve(), roots.products.resolve()
    if _lies_in(products, stage):
        raise ConfigurationError(
            f"the products area {roots.products} lies inside staging {stage}: set PIPELINE_PRODUCTS_DIR"
        )
    if _lies_in(stage, products):
        raise ConfigurationError(
            f"staging {roots.stage} lies inside the products area {products}: set PIPELINE_STAGE_DIR"
        )
    for name in sorted(set(folders)):
        if not resolve(products / name).is_relative_to(products):
            raise ConfigurationError(
                f"{products / name} is not inside the products area {products}, for it is a link: put a folder there"
            )
        if _lies_in(resolve(stage / name), products):
            raise ConfigurationError(
                f"{stage / name} is a link that leads into the products area {products}: put a folder there"
            )


def _lies_in(path: Path, folder: Path) -> bool:
    """Return whether a resolved path is a folder or below it; one folder may be mounted under two names."""
    if path.is_relative_to(folder):
        return True
    if not folder.exists():
        return False
    identity = folder.stat()
    return any(os.path.samestat(above.stat(), identity) for above in (path, *path.parents) if above.exists())


def check_text(path: Path | str) -> None:
    """Raise PublishError if a path cannot be printed in one line, stored as text, or given to a file."""
    if not str(path).isprintable():
        raise PublishError(f"{str(path)!r} holds characters that cannot be printed: rename the file")
    encoded = os.fsencode(path)
    if len(encoded) >= MAX_PATH_BYTES or max(map(len, encoded.split(b"/"))) > MAX_NAME_BYTES:
        raise PublishError(f"{path} is longer than a path or a name can be: shorten it")


def resolve(path: Path | str) -> Path:
    """Return a path with its links followed, or raise PublishError if that is impossible."""
    check_text(path)
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError) as error:
        # Up to Python 3.12 a loop of links is a RuntimeError.
        raise PublishError(f"{path} cannot be followed ({error}): look at the links in it") from error


def _refuse_foreign_links(path: Path) -> None:
    """Raise PublishError if a part of a path is a symbolic link that another user made, who could turn it."""
    for part in (path, *path.parents):
        if part.is_symlink() and part.lstat().st_uid not in {0, os.geteuid()}:
            raise PublishError(f"{part} is a symbolic link of another user: nothing is published through it")


def inside(path: Path | str, root: Path, what: str) -> Path:
    """Return a path resolved, or raise PublishError if it leaves its root."""
    _refuse_foreign_links(Path(path).absolute())
    resolved = resolve(path)
    if resolved == root or not resolved.is_relative_to(root):
        raise PublishError(f"{what} {path} is not inside {root}")
    return resolved


def _named_inside(path: Path, root: Path) -> Path:
    """Return a path of the products area with its folder resolved; what stands under the name is not followed."""
    _refuse_foreign_links(path.parent)
    resolved = resolve(path.parent) / path.name
    if not resolved.is_relative_to(root):
        raise PublishError(f"the published path {path} is not inside {root}")
    return resolved


def type_folder(data_type: str) -> str:
    """Return the folder of a data type below either root."""
    try:
        return TYPE_FOLDERS[data_type]
    except KeyError:
        known = ", ".join(TYPE_FOLDERS)
        raise PublishError(f"{data_type!r} is no data type; there are {known}") from None


def check_name(data_type: str, data_id: str, path: Path | str) -> None:
    """Raise PublishError unless a file's name belongs to a product's id.

    It begins with the id, and then comes `.` or `-` (`_` too, unless it is a mosaic: there the number of a version
    follows it). What a tile makes may also be called as `naming` does, if the id holds the tile's group id.
    """
    name = Path(path).name
    following = name[len(data_id) :][:1]
    if name.startswith(data_id) and following in ({"", ".", "-"} if data_type == "mosaic" else {"", ".", "-", "_"}):
        return
    group_id = naming.group_id_of_file(name)
    if data_type == "mosaic" or group_id is None or group_id not in data_id:
        raise PublishError(f"{path} cannot belong to {data_type} {data_id}: its name must begin with the id")


def _target(source: Path, base: Path, roots: Roots, folder: str) -> Path:
    home = roots.stage / folder
    below = source.relative_to(home) if source.is_relative_to(home) else Path(source.name)
    if len(os.fsencode(scratch_path(source, _MANY_ATTEMPTS).name)) > MAX_NAME_BYTES:
        raise PublishError(f"{source} has too long a name to be copied under a scratch name: shorten it")
    target = _named_inside(base / below, roots.products)
    if target.is_relative_to(roots.products / TOMBSTONES):
        raise PublishError(f"{target} lies among the retracted products: publish into the folder of the type")
    return target


def plan_transfers(
    data_type: str,
    data_id: str,
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
        If a path leaves its root, or is not called like its product.
    ConfigurationError
        If the two areas are not apart.
    """
    folder = type_folder(data_type)
    check_areas(roots, [folder])
    for path in [*companions, stage_path, published_dir or ""]:
        check_text(path)
    base = roots.products / folder if published_dir is None else Path(published_dir).absolute()
    if not resolve(base).is_relative_to(roots.products):
        raise PublishError(f"the folder {published_dir} is not inside the products area {roots.products}")
    transfers = {}
    for path in [*companions, stage_path]:
        if Path(path).is_symlink():
            raise PublishError(f"{path} is a symbolic link: register the file that it points to")
        source = inside(path, roots.stage, "the staged path")
        check_name(data_type, data_id, source)
        transfers[source] = Transfer(source, _target(source, base, roots, folder))
    for outer, inner in pairwise(sorted(transfers)):
        if inner.is_relative_to(outer):
            raise PublishError(f"{inner} lies inside {outer}: a companion stands beside its product")
    return list(transfers.values())


def tombstone_path(path: Path | str, data_id: str, roots: Roots) -> Path:
    """Return where a published path is kept once its product is retracted."""
    published = _named_inside(Path(path), roots.products)
    return roots.products / TOMBSTONES / data_id / published.relative_to(roots.products)
