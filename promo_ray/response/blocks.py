"""The doubly robust learner over blocks of rows that no single process holds.

What is chosen needs few rows, what is estimated takes them all: a sample of the users settles the
mean outcome, the penalties, the mix of candidates and the boosted part, as `DrLearner` does in
one process; then every block scores its rows by the mean outcome of another fold and sends sums,
from which average, share and line of each arm are solved exactly. Blocks merge in a fixed tree,
so the bits do not depend on the number of workers. Time is linear in rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import add
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.execution.executor import Executor, Resident
from promo_ray.response.dr_learner import ArmEffects, DrLearner
from promo_ray.response.inputs import arms, finite_matrix, finite_vector, propensities
from promo_ray.response.nuisance import FoldMean, Mean, balancing_weights, fold_mean, mean_of_folds
from promo_ray.response.orthogonal import aipw_scores
from promo_ray.response.relative import Scale
from promo_ray.response.stacking import solve_ridge
from promo_ray.response.trial import Trial, arm_left_out, check_trial, folds_of
from promo_ray.seeding import keys_of, uniforms

Floats = NDArray[np.float64]


class TrialBlock(NamedTuple):
    """Rows of a trial.

    Attributes:
        x: `(n, d)` float64 finite features.
        arm: `(n,)` int64, 0 = control.
        outcome: `(n,)` float64.
        propensity: `(n,)` float64 probability of the row's arm, in (0, 1].
        user: `(n,)` user ids; a user may have rows in several blocks.
    """

    x: Floats
    arm: NDArray[np.int64]
    outcome: Floats
    propensity: Floats
    user: NDArray[Any]


class _Sums(NamedTuple):
    """Sums over rows, weighted by 1 / baseline.

    Attributes:
        weight: sum of weights.
        target: `(m,)` of the scores of arms minus control.
        gram: `(p, p)` of the standardized features times the baseline.
        side: `(m, p)` of these times the scores.
    """

    weight: float
    target: Floats
    gram: Floats
    side: Floats


def fit_over_blocks(
    blocks: Sequence[TrialBlock | Callable[[], TrialBlock]],
    n_arms: int,
    executor: Executor,
    *,
    learner: DrLearner | None = None,
    n_folds: int = 5,
    seed: int = 0,
    max_rows: int = 200_000,
) -> ArmEffects:
    """Effects of all arms; with at most `max_rows` rows what learner `dr` finds, up to rounding.

    Args:
        blocks: blocks, or callables that read one in the worker.
        n_arms: arms, control included.
        executor: runs blocks and folds.
        learner: settings of `dr`.
        n_folds: folds of users, >= 2.
        seed: of folds and sample.
        max_rows: rows about which the sample holds; users are drawn by a hash of their id.

    Returns:
        Effects whose `predict(x)` gives `(n, n_arms - 1)`, arms 1 and up, in outcome units.

    Raises:
        DataError: no block, a fault of a block, or an arm that is missing outside a fold.
    """
    if not blocks:
        raise DataError("must hold at least one block; got none", where="blocks")
    dr = DrLearner() if learner is None else learner
    resident: Resident[TrialBlock] = executor.load(blocks)
    try:
        n_rows = resident.reduce(_count, add, n_arms)
        rows = resident.map(_sampled, min(1.0, max_rows / max(n_rows, 1)), seed)
        trial = _joined(rows, n_arms, n_folds, seed)
        folds, mean = _means(trial, dr, executor)
        chosen = dr.fit(trial, mean)
        sums = resident.reduce(_sums, _merge, folds, chosen.effects.scale, seed)
    finally:
        resident.release()
    return _estimated(chosen.effects, chosen.ratios, sums)


def _count(block: TrialBlock, n_arms: int) -> int:
    """Rows of a block whose shapes and values were checked."""
    x = finite_matrix(block.x, "x")
    arm = arms(block.arm, "arm", len(x), n_arms)
    finite_vector(block.outcome, "outcome", len(x))
    propensities(block.propensity, "propensity", arm, n_arms)
    if np.shape(block.user) != (len(x),):
        raise DataError(f"must be ({len(x)},); got {np.shape(block.user)}", where="user")
    return len(x)


def _sampled(block: TrialBlock, share: float, seed: int) -> TrialBlock:
    if share >= 1.0:
        return block
    names, place = np.unique(block.user, return_inverse=True)
    draws = uniforms(seed, "response.blocks", keys_of(str(u) for u in names.tolist()))[:, 0]
    rows = (draws < share)[place]
    return TrialBlock(*(np.asarray(column)[rows] for column in block))


def _joined(rows: Sequence[TrialBlock], n_arms: int, n_folds: int, seed: int) -> Trial:
    x, arm, outcome, propensity, user = (np.concatenate(own) for own in zip(*rows, strict=True))
    trial = check_trial(
        x, arm, outcome, propensity, groups=user, n_arms=n_arms, n_folds=n_folds, seed=seed
    )
    lost = arm_left_out(trial.arm, trial.folds, n_arms)
    if lost is not None:
        text = f"every arm outside each fold; arm {lost[0]} is missing outside fold {lost[1]}"
        raise DataError(f"must hold {text}", where="blocks")
    return trial


def _means(trial: Trial, dr: DrLearner, executor: Executor) -> tuple[list[FoldMean], Mean]:
    """Mean outcome without each fold, and on all rows, side by side on the executor."""
    weight, _ = balancing_weights(trial)
    resident = executor.load([*range(trial.n_folds), -1])  # -1 leaves nothing out
    try:
        found: list[FoldMean] = resident.map(_mean, trial, weight, dr)
    finally:
        resident.release()
    return found[:-1], mean_of_folds(trial.x, trial.folds, found[:-1], found[-1].model)


def _mean(fold: int, trial: Trial, weight: Floats, dr: DrLearner) -> FoldMean:
    rest = trial.folds != fold
    return fold_mean(
        trial.x[rest], trial.arm[rest], trial.outcome[rest], weight[rest], trial.n_arms, dr.outcome
    )


def _sums(
    block: TrialBlock,
    means: Sequence[FoldMean],
    scale: Scale,
    seed: int,
) -> _Sums:
    """Scores of the rows, each by the mean outcome that its user had no part in, and their sums."""
    folds = folds_of(block.user, len(block.arm), len(means), seed)
    mean = mean_of_folds(block.x, folds, means, scale.mean)
    scores = aipw_scores(block.arm, block.outcome, block.propensity, mean.of_arms)
    target = scores[:, 1:] - scores[:, :1]
    baseline = scale.of_mean(mean.out_of_fold)
    z = scale.standardize(block.x, baseline)
    return _Sums(
        weight=float((1.0 / baseline).sum()),
        target=target.T @ (1.0 / baseline),
        gram=(z * baseline[:, None]).T @ z,
        side=target.T @ z,
    )


def _merge(a: _Sums, b: _Sums) -> _Sums:
    return _Sums(a.weight + b.weight, a.target + b.target, a.gram + b.gram, a.side + b.side)


def _estimated(chosen: ArmEffects, ratios: Floats, sums: _Sums) -> ArmEffects:
    """The choice of the sample with average, share and line from the sums over all rows."""
    is_shrunk = np.arange(len(sums.gram)) > 0
    coef = np.empty_like(chosen.coef)
    for j, (ratio, mix) in enumerate(zip(ratios, chosen.stack, strict=True)):
        coef[j] = mix[2] * solve_ridge(sums.gram, sums.side[j], float(ratio), is_shrunk)
        coef[j, 0] += mix[1] * sums.side[j, 0] / sums.gram[0, 0]
    constant = chosen.stack[:, 0] * sums.target / sums.weight
    return replace(chosen, constant=constant, coef=coef)
