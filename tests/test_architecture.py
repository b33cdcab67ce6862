"""The rules of ARCHITECTURE.md and CONTRIBUTING.md that a program can check."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rasteret_torch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rasteret_torch"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What each folder may import, besides itself. `errors -> geo -> {tiff, store} -> index -> {ingest, chips} -> read ->
# {readers, loaders} -> cli`.
MAY_IMPORT = {
    "errors": set(),
    "importing": set(),
    "geo": {"errors"},
    "tiff": {"errors", "geo"},
    "store": {"errors", "geo"},
    "index": {"errors", "geo", "tiff", "store"},
    "ingest": {"errors", "geo", "tiff", "store", "index"},
    "chips": {"errors", "geo", "tiff", "store", "index"},
    "read": {"errors", "geo", "tiff", "store", "index", "ingest", "chips"},
    "readers": {"errors", "geo", "tiff", "store", "index", "ingest", "chips", "read"},
    "loaders": {"importing", "errors", "geo", "tiff", "store", "index", "ingest", "chips", "read"},
    "cli": {"errors", "geo", "tiff", "store", "index", "ingest", "chips", "read", "readers", "loaders"},
}
# `rasteret_torch/__init__.py` names everything lazily; `cloud` is a public name for what store holds.
FACES = {"__init__": set(MAY_IMPORT), "cloud": {"errors", "store"}, "__main__": {"cli"}}
TORCH_ONLY_IN = {"loaders", "cli"}
TORCH = {"torch", "torchgeo", "torchvision", "torchmetrics", "lightning", "kornia", "torchdata"}
NO_GDAL = {"rasterio", "osgeo", "gdal", "fiona", "rioxarray", "pyogrio"}
# COGs are written by GDAL; it never reads.
GDAL_WRITERS = re.compile(r"(loaders/(predict|save)\w*|readers/(save|write)\w*)\.py")
ASYNC_IN = re.compile(r"(store/(fetch\w*|stores|backend\w*|providers?|credentials)|ingest/headers|read/pipeline)\.py")
VAGUE = {"utils", "util", "helpers", "helper", "common", "core", "base", "misc"}
MAX_LINES = 400


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        if node.module == "rasteret_torch":
            return [f"rasteret_torch.{alias.name}" for alias in node.names]
        return [node.module or ""]
    return []


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        for name in imported(node):
            yield name, getattr(node, "lineno", 0)


def all_imports() -> Iterator[tuple[Path, str, int]]:
    for path in MODULES:
        for name, line in imports(parsed(path)):
            yield path, name, line


@functools.cache
def type_checking_lines(tree: ast.Module) -> set[int]:
    """Lines under `if TYPE_CHECKING:`, which never run."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {line for block in blocks for line in range(block.lineno, (block.end_lineno or block.lineno) + 1)}


def test_imports_flow_one_way() -> None:
    for path, name, line in all_imports():
        folder = folder_of(path)
        allowed = (MAY_IMPORT | FACES)[folder] | {folder}
        parts = name.split(".")
        if parts[0] == "rasteret_torch" and len(parts) > 1:
            assert parts[1] in allowed, f"{relative(path)}:{line} imports {name}; {folder} may import {sorted(allowed)}"


def test_every_folder_is_in_the_table() -> None:
    assert {folder_of(path) for path in MODULES} <= set(MAY_IMPORT | FACES)


def test_each_folder_says_what_its_modules_are() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        named = set(re.findall(r"`(\w+)`", ast.get_docstring(parsed(path)) or ""))
        modules = {other.stem for other in path.parent.glob("*.py")} - {"__init__"}
        assert modules <= named, f"{relative(path)} does not mention {sorted(modules - named)}"


def test_torch_and_gdal_stay_where_they_belong() -> None:
    for path, name, line in all_imports():
        top = name.split(".")[0]
        if top in TORCH and line not in type_checking_lines(parsed(path)):
            assert folder_of(path) in TORCH_ONLY_IN, f"{relative(path)}:{line} imports {name}"
        if top in NO_GDAL:
            assert GDAL_WRITERS.fullmatch(relative(path)), f"{relative(path)}:{line} imports {name}"


def test_imports_stand_at_the_top() -> None:
    # Commands and the COG writer load what they need when they run.
    early = [path for path in MODULES if folder_of(path) != "cli" and not GDAL_WRITERS.fullmatch(relative(path))]
    for path in early:
        functions = [node for node in ast.walk(parsed(path)) if _is_function(node)]
        inside = [node for function in functions for node in ast.walk(function)]
        late = [f"{relative(path)}:{node.lineno}" for node in inside if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not late


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def test_async_is_a_narrow_strip() -> None:
    for path in MODULES:
        coroutines = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.AsyncFunctionDef)]
        if coroutines:
            assert ASYNC_IN.fullmatch(relative(path)), f"{relative(path)}:{coroutines[0].lineno} has async def"


def test_sizes_and_names() -> None:
    for path in MODULES:
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{relative(path)} has {lines} lines"
        assert not {path.stem.strip("_"), path.parent.name} & VAGUE, f"{relative(path)} says nothing of what it holds"
        for node in ast.walk(parsed(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = _code_lines(node)
                assert lines <= 60, f"{relative(path)}:{node.lineno} {node.name} has {lines} lines"
                assert _depth(node.body) <= 3, f"{relative(path)}:{node.lineno} {node.name} nests deeper than 3"


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, docstring aside."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _depth(body: list[ast.stmt]) -> int:
    """How deep loops, branches and `try` stand in each other; `with` adds nothing, `elif` stands beside its `if`."""
    deepest = 0
    for node in body:
        adds = 0 if isinstance(node, (ast.With, ast.AsyncWith, ast.FunctionDef, ast.AsyncFunctionDef)) else 1
        for part in _blocks(node):
            is_elif = isinstance(node, ast.If) and part is node.orelse and isinstance(part[0], ast.If)
            deepest = max(deepest, _depth(part) + (0 if is_elif else adds))
    return deepest


def _blocks(node: ast.stmt) -> list[list[ast.stmt]]:
    parts = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
    return [part for part in [*parts, *(handler.body for handler in getattr(node, "handlers", []))] if part]


def test_nothing_catches_everything() -> None:
    handlers = ((p, node) for p in MODULES for node in ast.walk(parsed(p)) if isinstance(node, ast.ExceptHandler))
    for path, node in handlers:
        caught = [] if node.type is None else [ast.unparse(part) for part in _alternatives(node.type)]
        where = f"{relative(path)}:{node.lineno}"
        assert caught, f"{where} has a bare except"
        assert not {"Exception", "BaseException"} & set(caught) or _reraises(node), f"{where} catches {caught}"


def _alternatives(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _reraises(handler: ast.ExceptHandler) -> bool:
    """Cleaning up and raising on is not catching."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_no_machine_paths_or_index_hosts() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    patterns = [f"{ROOT.parent}/", f"{Path.home()}/", "pypi" + ".org", "files.python" + "hosted", "index" + "-url"]
    patterns = [pattern for pattern in patterns if pattern != "//"]
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if not path.is_file() or path.suffix in {".tif", ".png", ".parquet"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found = [pattern for pattern in patterns if pattern in text]
        assert not found, f"{name} names {found}"


HEAVY = TORCH | NO_GDAL | {"geopandas", "xarray", "matplotlib"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("rasteret_torch.cli", HEAVY | {"pandas", "pyarrow", "pyproj", "obstore"}),  # and with it rasteret_torch
        ("rasteret_torch.read.access", HEAVY),  # and with it read, index and ingest; pyarrow.dataset brings pandas
    ],
)
def test_importing_stays_light(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*[name for name in {sorted(absent)!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_public_names_all_resolve() -> None:
    assert sorted({*rasteret_torch._HOMES, "errors"}) == rasteret_torch.__all__
    assert all(getattr(rasteret_torch, name) is not None for name in rasteret_torch.__all__)
