"""Ids, names, and what ties a product to others: a product made anew is a new row, never an overwrite."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsa110_contimg import naming
from dsa110_contimg.database.data_registration import (
    get_data,
    link_data,
    list_data,
    list_links,
    publish_data_instance,
    register_data_instance,
    tag_data,
    untag_data,
)
from dsa110_contimg.database.product_entries import list_tags
from dsa110_contimg.database.product_paths import TYPE_FOLDERS
from dsa110_contimg.database.registry_rows import ensure_data_registry_db
from dsa110_contimg.errors import PublishError, UnknownProductError

if TYPE_CHECKING:
    from tests.database.conftest import Registry

GROUP = "2025-12-24T03:12:56"
OLD, NEW, NEWEST = (naming.mosaic_id(GROUP, version) for version in (1, 2, 3))
STAGE = Path("/stage")
PRODUCTS = "abcdef"


def make(registry: Registry, data_id: str, content: bytes, **links: str) -> Path:
    path = naming.mosaic_path(registry.roots.stage, data_id)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    register_data_instance(registry.conn, "mosaic", data_id, path, **links)  # type: ignore[arg-type]
    return path


def test_a_version_replaces_the_old_once_it_is_published(registry: Registry) -> None:
    make(registry, OLD, b"old")
    publish_data_instance(registry.conn, OLD, roots=registry.roots)
    before = get_data(registry.conn, OLD)
    make(registry, NEW, b"new", supersedes=OLD)
    assert list_links(registry.conn, NEW) == [(OLD, NEW, "supersedes")]
    assert get_data(registry.conn, OLD) == before, "what replaces it is only staged"
    publish_data_instance(registry.conn, NEW, roots=registry.roots)
    old, new = get_data(registry.conn, OLD), get_data(registry.conn, NEW)
    assert (old.superseded_by, new.superseded_by) == (NEW, None)
    assert (old.status, old.sha256, old.published_path) == ("published", before.sha256, before.published_path)
    assert [Path(row.published_path or "").read_bytes() for row in (old, new)] == [b"old", b"new"]


def test_a_failed_version_replaces_nothing(registry: Registry) -> None:
    make(registry, OLD, b"old")
    make(registry, NEW, b"new", supersedes=OLD).unlink()
    with pytest.raises(PublishError, match="does not exist"):
        publish_data_instance(registry.conn, NEW, roots=registry.roots)
    assert get_data(registry.conn, OLD).superseded_by is None


def test_of_two_versions_the_one_published_last_is_named(registry: Registry) -> None:
    make(registry, OLD, b"old")
    for data_id in (NEW, NEWEST):
        make(registry, data_id, data_id.encode(), supersedes=OLD)
    for data_id in (NEWEST, NEW):
        publish_data_instance(registry.conn, data_id, roots=registry.roots)
        assert get_data(registry.conn, OLD).superseded_by == data_id


def test_a_link_to_a_published_version_counts_at_once(registry: Registry) -> None:
    for data_id in (OLD, NEW):
        make(registry, data_id, data_id.encode())
    publish_data_instance(registry.conn, NEW, roots=registry.roots)
    link_data(registry.conn, OLD, NEW, "derived_from")
    assert get_data(registry.conn, OLD).superseded_by is None, "what is made from it does not replace it"
    link_data(registry.conn, OLD, NEW, "supersedes")
    assert get_data(registry.conn, OLD).superseded_by == NEW


def test_what_a_product_was_made_from(registry: Registry) -> None:
    for data_id in ("tile1", "tile2"):
        registry.add(data_id)
    for _ in range(2):
        register_data_instance(
            registry.conn,
            "mosaic",
            OLD,
            naming.mosaic_path(registry.roots.stage, OLD),
            derived_from=["tile1", "tile2"],
        )
    assert list_links(registry.conn, OLD) == [("tile1", OLD, "derived_from"), ("tile2", OLD, "derived_from")]
    assert list_links(registry.conn, "tile1") == [("tile1", OLD, "derived_from")]


@pytest.mark.parametrize(
    ("links", "sentence"),
    [
        ({"supersedes": "nothing"}, "there is no product 'nothing'"),
        ({"derived_from": ["m1", "nothing"]}, "there is no product 'nothing'"),
        ({"supersedes": OLD}, f"{OLD} cannot be linked as supersedes {OLD}: {OLD} comes from {OLD} itself"),
    ],
)
def test_an_impossible_link_registers_nothing(registry: Registry, links: dict[str, str], sentence: str) -> None:
    registry.add("m1")
    with pytest.raises(PublishError, match=sentence):
        make(registry, OLD, b"old", **links)
    assert [row.data_id for row in list_data(registry.conn)] == ["m1"]
    assert list_links(registry.conn, "m1") == []
    assert registry.idle


def test_impossible_links_are_refused_by_name(registry: Registry) -> None:
    for data_id in ("a", "b", "c"):
        registry.add(data_id)
    link_data(registry.conn, "a", "b", "derived_from")
    link_data(registry.conn, "b", "c", "supersedes")
    with pytest.raises(PublishError, match="a cannot be linked as derived_from c: c comes from a itself"):
        link_data(registry.conn, "c", "a", "derived_from")
    with pytest.raises(PublishError, match="'inspires' is no relationship; there are derived_from, supersedes"):
        link_data(registry.conn, "a", "c", "inspires")
    for parent, child in (("a", "x"), ("x", "a")):
        with pytest.raises(UnknownProductError, match="there is no product 'x'"):
            link_data(registry.conn, parent, child, "supersedes")
    assert list_links(registry.conn, "c") == [("b", "c", "supersedes")]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(st.tuples(st.sampled_from(PRODUCTS), st.sampled_from(PRODUCTS)), max_size=12))
def test_no_order_of_links_makes_a_product_its_own_ancestor(
    registry_file: Registry, wanted: list[tuple[str, str]]
) -> None:
    registry_file.sql("DELETE FROM data_registry")
    registry_file.sql("DELETE FROM data_relationships")
    for name in PRODUCTS:
        register_data_instance(registry_file.conn, "mosaic", name, STAGE / f"{name}.fits")
    reaches: dict[str, set[str]] = {name: {name} for name in PRODUCTS}
    for number, (parent, child) in enumerate(wanted):
        closes_a_ring = parent in reaches[child]
        try:
            link_data(registry_file.conn, parent, child, ("derived_from", "supersedes")[number % 2])
        except PublishError:
            assert closes_a_ring, (parent, child)
        else:
            assert not closes_a_ring, (parent, child)
            for above in PRODUCTS:
                if parent in reaches[above]:
                    reaches[above] |= reaches[child]


@settings(max_examples=150, deadline=None)
@given(
    data_id=st.one_of(
        st.text(max_size=12),
        st.text("aZ9._:+@-/\\~ \n\0é", max_size=8),
        st.sampled_from(["..", ".", "a/../b", "a\\..\\b", "~root", "$HOME", "a..b", "-rf", "a/", "/a", "CON:", "ａ"]),
    )
)
def test_no_id_can_be_a_path(data_id: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "ids.sqlite3"
    with closing(ensure_data_registry_db(file)) as conn:
        conn.execute("DELETE FROM data_registry")
        try:
            register_data_instance(conn, "mosaic", data_id, STAGE / f"{data_id.replace(chr(0), '')}.fits")
        except PublishError as error:
            assert "\n" not in str(error)
            assert list_data(conn) == []
        else:
            (row,) = list_data(conn)
            assert row.data_id == data_id
            assert (STAGE / data_id).name == data_id
            assert (STAGE / data_id).resolve().parent == STAGE.resolve()
            assert data_id.isascii()
            assert ".." not in data_id
            assert data_id.isprintable()


STAGED = {
    "ms": naming.ms_path(STAGE, GROUP),
    "image": naming.image_path(STAGE, naming.ms_path(STAGE, GROUP), "pbcor"),
    "caltable": naming.caltable_path(STAGE, naming.ms_path(STAGE, GROUP), "BP", 2),
    "mosaic": naming.mosaic_path(STAGE, OLD),
}


@pytest.mark.parametrize(("data_type", "path"), STAGED.items())
def test_the_names_that_naming_makes_belong_to_their_ids(root: Path, data_type: str, path: Path) -> None:
    first = OLD if data_type == "mosaic" else GROUP
    with closing(ensure_data_registry_db(root / "r.sqlite3")) as conn:
        assert register_data_instance(conn, data_type, first, path) == first
        for wrong in ("2025-12-24T04:12:56", "something", NEW):
            with pytest.raises(PublishError, match=f"cannot belong to {data_type} {wrong}: its name must begin with"):
                register_data_instance(conn, data_type, wrong, path)
        assert [row.data_id for row in list_data(conn)] == [first]


def test_another_version_is_another_name(registry: Registry) -> None:
    with pytest.raises(PublishError, match=f"cannot belong to mosaic {OLD}: its name must begin with the id"):
        register_data_instance(registry.conn, "mosaic", OLD, naming.mosaic_path(registry.roots.stage, NEW))
    assert list_data(registry.conn) == []


@pytest.mark.parametrize("data_type", TYPE_FOLDERS)
def test_a_file_called_like_its_id_is_of_any_type(root: Path, data_type: str) -> None:
    with closing(ensure_data_registry_db(root / "r.sqlite3")) as conn:
        register_data_instance(conn, data_type, "thing", STAGE / "thing.fits")
        register_data_instance(conn, data_type, "folder", STAGE / "folder")


def test_tags_are_words_that_come_and_go(registry: Registry) -> None:
    registry.add("m1")
    registry.add("m2")
    for word in ("paper1", "checked", "paper1"):
        tag_data(registry.conn, "m1", word)
    assert list_tags(registry.conn, "m1") == ["checked", "paper1"]
    assert [row.data_id for row in list_data(registry.conn, tag="paper1")] == ["m1"]
    assert list_data(registry.conn, tag="paper") == []
    untag_data(registry.conn, "m1", "paper1")
    assert list_tags(registry.conn, "m1") == ["checked"]
    with pytest.raises(PublishError, match="product m1 has no tag 'paper1'"):
        untag_data(registry.conn, "m1", "paper1")
    for word in ("", "two words", "a\nb"):
        with pytest.raises(PublishError, match="cannot be a tag: use one word"):
            tag_data(registry.conn, "m1", word)
    for change in (tag_data, untag_data):
        with pytest.raises(UnknownProductError):
            change(registry.conn, "m9", "x")
