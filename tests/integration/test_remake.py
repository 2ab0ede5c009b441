"""A mosaic made anew, taken back and followed by the light curves, in an installation that has finished its work."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import select
from tests.integration.conftest import QUICK, FinishedRun, below

from dsa110_contimg import naming
from dsa110_contimg.cli.main import app
from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database import Mosaic, get_session
from dsa110_contimg.database.data_registry import ensure_data_registry_db, list_links, register_data_instance
from dsa110_contimg.database.models import Image, Job, MosaicGroup, Photometry, QACheck, VariabilityStats
from dsa110_contimg.database.product_report import describe_product
from dsa110_contimg.database.registry_rows import ProductRow, get_data
from dsa110_contimg.database.session import connect
from dsa110_contimg.errors import MosaicError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.pipeline.remake import remake
from dsa110_contimg.pipeline.runner import RunSummary, run
from dsa110_contimg.qa.checks import Verdict


@pytest.fixture
def settings(finished: FinishedRun, tmp_path: Path) -> Iterator[Settings]:
    """An installation of its own: a copy of the finished run, whose rows name the copy's files."""
    old, new = finished.settings.root, tmp_path / "copy"
    assert old is not None
    shutil.copytree(old, new)
    with below(new) as copy:
        for name in DATABASES:
            rename_paths(copy.database(name), str(old), str(new))
        yield copy


def rename_paths(database: Path, old: str, new: str) -> None:
    with closing(connect(database)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _id, column, kind, *_rest in list(connection.execute(f'PRAGMA table_info("{table}")')):
                if kind == "TEXT":
                    change = f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?)'
                    connection.execute(change, (old, new))


def first_id(finished: FinishedRun) -> str:
    return naming.mosaic_id(finished.truth.groups[0].group_id)


def product(settings: Settings, data_id: str) -> ProductRow:
    with closing(ensure_data_registry_db(settings.database("data_registry"))) as connection:
        return get_data(connection, data_id)


def links(settings: Settings, data_id: str) -> list[tuple[str, str, str]]:
    with closing(ensure_data_registry_db(settings.database("data_registry"))) as connection:
        return list_links(connection, data_id)


def again(settings: Settings) -> RunSummary:
    return run(settings, QUICK, once=True)


def statuses() -> dict[str, str | None]:
    with get_session("products", read_only=True) as session:
        return {mosaic.name: mosaic.status for mosaic in session.scalars(select(Mosaic))}


def counted() -> set[str]:
    """Return the images whose measurements feed the light curves."""
    with get_session("products", read_only=True) as session:
        return set(session.scalars(select(Photometry.image_path).where(Photometry.in_lightcurve == 1)))


def means() -> dict[str, float]:
    with get_session("products", read_only=True) as session:
        rows = session.scalars(select(VariabilityStats))
        return {row.source_id: row.mean_flux_mjy for row in rows if row.mean_flux_mjy is not None}


def digest(path: str | None) -> str:
    return hashlib.sha256(Path(path or "").read_bytes()).hexdigest()


def contimg(*words: str) -> int:
    ended = app(list(words), standalone_mode=False)
    return int(ended or 0)


def test_a_remade_mosaic_is_a_new_product_and_the_old_one_can_be_taken_back(
    finished: FinishedRun, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    old = first_id(finished)
    before, fluxes = product(settings, old), means()
    written = digest(before.published_path)

    new = remake(old, by="anna", reason="new weights")
    assert new == f"{old}_2"
    with pytest.raises(MosaicError, match=f"{new} is on its way"):
        remake(old, by="ben", reason="too")
    summary = again(settings)
    assert (summary.exit_code, summary.ended("failed")) == (0, [])
    stages = [outcome.job.job_id.partition(":")[0] for outcome in summary.ended("completed")]
    assert sorted(stages) == ["check", "mosaic", "photometry", "publish", "register", "variability"]

    after, remade = product(settings, old), product(settings, new)
    assert (after.status, after.published_path, digest(after.published_path)) == (
        "published",
        before.published_path,
        written,
    )
    assert (remade.status, Path(remade.published_path or "").name) == ("published", f"{new}.fits")
    assert (after.superseded_by, remade.superseded_by) == (new, None)
    assert (old, new, "supersedes") in links(settings, new)
    told = remade.details["remade"]
    assert isinstance(told, dict)
    assert (told["replaces"], told["by"], told["reason"]) == (old, "anna", "new weights")
    first, second = (fits_image.load(Path(row.published_path or "")).data for row in (after, remade))
    np.testing.assert_array_equal(first, second)
    assert statuses() == {old: "set_aside", new: "completed"}
    assert counted() == {remade.published_path}
    assert means() == pytest.approx(fluxes, rel=1e-12)
    with pytest.raises(MosaicError, match=f"newer version, {new}"):
        remake(old, by="anna", reason="again")

    capsys.readouterr()
    assert contimg("registry", "retract", old, "--by", "anna", "--reason", "bad weights", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    taken = product(settings, old)
    assert (answer["successor"], answer["tombstone"]) == (new, taken.published_path)
    assert (taken.status, taken.superseded_by, digest(taken.published_path)) == ("retracted", new, written)
    assert not Path(before.published_path or "").exists()
    assert statuses() == {old: "retracted", new: "completed"}
    with get_session("products", read_only=True) as session:
        rows = list(session.scalars(select(Photometry).where(Photometry.image_path == taken.published_path)))
        mosaic = session.scalars(select(Mosaic).where(Mosaic.name == old)).one()
        images = set(session.scalars(select(Image.path).where(Image.type.in_(["mosaic", "noise", "weight"]))))
    assert {row.retracted_at for row in rows} == {taken.retracted_at}
    assert {path for path in (mosaic.path, mosaic.noise_path, mosaic.weight_path) if path} <= images
    assert all(Path(str(path)).is_file() for path in (*images, mosaic.thumbnail_path))
    assert means() == pytest.approx(fluxes, rel=1e-12)

    assert contimg("registry", "retract", new, "--by", "anna", "--reason", "those too") == 0
    assert counted() == set()
    assert means() == {}
    assert remake(new, by="anna", reason="third time") == f"{old}_3"
    assert again(settings).exit_code == 0
    assert statuses() == {old: "retracted", new: "retracted", f"{old}_3": "completed"}
    assert means() == pytest.approx(fluxes, rel=1e-12)


def test_a_remake_that_was_killed_between_its_two_rows_is_asked_for_again(
    finished: FinishedRun, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = first_id(finished)
    with monkeypatch.context() as patch:
        patch.setattr("dsa110_contimg.pipeline.remake.leases.reopen_job", _die)
        with pytest.raises(KeyboardInterrupt):
            remake(old, by="anna", reason="new weights")
    with get_session("products", read_only=True) as session:
        assert set(session.scalars(select(MosaicGroup.status))) == {"completed"}
    assert again(settings).outcomes == []
    assert remake(old, by="ben", reason="the same") == f"{old}_2"
    with get_session("products", read_only=True) as session:
        assert set(session.scalars(select(Job.state).where(Job.stage == "mosaic"))) == {"pending"}
    note = product(settings, old).details["remake"]
    assert isinstance(note, dict)
    assert (note["by"], note["reason"]) == ("anna", "new weights"), "what was asked first stands"


def _die(*_args: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "by", "reason", "words"),
    [
        ("mosaic_2020-01-01_00-00-00", "anna", "why not", "there is no mosaic"),
        (None, " ", "why not", "who asks for it and why"),
        (None, "anna", "", "who asks for it and why"),
    ],
)
def test_what_cannot_be_remade_is_refused_by_name(
    finished: FinishedRun, name: str | None, by: str, reason: str, words: str
) -> None:
    before = statuses()
    with pytest.raises(MosaicError, match=words):
        remake(name or first_id(finished), by=by, reason=reason)
    assert statuses() == before


def test_a_product_says_what_it_was_made_from(finished: FinishedRun) -> None:
    """The row and the header tell the same: inputs, calibration tables, options, program."""
    row = product(finished.settings, first_id(finished))
    told, cards = row.details["provenance"], fits.getheader(row.published_path)
    assert isinstance(told, dict)
    assert [one["path"] for one in told["inputs"]] == row.details["image_paths"]
    assert cards["INPUTS"].split(",") == [Path(one["path"]).name for one in told["inputs"]]
    assert cards["CALTABLES"].split(",") == [Path(one["path"]).name for one in told["calibration_tables"]]
    assert len(told["calibration_tables"]) == 5, "delay, bandpass, and phases of three tiles"
    assert (cards["OPTHASH"], json.loads(cards["OPTIONS"])) == (told["options_sha256"], told["options"])
    assert told["options"] == {"mosaic": {**told["options"]["mosaic"], "tiles": 3, "overlap": 0}}
    assert cards["ORIGIN"] == f"{told['software']['name']} {told['software']['version']}"
    for one in told["inputs"]:
        tile = fits.getheader(one["path"])
        assert tile["OPTHASH"] == one["options_sha256"]
        assert told["input_options"][one["options_sha256"]] == json.loads(tile["OPTIONS"])
        assert tile["INPUTS"].endswith(".ms")


def test_validation_and_qa_stand_beside_their_figures(finished: FinishedRun) -> None:
    name = first_id(finished)
    with get_session("products", read_only=True) as session:
        checks = {check.name: check for check in session.scalars(select(QACheck).where(QACheck.subject == name))}
    behind_validation = [check for check in checks.values() if check.name.startswith("tile")]
    assert len(behind_validation) == 18
    assert {check.verdict for check in behind_validation} == {Verdict.PASSED.value}
    assert all(check.value is not None and check.threshold_failure is not None for check in behind_validation)
    assert checks["tile_gap_min"].value == pytest.approx(1.288, abs=0.01)
    assert checks["flux_agreement"].value == pytest.approx(1.0, abs=0.03)
    with closing(ensure_data_registry_db(finished.settings.database("data_registry"))) as connection:
        described = describe_product(connection, name)
    criteria = {str(one["name"]): one for one in described["criteria"]}  # type: ignore[attr-defined]
    assert len(criteria["validation_status"]["figures"]) == 18
    assert len(criteria["qa_status"]["figures"]) == len(checks) - 18


def test_a_mosaic_of_registered_images_is_derived_from_them(finished: FinishedRun, settings: Settings) -> None:
    name = first_id(finished)
    image = Path(str(product(settings, name).details["image_paths"][1]))  # type: ignore[index]
    with closing(ensure_data_registry_db(settings.database("data_registry"))) as connection:
        register_data_instance(connection, "image", image.name.removesuffix(".fits"), image, auto_publish=False)
    remake(name, by="anna", reason="its inputs are products now")
    again(settings)
    assert (image.name.removesuffix(".fits"), f"{name}_2", "derived_from") in links(settings, f"{name}_2")
