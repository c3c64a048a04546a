"""What policies made of effects earn on real trials: a rule in money, and three arms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promo_ray.bench.uplift_runs import our_scores, peer_scores
from promo_ray.bench.uplift_trials import Contrast, contrasts, hash_folds, three_arms
from promo_ray.evaluation.policy_value import compare_policies
from promo_ray.response.uplift_model import UpliftModel

Floats = NDArray[np.float64]

MARGIN = 10.0  # currency per purchase
CONTACT = 0.15  # currency per contact
_SOURCE = "starbucks_promo"
_OURS = ("auto", "s")
_PEERS = (
    "t_boosting", "t_linear", "sklift_solo", "sklift_two_ddr", "causalml_x", "causalml_r",
    "econml_dr",
)  # fmt: skip
_PER_HEADS = 1000.0


def margin_records(n_splits: int) -> Iterator[dict[str, Any]]:
    """Profit of "contact if margin x effect > cost" on the held third of hash re-splits."""
    for source in contrasts():
        if not source.name.startswith(_SOURCE):
            continue
        profits: dict[str, list[float]] = {}
        for number in range(n_splits):
            own = _resplit(source, number)
            held = own.folds == 0
            found = {name: our_scores(own, name, [0]) for name in _OURS}
            found |= peer_scores(own, _PEERS, [0])
            policies = {name: one.score[held] > CONTACT / MARGIN for name, one in found.items()}
            policies["everyone"] = np.ones(int(held.sum()), dtype=bool)
            for name, contacts in policies.items():
                profits.setdefault(name, []).append(profit(contacts, own, held))
        for name, rows in profits.items():
            gap = np.array(profits["auto"]) - np.array(rows)
            yield {
                "bench": "uplift",
                "case": f"{source.name}, contact if {MARGIN:g} x effect > {CONTACT:g}",
                "learner": name,
                "n_splits": n_splits,
                "profit_per_1000_heads": float(np.mean(rows)),
                "worst": float(np.min(rows)),
                "auto_minus_this": float(gap.mean()),
                "paired_sd": float(gap.std()),
            }


def profit(contacts: NDArray[np.bool_], trial: Contrast, held: NDArray[np.bool_]) -> float:
    """Profit per 1,000 heads: share contacted x (margin x difference in rates - contact).

    0 if nobody is contacted; NaN if those who would be are all treated or all control.
    """
    treated = trial.arm[held][contacts] == 1
    bought = trial.outcome[held][contacts]
    if not contacts.any():
        return 0.0
    if not treated.any() or treated.all():
        return float("nan")  # nobody to compare with
    rate = float(bought[treated].mean() - bought[~treated].mean())
    return _PER_HEADS * float(contacts.mean()) * (MARGIN * rate - CONTACT)


def three_arm_records(n_splits: int) -> Iterator[dict[str, Any]]:
    """Value of the learned policy minus that of the best single arm, out of fold.

    Args:
        n_splits: re-splits into three folds besides the published ones.
    """
    source = three_arms()
    for number in range(-1, n_splits if source is not None else -1):
        if source is None:
            return
        own = source if number < 0 else _resplit(source, number)
        chosen = {"policy": np.empty(len(own.arm), np.int64)}
        chosen["argmax"], reasons = chosen["policy"].copy(), []
        for fold in np.unique(own.folds):
            held = own.folds == fold
            model = UpliftModel().fit(
                own.x[~held], own.arm[~held], own.outcome[~held], own.propensity[~held]
            )
            effects, rule = model.predict(own.x[held]), model.rule()
            chosen["policy"][held] = rule.arms(effects)
            chosen["argmax"][held] = effects.argmax(axis=1)
            reasons.append(rule.reason)
        best = int(np.argmax([own.outcome[own.arm == a].mean() for a in range(3)]))
        single = np.full(len(own.arm), best)
        for name, arms in chosen.items():
            gain = compare_policies(
                arms, single, own.arm, own.outcome, own.propensity, method="snips"
            )
            yield {
                "bench": "uplift",
                "case": own.name,
                "split": "published folds" if number < 0 else f"re-split {number}",
                "learner": f"auto, {name}",
                "minus_best_single_per_mille": _PER_HEADS * gain.value,
                "low": _PER_HEADS * gain.low,
                "high": _PER_HEADS * gain.high,
                "shares": (np.bincount(arms, minlength=3) / len(arms)).round(3).tolist(),
                "choice": reasons,
            }


def _resplit(source: Contrast, number: int) -> Contrast:
    rows = list(range(len(source.arm)))
    return source._replace(folds=hash_folds(f"resplit:{number}:{source.name}", rows))
