"""The rules and the dashboard name only series and labels that a filled installation exports."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.monitoring.conftest import NOW, Truth

from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import PerformanceMetrics
from dsa110_contimg.monitoring.metrics import render

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "contimg_rules.yml"
RULES_TEST = RULES.with_name("contimg_rules_test.yml")
DASHBOARD = ROOT / "deploy" / "grafana" / "contimg.json"
PROMTOOL = shutil.which("promtool")
SERIES = re.compile(r"\b(contimg_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\b(?:by|without|group_left|group_right|on|ignoring)\s*\(([^)]*)\)")
SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")

Exported = dict[str, list[dict[str, str]]]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def targets() -> list[dict[str, str]]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target for panel in panels for target in panel["targets"]]


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + [target["expr"] for target in targets()]


@pytest.fixture
def exported(filled: Truth, house: Path) -> Exported:
    """Every series of an installation that has a bit of everything, by name."""
    with get_session("ingest") as session:
        for row in session.query(PerformanceMetrics):
            row.total_time = 100.0
    folder = house / "state" / "backups" / "backup_20251217_000000"
    folder.mkdir(parents=True)
    told = {"made_unix": NOW, "why": "daily", "engine": "sqlite", "version": "1", "host": "h", "engine_version": "3"}
    (folder / "manifest.json").write_text(json.dumps({**told, "copies": []}))
    for area in ("incoming", "stage", "products"):
        (house / area).mkdir()
    found: Exported = {}
    for family in text_string_to_metric_families(render(now=NOW).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    assert filled.groups
    return found


def faults(expression: str, exported: Exported) -> Iterator[str]:
    """Yield what an expression asks for and nobody exports."""
    named = list(SERIES.finditer(expression))
    if not named:
        yield f"no series in {expression}"
    labels: set[str] = set()
    for match in named:
        samples = exported.get(match[1], [])
        if not samples:
            yield f"{match[1]} is not exported"
            continue
        labels |= set(samples[0])
        for label, operator, wanted in MATCHER.findall(match[2] or ""):
            if label not in samples[0]:
                yield f"{match[1]} has no label {label}"
            elif operator in ("=", "!=") and wanted not in {sample[label] for sample in samples}:
                yield f"{match[1]} never has {label}={wanted}"
    for group in GROUPED.findall(expression):
        for label in filter(None, (part.strip() for part in group.split(","))):
            if label not in labels:
                yield f"no series of {expression} has the label {label}"


def test_every_series_and_label_that_is_named_is_exported(exported: Exported) -> None:
    found = [fault for expression in expressions() for fault in faults(expression, exported)]
    assert found == []
    assert len(expressions()) >= 35


def test_every_series_is_shown_on_the_dashboard(exported: Exported) -> None:
    shown = {match[1] for target in targets() for match in SERIES.finditer(target["expr"])}
    assert set(exported) - shown == set()


def test_labels_in_legends_and_messages_are_exported(exported: Exported) -> None:
    texts = [(rule["expr"], rule["annotations"]["summary"]) for rule in rules()]
    texts += [(target["expr"], target["legendFormat"]) for target in targets()]
    for expression, text in texts:
        named = [match[1] for match in SERIES.finditer(expression)]
        known = {label for name in named for label in exported[name][0]}
        grouped = {part.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", expression) for part in group.split(",")}
        asked = set(SHOWN.findall(text)) - {"value"}
        assert asked <= (grouped or known), text


def test_the_check_can_fail(exported: Exported) -> None:
    wrong = [
        "contimg_nonsense > 1",
        'contimg_groups{color="red"}',
        'contimg_groups{state="lost"}',
        "sum by (color) (contimg_groups)",
        "vector(1)",
    ]
    assert [len(list(faults(expression, exported))) for expression in wrong] == [1] * len(wrong)


def test_every_rule_is_shown_to_fire_and_to_stay_silent() -> None:
    cases: dict[str, list[bool]] = {}
    for test in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            cases.setdefault(case["alertname"], []).append(bool(case["exp_alerts"]))
    assert cases == {rule["alert"]: [True, False] for rule in rules()}
    assert all(rule["labels"]["severity"] in ("info", "warning", "critical") for rule in rules())


def promtool(*words: object, told: bytes = b"") -> None:
    assert PROMTOOL is not None
    call = [PROMTOOL, *map(str, words)]
    done = subprocess.run(call, input=told, capture_output=True, check=False, cwd=RULES.parent)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@pytest.mark.usefixtures("filled")
@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")
def test_prometheus_accepts_the_files_and_the_rules_do_what_they_should(tmp_path: Path) -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "metrics", told=render(now=NOW))
    promtool("test", "rules", RULES_TEST.name)
    recorded = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions())]
    wrapped = tmp_path / "dashboard.yml"
    wrapped.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    promtool("check", "rules", wrapped)
    wrapped.write_text(wrapped.read_text().replace("sum by", "sum bye"))
    with pytest.raises(AssertionError, match="parse"):
        promtool("check", "rules", wrapped)


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    board = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
    (source,) = [entry for entry in board["templating"]["list"] if entry["type"] == "datasource"]
    assert all(target["datasource"]["uid"] == f"${{{source['name']}}}" for target in targets())  # type: ignore[index]
