"""Many tests at once: adjusted p-values, and many arms against one control."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from promo_ray.errors import ConfigError, DataError
from promo_ray.response.inputs import finite_vector

Floats = NDArray[np.float64]
CORRECTIONS = ("none", "holm", "benjamini_hochberg", "dunnett")


def adjust_p_values(p_values: ArrayLike, method: str = "holm") -> Floats:
    """Adjusted p-values: compare them with the level of the whole family.

    Args:
        p_values: `(n,)` in [0, 1].
        method: `holm` (Holm 1979, no false rejection at all with probability 1 - level, any
            dependence), `benjamini_hochberg` (1995, share of false among the rejections), `none`.

    Returns:
        `(n,)` float64 in the order of the input.

    Raises:
        ConfigError: unknown method.
        DataError: not numbers in [0, 1].
    """
    p = finite_vector(p_values, "p_values")
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise DataError("must lie in [0, 1]", where="p_values")
    n, order = len(p), np.argsort(p, kind="stable")
    if method == "none":
        return p
    adjusted = np.empty(n)
    if method == "holm":
        steps = p[order] * np.arange(n, 0, -1)
        adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    elif method == "benjamini_hochberg":
        steps = p[order] * n / np.arange(1, n + 1)
        adjusted[order] = np.minimum(1.0, np.minimum.accumulate(steps[::-1])[::-1])
    else:
        raise ConfigError(f"method must be none, holm or benjamini_hochberg; got {method!r}")
    return adjusted


def dunnett_p_values(z: ArrayLike, variance: ArrayLike, base_variance: float) -> Floats:
    """Two-sided p-values of many arms against one control, for the largest of all (Dunnett 1955).

    The differences share the control's error, so their correlation is known and Holm gives power
    away. Normal limit: needs the 100 users per arm without which no verdict is given anyway.

    Args:
        z: `(n_arms,)` differences to control over their standard errors.
        variance: `(n_arms,)` of the estimates of the arms.
        base_variance: of the estimate of control.
    """
    loading = _loadings(variance, base_variance)
    return np.array([1 - _inside(abs(v), loading) for v in np.asarray(z, dtype=np.float64)])


def dunnett_critical(variance: ArrayLike, base_variance: float, level: float) -> float:
    """Half-width, in standard errors, of intervals that hold together with probability `level`."""
    loading = _loadings(variance, base_variance)
    return float(brentq(lambda c: _inside(c, loading) - level, 0.0, 12.0, xtol=1e-8))


def _loadings(variance: ArrayLike, base_variance: float) -> Floats:
    own = np.asarray(variance, dtype=np.float64)
    total = own + base_variance
    return np.sqrt(base_variance / np.where(total > 0, total, 1.0))


def _inside(limit: float, loading: Floats) -> float:
    """P(all |z_i| <= limit), z_i = loading_i u + sqrt(1 - loading_i^2) e_i; integral over u."""
    nodes = np.linspace(-8.5, 8.5, 681)  # trapezoid: exact to rounding for a smooth integrand
    rest = np.sqrt(np.maximum(1e-12, 1 - loading**2))
    upper = (limit - np.outer(nodes, loading)) / rest
    lower = (-limit - np.outer(nodes, loading)) / rest
    inside = np.prod(ndtr(upper) - ndtr(lower), axis=1)
    weights = np.exp(-(nodes**2) / 2)
    return float(np.clip(inside @ weights / weights.sum(), 0.0, 1.0))
