"""What `contimg status` says, and how failed work is opened again."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dsa110_contimg.cli.main import app
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, init_databases, leases, reset_engines
from dsa110_contimg.database.leases import Failure, FailureKind
from dsa110_contimg.database.models import IngestQueue, MosaicGroup, MosaicGroupMember, MSIndex, Quarantine
from dsa110_contimg.database.models import Job as JobRow
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.monitoring.logs import log_path
from dsa110_contimg.pipeline.notices import Notice, tell
from dsa110_contimg.pipeline.reopen import reopen, reopen_all
from dsa110_contimg.pipeline.status import overview

GROUP = "2025-01-15T12:30:00"
CAUSE = "its worker process was killed (SIGKILL) because the machine was out of memory"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    return tmp_path


def end(stage: str, subject: str, failure: Failure, *, tail: str | None = None) -> None:
    now = time.time()
    with get_session("products") as session:
        token = leases.start_jobs(session, [(stage, subject)], "elsewhere:1:1", 60.0, now)[f"{stage}:{subject}"]
        leases.fail_job(session, f"{stage}:{subject}", token, failure, error=CAUSE, log_tail=tail, now=now)


def fail_group() -> None:
    with get_session("ingest") as session:
        ingest_queue.record_subband(session, group_id=GROUP, subband_idx=0, path="/in/a", file_size=1, now=time.time())
        ingest_queue.mark_pending(session, GROUP)
        ingest_queue.claim_group(session, GROUP)
        ingest_queue.fail_group(session, GROUP, CAUSE)
    end("convert", GROUP, Failure(FailureKind.DEATH, for_good=True), tail="the last words")


def test_each_failure_has_its_cause_and_the_way_out() -> None:
    fail_group()
    view = overview()
    assert view.failed == {GROUP: CAUSE, f"convert:{GROUP}": CAUSE}
    assert {failure.name for failure in view.last_failures} == set(view.failed)
    assert all("contimg retry" in failure.remedy for failure in view.last_failures if failure.kind == "job")
    assert view.counts["groups"] == {"failed": 1}


def test_a_group_that_collects_says_what_it_waits_for() -> None:
    now = time.time()
    with get_session("ingest") as session:
        for index in (0, 1, 3):
            path = f"/in/{GROUP}_sb{index:02d}.hdf5"
            ingest_queue.record_subband(session, group_id=GROUP, subband_idx=index, path=path, file_size=1, now=now)
        refused = f"/in/{GROUP}_sb02.hdf5"
        session.add(Quarantine(path=refused, group_id=GROUP, reason=f"{refused} is truncated", quarantined_at=now))
    waits = overview().waiting[GROUP]
    assert waits == "3 of 16 subbands have come, it waits 10 min more for the others"
    first, group, file = overview(GROUP).details
    assert first == GROUP
    assert group.startswith("  group: collecting, 3 of 16 subbands without sb02, sb04, sb05")
    assert file == f"  refused: {refused} is truncated"
    for name in (refused, Path(refused).name):
        assert overview(name).details == [name, file]


def test_tiles_and_mosaic_groups_are_known_by_their_names() -> None:
    path = f"/s/{GROUP}.ms"
    with get_session("products") as session:
        session.add(MSIndex(path=path, group_id=GROUP, stage="imaged"))
        session.add(MosaicGroup(group_id="mg_1", ms_paths="[]", created_at=1.0, mosaic_id="mosaic_1", status="pending"))
        session.flush()
        session.add(MosaicGroupMember(group_id="mg_1", ms_path=path, position=0))
    assert overview(GROUP).details == [GROUP, f"  tile: imaged, {path}"]
    assert overview("mg_1").details == ["mg_1", f"  mosaic group: pending, 1 tiles: {GROUP}; makes mosaic_1"]


def test_what_waits_says_for_what_and_what_runs_for_whom() -> None:
    end("image", "a", Failure(FailureKind.ERROR, not_before=time.time() + 3600.0))
    end("image", "b", Failure(FailureKind.DEATH))
    with get_session("products") as session:
        leases.start_jobs(session, [("image", "c")], "elsewhere:1:1", 60.0, time.time())
    view = overview()
    assert view.waiting["image:a"] == f"attempt 2 in 60 min: {CAUSE}"
    assert "alone, because a worker has died in it" in view.waiting["image:b"]
    assert view.running["image:c"].endswith("by elsewhere:1:1")


def test_the_history_of_a_subject_has_its_last_words_and_its_log() -> None:
    fail_group()
    lines = [
        {"job_id": f"convert:{GROUP}", "subject": GROUP, "event": "read 3 of 16", "timestamp": "t", "level": "info"},
        {"job_id": "convert:other", "subject": "other", "event": f"nothing to do with {GROUP}"},
    ]
    log_path(Settings()).parent.mkdir(parents=True, exist_ok=True)
    log_path(Settings()).write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut')
    told = "\n".join(overview(GROUP).details)
    for part in ("convert: failed, attempt 1", "workers died", "| the last words", "read 3 of 16", CAUSE):
        assert part in told
    assert "nothing to do" not in told
    assert overview(f"convert:{GROUP}").details


def test_a_paused_run_says_why_on_the_screen() -> None:
    tell(Settings(), Notice(this_process(), time.time(), time.time(), 4, ["image:a"], paused="no room on /stage"))
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0, shown.output
    assert "no room on /stage" in shown.output
    view = json.loads(CliRunner().invoke(app, ["status", "--json"]).output)
    assert view["runs"][0]["paused"] == "no room on /stage"
    assert view["backlog"]["waiting"] == 0


@pytest.mark.parametrize("name", [GROUP, f"convert:{GROUP}"])
def test_a_failed_group_is_opened_again_with_its_counts_at_zero(name: str) -> None:
    fail_group()
    assert reopen(name) == [f"convert:{GROUP}", GROUP]
    with get_session("products", read_only=True) as session:
        row = session.get_one(JobRow, f"convert:{GROUP}")
        assert (row.state, row.failures, row.deaths, row.error) == ("pending", 0, None, None)
    with get_session("ingest", read_only=True) as session:
        assert session.get_one(IngestQueue, GROUP).state in ("collecting", "pending")
    with pytest.raises(PipelineError, match="contimg status"):
        reopen(name)


def test_everything_that_failed_can_be_opened_at_once() -> None:
    fail_group()
    end("image", "a", Failure(FailureKind.ERROR, for_good=True))
    end("image", "b", Failure(FailureKind.ERROR))
    assert sorted(reopen_all()) == sorted([GROUP, f"convert:{GROUP}", "image:a"])
    assert overview().failed == {}


def test_retry_names_what_has_not_failed_and_opens_the_rest() -> None:
    end("image", "a", Failure(FailureKind.ERROR, for_good=True))
    result = CliRunner().invoke(app, ["retry", "image:a", "image:none"])
    assert "image:a is open again" in result.output
    assert isinstance(result.exception, PipelineError)
    assert "image:none" in str(result.exception)
    assert CliRunner().invoke(app, ["retry"]).exit_code == 2


def test_a_group_names_the_refused_files_whose_stamp_is_near() -> None:
    fail_group()
    with get_session("ingest") as session:
        for second, stamp in (("05", "2025-01-15T12:30:05"), ("59", "2025-01-15T12:32:59")):
            ingest_queue.quarantine_file(session, f"/in/{second}.hdf5", "it is truncated", stamp)
    assert [line for line in overview(GROUP).details if "refused" in line] == [
        "  refused: /in/05.hdf5: it is truncated"
    ]
