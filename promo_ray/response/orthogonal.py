"""Doubly robust scores: what each row says about each arm, whichever arm it got."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def aipw_scores(
    action: NDArray[np.int64],
    reward: NDArray[np.float64],
    propensity: NDArray[np.float64],
    q_hat: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Scores whose mean is the mean outcome of each arm if either nuisance is right.

    Source: Robins, Rotnitzky and Zhao 1994; for several arms Kennedy 2020 (arXiv 2004.14497).

    Args:
        action: `(n,)` int64 arm that each row got.
        reward: `(n,)` float64 outcome.
        propensity: `(n,)` float64 probability of that arm, in (0, 1].
        q_hat: `(n, n_arms)` float64 predicted outcome under each arm, from models that did not
            see the row.

    Returns:
        `(n, n_arms)` float64: q_hat, and in the column of the arm taken
        q_hat + (reward - q_hat) / propensity.
    """
    scores = q_hat.astype(np.float64, copy=True)
    rows = np.arange(len(action))
    scores[rows, action] += (reward - q_hat[rows, action]) / propensity
    return scores
