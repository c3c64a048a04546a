"""The search: a survey, prices of a sample, Newton steps over all users, the last users by program.

One object per search; it holds sums and a bounded number of users, never the data. A problem that
fits into the sample is solved on it, after one pass over the blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from promo_ray.allocation.dual import Found, Limits, descend, limits_of, newton_step
from promo_ray.allocation.exact import total
from promo_ray.allocation.gather import (
    Gather,
    Look,
    gather_near_ties,
    look,
    merge_gathers,
    merge_looks,
)
from promo_ray.allocation.kernel import Floats, Pass, Where, decide, evaluate, read
from promo_ray.allocation.last import Record, Whole
from promo_ray.allocation.problem import Block, Rows
from promo_ray.allocation.scale import scale_of, where_of
from promo_ray.allocation.survey import Survey, join, merge_surveys, survey, take
from promo_ray.errors import DataError
from promo_ray.execution.executor import Resident
from promo_ray.telemetry import Progress

_SAMPLE_USERS, _SAMPLE_BYTES = 1 << 16, 1 << 24
_THIN_USERS = 1 << 12  # of the sample, for the first prices
_KEEP, _FEW_ROWS, _KEEP_OF_MANY = 4096, 64, 2560  # users gathered; with more than few rows
_FIRST_TAU, _THIN_TAU = 0.1, 2e-2  # of the mean best value: first, and last on the thin sample
_LAST_TAU = 1e-11
_NEAR_SHARE = 0.06  # of the sample near a tie at the first look at all users
_MOST_STEPS, _MOST_LOOKS, _MOST_POLISH, _MOST_TIGHTER = 120, 24, 8, 10
# Scores closer than this share of the mean best value are told apart by a number drawn for user
# and slot: a tie is split evenly instead of flipping as one. Costs at most this share.
TIE_RATES = (2.0**-24, 2.0**-14)


def count_users(block: Block) -> int:
    """Users of a block."""
    return len(block.value)


class Outcome(NamedTuple):
    """What a search found.

    Attributes:
        prices: `(R,)` prices of the least bound.
        bound: that bound, currency.
        lower: largest value of a fractional allocation seen.
        whole: the best whole answer, None if none was found.
        n_passes: passes over all users.
    """

    prices: Floats
    bound: float
    lower: float
    whole: Whole | None
    n_passes: int


def survey_all(
    resident: Resident[Block], rows: Rows, seed: int, n_slots: int, progress: Progress
) -> Survey:
    """The first pass: facts about all users, checked, and a sample of them.

    Raises:
        DataError: a block holds numbers that break a rule.
    """
    counts = resident.map(count_users)
    n_users = sum(counts)
    n_bytes = 4 * n_slots * (1 + rows.n_budgets + 2 * bool(rows.n_offers)) + 64
    n_wanted = max(1024, min(_SAMPLE_USERS, _SAMPLE_BYTES // n_bytes))
    most_draw = 2.0 * n_wanted / n_users if n_users > 2 * n_wanted else np.inf
    merge = functools.partial(merge_surveys, n_wanted)
    found: Survey = resident.reduce(survey, merge, Where(rows, seed, 0.0), n_wanted, most_draw)
    progress("allocate", 1, 0)
    if found.n_bad:
        raise DataError(
            "values must be finite or -inf, use finite and >= 0, offers and segments known; "
            f"got {found.n_bad} numbers that are not",
            where="blocks",
        )
    ends = np.cumsum(counts)
    at = np.searchsorted(found.sample.position, [0, *ends])
    own = [
        found.sample.position[a:b] - start
        for a, b, start in zip(at[:-1], at[1:], ends - counts, strict=True)
    ]
    users = join(resident.map(take, each=own))  # only now: rows of a bounded number of users
    return found._replace(sample=found.sample._replace(users=users))


class Search:
    """One search for prices and a whole answer over resident blocks."""

    def __init__(
        self,
        resident: Resident[Block],
        rows: Rows,
        rhs: Floats,
        facts: Survey,
        seed: int,
        tolerance: float,
        progress: Progress,
    ) -> None:
        zero = (rhs == 0) & (np.arange(rows.n) < rows.n_packing)
        if zero.any():  # whoever needs some of nothing cannot get it
            most = np.full(rows.n, np.inf) if rows.most is None else np.array(rows.most)
            rows = rows._replace(most=tuple(np.where(zero, 0.0, most).tolist()))
        self._resident, self._rows, self._rhs, self._facts = resident, rows, rhs, facts
        if facts.sample.users is None:
            raise ValueError("the sample's users must be fetched")
        self._users = facts.sample.users
        self._progress, self._n_passes = progress, 0
        self._n_keep = _KEEP if rows.n <= _FEW_ROWS else _KEEP_OF_MANY
        self._seed, self._scale = seed, scale_of(rows, facts)
        self._where = where_of(rows, facts, seed, TIE_RATES[0])
        self._record = Record(self._where, rhs, self._scale, facts, tolerance)
        self._limits = limits_of(rhs, rows, facts)

    def run(self, warm: Floats | None) -> Outcome:
        """Search prices, starting from `warm`, and the answer.

        Where everything ties, users told apart by too little still fall as one; they are then
        told apart by more.
        """
        start = self._limits.within(np.zeros(self._rows.n) if warm is None else warm)
        found = self._record
        for rate in TIE_RATES:
            self._where = found.where = where_of(self._rows, self._facts, self._seed, rate)
            if len(self._facts.sample.position) == self._facts.n_users:
                last = self._on_sample(start)
            else:
                last = self._on_all(self._start(self._limits, start, warm is not None))
            if found.best is not None:
                break
        else:
            self._tighten_until_whole(last)
        return Outcome(
            np.maximum(found.prices, 0.0), found.bound, found.lower, found.best, self._n_passes
        )

    def _pass(self, function: Any, merge: Any, *args: Any) -> Any:
        self._n_passes += 1
        found = self._resident.reduce(function, merge, *args)
        bound = self._record.bound
        known = {"bound": float(bound)} if np.isfinite(bound) else {}
        self._progress("allocate", 1 + self._n_passes, 0, **known)
        return found

    def _on_users(
        self, users: Block, weight: Floats | None = None
    ) -> Callable[[Floats, float], Pass]:
        """Passes over users at hand; without weights they are everyone, and bounds count."""
        most = 1.0 if weight is None else float(weight.max(initial=1.0))

        def at(lam: Floats, tau: float) -> Pass:
            units = self._scale.units_at(lam, most)
            totals = evaluate(users, self._where, lam, tau, units, weight=weight)
            found = read(totals, units, tau)
            if weight is None:
                self._record.see(self._limits.cost(lam) + found.exact, lam)
            return found

        return at

    def _start(self, limits: Limits, lam: Floats, is_warm: bool) -> Found:
        """Prices of the sample: a thin one first, then all of it."""
        sample = self._facts.sample
        tau = (_THIN_TAU if is_warm else _FIRST_TAU) * limits.money
        if not is_warm and len(sample.position) > 2 * _THIN_USERS:
            kept, weight = sample.thinned(_THIN_USERS / len(sample.position))
            thin = self._on_users(take(self._users, kept), weight)
            at = descend(thin, limits, lam, tau, 0, _THIN_TAU * limits.money, _MOST_STEPS)
            lam, tau = at.lam, at.tau
        whole = self._on_users(self._users, sample.weight)
        n_sample = len(sample.position)
        n_near = int(max(_NEAR_SHARE * n_sample, min(100 * self._rows.n, 0.5 * n_sample)))
        at = descend(whole, limits, lam, tau, n_near, _LAST_TAU * limits.money, _MOST_STEPS)
        # the fall of tau overshoots: as many users near a tie as a good Hessian asks for
        return at._replace(tau=at.tau * min(5.0, max(1.0, n_near / max(1, at.seen.n_near))))

    def _on_sample(self, lam: Floats) -> Floats:
        """Everyone is in the sample: search and finish there; the last prices."""
        users, limits, record = self._users, self._limits, self._record
        on_users, least = self._on_users(users), _LAST_TAU * self._limits.money
        is_small = len(users.value) <= self._n_keep
        tau, n_near, gap = _FIRST_TAU * limits.money, self._n_keep // 2, np.inf
        for turn in range(_MOST_POLISH):
            if not is_small or turn:
                at = descend(on_users, limits, lam, tau, n_near, least, _MOST_STEPS)
                lam, tau, n_near = at.lam, max(at.tau, least), n_near // 4
            near = gather_near_ties(
                users, self._where, lam, self._scale.units_at(lam), self._n_keep
            )
            prices = record.finish(limits, lam, near, is_last=is_small)
            if record.is_converged() or (is_small and turn):
                break
            if is_small:
                n_near = 0
            elif record.bound - record.lower > 0.5 * gap:
                break
            gap = record.bound - record.lower
            lam = lam if prices is None else prices
        record.settle()
        return lam

    def _on_all(self, at: Found) -> Floats:
        """Newton steps over all users, each pass also gathering those near a tie."""
        record, n_keep, bar = self._record, 0, np.inf
        radius = min(1.0, 64.0 * at.radius)
        base: Found | None = None
        for _ in range(_MOST_LOOKS):
            units = self._scale.units_at(at.lam)
            merge = functools.partial(merge_looks, n_keep)
            seen: Look = self._pass(look, merge, self._where, at.lam, at.tau, units, n_keep, bar)
            found = read(seen.totals, units, at.tau)
            record.see(self._limits.cost(at.lam) + found.exact, at.lam)
            if seen.near is not None:
                record.finish(self._limits, at.lam, seen.near, is_last=False)
                if record.is_converged() and record.best is not None:
                    break
            trial = at._replace(seen=found)
            if base is None or self._is_better(trial, base):
                base, radius = trial, min(1.0, 4.0 * radius)
            else:
                radius /= 8.0
            at, n_keep = self._next(base, radius), self._n_keep
            # twice as many users as wanted stand below it
            bar = 16.0 * base.tau * n_keep / max(1, base.seen.n_near)
        record.settle()
        return at.lam

    def _is_better(self, trial: Found, base: Found) -> bool:
        """Whether a step lowers the smoothed dual; with temperatures unlike, the exact one."""
        cost = self._limits.cost(trial.lam) - self._limits.cost(base.lam)
        if trial.tau == base.tau:
            return cost + trial.seen.smooth <= base.seen.smooth
        ties = self._where.tie * self._facts.n_users  # told apart, they move the exact dual
        is_lower = cost + trial.seen.exact <= base.seen.exact + ties
        return is_lower and self._misfit(trial) <= 2.0 * self._misfit(base)

    def _misfit(self, at: Found) -> float:
        """Worth of what rows are overfilled by, or have left at a price, currency."""
        over = (at.seen.use - self._rhs)[self._limits.is_free]
        is_priced = at.lam[self._limits.is_free] > 0
        return float(
            np.where(is_priced, np.abs(over), np.maximum(over, 0.0))
            @ self._limits.scale[self._limits.is_free]
        )

    def _next(self, base: Found, radius: float) -> Found:
        """Newton step, and a temperature of its size; high enough for a Hessian."""
        step, _ = newton_step(base.seen, self._limits, base.lam, radius)
        shift = float(np.abs(step) @ np.abs(base.seen.use)) / max(1, self._facts.n_users)
        share = max(self._n_keep, 30 * self._rows.n) / max(1, base.seen.n_near)
        least = max(base.tau * share, _LAST_TAU * self._limits.money)
        return Found(base.lam + step, max(min(base.tau, 0.3 * shift), least), base.seen, radius)

    def _tighten_until_whole(self, lam: Floats) -> None:
        """Ask less of rows that the others overfill, until there is room for a whole answer."""
        limits, is_packing = self._limits, np.arange(self._rows.n) < self._rows.n_packing
        merge, tight = functools.partial(merge_gathers, self._n_keep), self._rhs
        for turn in range(_MOST_TIGHTER):
            units = self._scale.units_at(lam)
            near: Gather = self._pass(
                gather_near_ties, merge, self._where, lam, units, self._n_keep
            )
            self._record.finish(limits, lam, near, is_last=True)
            own = decide(near.users, self._where, lam, units.value).parts
            used = np.array([total(p) for p in (near.parts - own)[1:]])
            is_over = is_packing & limits.is_free & (used > self._rhs)
            if self._record.best is not None or not is_over.any():
                break
            share = np.divide(self._rhs, used, out=np.ones(len(used)), where=is_over)
            tight = np.where(is_over, 0.9 * tight * share, tight)
            lam = self._start(limits._replace(rhs=tight), lam, is_warm=True).lam
            if turn >= _MOST_TIGHTER - 2:  # nobody gets anything of those rows
                lam = np.where(is_over, limits.highest, lam)
