"""What deploy/ names exists: commands, options, variables, files, modules; and its files are sound."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.commands import parse_call

from dsa110_contimg.config import Settings
from dsa110_contimg.pipeline import dask_worker
from dsa110_contimg.pipeline.jobs import Stage
from dsa110_contimg.pipeline.resources import MEMORY_GB, TIME_LIMIT_S

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
ENVIRONMENT = DEPLOY / "contimg.env"
UNITS = sorted((DEPLOY / "systemd").glob("*.*"))
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
COMPOSE = DEPLOY / "container" / "compose.yaml"
GUIDE = ROOT / "docs" / "how-to" / "deployment.md"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
BIN = "/opt/contimg/bin/"
LIBPQ = {"PGPASSWORD"}
VARIABLE = re.compile(r"^(#?)([A-Z][A-Z0-9_]*)=(.*)$", re.M)
INTERPOLATED = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")


def names_of_settings() -> set[str]:
    names = set()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        own = {f"PIPELINE_{name.upper()}"} if alias is None else {alias} if isinstance(alias, str) else set()
        names |= own | set(getattr(alias, "choices", ()))
    return {str(name) for name in names}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def interpolate(text: str) -> str:
    """Fill in as compose does: a default after `:-`; what is asked for after `:?` must be given."""
    return INTERPOLATED.sub(lambda match: match[3] if match[2] == "-" else "/given", text)


def exec_lines(unit: Path) -> Iterator[list[str]]:
    for line in unit.read_text().splitlines():
        if line.startswith("Exec"):
            yield shlex.split(line.partition("=")[2])


def check_program(program: str, words: list[str]) -> None:
    """Check a call of `contimg` or `dask`, without running it."""
    if program == "contimg":
        parse_call(words)
    else:
        assert program == "dask", program
        shown = subprocess.run(
            [Path(sys.executable).with_name(program), words[0], "--help"], capture_output=True, text=True
        )
        assert shown.returncode == 0
        assert [word for word in words if word.startswith("--") and word not in shown.stdout] == []


def test_the_environment_file_names_every_variable_with_a_comment() -> None:
    text = ENVIRONMENT.read_text()
    assert {match[2] for match in VARIABLE.finditer(text)} == names_of_settings()
    for block in text.split("\n\n"):
        assert re.match(r"# [A-Z]\w* [^\n]{10,}\n", block), block


def test_the_environment_file_is_as_nobody_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {match[2]: (match[1], match[3]) for match in VARIABLE.finditer(ENVIRONMENT.read_text())}
    for name in names_of_settings():
        monkeypatch.delenv(name, raising=False)
    set_here = {name: value for name, (comment, value) in found.items() if not comment}
    assert set(set_here) == {"PIPELINE_ROOT"}
    settings = Settings(root=Path(set_here["PIPELINE_ROOT"]))
    for area in ("incoming", "stage", "products", "state"):
        assert found[f"PIPELINE_{area.upper()}_DIR"][1] == str(getattr(settings, area))
    assert found["PIPELINE_BACKUP_DIR"][1] == str(settings.backups)
    assert float(found["PIPELINE_MIN_FREE_GB"][1]) == settings.min_free_gb
    for name in ("ingest", "cal_registry", "products", "hdf5", "data_registry", "calibrators", "master_sources"):
        assert found[f"PIPELINE_{name.upper()}_DB"][1] == str(settings.database(name))


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_unit_starts_what_exists(unit: Path) -> None:
    calls = list(exec_lines(unit))
    assert calls
    for program, *words in calls:
        assert program.startswith(BIN)
        check_program(program.removeprefix(BIN), words)
    assert "dask" in calls[0][0] or "EnvironmentFile=/etc/contimg/contimg.env" in unit.read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        # The programs of this environment stand for the installed ones, and root for the user.
        text = unit.read_text().replace(BIN, f"{Path(sys.executable).parent}/").replace("User=contimg", "User=root")
        (tmp_path / unit.name).write_text(text)
    paths = [str(tmp_path / unit.name) for unit in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "contimg" in line]
    assert (done.returncode, ours) == (0, [])


def test_compose_starts_what_exists() -> None:
    services = compose()["services"]
    own = {name: service for name, service in services.items() if service["image"] == "contimg"}
    assert set(own) == {"init", "pipeline", "contimg", "scheduler", "worker"}
    for service in own.values():
        command = service["command"]
        words = shlex.split(interpolate(command)) if isinstance(command, str) else command
        check_program(service.get("entrypoint", ["contimg"])[0], list(words))
        assert set(service["environment"]) <= names_of_settings() | LIBPQ
    check_program("contimg", shlex.split("run --dask tcp://scheduler:8786"))


def test_compose_names_what_exists() -> None:
    found = compose()
    for service in found["services"].values():
        for needed in service.get("depends_on", {}):
            assert needed in found["services"]
        for volume in service.get("volumes", []):
            source = interpolate(volume).split(":")[0]
            assert source in found["volumes"] or source == "/given" or (COMPOSE.parent / source).exists(), source
        for file in service.get("env_file", []):
            assert (COMPOSE.parent / file).exists()
        if "build" in service:
            context = COMPOSE.parent / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).samefile(CONTAINERFILE)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "a port is open to other machines"


def test_prometheus_and_grafana_find_their_sources() -> None:
    services = compose()["services"]
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert port in services[name]["command"]
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards" / "contimg.yml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/contimg.json" in mounted


def test_the_container_is_made_of_what_exists() -> None:
    text = CONTAINERFILE.read_text()
    for line in re.findall(r"^COPY (.+) \S+$", text, re.M):
        assert [name for name in line.split() if not (ROOT / name).exists()] == []
    assert 'ENTRYPOINT ["contimg"]' in text
    (words,) = re.findall(r"^CMD (\[.*\])$", text, re.M)
    parse_call(yaml.safe_load(words))
    assert {"data", "database"} <= set(compose()["volumes"])


def test_slurm_starts_workers_that_can_do_jobs() -> None:
    script = runpy.run_path(str(DEPLOY / "slurm" / "contimg_slurm.py"))
    with script["make_cluster"]() as cluster:
        job = cluster.job_script()
        assert cluster.scheduler_address in job
        parse_call(["run", "--dask", cluster.scheduler_address, "--threads", str(script["CORES"])])
    assert f"--no-nanny --death-timeout 60 --preload {dask_worker.__name__}" in job
    assert "--nthreads 1 " in job
    assert f"#SBATCH --cpus-per-task={script['CORES']}\n" in job


def test_the_guide_tells_memory_and_limits_as_they_are() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (\d+) GB \| (\d+) h \|$", GUIDE.read_text(), re.M)
    told = {name: (float(gb), 3600.0 * float(h)) for names, gb, h in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {stage.value: (MEMORY_GB[stage], TIME_LIMIT_S[stage]) for stage in Stage}


def test_the_rules_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_program("dask", ["scheduler", "--nosuch"])
    with pytest.raises(AssertionError):
        check_program("rm", [])
    assert interpolate("run ${A:---workers 2} ${B:?why}") == "run --workers 2 /given"
