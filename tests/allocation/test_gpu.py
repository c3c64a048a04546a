from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():  # Triton reads this when it is loaded
    os.environ.setdefault("TRITON_INTERPRET", "1")

from promo_ray.allocation import gpu, kernel
from promo_ray.allocation.gpu_torch import exp_of, log_of
from promo_ray.allocation.problem import Block, Rows
from promo_ray.bench import allocation_gpu
from promo_ray.errors import PromoRayError

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HAS_FUSED = importlib.util.find_spec("triton") is not None and (
    DEVICE == "cuda" or os.environ["TRITON_INTERPRET"] == "1"
)
needs_triton = pytest.mark.skipif(not HAS_FUSED, reason="needs triton, a GPU or its interpreter")


class Case:
    """Users, rows, prices and units with every oddity; `is_dense` has no candidate lists."""

    def __init__(self, seed: int, n: int = 200, is_dense: bool = False) -> None:
        rng = np.random.default_rng(seed)
        m, k, s = int(rng.integers(1, 8)), int(rng.integers(0, 4)), int(rng.integers(0, 4))
        has_lists = not is_dense and rng.random() < 0.5
        o = (int(rng.integers(1, 9)) if has_lists else m) if rng.random() < 0.7 else 0
        value = np.where(rng.random((n, m)) < 0.15, -np.inf, rng.normal(1, 1, (n, m)))
        use = rng.exponential(1, (n, m)).astype(np.float32) if o and seed % 2 else None
        self.block = Block(
            value.astype(np.float32),
            rng.exponential(1, (k, n, m)).astype(np.float32),
            rng.integers(0, 2**64, n, dtype=np.uint64) if seed % 3 else None,
            rng.integers(0, o, (n, m)).astype(np.int32) if has_lists and o else None,
            use,
            rng.integers(-1, s, n).astype(np.int32) if s else None,
            first=1000 * seed,
        )
        most = [c.max() for c in self.block.costs] + [1.0 if use is None else use.max()] * o
        scale = 2.0 ** np.ceil(np.log2(np.array([*most, *[1.0] * s], dtype=np.float64)))
        typical = scale * 0.5 ** rng.integers(0, 4, len(scale))  # some users are cut off
        self.setting = gpu.Setting(
            kernel.Where(Rows(k, o, s), 7, (0.0, 1e-3, 1e-2)[seed % 3]),
            rng.exponential(0.3, k + o + s) * (rng.random(k + o + s) < 0.8),
            10.0 ** -(seed % 5),
            kernel.Units(16.0, scale, typical, (30, 44)[seed % 2]),
        )

    def load(self) -> gpu.DeviceBlock:
        return gpu.DeviceBlock.load(self.block, DEVICE)


def is_same(a: kernel.Totals, b: kernel.Totals) -> bool:
    return (
        a.n_near == b.n_near
        and bool((a.wide == b.wide).all())
        and bool((a.curvature == b.curvature).all())
    )


@pytest.mark.parametrize("seed", range(40))
def test_torch_gives_the_bits_of_the_compiled_kernel(seed):
    case = Case(seed)
    assert is_same(
        gpu.torch_pass(case.load(), case.setting), kernel.evaluate(case.block, *case.setting)
    )


def test_many_users_near_a_tie_too():
    case = Case(4, n=5000)
    setting = case.setting._replace(tau=0.3)
    want = kernel.evaluate(case.block, *setting)
    assert want.n_near > 1000
    assert is_same(gpu.torch_pass(case.load(), setting), want)


@pytest.mark.parametrize("seed", range(6))
def test_sums_do_not_depend_on_chunks_or_parts(seed):
    case = Case(seed, n=60)
    block = case.load()
    whole = gpu.torch_pass(block, case.setting)
    for chunk in (1, 7, 32):
        assert is_same(gpu.torch_pass(block, case.setting, chunk), whole)
    parts = [gpu.torch_pass(block.take(slice(*ab)), case.setting) for ab in ((0, 13), (13, 60))]
    assert is_same(parts[0].plus(parts[1]), whole)


@needs_triton
@pytest.mark.parametrize("seed", range(15))
def test_the_fused_kernel_gives_the_bits_of_the_compiled_one(seed):
    case = Case(seed, n=300, is_dense=True)
    block = case.load()
    assert gpu.has_fused(block, case.setting)
    want = kernel.evaluate(case.block, *case.setting)
    for n_programs in (None, 2):
        assert is_same(gpu.fused_pass(block, case.setting, n_programs), want)


@needs_triton
def test_fused_sums_in_several_launches(monkeypatch):
    monkeypatch.setattr(gpu.gpu_kernel, "_MOST_TILES", 1)
    case = Case(4, n=500, is_dense=True)
    assert is_same(
        gpu.fused_pass(case.load(), case.setting, 2), kernel.evaluate(case.block, *case.setting)
    )


@needs_triton
def test_the_widest_problem_that_the_fused_kernel_takes():
    rng = np.random.default_rng(0)
    block = Block(
        rng.normal(1, 1, (20, 32)).astype(np.float32),
        rng.exponential(1, (8, 20, 32)).astype(np.float32),
        segment_idx=rng.integers(-1, 24, 20).astype(np.int32),
    )
    units = kernel.Units(16.0, np.full(64, 16.0), np.full(64, 4.0))
    where = kernel.Where(Rows(8, 32, 24), 0, 0.0)
    setting = gpu.Setting(where, rng.exponential(0.1, 64), 0.1, units)
    on_device = gpu.DeviceBlock.load(block, DEVICE)
    assert gpu.has_fused(on_device, setting)
    assert is_same(gpu.fused_pass(on_device, setting), kernel.evaluate(block, *setting))


@needs_triton
def test_fused_sums_of_nobody_are_zero():
    case = Case(1, n=4, is_dense=True)
    got = gpu.fused_pass(case.load().take(slice(0)), case.setting)
    assert got.n_near == 0
    assert not got.wide.any()


def test_the_device_pass_takes_what_the_fused_kernel_does_not():
    case = next(c for c in map(Case, range(99)) if c.block.offer_idx is not None)
    block = case.load()
    assert not gpu.has_fused(block, case.setting)
    got = gpu.device_pass(block, *case.setting)
    assert is_same(got, gpu.torch_pass(block, case.setting))


def test_the_device_pass_says_what_it_cannot_do():
    case = Case(0)
    rows = case.setting.where.rows._replace(value_factor=0.0)
    setting = case.setting._replace(where=case.setting.where._replace(rows=rows))
    with pytest.raises(PromoRayError, match="value_factor=0"):
        gpu.device_pass(case.load(), *setting)


@pytest.mark.parametrize("seed", range(10))
def test_slots_are_those_of_the_compiled_kernel(seed):
    case = Case(seed)
    slots = gpu.best_slots(case.load(), case.setting)
    assert slots.dtype == torch.int32
    want = kernel.best_slots(case.block, case.setting.where, case.setting.prices)
    assert slots.tolist() == want[:, 0].tolist()


def test_ties_go_to_the_slots_of_the_compiled_kernel():
    block = Block(np.ones((100, 5), np.float32), np.ones((1, 100, 5), np.float32))
    units = kernel.Units(2.0, np.ones(1), np.ones(1))
    setting = gpu.Setting(kernel.Where(Rows(1), 3, 1e-3), np.zeros(1), 1e-9, units)
    slots = gpu.best_slots(gpu.DeviceBlock.load(block, DEVICE), setting).tolist()
    assert slots == kernel.best_slots(block, setting.where, setting.prices)[:, 0].tolist()
    assert set(slots) == set(range(5))


def test_elementary_functions_are_exact_to_the_last_bits():
    x = torch.linspace(-80.0, 0.0, 100_001, dtype=torch.float64)
    torch.testing.assert_close(exp_of(x), torch.exp(x), rtol=1e-15, atol=0)
    z = torch.logspace(0, 4, 100_001, dtype=torch.float64)
    torch.testing.assert_close(log_of(z), torch.log(z), rtol=2e-15, atol=1e-15)


@pytest.mark.skipif(DEVICE == "cuda", reason="needs a machine without a GPU")
def test_the_benchmark_says_that_there_is_no_gpu():
    assert [record["skipped"] for record in allocation_gpu.run()] == ["no CUDA device"]


def test_nothing_of_it_is_loaded_unless_asked_for():
    code = (
        "import sys, promo_ray.allocation.solver;"
        "sys.exit(any(n.startswith('promo_ray.allocation.gpu') for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
