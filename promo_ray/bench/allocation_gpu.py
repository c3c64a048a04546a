"""Time of a pass over resident users on a GPU, as a share of what copying memory allows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from promo_ray.allocation import gpu
from promo_ray.allocation.gpu import DeviceBlock, Setting
from promo_ray.allocation.kernel import Units, Where
from promo_ray.allocation.problem import Rows

_SCALE = 64.0  # above every value and cost drawn
_N_WARM, _N_RUNS = 2, 10
_COPY_BYTES = 1 << 30
_CHECKED_USERS = 100_000
_TAUS = (1.0, 1e-2, 1e-4, 1e-6)  # currency; the mean value is 2


def users(n: int, m: int, k: int, device: torch.device, seed: int = 0) -> DeviceBlock:
    """Gamma(2) values and costs, drawn on the device."""
    draw = torch.Generator(device).manual_seed(seed)

    def gamma(*shape: int) -> torch.Tensor:
        found = torch.empty(shape, device=device).exponential_(generator=draw)
        for row in found:  # a second whole draw would double the memory
            row += torch.empty_like(row).exponential_(generator=draw)
        return found

    return DeviceBlock(gamma(m, n), gamma(k, m, n), torch.arange(n, device=device))


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written per second by a copy on the device."""
    source = torch.zeros(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * _COPY_BYTES / _seconds(lambda: target.copy_(source))


def _seconds(work: Callable[[], Any]) -> float:
    """Median of some runs, each waited for."""
    found = []
    for run in range(-_N_WARM, _N_RUNS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if run >= 0:
            found.append(time.perf_counter() - started)
    return statistics.median(found)


def _record(block: DeviceBlock, setting: Setting, copy_rate: float) -> dict[str, Any]:
    m, n = block.value.shape
    n_bytes = 4 * m * n * (1 + len(block.costs))
    seconds = _seconds(lambda: gpu.device_pass(block, *setting))
    few = block.take(slice(_CHECKED_USERS))
    found, same = gpu.device_pass(few, *setting), gpu.torch_pass(few, setting)
    return {
        "tau": setting.tau,
        "pass_ms": 1e3 * seconds,
        "bytes": n_bytes,
        "share_of_copy_bandwidth": n_bytes / seconds / copy_rate,
        "n_near": gpu.device_pass(block, *setting).n_near,
        "same_bits_as_torch": bool(
            found.n_near == same.n_near
            and (found.wide == same.wide).all()
            and (found.curvature == same.curvature).all()
        ),
        "is_fused": gpu.has_fused(block, setting),
    }


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One record per case and temperature; one that says so where there is no GPU.

    Args:
        quick: a tenth of the users.
    """
    head: dict[str, Any] = {"bench": "allocation_gpu", "torch": torch.__version__}
    if not torch.cuda.is_available():
        yield {**head, "skipped": "no CUDA device"}
        return
    device = torch.device("cuda")
    rate = copy_bytes_per_s(device)
    head |= {"device": torch.cuda.get_device_name(device), "copy_gb_per_s": rate / 1e9}
    n = 1_000_000 if quick else 10_000_000
    for m, k, has_offers in ((10, 1, False), (10, 5, False), (10, 5, True)):
        torch.cuda.reset_peak_memory_stats(device)
        block, n_offers = users(n, m, k, device), m if has_offers else 0
        prices = np.full(k + n_offers, 0.5 / (k + has_offers))
        use = np.concatenate([np.full(k, _SCALE), np.ones(n_offers)])
        where, units = Where(Rows(k, n_offers), 0, 0.0), Units(_SCALE, use, use)
        case = {"n": n, "m": m, "k": k, "n_offers": n_offers}
        for tau in _TAUS:
            setting = Setting(where, prices, tau, units)
            record = _record(block, setting, rate)
            peak = torch.cuda.max_memory_allocated(device) / 2**20
            yield {**head, **case, **record, "peak_mb": peak}
        slots_ms = 1e3 * _seconds(lambda b=block, s=setting: gpu.best_slots(b, s))  # type: ignore[misc]
        yield {**head, **case, "slots_ms": slots_ms}
