"""What may go: scenes of one mosaic, and random states of which an independent reading must agree."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_contimg import naming
from dsa110_contimg.housekeeping.holdings import File, Group, Holdings, Kind, Picture, Plot, Product, Table, Tile
from dsa110_contimg.housekeeping.retention import Plan, RetentionOptions, plan
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.pipeline.jobs import TileState, plan_mosaic_groups
from dsa110_contimg.telescope import unix_to_mjd

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


@dataclass(frozen=True)
class Slot:
    """What has become of one group of subband files."""

    mid_unix: float
    state: str
    """waiting: not yet converted; else the stage of its tile."""

    @property
    def path(self) -> str:
        return f"/s/ms/science/d/{self.mid_unix:.0f}.ms"

    def tile(self) -> TileState:
        mjd = unix_to_mjd(self.mid_unix)
        return TileState(group_id=naming.group_id_of(mjd), path=self.path, stage=self.state, mid_mjd=mjd, dec_deg=33.0)


@dataclass
class Survey:
    """Slots of a telescope with gaps, mosaic groups formed as the pipeline forms them, and their products."""

    slots: list[Slot]
    options: MosaicOptions
    groups: list[Group]
    products: dict[str, Product]

    def is_held(self, slot: Slot) -> bool:
        """No group is planned past what waits for its conversion."""
        return slot.mid_unix >= min((s.mid_unix for s in self.slots if s.state == "waiting"), default=math.inf)

    def form(self, slots: list[Slot], *, end_of_data: bool) -> list[tuple[str, ...]]:
        """Return the members of the groups that are formed next."""
        placed: dict[str, str] = {}
        for group in self.groups:
            placed |= {path: placed.get(path, group.group_id) for path in group.members}
        tiles = [slot.tile() for slot in slots]
        plans = plan_mosaic_groups(tiles, placed, self.options, end_of_data=end_of_data)
        return [tuple(tile.path for tile in plan) for plan in plans]


def goes(survey: Survey) -> set[str]:
    """Return the Measurement Sets that go when everything that may go goes at once."""
    made = [slot for slot in survey.slots if slot.state != "waiting"]
    holdings = Holdings(
        now_unix=NOW,
        tiles=[Tile(slot.path, slot.state, slot.mid_unix, GONE_LONG) for slot in made],
        groups=survey.groups,
        products=survey.products,
        waiting_unix=tuple(slot.mid_unix for slot in survey.slots if slot.state == "waiting"),
        files={slot.path: File(1, GONE_LONG) for slot in made},
    )
    return {item.path for item in plan(holdings, RetentionOptions(keep_days=0.0, ms_days=0.0)).removals}


def published(slots: list[Slot], members: slice) -> tuple[list[Group], dict[str, Product]]:
    paths = tuple(slot.path for slot in slots[members])
    return [Group("mg", paths, "m")], {"m": Product("published", settled_unix=GONE_LONG)}


def test_a_long_mosaic_reaches_further_back_than_an_hour() -> None:
    slots = [Slot(GONE_LONG + TILE_S * i, "photometry_complete") for i in range(20)]
    waiting = Slot(GONE_LONG + TILE_S * 20, "waiting")
    options = MosaicOptions(tiles=20, overlap=15)
    assert goes(Survey([*slots, waiting], options, *published(slots, slice(20)))) == set()


def test_tiles_that_a_waiting_group_far_before_them_keeps_from_a_mosaic_stay() -> None:
    early = [Slot(GONE_LONG + TILE_S * i, "photometry_complete") for i in range(3)]
    late = [Slot(slot.mid_unix + 90 * 3600.0, slot.state) for slot in early]
    few, waiting = late[:2], Slot(GONE_LONG - 90 * 3600.0, "waiting")
    options = MosaicOptions(tiles=3, overlap=0)
    assert goes(Survey([*early, *late], options, *published(late, slice(3)))) == {slot.path for slot in late}
    newest = [Slot(slot.mid_unix + 180 * 3600.0, slot.state) for slot in early]
    left_over = {slot.path for slot in [*few, *newest]}
    assert goes(Survey([*few, *newest], options, *published(newest, slice(3)))) == left_over
    held = goes(Survey([waiting, *few, *newest], options, *published(newest, slice(3))))
    assert held == {slot.path for slot in newest}, "nothing is planned past what waits"


@st.composite
def surveys(draw: st.DrawFn) -> Survey:
    """A night and its gaps, in any state on the way; parts of it may have come long after others."""
    tiles = draw(st.sampled_from([2, 3, 5, 10, 20]))
    options = MosaicOptions(tiles=tiles, overlap=draw(st.integers(0, tiles - 1)), min_tiles=min(3, tiles))
    time, slots = GONE_LONG, []
    quiet = draw(st.sampled_from([1, 10, 100]))
    steps = st.sampled_from([1] * 6 * quiet + [2, 5, 300])
    states = st.sampled_from(["photometry_complete"] * 6 * quiet + ["waiting", "waiting", "converted", "failed"])
    for _ in range(draw(st.integers(1, 40))):
        time += TILE_S * draw(steps)
        slots.append(Slot(time, draw(states)))
    if draw(st.booleans()):
        slots.append(Slot(time + TILE_S, "waiting"))
    survey = Survey(slots, options, [], {})
    # What waits now may have come after everything around it had been grouped; or it has held that up.
    came_late = draw(st.booleans())
    known = [s for s in slots if s.state != "waiting" and (came_late or not survey.is_held(s))]
    if draw(st.booleans()):
        known = known[: draw(st.integers(0, len(known)))]
    for number, members in enumerate(survey.form(known, end_of_data=draw(st.booleans()))):
        made = draw(st.sampled_from([True] * 10 + [False]))
        survey.groups.append(Group(f"mg{number}", members, f"m{number}" if made else None))
        if made:
            status = draw(st.sampled_from(["published"] * 10 + ["staging", "failed"]))
            survey.products[f"m{number}"] = Product(status, settled_unix=GONE_LONG if status == "published" else None)
    return survey


@settings(max_examples=300, deadline=None)
@given(surveys(), st.booleans(), st.booleans())
def test_no_mosaic_that_is_still_to_be_made_ever_lacks_a_tile_or_a_table(
    survey: Survey, all_succeed: bool, end_of_data: bool
) -> None:
    """Everything that may go goes at once; then the pipeline goes on, and must find all that it needs."""
    made = [slot for slot in survey.slots if slot.state != "waiting"]
    tables = [Table(f"/s/caltables/c{i}", slot.mid_unix - 1e3, slot.mid_unix + 1e3) for i, slot in enumerate(made)]
    files = dict.fromkeys([*(slot.path for slot in made), *(table.path for table in tables)], File(1, GONE_LONG))
    holdings = Holdings(
        now_unix=NOW,
        tiles=[
            Tile(slot.path, slot.state, slot.mid_unix, GONE_LONG, () if slot.state == "converted" else (table.path,))
            for slot, table in zip(made, tables, strict=True)
        ],
        groups=survey.groups,
        products=survey.products,
        tables=tables,
        waiting_unix=tuple(slot.mid_unix for slot in survey.slots if slot.state == "waiting"),
        files=files,
        short_bytes=1e18,
    )
    at_once = RetentionOptions(keep_days=0.0, ms_days=0.0, tile_image_days=0.0, caltable_days=0.0)
    gone = {item.path for item in plan(holdings, at_once).removals}
    later = [replace(slot, state="converted") if slot.state == "waiting" else slot for slot in survey.slots]
    kept = later if all_succeed else [slot for slot in later if slot in survey.slots]
    for members in survey.form(kept, end_of_data=end_of_data):
        assert not gone.intersection(members), "a mosaic is still to be made of it"
    for group in survey.groups:
        product = survey.products.get(group.mosaic_id or "")
        if product is None or product.status != "published":
            assert not gone.intersection(group.members), "its mosaic is not published"
    for slot in survey.slots:
        if slot.state in ("waiting", "converted"):
            valid = {table.path for table in tables if table.start_unix <= slot.mid_unix <= table.end_unix}
            assert not gone.intersection(valid), "a tile is still to be calibrated with it"
