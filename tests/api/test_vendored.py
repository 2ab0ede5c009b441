"""What pages load from others is here, whole, with its license; and nothing in a page asks another machine."""

import hashlib
import re
from pathlib import Path

import pytest

from dsa110_contimg.dashboard.render import FOLDER, STATIC

ROW = re.compile(r"^\| `([^`]+)` \| `[^`]+` \| [\d.]+ \| \S+ \(`([^`]+)`\) \| `([0-9a-f]{64})` \|$", re.M)
WEB = Path(__file__).resolve().parents[1] / "web"
ELSEWHERE = re.compile(r"""(?:src|href|action)\s*=\s*["'](?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import""")
INLINE = re.compile(r"<script(?![^>]*(?:src=|application/json))|\son\w+\s*=\s*[\"']|<style|\sstyle\s*=\s*[\"']", re.I)
LINKS = re.compile(r"<a\s[^>]*>")


@pytest.mark.parametrize("folder", [STATIC / "vendor", WEB], ids=["dashboard", "tests"])
def test_every_file_is_listed_with_its_license_and_sum(folder: Path) -> None:
    listed = {
        name: (license_file, total) for name, license_file, total in ROW.findall((folder / "README.md").read_text())
    }
    present = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in {".js", ".css", ".wasm"}
    }
    assert listed.keys() == present
    for name, (license_file, total) in listed.items():
        assert (folder / license_file).stat().st_size > 300
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == total, name


def own_files() -> list[Path]:
    static = [path for path in STATIC.rglob("*") if path.is_file() and "vendor" not in path.relative_to(STATIC).parts]
    return sorted([*static, *(FOLDER / "templates").rglob("*.html")])


@pytest.mark.parametrize("path", own_files(), ids=lambda path: path.name)
def test_a_page_loads_nothing_from_elsewhere_and_has_no_inline_program_or_style(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not ELSEWHERE.search(LINKS.sub("", text)), path.name
    if path.suffix == ".html":
        assert not INLINE.search(text), f"{path.name}: {INLINE.search(text)}"


def test_the_rules_can_fail() -> None:
    assert ELSEWHERE.search('<script src="https://example.org/x.js">')
    assert ELSEWHERE.search("background: url(//example.org/x.png)")
    assert INLINE.search("<script>alert(1)</script>")
    assert INLINE.search('<p style="color: red">')
    assert INLINE.search('<button onclick="x()">')
    assert not INLINE.search('<script type="application/json" id="x">')
