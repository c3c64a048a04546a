from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from promo_ray import bench
from promo_ray.cli.main import BENCHMARKS, app
from promo_ray.optimizers import native


@pytest.mark.parametrize(("kernel", "words"), [(object(), "compiled"), (None, "missing")])
def test_doctor_says_whether_the_compiled_kernels_are_there(
    kernel: object, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "kernel", kernel)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    lines = [line for line in result.output.splitlines() if line.startswith("CPU kernels")]
    assert len(lines) == 1
    assert words in lines[0]


def test_bench_knows_every_module_that_runs() -> None:
    names = [path.stem for path in Path(bench.__file__).parent.glob("*.py")]
    modules = [importlib.import_module(f"promo_ray.bench.{n}") for n in names if n != "__init__"]
    runs = sorted(m.__name__.split(".")[-1] for m in modules if hasattr(m, "run"))
    assert runs == list(BENCHMARKS)


def test_bench_names_the_known_ones_for_another() -> None:
    result = CliRunner().invoke(app, ["bench", "ope_logs"])
    assert result.exit_code == 2
    assert "optimizers_gpu, simulator, uplift; got 'ope_logs'" in result.output
