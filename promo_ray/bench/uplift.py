"""Uplift on real randomized trials, out of fold, beside baselines and libraries.

CausalML, EconML and scikit-uplift have pins of their own: install them elsewhere (`pip install
lightgbm causalml econml scikit-uplift`) and name that interpreter in `PROMO_RAY_UPLIFT_PYTHON`;
without it the records hold what is ours. Trials that are not at `PROMO_RAY_DATA` are left out.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from promo_ray.bench.uplift_trials import Contrast, contrasts
from promo_ray.evaluation.curves import qini, uplift_at
from promo_ray.response.response_models import response_scores
from promo_ray.response.uplift_model import UpliftModel
from promo_ray.seeding import stream

Floats = NDArray[np.float64]

# Baselines of our own: T with boosting, a damped S, and the response model.
_OURS = ("auto", "t", "s", "proportional", "dr")
_N_BOOT = 200
_PER_MILLE = 1000.0


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Records of qini per learner and contrast, and of the response models.

    Args:
        quick: the first contrast and 50 resamples only.
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


def _learners(contrast: Contrast, n_boot: int) -> Iterator[dict[str, Any]]:
    scores, cpu, choices = {}, {}, {}
    for learner in _OURS:
        scores[learner], cpu[learner], choices[learner] = _ours(contrast, learner)
    for name, (score, seconds) in _peers(contrast).items():
        scores[name], cpu[name], choices[name] = score, seconds, []
    ranked = {name: _by_fold(score, contrast.folds) for name, score in scores.items()}
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
            "cpu_s": cpu[name],
            "choice": choices[name],
        }


def _ours(contrast: Contrast, learner: str) -> tuple[Floats, float, list[str]]:
    """Out-of-fold effects, processor seconds, and what was chosen in each fold."""
    score, choices, started = np.empty(len(contrast.arm)), [], time.process_time()
    for fold in np.unique(contrast.folds):
        own = contrast.folds == fold
        model = UpliftModel(learner).fit(
            contrast.x[~own], contrast.arm[~own], contrast.outcome[~own], contrast.propensity[~own]
        )
        score[own] = model.predict(contrast.x[own])[:, 1]
        choices.append(model.choice)
    return score, time.process_time() - started, choices


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


def _peers(contrast: Contrast) -> dict[str, tuple[Floats, float]]:
    """Scores and processor seconds of the libraries, run by their own interpreter."""
    python = os.environ.get("PROMO_RAY_UPLIFT_PYTHON")
    if not python:
        return {}
    script = str(Path(__file__).with_name("uplift_peers.py"))
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/trial.npz", f"{folder}/scores.npz"
        np.savez(
            source,
            x=contrast.x,
            arm=contrast.arm,
            outcome=contrast.outcome,
            folds=contrast.folds,
        )
        subprocess.run([python, script, source, target], check=True, capture_output=True)
        found = np.load(target)
        return {
            f"peer {name}": (found[name], float(found[f"{name}.cpu_s"]))
            for name in found.files
            if not name.endswith(".cpu_s")
        }


def _responses(contrast: Contrast) -> Iterator[dict[str, Any]]:
    """Plain response models, printed beside uplift."""
    for score in response_scores(contrast.x, contrast.outcome, n_folds=3):
        yield {"bench": "uplift", "case": contrast.name, **score._asdict()}
