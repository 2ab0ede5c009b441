"""What the documents say is held against the program: commands, options, modules, variables, states, links."""

import enum
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import reference_pages
from tests.commands import COMMANDS, parse_call

import dsa110_contimg
from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database.models import METADATA
from dsa110_contimg.database.models.data_registry import (
    FinalizationStatus,
    ProductStatus,
    QAStatus,
    ValidationStatus,
)
from dsa110_contimg.database.models.ingest import QueueState
from dsa110_contimg.database.models.work import JobState, Verdict
from dsa110_contimg.pipeline.jobs import TILE_STAGES, Stage

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TEXTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PACKAGE = Path(dsa110_contimg.__file__).parent
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
PAGES = ["index", "operations", "dependencies", "conversion", *ROOMS]
MAX_README_LINES = 90
MAX_DECISION_LINES = 12
MAX_PICTURE_BYTES = 250_000

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`(?:[A-Z_]+=\S+ )*contimg( [^`]*)`")
MACHINE_PATH = re.compile(r"(?<![\w.$/])/(?:tmp|home|root|work|opt|mnt|usr|var|scratch|Users|proc)\b")
HOST = re.compile(
    r"pypi|pythonhosted|artifactory|nexus|index-url|ghcr\.io|docker\.io|localhost|\b(?!127\.0\.0\.1\b)\d+\.\d+\.\d+\.\d+\b"
)
STATES: dict[str, type[enum.StrEnum]] = {
    kind.__name__: kind
    for kind in (QueueState, JobState, ProductStatus, QAStatus, ValidationStatus, FinalizationStatus, Verdict)
}


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def option_row(parameter: Any) -> str:
    """Return the line that `docs/cli.md` owes a parameter."""
    if parameter.param_type_name == "argument":
        return f"| `{parameter.name.upper()}` | | {parameter.help} |"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    shown = "" if default is None or default is False else "on" if default is True else str(default)
    return f"| {names} | {shown} | {parameter.help} |"


def with_tables(text: str) -> str:
    """Return `docs/cli.md` with its option tables as the program has them now; its sentences stay."""
    for words, command in COMMANDS.items():
        head, title, rest = text.partition(f"## contimg {' '.join(words)}\n")
        if not title:
            continue
        section, mark, tail = rest.partition("\n## ")
        rows = "\n".join(option_row(p) for p in command.params if p.name != "help")
        section = section.partition("\n| option |")[0]
        table = f"\n| option | default | what |\n|---|---|---|\n{rows}\n" if rows else ""
        text = head + title + section + table + mark + tail
    return text


def sections(text: str) -> dict[str, str]:
    """Split a page at its second-level titles."""
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def shell_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each `contimg` line in the shell blocks of a text, without settings and comments."""
    for language, block in FENCE.findall(text):
        for line in block.splitlines() if language == "sh" else ():
            for piece in line.split(";"):
                words = shlex.split(piece, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words[:1] == ["contimg"]:
                    yield words[1:]


def anchors(text: str) -> set[str]:
    """Return the fragments that a page's titles make."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(path: Path, text: str) -> list[str]:
    broken = []
    for target in LINK.findall(FENCE.sub("", text)):
        if "://" in target:
            continue
        file, _, fragment = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        if not page.exists() or (fragment and fragment not in anchors(text_of(page))):
            broken.append(target)
    return broken


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_its_line(words: tuple[str, ...]) -> None:
    section = sections(text_of(DOCS / "cli.md")).get(f"contimg {' '.join(words)}")
    assert section is not None, f"docs/cli.md has no section '## contimg {' '.join(words)}'"
    rows = [option_row(p) for p in COMMANDS[words].params if p.name != "help"]
    missing = [row for row in rows if row not in section.splitlines()]
    assert not missing, "python -m tests.test_docs brings docs/cli.md up to date; it lacks:\n" + "\n".join(missing)


def test_the_pages_describe_no_command_or_option_that_is_gone() -> None:
    for title, section in sections(text_of(DOCS / "cli.md")).items():
        if not title.startswith("contimg "):
            continue
        words = tuple(title.split()[1:])
        assert words in COMMANDS, f"docs/cli.md describes {title}"
        known = {name for p in COMMANDS[words].params for name in (*p.opts, *p.secondary_opts)}
        named = set(re.findall(r"^\| `(--[\w-]+)`", section, re.M))
        assert named <= known, f"docs/cli.md: {title} has no {named - known}"


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_examples_parse(path: Path) -> None:
    for words in shell_lines(text_of(path)):
        parse_call(words)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_commands_that_are_mentioned_exist(path: Path) -> None:
    groups = {words[:1] for words in COMMANDS}
    for mention in INLINE.findall(FENCE.sub("", text_of(path))):
        words = tuple(w for w in mention.split() if not w.startswith("-"))
        if words and words[0].islower():
            assert words[:1] in groups, f"{path.name} mentions contimg{mention}"
            assert words[:1] in COMMANDS or words[:2] in COMMANDS, f"{path.name} mentions contimg{mention}"


def test_the_registry_commands_parse() -> None:
    found = re.findall(r"^python -m dsa110_contimg\.database\.cli (.+)$", text_of(DOCS / "cli.md"), re.M)
    assert len(found) == 5
    for line in found:
        parse_call(["registry", *shlex.split(line)])


@pytest.mark.parametrize("page", PAGES)
def test_every_package_has_a_page_that_the_index_names(page: str) -> None:
    assert (DOCS / f"{page}.md").is_file()
    assert page == "index" or f"({page}.md)" in text_of(DOCS / "index.md")


@pytest.mark.parametrize("room", ROOMS)
def test_a_page_names_every_module_and_no_other(room: str) -> None:
    modules = {path.stem for path in (PACKAGE / room).glob("*.py")} | {
        path.parent.name for path in (PACKAGE / room).glob("*/__init__.py")
    }
    table = text_of(DOCS / f"{room}.md").split("| module |", 1)[1].split("\n\n", 1)[0]
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.M))
    assert named == modules - {"__init__", "__main__"}, f"docs/{room}.md, table of modules"


def test_every_promise_of_publishing_names_tests_that_exist() -> None:
    table = sections(text_of(DOCS / "how-to" / "publishing_workflow.md"))["What is promised"]
    tests = re.findall(r"`(test_\w+)`", table)
    assert len(set(tests)) >= 10
    assert [name for name in tests if not list((ROOT / "tests").rglob(f"{name}.py"))] == []


def test_every_decision_is_short_and_in_the_index() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert len(pages) >= 8
    for page in pages:
        assert re.match(rf"# {page.name[:4]} ", text_of(page)), page.name
        assert f"(decisions/{page.name})" in text_of(DOCS / "index.md"), page.name
        if page.name[:4] <= "0008":
            assert text_of(page).count("\n") <= MAX_DECISION_LINES, page.name


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_resolve(path: Path) -> None:
    assert broken_links(path, text_of(path)) == []


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_no_text_names_a_machine_or_a_host(path: Path) -> None:
    for number, line in enumerate(text_of(path).splitlines(), 1):
        assert not MACHINE_PATH.search(line), f"{path.name}:{number}: {line}"
        assert not HOST.search(line), f"{path.name}:{number}: {line}"


def test_the_readme_is_one_page_with_small_pictures() -> None:
    readme = text_of(ROOT / "README.md")
    assert readme.count("\n") < MAX_README_LINES
    pictures = [target for target in LINK.findall(readme) if target.endswith(".png")]
    assert len(pictures) == 2
    for picture in pictures:
        assert 1000 < (ROOT / picture).stat().st_size < MAX_PICTURE_BYTES


def test_every_variable_is_described() -> None:
    text = text_of(DOCS / "operations.md")
    names = set()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        own = {f"PIPELINE_{name.upper()}"} if alias is None else {alias} if isinstance(alias, str) else set()
        names |= own | set(getattr(alias, "choices", ()))
    assert {name for name in names if f"`{name}`" not in text} == set()
    described = set(re.findall(r"`([A-Z]+(?:_[A-Z0-9]+)*)`", sections(text)["Environment"]))
    assert described == names


@pytest.mark.parametrize("kind", STATES.values(), ids=STATES)
def test_every_state_is_described(kind: type[enum.StrEnum]) -> None:
    text = sections(text_of(DOCS / "operations.md"))["States"]
    assert [state.value for state in kind if f"`{state}`" not in text] == []


def test_every_stage_is_described() -> None:
    text = text_of(DOCS / "pipeline.md")
    assert [stage.value for stage in Stage if f"| `{stage}` |" not in text] == []
    assert [stage for stage in TILE_STAGES if f"`{stage}`" not in text_of(DOCS / "operations.md")] == []


def test_paths_are_those_of_naming() -> None:
    stage, group = Path("stage"), "2025-12-24T03:18:05"
    ms, mosaic = naming.ms_path(stage, group), naming.mosaic_id("2025-12-24T03:12:56")
    shown = text_of(DOCS / "operations.md")
    for path in (
        ms,
        naming.caltable_path(stage, ms, "BP"),
        naming.image_path(stage, ms),
        naming.mosaic_path(stage, mosaic),
    ):
        assert str(path) in shown


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    text = sections(text_of(DOCS / "dependencies.md"))
    for title, wanted in (
        ("To run", project["dependencies"]),
        ("To develop", project["optional-dependencies"]["dev"]),
    ):
        named = re.findall(r"^\| `([\w-]+)` \| \S.{10,} \|$", text[title], re.M)
        assert named == sorted(re.split(r"[<>=;\[ ]", line)[0] for line in wanted), title


@pytest.mark.parametrize("database", METADATA)
def test_a_database_page_is_up_to_date(database: str) -> None:
    page = text_of(reference_pages.page_of(database))
    fresh = reference_pages.with_tables(database, page, reference_pages.load_meanings())
    assert page == fresh, f"python -m tests.test_docs brings {reference_pages.page_of(database).name} up to date"
    assert f"({name_of(reference_pages.page_of(database)).removeprefix('docs/')})" in text_of(DOCS / "index.md")


def test_every_column_has_a_meaning_and_every_meaning_a_column() -> None:
    meanings = reference_pages.load_meanings()
    assert reference_pages.idle_meanings(meanings) == set()
    del meanings["photometry"]["peak_jyb"]
    with pytest.raises(KeyError, match=r"what photometry\.peak_jyb means"):
        reference_pages.generated("products", meanings)
    assert reference_pages.idle_meanings({**meanings, "jobs": {"nonsense": "x"}}) >= {"jobs.nonsense"}


def test_the_license_is_the_one_that_the_package_names() -> None:
    license_text = text_of(ROOT / "LICENSE")
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert f"SPDX-License-Identifier: {project['license']}" in license_text
    assert "GNU GENERAL PUBLIC LICENSE" in license_text
    assert "Version 3, 29 June 2007" in license_text


def test_the_rules_can_fail() -> None:
    with pytest.raises(AssertionError, match="no command deploy"):
        parse_call(["deploy"])
    with pytest.raises(Exception, match="No such option: --nosuch"):
        parse_call(["run", "--nosuch"])
    assert list(shell_lines("```sh\nA=1 contimg run --once  # all\nls\n```\n")) == [["run", "--once"]]
    assert broken_links(DOCS / "index.md", "[a](nowhere.md) [b](cli.md) [c](cli.md#nowhere)") == [
        "nowhere.md",
        "cli.md#nowhere",
    ]
    assert MACHINE_PATH.search("see /home/me/file")
    assert not MACHINE_PATH.search("docs/work/x and $HOME/work")
    assert HOST.search("pip install --index-url x")


if __name__ == "__main__":
    page = DOCS / "cli.md"
    page.write_text(with_tables(text_of(page)), encoding="utf-8")
    reference_pages.rewrite()
