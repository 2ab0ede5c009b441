"""No path leads out of its area, whatever its links, dots, names and owners."""

import os
import shutil
import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dsa110_contimg import naming
from dsa110_contimg.cli.main import app
from dsa110_contimg.cli.process import initialize
from dsa110_contimg.config import Settings
from dsa110_contimg.database.product_paths import (
    TYPE_FOLDERS,
    Roots,
    check_areas,
    check_name,
    plan_transfers,
    tombstone_path,
)
from dsa110_contimg.database.publishing import scratch_path
from dsa110_contimg.errors import ConfigurationError, PipelineError, PublishError

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
GROUP = "2025-01-15T12:30:00"


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    for name in ("stage/mosaics", "products/mosaics", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    return Roots(tmp_path / "stage", tmp_path / "products")


def plan(
    roots: Roots, path: Path | str, *companions: Path | str, data_id: str = "m1", into: Path | str | None = None
) -> dict[Path, Path]:
    found = plan_transfers("mosaic", data_id, str(path), [str(c) for c in companions], into, roots)
    return {transfer.source: transfer.target for transfer in found}


# Any character that a file system takes, and the parts that lead elsewhere.
PARTS = st.one_of(
    st.sampled_from(["..", ".", "", "-rf", "~", "*", "mosaics", "retracted", "to-outside", "to-products", "to-self"]),
    st.text(st.characters(exclude_characters="/"), min_size=1, max_size=12),
    st.text(string.ascii_letters, min_size=250, max_size=300),
)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PARTS, max_size=5), name=PARTS, absolute=st.booleans())
@example(parts=["..", "..", "etc"], name="m1.fits", absolute=True)
@example(parts=["to-outside"], name="m1.fits", absolute=True)
@example(parts=[], name="m1\n.fits", absolute=True)
@example(parts=["\x00"], name="m1", absolute=True)
@example(parts=["\udcff"], name="m1.fits", absolute=True)
def test_every_plan_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], name: str, absolute: bool
) -> None:
    """Whatever a path is made of, it is refused by name, or both of its ends are real and inside."""
    root = tmp_path_factory.getbasetemp() / "house"
    roots = Roots(root / "stage", root / "products")
    folder = roots.stage / "mosaics"
    if not root.exists():
        folder.mkdir(parents=True)
        roots.products.mkdir()
        (root / "outside").mkdir()
        (folder / "to-outside").symlink_to(root / "outside")
        (folder / "to-products").symlink_to(roots.products)
        (folder / "to-self").symlink_to("to-self")
    path = "/".join([str(folder) if absolute else "mosaics", *parts, f"m1{name}"])
    into = "/".join([str(roots.products), *parts])
    try:
        found = [*plan(roots, path).items(), *plan(roots, folder / "m1.fits", into=into).items()]
    except PipelineError as error:
        assert "\n" not in str(error)
        return
    for source, target in found:
        assert source == source.resolve()
        assert source.is_relative_to(roots.stage)
        assert target.parent == target.parent.resolve()
        assert target.is_relative_to(roots.products)
        assert not target.is_relative_to(roots.products / "retracted")
        assert source.name == target.name
        assert str(source).isprintable()


def test_folders_below_the_type_are_kept(roots: Roots) -> None:
    path = roots.stage / "mosaics" / "2025" / "-x é" / "m1.fits"
    assert plan(roots, path) == {path: roots.products / "mosaics" / "2025" / "-x é" / "m1.fits"}
    odd = roots.stage / "odd" / "m1.fits"
    assert plan(roots, odd) == {odd: roots.products / "mosaics" / "m1.fits"}
    assert plan(roots, odd, into=roots.products / "x") == {odd: roots.products / "x" / "m1.fits"}
    dotted = roots.stage / "mosaics" / "a" / ".." / "m1.fits"
    assert plan(roots, dotted) == {roots.stage / "mosaics" / "m1.fits": roots.products / "mosaics" / "m1.fits"}


def test_links_that_leave_the_area(roots: Roots) -> None:
    outside = roots.stage.parent / "elsewhere"
    (outside / "m1.fits").write_bytes(b"secret")
    (roots.stage / "mosaics" / "out").symlink_to(outside)
    (roots.stage / "mosaics" / "m1.fits").symlink_to(outside / "m1.fits")
    (roots.stage / "mosaics" / "loop").symlink_to("loop")
    for path, told in (
        ("out/m1.fits", "is not inside"),
        ("m1.fits", "is a symbolic link"),
        ("../../elsewhere/m1.fits", "is not inside"),
        ("loop/m1.fits", "cannot be followed|does not exist|is not inside"),
    ):
        with pytest.raises(PublishError, match=told):
            if plan(roots, roots.stage / "mosaics" / path):
                # A loop may resolve to itself; then there is nothing to read.
                raise PublishError("does not exist")
    with pytest.raises(PublishError, match="is not inside"):
        plan(roots, roots.stage / "mosaics" / "m1-real.fits", roots.stage / "mosaics" / "out" / "m1.fits")
    (roots.products / "x").symlink_to(outside)
    for into in (roots.products / "x", roots.products / "x" / "y", outside):
        with pytest.raises(PublishError, match="is not inside the products area"):
            plan(roots, roots.stage / "mosaics" / "m1-real.fits", into=into)


def test_what_stands_at_the_target_is_not_followed(roots: Roots) -> None:
    """A link there is refused when files move, under its own name: it never turns the target into another."""
    (roots.products / "mosaics" / "m1.fits").symlink_to(roots.products / "mosaics" / "m2.fits")
    source = roots.stage / "mosaics" / "m1.fits"
    assert plan(roots, source) == {source: roots.products / "mosaics" / "m1.fits"}


@AS_ROOT
def test_links_of_another_user(roots: Roots) -> None:
    """Even one that leads to a good place today: its owner can turn it at any moment."""
    (roots.stage / "mosaics" / "real").mkdir()
    link = roots.stage / "mosaics" / "by-link"
    link.symlink_to("real")
    assert plan(roots, link / "m1.fits").keys() == {roots.stage / "mosaics" / "real" / "m1.fits"}
    os.lchown(link, 65534, 65534)
    with pytest.raises(PublishError, match="by-link is a symbolic link of another user"):
        plan(roots, link / "m1.fits")
    shelf = roots.products / "shelf"
    shelf.symlink_to("mosaics")
    os.lchown(shelf, 65534, 65534)
    with pytest.raises(PublishError, match="shelf is a symbolic link of another user"):
        plan(roots, roots.stage / "mosaics" / "m1.fits", into=shelf)


def test_the_tombstones_are_no_place_to_publish(roots: Roots) -> None:
    with pytest.raises(PublishError, match="lies among the retracted products"):
        plan(roots, roots.stage / "mosaics" / "m1.fits", into=roots.products / "retracted" / "m1")
    published = roots.products / "mosaics" / "2025" / "m1.fits"
    assert (
        tombstone_path(published, "m1", roots) == roots.products / "retracted" / "m1" / "mosaics" / "2025" / "m1.fits"
    )
    with pytest.raises(PublishError, match="is not inside"):
        tombstone_path(roots.stage / "m1.fits", "m1", roots)


def test_names_that_cannot_be_stored_or_copied(roots: Roots) -> None:
    folder = roots.stage / "mosaics"
    for name in ("m1-\n.fits", "m1-\x1b[2J.fits", os.fsdecode(b"m1-\xff.fits"), "m1-\u202egpj.fits"):
        with pytest.raises(PublishError, match="characters that cannot be printed"):
            plan(roots, folder / name)
    longest = "m1-".ljust(255, "x")
    with pytest.raises(PublishError, match="too long a name"):
        plan(roots, folder / longest)
    umlauts = "m1-" + "ü" * 110
    assert len(os.fsencode(scratch_path(folder / umlauts, 999).name)) < 256
    assert plan(roots, folder / umlauts)


@pytest.mark.parametrize("kind", ["mosaic", "noise", "weight", "preview"])
def test_the_names_of_a_mosaic_belong_to_its_id_alone(kind: str) -> None:
    first, second = naming.mosaic_id(GROUP), naming.mosaic_id(GROUP, 2)
    for mosaic_id in (first, second):
        check_name("mosaic", mosaic_id, naming.mosaic_path(Path("/s"), mosaic_id, kind))
    for data_id, other in ((first, second), (second, first), ("m1", "m10"), ("m1", "xm1")):
        with pytest.raises(PublishError, match="its name must begin with the id"):
            check_name("mosaic", data_id, naming.mosaic_path(Path("/s"), other, kind))


def test_the_names_of_a_tile_belong_to_its_group() -> None:
    stage = Path("/s")
    ms = naming.ms_path(stage, GROUP)
    images = [naming.image_path(stage, ms, kind) for kind in naming.IMAGE_SUFFIXES]
    tables = [naming.caltable_path(stage, ms, kind, n) for kind in naming.CALTABLE_SUFFIXES for n in (1, 2)]
    for path in [ms, *images, *tables]:
        assert naming.group_id_of_file(path.name) == GROUP
        for data_id in (GROUP, f"caltable_{GROUP}", path.name):
            check_name("image", data_id, path)
        with pytest.raises(PublishError, match="cannot belong to image 2025-01-15T12:35:00"):
            check_name("image", "2025-01-15T12:35:00", path)
    for name in (f"{GROUP}.fits", "x.ms", f"{GROUP}.img-film.fits", f"{GROUP}.img-imageXfits"):
        assert naming.group_id_of_file(name) is None


def test_companions_are_called_like_their_product(roots: Roots) -> None:
    folder = roots.stage / "mosaics"
    with pytest.raises(PublishError, match=r"m2-noise.fits cannot belong to mosaic m1"):
        plan(roots, folder / "m1.fits", folder / "m2-noise.fits")
    with pytest.raises(PublishError, match=r"table lies inside .*m1.image"):
        plan(roots, folder / "m1.image", folder / "m1.image" / "m1-table")
    assert len(plan(roots, folder / "m1.fits", folder / "m1.png", folder / "m1.png", folder / "m1.fits")) == 2


def hidden_link(root: Path) -> None:
    (root / "stage" / "kept").mkdir(parents=True)
    (root / "products").symlink_to(root / "stage" / "kept")


def link_to_stage(root: Path) -> None:
    (root / "stage").mkdir()
    (root / "products").symlink_to(root / "stage")


def link_to_products(root: Path) -> None:
    (root / "products").mkdir()
    (root / "stage").symlink_to(root / "products")


def type_folder_in_stage(root: Path) -> None:
    (root / "stage" / "mosaics").mkdir(parents=True)
    (root / "products").mkdir()
    (root / "products" / "mosaics").symlink_to(root / "stage" / "mosaics")


def type_folder_in_products(root: Path) -> None:
    (root / "products" / "mosaics").mkdir(parents=True)
    (root / "stage").mkdir()
    (root / "stage" / "mosaics").symlink_to(root / "products" / "mosaics")


def tombstones_elsewhere(root: Path) -> None:
    (root / "products").mkdir()
    (root / "products" / "retracted").symlink_to(root / "stage")


@pytest.mark.parametrize(
    ("arrange", "told"),
    [
        (hidden_link, "lies inside staging"),
        (link_to_stage, "lies inside staging"),
        (link_to_products, "lies inside staging|lies inside the products area"),
        (type_folder_in_stage, "mosaics is not inside the products area"),
        (type_folder_in_products, "mosaics is a link that leads into the products area"),
        (tombstones_elsewhere, "retracted is not inside the products area"),
    ],
)
def test_areas_that_overlap_are_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrange: object, told: str
) -> None:
    arrange(tmp_path)  # type: ignore[operator]
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigurationError, match=told):
        initialize(Settings())
    assert sorted(tmp_path.rglob("*")) == before, "refused before anything is made"


@pytest.mark.parametrize(
    ("stage", "products"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "x/../a/b"), ("a/b/..", "a/./c")]
)
def test_areas_in_each_other_are_refused_by_both_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, products: str
) -> None:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("PIPELINE_STAGE_DIR", str(tmp_path / stage))
    monkeypatch.setenv("PIPELINE_PRODUCTS_DIR", str(tmp_path / products))
    for command in (["init"], ["run", "--once"]):
        outcome = CliRunner().invoke(app, command)
        assert isinstance(outcome.exception, ConfigurationError)
        assert "PIPELINE_" in str(outcome.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("one", "other"), [("stage", "products"), ("products", "stage")])
def test_one_folder_under_two_names_is_one_folder(
    monkeypatch: pytest.MonkeyPatch, roots: Roots, one: str, other: str
) -> None:
    """As a bind mount makes it: two paths without a link, one folder."""
    check_areas(roots)
    mounts = {roots.stage.parent / one: roots.stage.parent / other}
    stat = Path.stat

    def mounted(path: Path) -> os.stat_result:
        return stat(mounts.get(path, path))

    monkeypatch.setattr(Path, "stat", mounted)
    with pytest.raises(ConfigurationError, match="lies inside"):
        check_areas(roots)


def test_areas_that_are_apart_are_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbors with like names, areas behind links, and a type's folder on another disk."""
    for name in ("disk1/stage/ms", "disk2/stage-products", "disk3/ms"):
        (tmp_path / name).mkdir(parents=True)
    shutil.rmtree(tmp_path / "disk1/stage/ms")
    (tmp_path / "disk1/stage/ms").symlink_to(tmp_path / "disk3/ms")
    (tmp_path / "stage").symlink_to(tmp_path / "disk1/stage")
    (tmp_path / "products").symlink_to(tmp_path / "disk2/stage-products")
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    roots = Roots.configured()
    check_areas(roots)
    path = tmp_path / "stage" / "mosaics" / "m1.fits"
    assert plan(roots, path).popitem()[1] == tmp_path / "disk2/stage-products/mosaics/m1.fits"


def test_every_type_has_a_folder_of_its_own_name(roots: Roots) -> None:
    for data_type, folder in TYPE_FOLDERS.items():
        source = roots.stage / folder / "2025" / "p1.x"
        (found,) = plan_transfers(data_type, "p1", str(source), [], None, roots)
        assert found.target == roots.products / folder / "2025" / "p1.x"
    with pytest.raises(PublishError, match="no data type"):
        plan_transfers("film", "p1", "/p1", [], None, roots)
