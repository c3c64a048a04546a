"""What a promotion earned over time: late conversions, returns, and sales pulled forward.

The outcome of a user is incremental margin within a window after their own exposure. Returns
count against the purchase that they undo, whenever they come. A user counts in a window only
once the window and the time for returns are over, so that late starters do not look like
non-buyers. Sales that a promotion merely pulled forward are gone again in a longer window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.ab import AbTest, ab_test
from promo_ray.response.inputs import arms, finite_vector

Floats = NDArray[np.float64]


class WindowOutcomes(NamedTuple):
    """Outcomes of users within windows after exposure.

    Attributes:
        windows: `(n_windows,)` lengths in days, rising.
        amount: `(n_users, n_windows)` float64 sum within each window, returns taken off.
        is_mature: `(n_users, n_windows)` whether the window and the returns' time are over.
    """

    windows: Floats
    amount: Floats
    is_mature: NDArray[np.bool_]


def window_outcomes(
    exposed_at: ArrayLike,
    event_user: ArrayLike,
    event_at: ArrayLike,
    amount: ArrayLike,
    *,
    windows: Sequence[float] = (7.0, 28.0, 90.0),
    analyzed_at: float,
    bought_at: ArrayLike | None = None,
    return_days: float = 0.0,
) -> WindowOutcomes:
    """Sum of amounts within windows after each user's exposure (or assignment, for control).

    Args:
        exposed_at: `(n_users,)` days, one per user; control users have the day of assignment.
        event_user: `(n_events,)` row of `exposed_at` of each event.
        event_at: `(n_events,)` days at which events came; those after `analyzed_at` are unknown.
        amount: `(n_events,)` margin of purchases, minus the margin given back for returns; costs
            of the offer are negative amounts.
        windows: days, rising.
        analyzed_at: day up to which events are complete.
        bought_at: `(n_events,)` day of the purchase that a return undoes, and of a purchase its
            own; None = `event_at`.
        return_days: days after a purchase within which returns come.

    Raises:
        ConfigError: windows do not rise from above 0, or negative `return_days`.
        DataError: bad shape or value, the argument named.
    """
    days = np.asarray(windows, dtype=np.float64)
    if not len(days) or (np.diff([0.0, *days]) <= 0).any() or return_days < 0:
        raise ConfigError("windows must rise from above 0 and return_days be >= 0")
    start = finite_vector(exposed_at, "exposed_at")
    n = len(start)
    when = finite_vector(event_at, "event_at")
    user = arms(event_user, "event_user", len(when), max(1, n))
    value = finite_vector(amount, "amount", len(when))
    bought = when if bought_at is None else finite_vector(bought_at, "bought_at", len(when))
    if (bought > when).any():
        raise DataError("must not lie after event_at", where="bought_at")
    lag = bought - start[user]
    found = np.empty((n, len(days)))
    for w, window in enumerate(days.tolist()):
        inside = (lag >= 0) & (lag < window) & (when <= analyzed_at)
        found[:, w] = np.bincount(user[inside], value[inside], n)
    is_mature = start[:, None] + days + return_days <= analyzed_at
    return WindowOutcomes(days, found, is_mature)


class EffectsOverTime(NamedTuple):
    """Incremental outcome by window.

    Attributes:
        windows: `(n_windows,)` days.
        effects: `ab_test` of each window on the users whose window is over.
        mature_share: `(n_windows,)` share of users that count.
        later: `ab_test` of what came between the shortest and the longest window, on the users of
            the longest: below 0 = sales were pulled forward; late conversions raise it.
        kept_share: `(n_treated,)` effect of the longest window over that of the shortest on the
            same users; NaN if the shortest is not positive.
    """

    windows: Floats
    effects: tuple[AbTest, ...]
    mature_share: Floats
    later: AbTest
    kept_share: Floats


def effects_over_time(
    outcomes: WindowOutcomes,
    treatment: ArrayLike,
    *,
    covariate: ArrayLike | None = None,
    expected: ArrayLike | None = None,
    level: float = 0.95,
) -> EffectsOverTime:
    """Effect in every window, and net of what was only pulled forward.

    Args:
        outcomes: of `window_outcomes`.
        treatment: `(n_users,)` arm, 0 = control.
        covariate: `(n_users,)` or `(n_users, d)` known before the exposure.
        expected: `(n_arms,)` shares of the design, see `ab_test`.
        level: level of the intervals.

    Raises:
        DataError: bad shape or value; no user of some arm with a window that is over.
    """
    arm = arms(treatment, "treatment", len(outcomes.amount))
    known = None if covariate is None else np.asarray(covariate)

    def tested(values: Floats, is_in: NDArray[np.bool_]) -> AbTest:
        own = None if known is None else known[is_in]
        return ab_test(
            values[is_in], arm[is_in], kind="mean", covariate=own, expected=expected, level=level
        )

    effects = tuple(
        tested(outcomes.amount[:, w], outcomes.is_mature[:, w])
        for w in range(len(outcomes.windows))
    )
    is_in = outcomes.is_mature[:, -1]
    first, last = outcomes.amount[:, 0], outcomes.amount[:, -1]
    short, later = tested(first, is_in), tested(last - first, is_in)
    early = np.array([a.effect for a in short.arms[1:]])
    rest = np.array([a.effect for a in later.arms[1:]])
    kept = np.where(early > 0, 1 + rest / np.where(early > 0, early, 1.0), np.nan)
    return EffectsOverTime(outcomes.windows, effects, outcomes.is_mature.mean(axis=0), later, kept)
