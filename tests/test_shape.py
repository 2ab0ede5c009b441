"""The rules of shape that keep the house readable, checked without a reviewer."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dsa110_contimg

PACKAGE = Path(dsa110_contimg.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "versions" not in path.relative_to(PACKAGE).parts)
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 60

LONGER_FOR_A_REASON: dict[str, str] = {
    "kernels/source_fit.py:source_normal_equations": "one parallel loop of 35 lines under a docstring of shapes",
}
"""'module.py' or 'module.py:function' → why it may be longer."""

ROOTS = re.compile(r"/(data|stage|home|opt|usr|etc|var|tmp|mnt|work|dev|proc|scratch|root)(/|$)")
KERNEL_FILES = re.compile(r"/(proc|dev)/")
MAY_OPEN = {"database/session.py"}
MAY_USE_SYSTEM_FILES = {"processes.py"}


def own_rules(tree: ast.Module) -> list[str]:
    """Return what sets rules of its own for compiling, or asks what the common rules answer wrongly."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "numba"]
    found = [alias.name for node in imports for alias in node.names if "jit" in alias.name]
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        if any("compiled" in ast.unparse(decorator) for decorator in function.decorator_list):
            found += [f"{function.name}: {called_name(call)}" for call in calls if called_name(call) == "isfinite"]
    return found


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def string_literals(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield strings that are not docstrings."""
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node


def called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def environment_reads(tree: ast.Module) -> list[int]:
    names = {"environ", "getenv", "environb"}
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name))
    return [n.lineno for n in nodes if (n.attr if isinstance(n, ast.Attribute) else n.id) in names]


def absolute_paths(tree: ast.Module, name: str) -> list[tuple[int, str]]:
    found = [(node.lineno, str(node.value)) for node in string_literals(tree) if ROOTS.match(str(node.value))]
    if name in MAY_USE_SYSTEM_FILES:
        found = [(line, text) for line, text in found if not KERNEL_FILES.match(text)]
    return found


def openings(tree: ast.Module) -> list[int]:
    """Return where a database is opened; an event's or a scheduler's `connect` with a callback is not meant."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if called_name(call) == "create_engine"
        or (
            called_name(call) == "connect"
            and ast.unparse(call.func) in {"connect", "sqlite3.connect", "dbapi2.connect"}
        )
    ]


def long_functions(tree: ast.Module) -> dict[str, int]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions}
    return {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_environment_is_read_in_config_only(path: Path) -> None:
    if name_of(path) != "config.py":
        assert environment_reads(tree_of(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_absolute_paths_are_in_config_only(path: Path) -> None:
    if name_of(path) != "config.py":
        assert absolute_paths(tree_of(path), name_of(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_databases_are_opened_in_one_place(path: Path) -> None:
    allowed = MAY_OPEN | {"database/registry_rows.py"}
    if name_of(path) not in allowed and "migrations" not in path.parts:
        assert openings(tree_of(path)) == []


def test_the_registry_opens_its_file_in_one_function() -> None:
    tree = tree_of(PACKAGE / "database" / "registry_rows.py")
    inside = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "ensure_data_registry_db"
    ]
    lines = range(inside[0].lineno, (inside[0].end_lineno or 0) + 1)
    assert openings(tree)
    assert all(line in lines for line in openings(tree))


def test_no_module_of_the_database_has_a_name_of_the_standard_library() -> None:
    names = {path.stem for path in (PACKAGE / "database").glob("*.py")}
    names |= {path.name for path in (PACKAGE / "database").iterdir() if path.is_dir()}
    assert names & set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_are_short(path: Path) -> None:
    name, lines = name_of(path), path.read_text(encoding="utf-8").count("\n")
    if name not in LONGER_FOR_A_REASON:
        assert lines <= MAX_MODULE_LINES, f"{name} has {lines} lines: which two nouns is it?"
    too_long = {f: n for f, n in long_functions(tree_of(path)).items() if f"{name}:{f}" not in LONGER_FOR_A_REASON}
    assert too_long == {}, name


def test_every_exemption_has_a_reason_and_is_needed() -> None:
    for entry, reason in LONGER_FOR_A_REASON.items():
        name, _, function = entry.partition(":")
        assert len(reason.split()) >= 4, entry
        lines = (PACKAGE / name).read_text(encoding="utf-8").count("\n")
        needed = function in long_functions(tree_of(PACKAGE / name)) if function else lines > MAX_MODULE_LINES
        assert needed, f"{entry} is short enough now"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_kernels_are_compiled_by_one_set_of_rules(path: Path) -> None:
    if name_of(path) != "compiled.py":
        assert own_rules(tree_of(path)) == []


def test_the_rules_can_fail() -> None:
    source = (
        'import os, sqlite3\nX = "/data/in"\nos.environ["A"]\nsqlite3.connect("x")\ndef f():\n' + "    x = 1\n" * 70
    )
    tree = ast.parse(source)
    assert environment_reads(tree) == [3]
    assert absolute_paths(tree, "x.py") == [(2, "/data/in")]
    assert openings(tree) == [4]
    assert long_functions(tree) == {"f": 71}
    kernel = "from numba import njit\n@compiled_parallel\ndef f(x):\n    return np.isfinite(x)\n"
    assert own_rules(ast.parse(kernel)) == ["njit", "f: isfinite"]
