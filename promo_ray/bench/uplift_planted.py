"""Planted effects on real covariates: what learners find, measured against the truth.

A curve of a real trial has a standard error as wide as the gaps between good learners. Here the
covariates are real rows and the outcome is drawn from chances that we choose, so the true curve of
any score is known exactly. Three kinds of effect, each a trap for some learner:

* `smooth`: the effect (points of chance) has nothing to do with how likely a user is to buy;
* `dogs`: likely buyers are put off, over four in ten users react badly, the average is below 0;
* `flat`: everybody's log-odds rise by the same amount, so only the base rate orders users.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from promo_ray.bench.uplift_runs import our_scores, peer_scores
from promo_ray.bench.uplift_trials import Contrast, contrasts
from promo_ray.seeding import stream

Floats = NDArray[np.float64]

KINDS = ("smooth", "dogs", "flat")
BASE_RATE = 0.07
_SPREAD = 0.8  # standard deviation of the log-odds of buying
_SIZE = 0.042  # points of chance by which effects vary
_FLAT = 0.47  # log-odds
_SOURCE = "charitable_match"
_HELD = 2  # fold that is measured
_OURS = ("auto", "s", "moderated")
_PEERS = ("response", "t_boosting", "t_linear", "sklift_solo", "causalml_x")
_LEAST = 0.004  # no chance is below


class Planted(NamedTuple):
    """A trial with known effects.

    Attributes:
        kind: one of `KINDS`.
        trial: rows; fold 2 is for measuring, the others for learning.
        effect: `(n,)` float64 true effect on the chance of the outcome.
    """

    kind: str
    trial: Contrast
    effect: Floats


class TrueGain(NamedTuple):
    """A score against the oracle's, both on true effects.

    Attributes:
        area: area between curve and diagonal, over that of the true effects as a score.
        treat_positive: gain of treating scores above 0, over that of treating effects above 0.
    """

    area: float
    treat_positive: float


def planted_records(n_seeds: int) -> Iterator[dict[str, Any]]:
    """Mean over seeds of area and gain per kind of effect and learner; the libraries beside.

    Args:
        n_seeds: trials per kind.
    """
    sources = [own for own in contrasts() if own.name.startswith(_SOURCE)]
    for source, kind in itertools.product(sources, KINDS):
        gains: dict[str, list[TrueGain]] = {}
        seconds: dict[str, float] = {}
        for seed in range(n_seeds):
            own = planted(source, kind, seed)
            held = own.trial.folds == _HELD
            found = {name: our_scores(own.trial, name, [_HELD]) for name in _OURS}
            found |= peer_scores(own.trial, _PEERS, [_HELD])
            for name, scored in found.items():
                gains.setdefault(name, []).append(true_gain(scored.score[held], own.effect[held]))
                seconds[name] = seconds.get(name, 0.0) + scored.cpu_s
        for name, rows in gains.items():
            area, gain = np.array(rows).T
            yield {
                "bench": "uplift",
                "case": f"planted: {kind}",
                "learner": name,
                "n_seeds": n_seeds,
                "true_area_over_oracle": float(area.mean()),
                "area_se": float(area.std() / max(n_seeds - 1, 1) ** 0.5),
                "treat_positive_over_oracle": float(gain.mean()),
                "gain_se": float(gain.std() / max(n_seeds - 1, 1) ** 0.5),
                "worst_gain": float(gain.min()),
                "cpu_s": seconds[name] / n_seeds,
            }


def planted(source: Contrast, kind: str, seed: int) -> Planted:
    """Outcomes drawn on the covariates of a real trial.

    Args:
        source: where the covariates and the folds' size come from.
        kind: one of `KINDS`.
        seed: draws surfaces, arms, outcomes and folds.
    """
    draw = stream(seed, "bench.uplift.planted", kind)
    n = len(source.arm)
    z = _standard(source.x)
    base = _surface(z, draw)
    reaction = _surface(z, draw)
    log_odds = _at_rate(_SPREAD * base)
    chance = expit(log_odds)
    if kind == "smooth":
        treated = np.maximum(chance + _SIZE * (0.23 + np.tanh(reaction)), _LEAST)
    elif kind == "dogs":
        mood = 0.6 * np.tanh(reaction) - 1.2 * np.tanh(base) - 0.08
        treated = np.maximum(chance + _SIZE * mood, _LEAST)
    else:
        treated = expit(log_odds + _FLAT)
    arm = draw.integers(0, 2, n)
    outcome = draw.random(n) < np.where(arm == 1, treated, chance)
    trial = Contrast(
        name=f"planted on {source.name.split(':')[0]}: {kind}",
        x=source.x,
        arm=arm,
        outcome=outcome.astype(np.float64),
        propensity=np.full(n, 0.5),
        folds=draw.integers(0, 3, n),
    )
    return Planted(kind, trial, treated - chance)


def true_gain(score: Floats, effect: Floats) -> TrueGain:
    """Area and gain of a score `(n,)` on true effects `(n,)`, both over the oracle's."""
    best = float(np.maximum(effect, 0.0).mean())
    return TrueGain(
        area=_area(score, effect) / _area(effect, effect),
        treat_positive=float(effect[score > 0].sum()) / len(effect) / best,
    )


def _area(score: Floats, effect: Floats) -> float:
    """Integral of (gain of the top fraction f) - f (gain of all); equal scores share theirs."""
    _, place = np.unique(-score, return_inverse=True)
    size = np.bincount(place)
    gain = np.cumsum(np.bincount(place, effect)) / len(score)
    at = np.concatenate([[0.0], np.cumsum(size) / len(score)])
    curve = np.concatenate([[0.0], gain])
    return float(np.trapezoid(curve - at * curve[-1], at))


def _standard(x: Floats) -> Floats:
    """Columns in standard deviations, cut at 3, so that no single user makes a surface."""
    spread = x.std(axis=0)
    return np.asarray(np.clip((x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0), -3, 3))


def _surface(z: Floats, draw: np.random.Generator) -> Floats:
    """Smooth function of eight columns, mean 0 and spread 1: a line, bends and an interaction."""
    used = draw.choice(z.shape[1], min(8, z.shape[1]), replace=False)
    own = z[:, used]
    found = own @ draw.normal(size=len(used)) + np.cos(1.5 * own) @ draw.normal(size=len(used))
    found += 2.0 * np.tanh(own[:, 0]) * np.tanh(own[:, 1])
    return np.asarray((found - found.mean()) / found.std(), dtype=np.float64)


def _at_rate(log_odds: Floats) -> Floats:
    """Log-odds moved so that the mean chance is `BASE_RATE`."""
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        is_low = float(expit(log_odds + middle).mean()) < BASE_RATE
        low, high = (middle, high) if is_low else (low, middle)
    return np.asarray(log_odds + low)
