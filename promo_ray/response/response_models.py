"""Plain response models, measured by cross-validation: a yardstick beside uplift, not a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from promo_ray.errors import ConfigError, DataError
from promo_ray.execution.threads import single_threaded
from promo_ray.response.features import Encoder
from promo_ray.response.inputs import finite_vector
from promo_ray.response.trial import folds_of
from promo_ray.seeding import derive

Floats = NDArray[np.float64]

_TREE = {"min_samples_leaf": 50, "max_leaf_nodes": 32}
_FOREST = {"n_estimators": 50, "min_samples_leaf": 20, "n_jobs": 1}
_NET: dict[str, Any] = {
    "hidden_layer_sizes": (16,),
    "alpha": 0.1,
    "learning_rate_init": 0.01,
    "max_iter": 200,
}
_NET |= {"early_stopping": True}
# By name: for 0/1 outcomes, and for numbers. The SVM sees a Nystroem map of the RBF kernel
# (Williams and Seeger 2001), so that its time is linear in rows.
_MODELS: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "logistic": (lambda s: LogisticRegression(C=0.1, max_iter=500), lambda s: Ridge(alpha=10.0)),
    "linear": (lambda s: LinearRegression(), lambda s: LinearRegression()),
    "tree": (
        lambda s: DecisionTreeClassifier(**_TREE, random_state=s),
        lambda s: DecisionTreeRegressor(**_TREE, random_state=s),
    ),
    "forest": (
        lambda s: RandomForestClassifier(**_FOREST, random_state=s),
        lambda s: RandomForestRegressor(**_FOREST, random_state=s),
    ),
    "svm": (
        lambda s: make_pipeline(Nystroem(n_components=50, random_state=s), LinearSVC(C=0.1)),
        lambda s: make_pipeline(Nystroem(n_components=50, random_state=s), LinearSVR(C=0.1)),
    ),
    "neural_net": (
        lambda s: MLPClassifier(**_NET, random_state=s),
        lambda s: MLPRegressor(**_NET, random_state=s),
    ),
}
RESPONSE_MODELS = tuple(_MODELS)


class ResponseScore(NamedTuple):
    """Quality on rows whose users the model did not see.

    Attributes:
        model: one of `RESPONSE_MODELS`.
        auc: chance that a row with an outcome above 0 scores above one without.
        f1: of "outcome above 0", called where the score is among the n highest, n the number of
            such outcomes expected from the other folds; with rare outcomes no probability
            passes one half.
        precision: of the same call.
        recall: of the same call.
        accuracy: of the same call.
        mse: mean squared error; NaN for the SVM of 0/1 outcomes, whose score is a margin.
        mae: mean absolute error; NaN likewise.
    """

    model: str
    auc: float
    f1: float
    precision: float
    recall: float
    accuracy: float
    mse: float
    mae: float


def response_scores(
    x: ArrayLike,
    outcome: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    models: Sequence[str] = RESPONSE_MODELS,
    n_folds: int = 5,
    seed: int = 0,
) -> tuple[ResponseScore, ...]:
    """Cross-validated quality of response models, whatever was sent.

    Args:
        x: `(n, d)` features: numbers, NaN or None = missing, or texts.
        outcome: `(n,)` 0/1, or numbers; "logistic" is then a ridge regression.
        groups: `(n,)` user of each row; a user's rows stay in one fold.
        models: which of `RESPONSE_MODELS`.
        n_folds: folds, >= 2.
        seed: seed of folds and models.

    Raises:
        ConfigError: an unknown model.
        DataError: bad shape or value, the argument named, or a fold without rows of both kinds.
    """
    unknown = [name for name in models if name not in _MODELS]
    if unknown:
        raise ConfigError(f"model must be one of {', '.join(_MODELS)}; got {unknown[0]!r}")
    features = Encoder.fit(x).transform(x)
    y = finite_vector(outcome, "outcome", len(features))
    is_binary = bool(np.isin(y, (0.0, 1.0)).all())
    folds = folds_of(groups, len(y), n_folds, seed)
    for fold in range(n_folds):
        rest = y[folds != fold] > 0
        if not (folds == fold).any() or (is_binary and not 0 < rest.sum() < len(rest)):
            raise DataError("must vary outside each fold", where="outcome")
    with single_threaded():
        return tuple(_score(name, features, y, folds, is_binary, seed) for name in models)


def _score(
    name: str, x: Floats, y: Floats, folds: NDArray[np.int64], is_binary: bool, seed: int
) -> ResponseScore:
    score, called = np.empty(len(y)), np.zeros(len(y), dtype=bool)
    for fold in np.unique(folds):
        own = folds == fold
        body = _MODELS[name][0 if is_binary else 1](derive(seed, "response", name))
        model = make_pipeline(StandardScaler(), body).fit(x[~own], y[~own])
        if hasattr(model, "predict_proba"):
            score[own] = model.predict_proba(x[own])[:, 1]
        elif hasattr(model, "decision_function"):
            score[own] = model.decision_function(x[own])
        else:
            score[own] = model.predict(x[own])
        n_called = round(float((y[~own] > 0).mean()) * int(own.sum()))
        called[np.flatnonzero(own)[np.argsort(-score[own], kind="stable")[:n_called]]] = True
    truth = y > 0
    is_margin = name == "svm" and is_binary
    error = np.full(len(y), np.nan) if is_margin else y - score
    is_mixed = 0 < int(truth.sum()) < len(truth)
    return ResponseScore(
        model=name,
        auc=float(roc_auc_score(truth, score)) if is_mixed else float("nan"),
        f1=float(f1_score(truth, called, zero_division=0.0)),
        precision=float(precision_score(truth, called, zero_division=0.0)),
        recall=float(recall_score(truth, called, zero_division=0.0)),
        accuracy=float((truth == called).mean()),
        mse=float((error**2).mean()),
        mae=float(np.abs(error).mean()),
    )
