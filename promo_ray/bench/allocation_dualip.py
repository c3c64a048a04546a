"""DuaLip's accelerated gradient ascent on the same rows, where its source is importable.

DuaLip (LinkedIn, BSD-2) ships objectives that tie each variable to exactly one row; `GeneralRows`
has their form for budgets, offer rows and floors. Its smoothing falls from 0.3 to 6e-4 of the mean
value, halved every 200 passes; steps and projection are DuaLip's own. It has no stopping rule and
no certificate, hence `trace`: the exact dual value at its prices every 50 passes.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from typing import Any

import numpy as np

from promo_ray.bench.allocation_instances import Instance
from promo_ray.bench.allocation_judges import lagrangian
from promo_ray.bench.allocation_meter import Peak
from promo_ray.bench.allocation_program import Record, Timer, judged, program

_PASSES = 2000
_HALVED_EVERY = 200
_TRACED_EVERY = 50
_FIRST_GAMMA = 0.3  # of the mean positive value
_NEVER = -1e6  # value of a pair that is not eligible


class GeneralRows:
    """Smoothed dual of all rows, as DuaLip's optimizer takes it; rows are scaled by their norms.

    Each pass projects score / gamma onto the simplex of each user (columns of `(m, n)` tensors).
    """

    equality_mask = None

    def __init__(self, instance: Instance) -> None:
        self._torch = torch = importlib.import_module("torch")
        self._project = importlib.import_module("dualip.projections.base").project("simplex", z=1.0)
        self._result = importlib.import_module("dualip.types").ObjectiveResult
        n, m = instance.value.shape
        value = np.where(np.isfinite(instance.value), instance.value, np.float32(_NEVER))
        self._value = _columns(torch, value)
        self._costs = [_columns(torch, cost) for cost in instance.costs]
        self._offer = self._segment = None
        self._use = torch.ones(m, n)
        if instance.capacity is not None:
            offer = np.arange(m) if instance.offer_idx is None else instance.offer_idx
            self._offer = _columns(torch, np.broadcast_to(offer, (n, m)).astype(np.int64))
        if instance.capacity_use is not None:
            self._use = _columns(torch, instance.capacity_use)
        if instance.segment_idx is not None:
            self._segment = torch.from_numpy(instance.segment_idx.astype(np.int64))
        more = (instance.capacity, instance.floors)
        self._sizes = (len(self._costs), *(0 if a is None else len(a) for a in more))
        signs = np.repeat([1.0, 1.0, -1.0], self._sizes)
        self.limit = torch.from_numpy((signs * instance.limits()).astype(np.float32))
        squares = self._used(torch.ones(m, n), power=2).abs()
        self.norm = squares.sqrt().clamp(min=1e-9)
        self.prices = torch.zeros(len(self.limit))
        self.x = torch.zeros(m, n)

    def _used(self, x: Any, power: int = 1) -> Any:
        """`(R,)` use of each row by shares `(m, n)`; of squared coefficients with power 2."""
        torch, (_, n_offers, n_segments) = self._torch, self._sizes
        parts = [(x * cost**power).sum().reshape(1) for cost in self._costs]
        if self._offer is not None:
            use = (x * self._use**power).ravel()
            parts.append(torch.zeros(n_offers).index_add_(0, self._offer.ravel(), use))
        if self._segment is not None:
            parts.append(-torch.zeros(n_segments).index_add_(0, self._segment, x.sum(dim=0)))
        return torch.cat(parts)

    def calculate(self, dual_val: Any, gamma: float, **_: Any) -> Any:
        """Value and gradient of the smoothed dual at scaled prices `(R,)` float32."""
        self.prices = dual_val / self.norm
        lam, mu, nu = self.prices.split(self._sizes)
        score = self._value.clone()
        for price, cost in zip(lam, self._costs, strict=True):
            score -= price * cost
        if self._offer is not None:
            score -= mu[self._offer] * self._use
        if self._segment is not None:
            score += nu[self._segment]
        self.x = self._project(score / gamma)
        over = self._used(self.x) - self.limit
        penalty = gamma / 2.0 * (self.x * self.x).sum()
        return self._result(
            dual_gradient=over / self.norm,
            dual_objective=penalty - (self._value * self.x).sum() + self.prices @ over,
            reg_penalty=penalty,
        )


def solve_by_dualip(instance: Instance, _: int) -> Record:
    """2000 passes; bound of its best prices, raw violations of its last shares."""
    if importlib.util.find_spec("dualip") is None:
        return {"skipped": "dualip is not on the path"}
    torch, timer = importlib.import_module("torch"), Timer()
    optimizers = importlib.import_module("dualip.optimizers.agd")
    with Peak() as peak:
        rows = GeneralRows(instance)
        seen: list[tuple[int, float, Any]] = []

        def trace(passes: int, _: Any) -> None:
            if passes % _TRACED_EVERY == 0:
                seen.append((passes, time.process_time(), rows.prices.numpy().copy()))

        ascent = optimizers.AcceleratedGradientDescent(
            max_iter=_PASSES,
            gamma=_FIRST_GAMMA * float(instance.value[instance.value > 0].mean()),
            initial_step_size=1e-3,
            gamma_decay_type="step",
            gamma_decay_params={"decay_steps": _HALVED_EVERY, "decay_factor": 0.5},
            iteration_callback=trace,
        )
        timer.mark()
        started = time.process_time()
        ascent.maximize(rows, torch.zeros(len(rows.limit)))
        timer.mark()
    lp = program(instance)
    x = rows.x.numpy().T[lp.user, lp.slot].astype(np.float64)
    bounds = [
        (passes, at - started, lagrangian(instance, np.maximum(prices.astype(np.float64), 0.0)))
        for passes, at, prices in seen
    ]
    found = judged(instance, lp, x, seen[-1][2].astype(np.float64))
    found["bound"] = min(bound for *_, bound in bounds)
    told = {"version": "on the path", "n_passes": _PASSES, "peak_mb": peak.mb, "trace": bounds}
    return {**told, **timer.record(), **found}


def _columns(torch: Any, table: Any) -> Any:
    """`(m, n)` tensor of an `(n, m)` array."""
    return torch.from_numpy(np.ascontiguousarray(table.T))
