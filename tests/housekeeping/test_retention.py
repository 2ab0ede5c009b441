"""What may go: scenes of one mosaic, and random states of which an independent reading must agree."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_contimg.housekeeping.holdings import File, Group, Holdings, Kind, Picture, Plot, Product, Table, Tile
from dsa110_contimg.housekeeping.retention import Plan, RetentionOptions, plan

DAY_S = 86400.0
NOW = 1.77e9
OPTIONS = RetentionOptions()
TILE_S = 309.0
GONE_LONG = NOW - 400 * DAY_S


def scene(**changes: object) -> Holdings:
    """Return three tiles of one published mosaic, all of it long ago, with every kind of file."""
    paths = [f"/s/ms/science/d/t{i}.ms" for i in range(3)]
    tiles = [
        Tile(path, "photometry_complete", GONE_LONG + TILE_S * i, GONE_LONG + 3600.0, (f"/s/caltables/t{i}_bpcal",))
        for i, path in enumerate(paths)
    ]
    kinds = ("image", "pbcor", "beam", "residual")
    pictures = [Picture(f"/s/images/t{i}.{kind}", paths[i], kind) for i in range(3) for kind in kinds]
    pictures.append(Picture("/p/mosaics/m.fits", paths[0], "mosaic"))
    tables = [Table(f"/s/caltables/t{i}_bpcal", GONE_LONG - DAY_S, GONE_LONG + DAY_S) for i in range(3)]
    names = [*paths, *(picture.path for picture in pictures), *(table.path for table in tables), "/s/mosaics/m-qa.png"]
    facts: dict[str, object] = {
        "now_unix": NOW,
        "tiles": tiles,
        "pictures": pictures,
        "groups": [Group("mg", tuple(paths), "m")],
        "products": {"m": Product("published", settled_unix=GONE_LONG + 2 * 3600.0)},
        "tables": tables,
        "plots": [Plot("/s/mosaics/m-qa.png", "mg", GONE_LONG)],
        "files": {name: File(1000, GONE_LONG) for name in names},
        "protected": {"/p/mosaics/m.fits", "/s/mosaics/m.fits"},
    }
    return Holdings(**{**facts, **changes})  # type: ignore[arg-type]


def planned(done: Plan) -> dict[Kind, int]:
    return {kind: sum(item.kind is kind for item in done.removals) for kind in Kind if kind in kinds_of(done)}


def kinds_of(done: Plan) -> set[Kind]:
    return {item.kind for item in done.removals}


ALL = {Kind.MS: 3, Kind.INTERMEDIATE: 3, Kind.TILE_IMAGE: 9, Kind.CALTABLE: 3, Kind.PLOT: 1}


def test_everything_of_an_old_published_mosaic_goes_but_the_mosaic() -> None:
    done = plan(scene(), OPTIONS)
    assert planned(done) == ALL
    assert "/p/mosaics/m.fits" not in {item.path for item in done.removals}
    assert done.unknown == ()


def of_tile(number: int, **changes: object) -> Holdings:
    start = scene()
    tiles = [replace(t, **changes) if i == number else t for i, t in enumerate(start.tiles)]  # type: ignore[arg-type]
    return scene(tiles=tiles)


def product(*words: object, **changes: object) -> Holdings:
    return scene(products={"m": Product(*words, **changes)})  # type: ignore[arg-type]


MID = GONE_LONG + TILE_S
NOTHING_OF_THE_MOSAIC = {
    "its mosaic is not made": scene(groups=[Group("mg", tuple(t.path for t in scene().tiles))]),
    "its mosaic is not registered": scene(products={}),
    "staging": product("staging"),
    "validated": product("validated"),
    "publishing": product("publishing", settled_unix=GONE_LONG),
    "a publication failed": product("failed", settled_unix=GONE_LONG),
    "retracted to be made again": product("retracted", settled_unix=GONE_LONG),
    "published at a time not known": product("published"),
    "a file nearby waits": scene(waiting_unix=(MID + 1000.0,)),
    "a tile nearby is in no mosaic": scene(
        tiles=[*scene().tiles, Tile("/s/ms/science/d/late.ms", "converted", MID + 1800.0, None)]
    ),
}


@pytest.mark.parametrize("holdings", NOTHING_OF_THE_MOSAIC.values(), ids=NOTHING_OF_THE_MOSAIC)
def test_what_a_mosaic_may_still_need_stays_however_short_the_disk_is(holdings: Holdings) -> None:
    assert planned(plan(replace(holdings, short_bytes=1e18), OPTIONS)).keys() <= {Kind.PLOT}


@pytest.mark.parametrize(
    "changes",
    [{"stage": stage} for stage in ("converted", "calibrated", "imaged", "failed", "pending", None)]
    + [{"busy": True}, {"mid_unix": None}, {"measured_unix": None}],
    ids=str,
)
def test_what_is_not_processed_stays(changes: dict[str, object]) -> None:
    done = plan(replace(of_tile(1, **changes), short_bytes=1e18), OPTIONS)
    assert not [item.path for item in done.removals if "/t1" in item.path]


def test_a_rejected_superseded_or_failed_mosaic_lets_its_inputs_go() -> None:
    for holdings in (
        product("staging", rejected=True, settled_unix=GONE_LONG),
        product("retracted", superseded=True, settled_unix=GONE_LONG),
        scene(groups=[Group("mg", tuple(t.path for t in scene().tiles), None, GONE_LONG)]),
    ):
        assert planned(plan(holdings, OPTIONS)) == ALL


def test_a_tile_waits_for_every_mosaic_it_belongs_to() -> None:
    paths = tuple(tile.path for tile in scene().tiles)
    groups = [Group("mg", paths, "m"), Group("next", paths[2:], "n")]
    done = plan(scene(groups=groups, products={"m": scene().products["m"], "n": Product("staging")}), OPTIONS)
    assert {item.path for item in done.removals if item.kind is Kind.MS} == set(paths[:2])


def test_a_tile_that_no_mosaic_took_goes_once_later_ones_are_made() -> None:
    alone = Tile("/s/ms/science/d/alone.ms", "photometry_complete", GONE_LONG - 7200.0, GONE_LONG)
    holdings = scene(tiles=[*scene().tiles, alone], files={alone.path: File(1, GONE_LONG)})
    assert [item.path for item in plan(holdings, OPTIONS).removals] == [alone.path]
    late = replace(alone, mid_unix=GONE_LONG + 7200.0)
    holdings = scene(tiles=[*scene().tiles, late], files={alone.path: File(1, GONE_LONG)})
    assert plan(holdings, OPTIONS).removals == ()


def test_each_kind_goes_at_its_age() -> None:
    ages = {"ms": Kind.MS, "intermediate": Kind.INTERMEDIATE, "tile_image": Kind.TILE_IMAGE}
    ages |= {"caltable": Kind.CALTABLE, "plot": Kind.PLOT}
    for name, kind in ages.items():
        days = (NOW - GONE_LONG) / DAY_S
        for late, goes in ((-2.0, True), (2.0, False)):
            done = plan(scene(), RetentionOptions(**{f"{name}_days": days + late}))
            assert (kind in kinds_of(done)) is goes, (name, late)


def test_a_short_disk_lets_the_oldest_go_first_until_there_is_room_but_never_before_the_keep_time() -> None:
    long = RetentionOptions(ms_days=1e4, intermediate_days=1e4, tile_image_days=1e4, caltable_days=1e4, plot_days=1e4)
    start = scene()
    tiles = [replace(tile, measured_unix=GONE_LONG + i * DAY_S) for i, tile in enumerate(start.tiles)]
    holdings = scene(tiles=tiles)
    assert plan(holdings, long).removals == ()
    done = plan(replace(holdings, short_bytes=4500.0), long)
    assert {item.path.split("/t")[1][0] for item in done.removals} == {"0"}
    assert (len(done.removals), done.short_bytes) == (5, 0.0)
    everything = plan(replace(holdings, short_bytes=1e9), long)
    assert planned(everything) == {Kind.MS: 3, Kind.INTERMEDIATE: 3, Kind.TILE_IMAGE: 9}
    assert everything.short_bytes == 1e9 - 15_000
    young = product("published", settled_unix=NOW - OPTIONS.keep_days * DAY_S + 60.0)
    assert plan(replace(young, short_bytes=1e9), RetentionOptions(ms_days=0.0)).removals == ()


def test_a_table_stays_for_data_of_its_time_and_for_tiles_that_used_it() -> None:
    tables = [Table("/s/caltables/t0_bpcal", GONE_LONG - DAY_S, GONE_LONG + DAY_S)]
    far = GONE_LONG + 0.9 * DAY_S
    for holdings in (
        scene(tables=tables, waiting_unix=(far,)),
        scene(tables=tables, tiles=[*scene().tiles, Tile("/s/ms/science/d/x.ms", "converted", far, None)]),
        of_tile(0, stage="calibrated"),
    ):
        assert "/s/caltables/t0_bpcal" not in {item.path for item in plan(holdings, OPTIONS).removals}


def test_what_no_row_names_is_told_and_stays() -> None:
    files = {**scene().files, "/s/images/thesis.fits": File(10**12, 0.0)}
    done = plan(scene(files=files, short_bytes=1e18), OPTIONS)
    assert done.unknown == ("/s/images/thesis.fits",)
    assert planned(done) == ALL


@pytest.mark.parametrize("named", ["/s/ms/science/d/t0.ms", "/s/ms/science/d/t0.ms/table.f0", "/s/ms/science/d"])
def test_what_the_registry_names_stays_and_so_does_what_holds_it_or_lies_in_it(named: str) -> None:
    done = plan(scene(protected={named}), OPTIONS)
    assert "/s/ms/science/d/t0.ms" not in {item.path for item in done.removals}


def test_leftovers_go_by_their_own_age() -> None:
    old, young = File(1, NOW - 31 * DAY_S), File(1, NOW - DAY_S)
    leftovers = {
        "/s/images/.x.partial": (Kind.SCRATCH, young),
        "/b/backup": (Kind.BACKUP, young),
        "/l/contimg.jsonl.9": (Kind.LOG, old),
        "/l/contimg.jsonl.1": (Kind.LOG, young),
    }
    done = plan(Holdings(now_unix=NOW, leftovers=leftovers), OPTIONS)
    assert {item.path for item in done.removals} == leftovers.keys() - {"/l/contimg.jsonl.1"}


STAGES = (*["photometry_complete"] * 6, "converted", "calibrated", "imaged", "failed", None)
STATUSES = (*["published"] * 6, "staging", "validated", "publishing", "failed", "retracted")
AGES = st.floats(0.0, 300 * DAY_S)


@st.composite
def states(draw: st.DrawFn) -> Holdings:
    """Any state of rows and files, also ones that cannot be; mostly such that something may go."""
    seldom = st.sampled_from([False, False, False, True])
    count = draw(st.integers(1, 5))
    paths = [f"/s/ms/science/d/t{i}.ms" for i in range(count)]
    tables = [f"/s/caltables/c{i}" for i in range(draw(st.integers(0, 3)))]
    some_tables = st.lists(st.sampled_from(tables), max_size=2).map(tuple) if tables else st.just(())
    some_paths = st.lists(st.sampled_from(paths), unique=True, max_size=4).map(tuple) if paths else st.just(())
    past = AGES.map(lambda age: NOW - age)
    moment = st.one_of(past, past, past, st.none())
    tiles = [
        Tile(path, draw(st.sampled_from(STAGES)), draw(moment), draw(moment), draw(some_tables), draw(seldom))
        for path in paths
    ]
    pictures = [
        Picture(f"/s/images/{path[-5:]}.{kind}", path, kind)
        for path in paths
        for kind in draw(st.sets(st.sampled_from(["image", "beam", "residual", "mosaic", "noise"])))
    ]
    groups = [
        Group(f"mg{i}", draw(some_paths), draw(st.sampled_from([f"m{i}", f"m{i}", None])), draw(moment))
        for i in range(draw(st.integers(1, 3)))
    ]
    products = {
        f"m{i}": Product(draw(st.sampled_from(STATUSES)), draw(seldom), draw(seldom), draw(moment))
        for i in range(3)
        if not draw(seldom)
    }
    windows = [Table(path, NOW - draw(AGES), NOW - draw(AGES) + DAY_S) for path in tables]
    names = [*paths, *tables, *(picture.path for picture in pictures), "/s/images/unknown"]
    files = {name: File(draw(st.integers(0, 10**9)), NOW - draw(AGES)) for name in names if not draw(seldom)}
    return Holdings(
        now_unix=NOW,
        tiles=tiles,
        pictures=pictures,
        groups=groups,
        products=products,
        tables=windows,
        waiting_unix=tuple(draw(st.lists(past, max_size=1))),
        files=files,
        protected=draw(st.sets(st.sampled_from(names), max_size=4)),
        short_bytes=draw(st.sampled_from([0.0, 1e9, 1e18])),
    )


@settings(max_examples=200, deadline=None)
@given(states(), st.floats(0, 30), st.floats(0, 30))
def test_nothing_published_unprocessed_or_unknown_ever_goes(
    holdings: Holdings, keep_days: float, age_days: float
) -> None:
    options = RetentionOptions(
        keep_days=keep_days,
        ms_days=age_days,
        intermediate_days=age_days,
        tile_image_days=age_days,
        caltable_days=age_days,
    )
    tiles = {tile.path: tile for tile in holdings.tiles}
    source = {picture.path: picture.ms_path for picture in holdings.pictures} | {path: path for path in tiles}
    for item in plan(holdings, options).removals:
        assert item.path in holdings.files
        assert item.path not in holdings.protected
        assert item.path in source or item.kind is Kind.CALTABLE
        if item.kind is Kind.CALTABLE:
            users = [tile for tile in holdings.tiles if item.path in tile.caltables]
            assert all(tile.stage == "photometry_complete" for tile in users)
            continue
        tile = tiles[source[item.path]]
        assert tile.stage == "photometry_complete"
        assert not tile.busy
        assert tile.mid_unix is not None
        assert not [time for time in holdings.waiting_unix if abs(time - tile.mid_unix) < 3600.0]
        for group in holdings.groups:
            if tile.path not in group.members:
                continue
            made = holdings.products.get(group.mosaic_id or "")
            if group.mosaic_id is None:
                assert group.failed_unix is not None
                continue
            assert made is not None
            assert made.settled_unix is not None
            assert made.settled_unix <= NOW - keep_days * DAY_S
            assert made.status == "published" or made.rejected or made.superseded
            assert made.status not in ("publishing", "failed")


def test_a_plan_of_half_a_year_is_quick_enough_to_be_made_often() -> None:
    """A hundred thousand rows: an answer that compares each tile with each other would not end."""
    count = 20_000
    paths = [f"/s/ms/science/d/t{i}.ms" for i in range(count)]
    tiles = [
        Tile(path, "photometry_complete", NOW - 309.0 * (count - i), NOW - 309.0 * (count - i), (f"/s/c/{i}",))
        for i, path in enumerate(paths)
    ]
    groups = [Group(f"g{i}", tuple(paths[i : i + 10]), f"m{i}") for i in range(0, count - 8, 8)]
    done = plan(
        Holdings(
            now_unix=NOW,
            tiles=tiles,
            groups=groups,
            products={group.mosaic_id or "": Product("published", settled_unix=NOW - 9 * DAY_S) for group in groups},
            tables=[
                Table(f"/s/c/{i}", NOW - 309.0 * (count - i), NOW - 309.0 * (count - i) + 1800.0) for i in range(count)
            ],
            files=dict.fromkeys(paths, File(1, NOW)),
        ),
        RetentionOptions(),
    )
    assert len(done.removals) > 0.8 * count
