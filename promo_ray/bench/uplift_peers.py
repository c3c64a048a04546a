"""Uplift libraries on the same folds, run by an interpreter that has them (see `uplift`).

It is started as a script: `python uplift_peers.py trial.npz scores.npz`. Settings are those of
small, damped ensembles (80 trees, 8 leaves, 100 rows per leaf, rate 0.05, L2 5), as for ours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scorer = Callable[[Floats, NDArray[np.int64], Floats, Floats, float], Floats]

_SIZE = {
    "n_estimators": 80, "num_leaves": 8, "min_child_samples": 100, "learning_rate": 0.05,
    "reg_lambda": 5.0, "n_jobs": 1, "verbose": -1, "random_state": 0,
}  # fmt: skip


def _classifier() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(**_SIZE)


def _regressor() -> Any:
    from lightgbm import LGBMRegressor

    return LGBMRegressor(**_SIZE)


def response(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """Chance of the outcome, whatever was sent."""
    return np.asarray(_classifier().fit(x, y).predict_proba(new)[:, 1])


def t_boosting(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """Two classifiers."""
    chance = [_classifier().fit(x[a == k], y[a == k]).predict_proba(new)[:, 1] for k in (0, 1)]
    return np.asarray(chance[1] - chance[0])


def t_linear(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """Two standardized logistic regressions."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chance = []
    for k in (0, 1):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        chance.append(model.fit(x[a == k], y[a == k]).predict_proba(new)[:, 1])
    return np.asarray(chance[1] - chance[0])


def sklift_solo(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """scikit-uplift's S-learner."""
    import pandas as pd
    from sklift.models import SoloModel

    model = SoloModel(_classifier()).fit(pd.DataFrame(x), pd.Series(y), pd.Series(a))
    return np.asarray(model.predict(pd.DataFrame(new)))


def sklift_two(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """scikit-uplift's dependent two models."""
    import pandas as pd
    from sklift.models import TwoModels

    model = TwoModels(_classifier(), _classifier(), method="ddr_control")
    model.fit(pd.DataFrame(x), pd.Series(y), pd.Series(a))
    return np.asarray(model.predict(pd.DataFrame(new)))


def causalml_s(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """CausalML's S-learner."""
    from causalml.inference.meta import BaseSClassifier

    model = BaseSClassifier(learner=_classifier(), control_name=0)
    model.fit(x, a, y)
    return np.ravel(model.predict(new))


def causalml_x(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """CausalML's X-learner."""
    from causalml.inference.meta import BaseXClassifier

    model = BaseXClassifier(
        outcome_learner=_classifier(), effect_learner=_regressor(), control_name=0
    )
    model.fit(x, a, y, p=np.full(len(x), e))
    return np.ravel(model.predict(new, p=np.full(len(new), e)))


def causalml_r(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """CausalML's R-learner."""
    from causalml.inference.meta import BaseRClassifier

    model = BaseRClassifier(
        outcome_learner=_classifier(), effect_learner=_regressor(), control_name=0, random_state=0
    )
    model.fit(x, a, y, p=np.full(len(x), e), verbose=False)
    return np.ravel(model.predict(new))


def econml_dr(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """EconML's doubly robust learner."""
    from econml.dr import DRLearner
    from sklearn.dummy import DummyClassifier

    model = DRLearner(
        model_propensity=DummyClassifier(strategy="prior"),
        model_regression=_classifier(),
        model_final=_regressor(),
        discrete_outcome=True,
        cv=3,
        random_state=0,
    )
    model.fit(y, a, X=x)
    return np.ravel(model.effect(new))


def econml_linear_dr(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """EconML's linear doubly robust learner on standardized features."""
    from econml.dr import LinearDRLearner
    from sklearn.dummy import DummyClassifier

    center, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    model = LinearDRLearner(
        model_propensity=DummyClassifier(strategy="prior"),
        model_regression=_classifier(),
        discrete_outcome=True,
        cv=3,
        random_state=0,
    )
    model.fit(y, a, X=(x - center) / spread, inference=None)
    return np.ravel(model.effect((new - center) / spread))


def econml_forest(x: Floats, a: NDArray[np.int64], y: Floats, new: Floats, e: float) -> Floats:
    """EconML's causal forest."""
    from econml.dml import CausalForestDML
    from sklearn.dummy import DummyClassifier

    model = CausalForestDML(
        model_y=_classifier(),
        model_t=DummyClassifier(strategy="prior"),
        discrete_treatment=True,
        discrete_outcome=True,
        n_estimators=100,
        min_samples_leaf=100,
        cv=3,
        inference=False,
        n_jobs=1,
        random_state=0,
    )
    model.fit(y, a, X=x)
    return np.ravel(model.effect(new))


PEERS: dict[str, Scorer] = {
    "response": response,
    "t_boosting": t_boosting,
    "t_linear": t_linear,
    "sklift_solo": sklift_solo,
    "sklift_two_ddr": sklift_two,
    "causalml_s": causalml_s,
    "causalml_x": causalml_x,
    "causalml_r": causalml_r,
    "econml_dr": econml_dr,
    "econml_linear_dr": econml_linear_dr,
    "econml_forest": econml_forest,
}


def main(source: str, target: str) -> None:
    """Held-out scores and processor seconds of the peers that are asked for and installed."""
    trial = np.load(source)
    x, a, y, folds = trial["x"], trial["arm"], trial["outcome"], trial["folds"]
    asked = trial["names"].tolist() or list(PEERS)
    found: dict[str, Any] = {}
    for name in asked:
        scorer, score, started = PEERS[name], np.full(len(y), np.nan), time.process_time()
        try:
            for fold in trial["held"]:
                own = folds == fold
                e = float(a[~own].mean())
                score[own] = scorer(x[~own], a[~own], y[~own], x[own], e)
        except ImportError as error:
            sys.stderr.write(f"{name}: {error}\n")
            continue
        found[name] = score
        found[f"{name}.cpu_s"] = time.process_time() - started
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
