"""The rules of the house: layers, who may import ray, sizes, what may stand in a file."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "promo_ray"

# Rank by package; a package imports only lower ranks and itself.
LAYERS = [
    {"errors"},
    {"config", "registry", "telemetry", "seeding"},
    {"numerics"},
    {"artifacts"},
    {"execution"},
    {"data"},
    {"profiles", "response", "offers", "optimizers", "recommend"},
    {"pricing", "allocation", "evaluation"},
    {"decisions", "design"},
    {"distributed", "pipeline"},
    {"cli"},
    {"testing", "bench"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
SHIPPED = FILES + sorted((ROOT / "jobs").glob("*.py")) + sorted((ROOT / "serve").glob("*.py"))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            if node.module == "promo_ray":
                yield from (f"promo_ray.{alias.name}" for alias in node.names)


def _owner(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_package_has_a_place_in_the_layers() -> None:
    assert {_owner(f) for f in FILES} - {"__init__"} == set(RANK) - {
        name for name in RANK if not list(PACKAGE.glob(f"{name}*"))
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    owner = _owner(path)
    for name in _imports(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] != "promo_ray" or len(parts) < 2 or parts[1] not in RANK:
            continue
        target = parts[1]
        assert target == owner or RANK[target] < RANK[owner], f"{path} imports {name}"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_distributed_and_the_serve_app_import_ray(path: Path) -> None:
    has_ray = any(n.split(".")[0] == "ray" for n in _imports(ast.parse(path.read_text())))
    is_allowed = _is_in(path, PACKAGE / "distributed") or path == ROOT / "serve" / "app.py"
    assert not has_ray or is_allowed


def _is_in(path: Path, folder: Path) -> bool:
    return folder in path.parents


def test_distributed_stays_under_900_lines() -> None:
    lines = sum(len(f.read_text().splitlines()) for f in (PACKAGE / "distributed").glob("*.py"))
    assert lines < 900


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 1
            assert length <= 60, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_pickle_no_global_randomness_no_unstable_hash(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"hash", "pickle.load", "pickle.loads", "torch.manual_seed"}, name
            banned = name.startswith(("np.random.", "random."))
            assert not banned or name in {"np.random.Generator", "np.random.Philox"}, name


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, promo_ray; print(sorted({'ray','torch','numpy','pandas'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["decisions", "offers"])
def test_run_time_packages_need_no_torch_sklearn_pandas_or_ray(package: str) -> None:
    code = (
        f"import sys, pkgutil, importlib, promo_ray.{package} as p\n"
        "for m in pkgutil.iter_modules(p.__path__):\n"
        "    importlib.import_module(p.__name__ + '.' + m.name)\n"
        "print(sorted({'ray','torch','sklearn','pandas','polars'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
