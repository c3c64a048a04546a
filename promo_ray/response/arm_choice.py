"""Which arm for whom: the best single arm for all, unless the data support leaving it.

The largest of several noisy effects is a biased choice: taken at its word it moves users away from
a good arm for nothing. So the rule starts from the single arm with the best average and lets go
of it only for users whose predicted advantage elsewhere is large enough. How large is settled by
the doubly robust gain of leaving, on users that the predictions did not see: of a few thresholds
whose gain has a lower bound above 0 the one with the highest gain is taken, and none if there is
none. Sources:
Athey and Wager 2021 (arXiv 1702.02896) for the value of a policy by such scores; Thomas et al.
2015 for asking for a bound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]

# Of the users with any advantage elsewhere, the share that may leave, by falling advantage.
_SHARES = (1.0, 0.5, 0.25, 0.125)


class ArmRule(NamedTuple):
    """A policy that leaves one arm only where it pays.

    Attributes:
        base: the single arm with the highest average outcome net of cost.
        threshold: predicted advantage above which a user leaves it, outcome units; infinite if
            the data support no leaving.
        gain: doubly robust gain per user over `base` for all, out of fold; 0 without leaving.
        low: its one-sided lower bound.
        left: share of users that leave.
        cost: `(n_arms,)` float64 cost of each arm per user, outcome units.
    """

    base: int
    threshold: float
    gain: float
    low: float
    left: float
    cost: Floats

    def arms(self, effects: Floats) -> NDArray[np.int64]:
        """`(n,)` int64 arm of each user, for effects `(n, n_arms)` with 0 for control."""
        best, advantage = _best(effects - self.cost, self.base)
        return np.where(advantage > self.threshold, best, self.base)

    @property
    def reason(self) -> str:
        """One sentence."""
        if not np.isfinite(self.threshold):
            return f"arm {self.base} for all: leaving it has no gain that the data support"
        return (
            f"arm {self.base}, left by {self.left:.0%} of users for another that is better by "
            f"more than {self.threshold:.3g}: gain {self.gain:.3g} per user out of fold, at "
            f"least {self.low:.3g}"
        )


def choose_rule(
    effects: Floats,
    scores: Floats,
    weight: Floats,
    user: NDArray[np.int64],
    cost: Floats,
    level: float = 0.95,
) -> ArmRule:
    """Rule from out-of-fold effects and doubly robust scores.

    Args:
        effects: `(n, n_arms)` float64, column 0 is 0; each row from models that saw no own user.
        scores: `(n, n_arms)` float64 doubly robust scores of the outcome, cross-fitted.
        weight: `(n,)` float64 > 0 row weights.
        user: `(n,)` int64 user of each row in 0 .. n_users - 1.
        cost: `(n_arms,)` float64 cost of each arm, outcome units.
        level: of the lower bound, shared among the thresholds that are tried (Bonferroni).
    """
    net = scores - cost
    base = int(np.average(net, axis=0, weights=weight).argmax())
    best, advantage = _best(effects - cost, base)
    gains = net[np.arange(len(best)), best] - net[:, base]
    reach = float(norm.ppf(1.0 - (1.0 - level) / len(_SHARES)))
    rule = ArmRule(base, np.inf, 0.0, 0.0, 0.0, cost)
    above = np.sort(advantage[advantage > 0])[::-1]
    for share in _SHARES if len(above) else ():
        at = int(np.ceil(share * len(above)))
        threshold = float(above[at]) if at < len(above) else 0.0
        leaves = advantage > threshold
        gain, error = _mean(np.where(leaves, gains, 0.0), weight, user)
        if gain - reach * error > 0 and gain > rule.gain:
            left = float(np.average(leaves, weights=weight))
            rule = ArmRule(base, threshold, gain, gain - reach * error, left, cost)
    return rule


def _best(net: Floats, base: int) -> tuple[NDArray[np.int64], Floats]:
    """Best arm other than `base` of each row, and how much better than `base` it is."""
    others = net - net[:, [base]]
    others[:, base] = -np.inf
    best = others.argmax(axis=1)
    return best, np.asarray(others[np.arange(len(best)), best])


def _mean(values: Floats, weight: Floats, user: NDArray[np.int64]) -> tuple[float, float]:
    """Weighted mean of rows and its standard error, clustered by user."""
    mean = float(np.average(values, weights=weight))
    by_user = np.bincount(user, weight * (values - mean))
    return mean, float(np.sqrt((by_user**2).sum()) / weight.sum())
