"""What an operator's program asks, in the middle of a night: answers against the rows and tables that were put in."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.api.night import DEAD, FAILURE, FLAGGED, NOISE_JY, REFUSED, STRIP_DEG, THERMAL_RATIO, Night

from dsa110_contimg.database import get_session
from dsa110_contimg.database.audit import list_changes
from dsa110_contimg.database.models import Caltable, IngestQueue, Job, Role
from dsa110_contimg.telescope import TILE_SECONDS, unix_to_mjd

API = "/api/v1"
Bearer = Callable[[Role], dict[str, str]]


def get(client: TestClient, path: str, **parameters: object) -> Any:
    answer = client.get(f"{API}/{path}", params={name: str(value) for name, value in parameters.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


def follow(client: TestClient, path: str, name: str, **parameters: object) -> list[Any]:
    """Return a field of every item of a list, page by page."""
    found, cursor = [], None
    while True:
        page = get(client, path, **parameters, **({"cursor": cursor} if cursor else {}))
        found += [item[name] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            return found


def test_the_queue_counts_every_state(operator: TestClient, night: Night) -> None:
    told = get(operator, "queue")
    assert told["groups"] == {
        "collecting": 1, "completed": len(night.groups) - 4, "failed": 1, "in_progress": 1, "pending": 1,
    }  # fmt: skip
    assert told["refused_files"] == 1
    assert told["jobs"]["image"]["failed"] == 1
    (run,) = told["runs"]
    assert run["slots"] == 4
    failures = {one["name"]: one for one in told["last_failures"]}
    assert failures[f"image:{night.failed}"]["error"] == FAILURE
    assert "--mgain" in failures[f"image:{night.failed}"]["remedy"]
    assert failures["broken_sb04.hdf5"]["kind"] == "file"
    assert "/in/" not in json.dumps(told), "no folder of this machine"


@pytest.mark.parametrize(("sort", "step"), [("group_id", 1), ("-group_id", -1)])
def test_pages_of_groups_hold_each_once_in_order(operator: TestClient, night: Night, sort: str, step: int) -> None:
    assert follow(operator, "queue/groups", "group_id", limit=7, sort=sort) == night.groups[::step]


def test_groups_are_filtered_by_state_and_day(operator: TestClient, night: Night) -> None:
    assert follow(operator, "queue/groups", "group_id", state="failed") == [night.refused]
    days = sorted({group[:10] for group in night.groups})
    found = [group for day in days for group in follow(operator, "queue/groups", "group_id", prefix=day, limit=9)]
    assert sorted(found) == night.groups
    assert follow(operator, "queue/groups", "group_id", prefix="1999") == []
    assert operator.get(f"{API}/queue/groups", params={"state": "nosuch"}).status_code == 422


def test_a_group_with_three_subbands_says_which_are_missing(operator: TestClient, night: Night) -> None:
    told = get(operator, f"queue/groups/{night.collecting}")
    assert (told["group"]["subbands"], told["group"]["expected_subbands"]) == (3, 16)
    assert told["missing_subbands"] == list(range(3, 16))
    assert [step["state"] for step in told["steps"]] == ["waiting", *["ahead"] * 5]
    assert told["steps"][0]["note"] == "3 of 16 subbands are here"


def test_a_failed_group_says_why_how_often_and_the_way_out(operator: TestClient, night: Night) -> None:
    told = get(operator, f"queue/groups/{night.failed}")
    states = {step["name"]: step for step in told["steps"]}
    assert [step["state"] for step in told["steps"]] == ["done", "done", "done", "failed", "ahead", "ahead"]
    assert (states["image"]["note"], states["image"]["attempts"]) == (FAILURE, 3)
    assert states["image"]["log_tail"].splitlines()[-1] == "cycle 3: peak 0.4"
    assert "--mgain" in told["way_out"]
    refused = get(operator, f"queue/groups/{night.refused}")
    assert refused["steps"][1]["note"] == REFUSED
    assert "bring the missing files" in refused["way_out"]
    assert operator.get(f"{API}/queue/groups/nosuch").status_code == 404


def test_an_operator_opens_failed_work_again_and_it_is_written_down(
    operator: TestClient, night: Night, bearer: Bearer
) -> None:
    address = f"{API}/queue/groups/{night.failed}/retry"
    assert operator.post(address).status_code == 401
    assert operator.post(address, headers=bearer(Role.VIEWER)).status_code == 403
    with get_session("products", read_only=True) as session:
        assert session.get(Job, f"image:{night.failed}").state == "failed"  # type: ignore[union-attr]
    who = bearer(Role.OPERATOR)
    assert operator.post(address, headers=who).json() == {"opened": [f"image:{night.failed}"]}
    with get_session("products", read_only=True) as session:
        assert session.get(Job, f"image:{night.failed}").state == "pending"  # type: ignore[union-attr]
    again = operator.post(address, headers=who)
    assert again.status_code == 409
    assert "nothing that has failed" in again.json()["detail"]
    (change,) = [one for one in list_changes(limit=10) if one.action == "retry"]
    assert (change.target, change.detail) == (night.failed, f"image:{night.failed}")
    assert operator.post(f"{API}/jobs/nosuch/retry", headers=who).status_code == 409
    assert operator.post(f"{API}/queue/groups/{night.refused}/retry", headers=who).status_code == 200
    with get_session("ingest", read_only=True) as session:
        assert session.get(IngestQueue, night.refused).state == "collecting"  # type: ignore[union-attr]


def test_jobs_by_state_stage_and_subject(operator: TestClient, night: Night) -> None:
    assert follow(operator, "jobs", "job_id", state="failed") == [f"image:{night.failed}"]
    assert set(follow(operator, "jobs", "subject", stage="measure", limit=11)) < set(night.groups)
    assert sorted(follow(operator, "jobs", "stage", subject=night.failed)) == ["calibrate", "convert", "image"]
    everything = follow(operator, "jobs", "job_id", limit=13)
    assert everything == sorted(set(everything), reverse=True)
    assert get(operator, f"jobs/image:{night.failed}")["error"] == FAILURE
    assert operator.get(f"{API}/jobs/nosuch").status_code == 404


def test_measurement_sets_by_time_and_stage(operator: TestClient, night: Night) -> None:
    found = follow(operator, "measurement-sets", "group_id", limit=7)
    assert found == sorted(found, reverse=True)
    assert len(found) == len(night.groups) - 5 + 1
    assert night.collecting not in found
    stages = follow(operator, "measurement-sets", "group_id", stage="calibrated")
    assert night.failed in stages
    middle = get(operator, f"measurement-sets/{found[20]}")["mid_mjd"]
    assert follow(operator, "measurement-sets", "group_id", start_mjd=middle) == found[:21]
    assert follow(operator, "measurement-sets", "group_id", end_mjd=middle, sort="mid_mjd") == found[20:][::-1]
    tile = get(operator, f"measurement-sets/{found[20]}")
    assert (tile["caltables"], tile["verdict"]) == (["old_bpcal"], "passed")
    assert tile["noise_jy"] == pytest.approx(NOISE_JY, rel=0.11)
    (check,) = get(operator, f"measurement-sets/{found[20]}/checks")
    assert check["value"] == THERMAL_RATIO
    assert operator.get(f"{API}/measurement-sets/nosuch").status_code == 404


def test_tables_that_hold_at_a_time(operator: TestClient, night: Night) -> None:
    newest = get(operator, f"caltables/{night.tables[-1]}")
    at = newest["mid_mjd"]
    usable = get(operator, "caltables/usable", mjd=at)
    assert [row["order_index"] for row in usable] == sorted(row["order_index"] for row in usable)
    assert usable[1 + len(night.tables) - 1]["id"] == night.tables[-1], "the nearest bandpass comes first"
    assert [row["table_type"] for row in get(operator, "caltables/usable", mjd=at, type="GP")] == ["G"]
    assert get(operator, "caltables/usable", mjd=at - 30.0) == []
    listed = follow(operator, "caltables", "id", type="BP", limit=2)
    assert listed == night.tables[::-1]
    assert set(follow(operator, "caltables", "table_type", valid_at_mjd=at)) == {"K", "BP", "G"}
    timeline = get(operator, "caltables/timeline", start_mjd=at - 0.01, end_mjd=at + 0.01)
    assert {row["id"] for row in timeline} >= set(night.tables)
    assert operator.get(f"{API}/caltables/timeline", params={"start_mjd": 2, "end_mjd": 1}).status_code == 400
    assert operator.get(f"{API}/caltables/usable", params={"mjd": "nan"}).status_code == 422
    assert operator.get(f"{API}/caltables/{2**70}").status_code == 404


def test_a_table_comes_back_antenna_by_antenna(operator: TestClient, night: Night) -> None:
    told = get(operator, f"caltables/{night.tables[0]}/solutions")
    antennas = {one["antenna"]: one for one in told["antennas"]}
    assert (told["kind"], told["channels"], len(antennas)) == ("BP", 24, 96)
    assert antennas[DEAD]["flagged"] == 1.0
    assert antennas[DEAD]["amplitude"] == [None, None]
    assert antennas[FLAGGED]["flagged"] == pytest.approx(0.4, abs=0.03)
    np.testing.assert_allclose(antennas["1"]["amplitude"], [1.0, 1.1], rtol=0.01)
    order = [one["antenna"] for one in told["antennas"]]
    wanted = (3.0 * order.index("9") + 180.0) % 360.0 - 180.0
    np.testing.assert_allclose(antennas["9"]["phase_deg"], [wanted] * 2, atol=1.0)
    assert antennas["9"]["snr"] == [80.0, 80.0]
    assert abs(antennas["1"]["east_m"]) < 2000.0
    one = get(operator, f"caltables/{night.tables[0]}/solutions/{FLAGGED}")
    assert (one["axis"], len(one["x"])) == ("frequency_mhz", 24)
    assert one["amplitude"][0][:10] == [None] * 10
    assert one["amplitude"][1][-1] == pytest.approx(1.1, rel=0.15)
    assert operator.get(f"{API}/caltables/{night.tables[0]}/solutions/nosuch").status_code == 404


def test_a_table_that_is_gone_or_lies_elsewhere_is_not_read(operator: TestClient, night: Night) -> None:
    with get_session("cal_registry") as session:
        session.get(Caltable, night.tables[0]).path = "/etc/passwd"  # type: ignore[union-attr]
        session.get(Caltable, night.tables[1]).path = str(night.root / "stage" / "gone_bpcal")  # type: ignore[union-attr]
    for number, words in ((0, "outside the folders"), (1, "not on disk")):
        answer = operator.get(f"{API}/caltables/{night.tables[number]}/solutions")
        assert answer.status_code == 404
        assert words in answer.json()["detail"]
        assert str(night.root) not in answer.text
    assert operator.get(f"{API}/caltables/{night.tables[1]}/page.png").status_code == 404


def test_transits_and_pointing_are_those_of_the_strip(operator: TestClient) -> None:
    told = get(operator, "pointing")
    assert told["strip_dec_deg"] == pytest.approx(STRIP_DEG, abs=1e-6)
    now, later = told["looks"][:2]
    assert (later["lst_hours"] - now["lst_hours"]) % 24.0 == pytest.approx(3600.0 / 3590.17, abs=1e-3)
    assert now["alt_deg"] == pytest.approx(90.0 - 37.2334 + STRIP_DEG, abs=0.01)
    transits = get(operator, "calibrators/transits", days=3)
    found = [one for one in transits["transits"] if one["calibrator"] == "3C48"]
    # Three days are 3.008 sidereal ones.
    assert len(found) in {3, 4}
    assert all(one["solves"] for one in found)
    steps = np.diff([one["time_unix"] for one in found])
    np.testing.assert_allclose(steps, 86164.09, atol=1.0)
    assert get(operator, "calibrators/transits", dec_deg=-30)["transits"] == []
    assert operator.get(f"{API}/calibrators/transits", params={"dec_deg": -80}).status_code == 400
    assert {"3C48", "3C286"} <= {one["name"] for one in get(operator, "calibrators")}
    assert follow(operator, "pointing/history", "time_unix", limit=9) == pytest.approx(
        sorted((one["time_unix"] for one in get(operator, "pointing/history", limit=500)["items"]), reverse=True)
    )


def test_the_inventory_tells_days_gaps_and_what_lacks(operator: TestClient, night: Night) -> None:
    told = get(operator, "hdf5/inventory", days=3)
    assert sum(day["groups"] for day in told["days"]) == len(night.groups)
    assert sum(sum(day["by_subband"]) for day in told["days"]) == 16 * len(night.groups) - 13 - 2
    assert {one["group_id"]: one["missing"] for one in told["incomplete"]} == {
        night.collecting: list(range(3, 16)), night.refused: [3, 9],
    }  # fmt: skip
    assert told["gaps"] == []
    assert told["freshness"]["newest_group"] == night.collecting
    files = follow(operator, "hdf5/files", "file_name", group_id=night.refused, limit=5)
    assert len(files) == 14
    assert len(set(files)) == 14


def test_alerts_are_listed_and_acknowledged(operator: TestClient, night: Night, bearer: Bearer) -> None:
    (sent,) = get(operator, "alerts")["items"]
    assert (sent["delivered"], sent["acknowledged_by"]) == (True, None)
    assert get(operator, "alerts", least="critical")["items"] == []
    assert [one["alert_type"] for one in get(operator, "alerts/pending")] == ["quarantine"]
    address = f"{API}/alerts/{sent['id']}/acknowledge"
    assert operator.post(address).status_code == 401
    who = bearer(Role.OPERATOR)
    assert operator.post(address, headers=who).json()["acknowledged_by"] == "operator-ada"
    assert get(operator, "alerts", unacknowledged="true")["items"] == []
    for absent in (999, 2**70, -1):
        assert operator.post(f"{API}/alerts/{absent}/acknowledge", headers=who).status_code == 404
    assert night.root.is_dir()


def test_how_fast_and_how_noisy(operator: TestClient, night: Night) -> None:
    told = get(operator, "performance", hours=6)
    steps = {one["step"]: one for one in told["steps"]}
    assert (steps["imaging"]["p50_s"], steps["imaging"]["groups"]) == (41.0, len(night.groups) - 4)
    assert told["throughput"]["possible"] == pytest.approx(4 * TILE_SECONDS / 66.0)
    assert sum(hour["arrived"] for hour in told["hours"]) == len(night.groups)
    assert told["throughput"]["last_hour"] == pytest.approx(told["hours"][-1]["finished"] * TILE_SECONDS / 3600.0)
    noise = get(operator, "performance/noise", days=2, end_mjd=unix_to_mjd(night.now))
    assert [one["mid_mjd"] for one in noise] == sorted(one["mid_mjd"] for one in noise)
    assert len(noise) == len(night.groups) - 6
    ratios = {round(one["noise_jy"] / one["thermal_jy"], 9) for one in noise}
    assert ratios == {THERMAL_RATIO}


def test_where_the_room_goes(operator: TestClient, night: Night) -> None:
    told = get(operator, "storage")
    shares = {one["kind"]: one for one in told["shares"]}
    assert shares["calibration tables"]["items"] == 3 * len(night.tables)
    assert shares["calibration tables"]["bytes"] > 100_000
    assert {disk["area"] for disk in told["disks"]} == {"incoming", "stage", "products", "state"}
    assert get(operator, "storage/disks")["floor_bytes"] == 0
