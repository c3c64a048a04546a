"""Linear algebra that the learners share: ridge with its penalty chosen by folds, and stacking."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]

# Penalty over the mean diagonal of the Gram matrix; the largest leaves next to nothing.
PENALTY_RATIOS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
_FREE_RATIO = 1e-6  # of columns that are not shrunk, so that a column of zeros is no trouble


class Ridge(NamedTuple):
    """A weighted ridge fit.

    Attributes:
        coef: `(p,)` float64 on all rows.
        fold_coefs: `(n_folds, p)` float64, row k without the rows of fold k.
        ratio: penalty chosen, over the mean diagonal of the Gram matrix.
    """

    coef: Floats
    fold_coefs: Floats
    ratio: float


def ridge(
    design: Floats,
    target: Floats,
    weight: Floats,
    folds: NDArray[np.int64],
    n_folds: int,
    is_shrunk: NDArray[np.bool_],
) -> Ridge:
    """Ridge regression whose penalty has the smallest weighted squared error out of fold.

    The Gram matrices of the folds are summed once; every penalty and fold is then one solve.

    Args:
        design: `(n, p)` float64.
        target: `(n,)` float64.
        weight: `(n,)` float64 > 0.
        folds: `(n,)` int64 in [0, n_folds).
        n_folds: folds.
        is_shrunk: `(p,)` bool; the others are left free.
    """
    p = design.shape[1]
    grams, sides = np.zeros((n_folds, p, p)), np.zeros((n_folds, p))
    for fold in range(n_folds):
        own = folds == fold
        weighted = design[own] * weight[own, None]
        grams[fold] = weighted.T @ design[own]
        sides[fold] = weighted.T @ target[own]
    gram, side = grams.sum(axis=0), sides.sum(axis=0)
    unit = max(float(np.diag(gram).mean()), np.finfo(np.float64).tiny)
    best = np.inf, Ridge(np.zeros(p), np.zeros((n_folds, p)), 0.0)
    for ratio in PENALTY_RATIOS:
        penalty = np.diag(unit * np.where(is_shrunk, ratio, _FREE_RATIO))
        fold_coefs = np.linalg.solve(gram - grams + penalty, (side - sides)[:, :, None])[:, :, 0]
        error = target - np.einsum("np,np->n", design, fold_coefs[folds])
        loss = float(weight @ error**2)
        if loss < best[0]:
            best = loss, Ridge(solve_ridge(gram, side, ratio, is_shrunk), fold_coefs, ratio)
    return best[1]


def ridge_at(
    design: Floats,
    target: Floats,
    weight: Floats,
    is_shrunk: NDArray[np.bool_],
    ratio: float,
) -> Floats:
    """`(p,)` float64 coefficients of `ridge` on all rows at a penalty ratio that is known."""
    weighted = design * weight[:, None]
    return solve_ridge(weighted.T @ design, weighted.T @ target, ratio, is_shrunk)


def solve_ridge(gram: Floats, side: Floats, ratio: float, is_shrunk: NDArray[np.bool_]) -> Floats:
    """`(p,)` float64 ridge coefficients of a Gram matrix and its right side; see `ridge`."""
    unit = max(float(np.diag(gram).mean()), np.finfo(np.float64).tiny)
    penalty = np.diag(unit * np.where(is_shrunk, ratio, _FREE_RATIO))
    return np.asarray(np.linalg.solve(gram + penalty, side))


def stack_weights(
    components: Floats, target: Floats, weight: Floats, *, is_convex: bool = False
) -> Floats:
    """Weights >= 0 of predictions that were made out of fold, least squares.

    Source: Breiman 1996, Stacked regressions; for effects Nie and Wager 2021, section 4.

    Args:
        components: `(n, k)` float64 predictions.
        target: `(n,)` float64.
        weight: `(n,)` float64 > 0.
        is_convex: whether the weights must sum to 1.

    Returns:
        `(k,)` float64 >= 0.
    """
    root = np.sqrt(weight)
    left, right = components * root[:, None], target * root
    if is_convex:
        # A heavy row holds the sum at 1 to within 1e-6; the rest is scaled away.
        heavy = 1e3 * max(float(np.sqrt((left**2).sum())), 1e-300)
        left = np.vstack([left, np.full((1, left.shape[1]), heavy)])
        right = np.append(right, heavy)
    found = np.asarray(nnls(left, right)[0], dtype=np.float64)
    if not is_convex:
        return found
    total = float(found.sum())
    return found / total if total > 0 else np.eye(len(found))[0]


def stack_toward(
    columns: Floats, target: Floats, weight: Floats, prior: Floats, pull: float
) -> Floats:
    """Weights >= 0 of centered predictions, least squares, pulled toward a prior.

    Args:
        columns: `(n, k)` float64 predictions, centered.
        target: `(n,)` float64, centered.
        weight: `(n,)` float64 > 0.
        prior: `(k,)` float64 >= 0 weights before any evidence.
        pull: penalty on the distance from `prior`, over the mean diagonal of the Gram matrix.

    Returns:
        `(k,)` float64 >= 0; `prior` where the columns are all 0.
    """
    k = columns.shape[1]
    root = np.sqrt(weight)[:, None]
    left = columns * root
    unit = np.sqrt(float((left**2).sum()) / k)
    if unit <= np.finfo(np.float64).tiny:
        return prior.copy()
    tied = np.sqrt(pull) * unit * np.eye(k)
    q, r = np.linalg.qr(left)
    side = q.T @ (target * root[:, 0])
    found = nnls(np.vstack([r, tied]), np.concatenate([side, tied @ prior]))[0]
    return np.asarray(found, dtype=np.float64)
