"""Boundaries of tests that are looked at more than once.

Planned looks: alpha spending (Lan and DeMets 1983). The z statistics at the looks are those of a
Brownian motion; the chance of crossing at each look follows by numerical integration over the
continuation region (Armitage, McPherson and Rowe 1969). Looks at any time: the mixture
boundary of Robbins 1970, as an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha,
Kennedy and Ramdas 2024), the same as a mixture sequential probability ratio test.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm

from promo_ray.errors import ConfigError
from promo_ray.evaluation.checks import check_level

Floats = NDArray[np.float64]
SPENDING = ("obrien_fleming", "pocock")
_FAR = 9.0  # standard deviations beyond which nothing is left
_LEAST = 1e-14  # chance per look below which a boundary is infinite


def spent(fraction: float, alpha: float, spending: str) -> float:
    """False alarm rate spent on one side up to a share of the information.

    Args:
        fraction: share of the planned information, in [0, 1].
        alpha: rate of that side over all looks.
        spending: `obrien_fleming` (hardly any at first) or `pocock` (nearly even), both of Lan
            and DeMets 1983.

    Raises:
        ConfigError: unknown spending function.
    """
    if spending not in SPENDING:
        raise ConfigError(f"spending must be obrien_fleming or pocock; got {spending!r}")
    if fraction <= 0:
        return 0.0
    if spending == "pocock":
        return alpha * math.log1p((math.e - 1) * min(1.0, fraction))
    return 2 * float(norm.sf(norm.isf(alpha / 2) / min(1.0, fraction) ** 0.5))


class _Paths(NamedTuple):
    """Density of the score (Brownian motion with drift) that has not crossed, on nodes."""

    at: float
    nodes: Floats
    mass: Floats  # density times weight

    @classmethod
    def start(cls) -> _Paths:
        return cls(0.0, np.zeros(1), np.ones(1))

    def beyond(self, fraction: float, score: float, drift: float) -> float:
        """Chance of not having crossed before and lying above `score` at `fraction`."""
        step = fraction - self.at
        return float(self.mass @ ndtr((self.nodes + drift * step - score) / step**0.5))

    def below(self, fraction: float, score: float, drift: float) -> float:
        """Chance of not having crossed before and lying below `score` at `fraction`."""
        step = fraction - self.at
        return float(self.mass @ ndtr((score - self.nodes - drift * step) / step**0.5))

    def going_on(self, fraction: float, limit: float, drift: float) -> _Paths:
        """Paths that stay within +-limit (score) at `fraction`."""
        step = fraction - self.at
        reach = _FAR * fraction**0.5
        low, high = max(-limit, drift * fraction - reach), min(limit, drift * fraction + reach)
        size = int(min(2000, max(96, 10 * (high - low) / step**0.5)))
        unit, weight = _gauss(size)
        nodes = low + (unit + 1) * (high - low) / 2
        gap = (nodes[:, None] - self.nodes - drift * step) / step**0.5
        density = np.exp(-(gap**2) / 2) @ self.mass / (2 * math.pi * step) ** 0.5
        return _Paths(fraction, nodes, density * weight * (high - low) / 2)


@functools.lru_cache(maxsize=64)
def _gauss(size: int) -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(size)


@functools.lru_cache(maxsize=256)
def _boundaries(fractions: tuple[float, ...], level: float, spending: str) -> Floats:
    used = 0.0
    found: list[float] = []
    for k, fraction in enumerate(fractions):
        goal = spent(fraction, (1 - level) / 2, spending)
        left, critical = goal - used, math.inf
        if left > _LEAST:
            paths = _unstopped(fractions[:k], tuple(found), 0.0)
            critical = float(brentq(_excess, 0.0, 12.0, (paths, fraction, left), xtol=1e-10))
            used = goal
        found.append(critical)
    boundaries = np.array(found)
    boundaries.flags.writeable = False
    return boundaries


def _excess(z: float, paths: _Paths, fraction: float, wanted: float) -> float:
    """Log of the chance of crossing `z` for the first time over the chance wanted."""
    return math.log(max(1e-300, paths.beyond(fraction, z * fraction**0.5, 0.0)) / wanted)


def look_boundaries(
    fractions: Sequence[float], level: float = 0.95, spending: str = "obrien_fleming"
) -> Floats:
    """Critical |z| at each look of a two-sided test; over all looks it errs with 1 - level.

    Each side spends half. A boundary depends on the looks up to it alone, so neither their
    number nor their dates need be known before; only the final information must be.

    Args:
        fractions: `(n_looks,)` share of the planned information at each look, rising, in (0, 1].
        level: 1 minus the false alarm rate.
        spending: see `spent`.

    Returns:
        `(n_looks,)` float64; infinity where the chance spent is below 1e-14.

    Raises:
        ConfigError: fractions do not rise within (0, 1], or unknown spending function.
    """
    shares = tuple(float(f) for f in fractions)
    steps = np.diff([0.0, *shares])
    if not shares or (steps <= 0).any() or shares[-1] > 1 + 1e-9:
        raise ConfigError("looks must rise within (0, 1] of the plan")
    check_level(level)
    return _boundaries(shares, level, spending)


class Crossing(NamedTuple):
    """Chances of stopping at each look, `(n_looks,)` float64 each.

    Attributes:
        above: z above the boundary for the first time.
        below: z below minus the boundary for the first time.
    """

    above: Floats
    below: Floats


def crossing(fractions: Sequence[float], critical: Sequence[float], drift: float = 0.0) -> Crossing:
    """Chance that z first leaves +-critical at each look.

    Args:
        fractions: `(n_looks,)` share of the information at each look.
        critical: `(n_looks,)` boundaries.
        drift: mean of z at full information: effect / its standard error at the end.
    """
    above, below = np.zeros(len(fractions)), np.zeros(len(fractions))
    shares, limits = _plain(fractions), _plain(critical)
    for k, (fraction, limit) in enumerate(zip(shares, limits, strict=True)):
        paths = _unstopped(shares[:k], limits[:k], drift)
        above[k] = paths.beyond(fraction, limit * fraction**0.5, drift)
        below[k] = paths.below(fraction, -limit * fraction**0.5, drift)
    return Crossing(above, below)


def _plain(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


@functools.lru_cache(maxsize=512)
def _unstopped(fractions: tuple[float, ...], critical: tuple[float, ...], drift: float) -> _Paths:
    """Paths that have not crossed at any of the looks; kept, for every look asks for the last."""
    if not fractions:
        return _Paths.start()
    before = _unstopped(fractions[:-1], critical[:-1], drift)
    return before.going_on(fractions[-1], critical[-1] * fractions[-1] ** 0.5, drift)


def stagewise_p_value(fractions: Sequence[float], critical: Sequence[float], z: float) -> float:
    """Two-sided p-value of stopping at the last of `fractions` with `z`; earlier is more extreme.

    Source: Tsiatis, Rosner and Mehta 1984 (stagewise ordering).
    """
    limits = [*list(critical)[: len(fractions) - 1], abs(z)]
    return min(1.0, 2 * float(crossing(fractions, limits).above.sum()))


def always_valid_critical(ratio: float, level: float = 0.95) -> float:
    """Critical |z| that holds at every look at once, however many.

    Args:
        ratio: users so far / users for which the boundary is tuned, > 0; there it is narrowest.
        level: 1 minus the false alarm rate over all time.
    """
    r = _mixing(level) * ratio
    return float(((1 + r) / r * math.log((1 + r) / (1 - level) ** 2)) ** 0.5)


def always_valid_p_value(z: float, ratio: float, level: float = 0.95) -> float:
    """1 / likelihood ratio of the mixture, at most 1; the running minimum is valid at any time.

    Args:
        z: effect over its standard error, or `skewed_z`.
        ratio: users so far / users for which the boundary is tuned.
        level: for which the boundary is tuned.
    """
    r = _mixing(level) * ratio
    return float(min(1.0, (1 + r) ** 0.5 * math.exp(-min(1400.0, z * z * r / (1 + r)) / 2)))


def _mixing(level: float) -> float:
    """Information times mixture variance where the boundary is narrowest (Waudby-Smith et al.)."""
    log = -2 * math.log(1 - level)
    return log + math.log(log + 1)
