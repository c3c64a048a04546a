"""A/B test that is looked at while users arrive: planned looks, or any number at any time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import ConfigError
from promo_ray.evaluation.ab_moments import (
    AbRows,
    ArmMoments,
    Users,
    contrast_of,
    merge_moments,
    moments_of,
    users_of,
)
from promo_ray.evaluation.checks import (
    MIN_EFFECTIVE_SAMPLE,
    Check,
    check_level,
    enough_users,
    failures,
)
from promo_ray.evaluation.sequential import (
    always_valid_critical,
    always_valid_p_value,
    look_boundaries,
    stagewise_p_value,
)
from promo_ray.evaluation.skewness import skewed_ends, skewed_z
from promo_ray.evaluation.srm import sample_ratio

Floats = NDArray[np.float64]
METHODS = ("auto", "alpha_spending", "always_valid")
_TUNED_FOR = 5000  # rows at which the always-valid boundary is narrowest; GrowthBook's default
_N_CHECKS = 100  # looks of the always-valid test if none are named


@dataclass(frozen=True)
class SequentialTest:
    """Outcome of a sequential test; arrays by look and, in the second place, by treated arm.

    Attributes:
        method: `alpha_spending` or `always_valid`.
        level: 1 minus the chance of any false alarm over all looks and arms.
        n: `(n_looks,)` int64 rows at each look.
        critical: `(n_looks,)` |z| of `skewed_z` that stops; infinite if an arm has under 100 users.
        effect: `(n_looks, n_treated)` difference to control.
        se: `(n_looks, n_treated)` its standard error.
        low: `(n_looks, n_treated)` lower ends; the intervals of all looks hold together.
        high: `(n_looks, n_treated)` upper ends.
        stopped_at: `(n_treated,)` int64 look that stopped for the arm; -1 = none.
        p_value: `(n_treated,)` at the stop or, without one, at the last look; valid with all looks.
        verdicts: per treated arm `better`, `worse`, `go on`, `not shown` (the plan is over), or
            `withheld`.
        checks: what had to hold; a failed check withholds the verdicts.
    """

    method: str
    level: float
    n: NDArray[np.int64]
    critical: Floats
    effect: Floats
    se: Floats
    low: Floats
    high: Floats
    stopped_at: NDArray[np.int64]
    p_value: Floats
    verdicts: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def withheld(self) -> tuple[str, ...]:
        """Why there is no verdict, one sentence per failed check; empty if there is one."""
        return failures(self.checks)


def sequential_test(
    outcome: ArrayLike,
    treatment: ArrayLike,
    *,
    looks: int | Sequence[int] | None = None,
    n_planned: int | None = None,
    method: str = "auto",
    spending: str = "pocock",
    tuned_for: int = _TUNED_FOR,
    denominator: ArrayLike | None = None,
    covariate: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    expected: ArrayLike | None = None,
    level: float = 0.95,
) -> SequentialTest:
    """Every arm beside control at several looks, with one false alarm rate for all of them.

    Rows stand in the order of their arrival; a look sees the rows up to it. Run it again as rows
    arrive: earlier looks keep their boundaries.

    Args:
        outcome: `(n,)` outcome of each row.
        treatment: `(n,)` arm of each row, 0 = control.
        looks: number of evenly spaced looks, or rows at each look, rising; None = not planned.
        n_planned: rows at the end of the plan; None = the last look named, else all rows.
        method: `alpha_spending` (looks planned), `always_valid` (any look at any time), or
            `auto` (the first if `looks` are named).
        spending: `pocock` (stops earliest) or `obrien_fleming` (nearly the power of one look).
        tuned_for: rows at which the always-valid interval is narrowest; name it before the trial.
        denominator: see `ab_test`.
        covariate: see `ab_test`.
        groups: see `ab_test`.
        expected: `(n_arms,)` shares of the design; given, the sample ratio is monitored.
        level: 1 minus the false alarm rate; several arms share it evenly.

    Raises:
        ConfigError: unknown method or spending, looks that do not rise or exceed the plan.
        DataError: bad shape or value, the argument named.
    """
    rows = AbRows(outcome, treatment, denominator, covariate, groups)
    users = users_of(rows)
    n_rows = len(np.asarray(treatment))
    if method not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    is_planned = method == "alpha_spending" or (method == "auto" and looks is not None)
    at, end = _looks(looks, n_planned, n_rows, 1 if is_planned else _N_CHECKS)
    moments = moments_by_look(rows, users, at, int(users.arm.max()) + 1)
    return sequential_test_of_moments(
        moments, at, end, is_planned=is_planned, spending=spending, tuned_for=tuned_for,
        expected=expected, level=level,
    )  # fmt: skip


def sequential_test_of_moments(
    moments: Sequence[ArmMoments],
    n: Sequence[int],
    n_planned: int,
    *,
    is_planned: bool,
    spending: str = "pocock",
    tuned_for: int = _TUNED_FOR,
    expected: ArrayLike | None = None,
    level: float = 0.95,
) -> SequentialTest:
    """`sequential_test` from the moments of all rows up to each look.

    Args:
        moments: cumulative, one entry per look.
        n: rows at each look, rising.
        n_planned: rows at the end of the plan.
        is_planned: whether the looks spend alpha; else they are valid at any time.
        spending: see `sequential_test`.
        tuned_for: see `sequential_test`.
        expected: see `sequential_test`.
        level: see `sequential_test`.
    """
    check_level(level)
    if not (isinstance(tuned_for, Real) and 1 <= tuned_for < math.inf):
        raise ConfigError(f"tuned_for must be >= 1; got {tuned_for!r}")
    size = np.asarray(n, dtype=np.int64)
    n_treated = len(moments[0].n) - 1 if moments else 1
    own_level = 1 - (1 - level) / n_treated
    is_used = np.array([m.n.min() >= MIN_EFFECTIVE_SAMPLE for m in moments], dtype=bool)
    used = [int(v) for v in size[is_used]]
    critical = np.full(len(size), np.inf)
    if is_planned and used:
        shares = [v / n_planned for v in used]
        critical[is_used] = look_boundaries(shares, own_level, spending)
    elif used:
        critical[is_used] = [always_valid_critical(v / tuned_for, own_level) for v in used]
    cells = [[_effect(m, a) for a in range(1, n_treated + 1)] for m in moments]
    effect, se, skewness = np.moveaxis(np.array(cells).reshape(-1, n_treated, 3), 2, 0)
    z = _z(effect, se, skewness)
    stopped_at = _first(np.abs(np.where(is_used[:, None], z, 0.0)) >= critical[:, None])
    used_z = z[is_used]
    if is_planned:
        p = _spent_p(used_z, used, n_planned, critical[is_used])
    else:
        ratios = np.array(used) / tuned_for
        p = _running_p(used_z, ratios, own_level)
    checks = _checks(moments, expected, is_used)
    is_over = is_planned and len(size) > 0 and int(size[-1]) >= n_planned
    verdicts = tuple(
        "withheld" if not all(c.passed for c in checks)
        else ("not shown" if is_over else "go on") if k < 0
        else "better" if effect[k, a] > 0 else "worse"
        for a, k in enumerate(stopped_at.tolist())
    )  # fmt: skip
    low, high = _ends(effect, se, skewness, critical)
    return SequentialTest(
        "alpha_spending" if is_planned else "always_valid", level, size, critical, effect, se,
        low, high, stopped_at, np.minimum(1.0, p * n_treated), verdicts, checks,
    )  # fmt: skip


def _looks(
    looks: int | Sequence[int] | None, n_planned: int | None, n_rows: int, default: int
) -> tuple[list[int], int]:
    """Rows at the looks that were reached, and at the end of the plan."""
    if n_planned is not None and not (isinstance(n_planned, Integral) and n_planned >= 1):
        raise ConfigError(f"n_planned must be a whole number >= 1; got {n_planned!r}")
    if looks is None or isinstance(looks, Integral):
        end = n_rows if n_planned is None else n_planned
        count = min(default, end) if looks is None else int(looks)
        if not 1 <= count <= max(1, end):
            raise ConfigError(f"looks must lie in 1..{end}; got {count!r}")
        at = sorted({round(end * i / count) for i in range(1, count + 1)} - {0})
    else:
        listed = looks if np.iterable(looks) else [looks]
        at = [int(v) for v in listed if isinstance(v, Integral)]
        if not at or len(at) < len(listed) or at[0] < 1 or (np.diff(at) <= 0).any():
            raise ConfigError("looks must be numbers of rows that rise from 1 up")
        end = at[-1] if n_planned is None else n_planned
    if at[-1] > end:
        raise ConfigError(f"looks must not exceed n_planned {end}; got {at[-1]}")
    return [v for v in at if v <= n_rows], end


def moments_by_look(rows: AbRows, users: Users, at: list[int], n_arms: int) -> list[ArmMoments]:
    """Moments of the rows up to each look; merged step by step where every row is a user.

    Args:
        rows: in the order of their arrival.
        users: the same by user, of `users_of`.
        at: rows at each look, rising, none beyond the last row.
        n_arms: arms of the trial.
    """
    found: list[ArmMoments] = []
    start = 0
    for stop in at:
        if rows.groups is not None:
            seen = rows._replace(
                **{k: np.asarray(v)[:stop] for k, v in rows._asdict().items() if v is not None}
            )
            found.append(moments_of(users_of(seen, n_arms), n_arms))
            continue
        part = users._replace(arm=users.arm[start:stop], columns=users.columns[start:stop])
        step = moments_of(part, n_arms)
        found.append(merge_moments(found[-1], step) if found else step)
        start = stop
    return found


def _effect(moments: ArmMoments, arm: int) -> tuple[float, float, float]:
    """Difference to control, standard error and skewness; of proportions with pooled variance.

    Early boundaries lie far out, where the variance of each arm's own proportion errs too often.
    """
    contrast = contrast_of(moments, arm)
    n, n_base = int(moments.n[arm]), int(moments.n[0])
    if not moments.is_binary or moments.n_covariates or not n or not n_base:
        return contrast.effect, contrast.se, contrast.skewness
    pooled = (n * moments.mean[arm, 0] + n_base * moments.mean[0, 0]) / (n + n_base)
    variance = pooled * (1 - pooled) * (1 / n + 1 / n_base)
    return contrast.effect, float(max(0.0, variance) ** 0.5), 0.0


def _z(effect: Floats, se: Floats, skewness: Floats) -> Floats:
    z = np.where(effect == 0, 0.0, np.copysign(1e3, effect))  # no scatter at all
    z[np.isnan(effect) | np.isnan(se)] = 0.0
    for cell in zip(*np.nonzero(se > 0), strict=True):
        z[cell] = skewed_z(float(effect[cell]), float(se[cell]) ** 2, float(skewness[cell]))
    return z


def _ends(effect: Floats, se: Floats, skewness: Floats, critical: Floats) -> tuple[Floats, Floats]:
    low, high = np.full(effect.shape, -np.inf), np.full(effect.shape, np.inf)
    for cell in zip(*np.nonzero(np.isfinite(critical)[:, None] & np.isfinite(se)), strict=True):
        value, k = float(effect[cell]), float(skewness[cell])
        z = float(critical[cell[0]])
        low[cell], high[cell] = skewed_ends(value, float(se[cell]) ** 2, k, z)
    return low, high


def _first(is_beyond: NDArray[np.bool_]) -> NDArray[np.int64]:
    if not len(is_beyond):
        return np.full(is_beyond.shape[1], -1, dtype=np.int64)
    return np.where(is_beyond.any(axis=0), is_beyond.argmax(axis=0), -1).astype(np.int64)


def _spent_p(z: Floats, n: list[int], n_planned: int, critical: Floats) -> Floats:
    """Stagewise p-value of each arm at its stop or at the last look."""
    last = _first(np.abs(z) >= critical[:, None])
    p = np.ones(z.shape[1])
    shares = [v / n_planned for v in n]
    for a, k in enumerate(last.tolist()):
        if shares:
            own = shares[: k + 1] if k >= 0 else shares
            p[a] = stagewise_p_value(own, critical.tolist(), float(z[len(own) - 1, a]))
    return p


def _running_p(z: Floats, ratios: Floats, level: float) -> Floats:
    cells = [
        [always_valid_p_value(float(v), r, level) for v in row]
        for row, r in zip(z, ratios.tolist(), strict=True)
    ]
    return np.asarray(np.array([[1.0] * z.shape[1], *cells]).min(axis=0), dtype=np.float64)


def _checks(
    moments: Sequence[ArmMoments], expected: ArrayLike | None, is_used: NDArray[np.bool_]
) -> tuple[Check, ...]:
    least = int(moments[-1].n.min()) if moments else 0
    enough = enough_users(least, bool(is_used.any()))
    if expected is None or not is_used.any():
        return (enough,)
    ratios = [sample_ratio(m.n, expected, is_monitored=True) for m in moments if m.n.sum()]
    return enough, min(ratios, key=lambda c: c.statistic)
