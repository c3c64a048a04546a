"""Uplift on real randomized trials and on planted truth, beside baselines and libraries.

CausalML, EconML and scikit-uplift have pins of their own: install them elsewhere (`pip install
lightgbm causalml econml scikit-uplift`) and name that interpreter in `PROMO_RAY_UPLIFT_PYTHON`;
without it the records hold what is ours. Trials that are not at `PROMO_RAY_DATA` are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from promo_ray.bench.uplift_planted import planted_records
from promo_ray.bench.uplift_policies import margin_records, three_arm_records
from promo_ray.bench.uplift_runs import our_scores, peer_scores
from promo_ray.bench.uplift_trials import Contrast, contrasts
from promo_ray.evaluation.curves import qini, uplift_at
from promo_ray.response.response_models import response_scores
from promo_ray.seeding import stream

Floats = NDArray[np.float64]

# Baselines of our own: T with boosting, a damped S, and the response model.
_OURS = ("auto", "t", "s", "proportional", "dr")
_N_BOOT = 200
_N_SEEDS = 10  # of planted truth
_N_SPLITS = 10  # of the rule in money
_N_SPLITS_ARMS = 4  # of the three arms, besides the folds of the contrasts
_PER_MILLE = 1000.0


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Records of real contrasts, of planted truth, of a rule in money, and of three arms.

    Args:
        quick: the first contrast, 50 resamples, one seed and one split only.
    """
    n_boot = 50 if quick else _N_BOOT
    z: dict[str, list[float]] = {}
    for contrast in contrasts()[: 1 if quick else None]:
        for record in _learners(contrast, n_boot):
            z.setdefault(record["learner"], []).append(record["z"])
            yield record
        yield from _responses(contrast)
    for learner, found in z.items():
        yield {
            "bench": "uplift",
            "case": "mean over contrasts",
            "learner": learner,
            "mean_z": float(np.mean(found)),
            "n_contrasts": len(found),
        }
    yield from planted_records(1 if quick else _N_SEEDS)
    yield from margin_records(1 if quick else _N_SPLITS)
    yield from three_arm_records(0 if quick else _N_SPLITS_ARMS)


def _learners(contrast: Contrast, n_boot: int) -> Iterator[dict[str, Any]]:
    found = {learner: our_scores(contrast, learner) for learner in _OURS}
    found |= peer_scores(contrast)
    ranked = {name: _by_fold(own.score, contrast.folds) for name, own in found.items()}
    draws = {name: _resampled(score, contrast, n_boot) for name, score in ranked.items()}
    for name, score in ranked.items():
        value = qini(score, contrast.arm, contrast.outcome, n_boot=0).value
        auto = qini(ranked["auto"], contrast.arm, contrast.outcome, n_boot=0).value
        at = uplift_at(score, contrast.arm, contrast.outcome, 0.3, n_boot=0).value
        gap = draws["auto"] - draws[name]
        yield {
            "bench": "uplift",
            "case": contrast.name,
            "learner": name,
            "n": len(score),
            "qini_per_mille": _PER_MILLE * value,
            "se_per_mille": _PER_MILLE * float(draws[name].std(ddof=1)),
            "z": value / float(draws[name].std(ddof=1)),
            "auto_minus_this_per_mille": _PER_MILLE * (auto - value),
            "paired_se_per_mille": _PER_MILLE * float(gap.std(ddof=1)),
            "uplift_at_30_per_mille": _PER_MILLE * at,
            "cpu_s": found[name].cpu_s,
            "choice": found[name].choices,
        }


def _by_fold(score: Floats, folds: NDArray[np.int64]) -> Floats:
    """Ranks within folds, since models of different folds differ in level."""
    found = np.empty(len(score))
    for fold in np.unique(folds):
        own = folds == fold
        found[own] = rankdata(score[own]) / own.sum()
    return found


def _resampled(score: Floats, contrast: Contrast, n_boot: int) -> Floats:
    """`(n_boot,)` qini in Poisson resamples of rows, the same ones for every score."""
    found = np.empty(n_boot)
    for b in range(n_boot):
        count = stream(0, "bench.uplift", b).poisson(1.0, len(score))
        rows = np.repeat(np.arange(len(score)), count)
        found[b] = qini(score[rows], contrast.arm[rows], contrast.outcome[rows], n_boot=0).value
    return found


def _responses(contrast: Contrast) -> Iterator[dict[str, Any]]:
    """Plain response models, printed beside uplift."""
    for score in response_scores(contrast.x, contrast.outcome, n_folds=3):
        yield {"bench": "uplift", "case": contrast.name, **score._asdict()}
