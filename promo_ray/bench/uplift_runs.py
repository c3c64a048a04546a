"""Scores of held-out rows: ours in this process, the libraries' in their own interpreter."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.bench.uplift_trials import Contrast
from promo_ray.response.uplift_model import UpliftModel

Floats = NDArray[np.float64]


class Scored(NamedTuple):
    """What a learner said about rows that it did not see.

    Attributes:
        score: `(n,)` float64; NaN in folds that were not held out.
        cpu_s: processor seconds of all fits and predictions.
        choices: what was chosen in each fold; of ours only.
    """

    score: Floats
    cpu_s: float
    choices: list[str]


def our_scores(contrast: Contrast, learner: str, held: Sequence[int] = (0, 1, 2)) -> Scored:
    """Effects of a learner for the folds `held`, each learned from all other folds."""
    score, choices, started = np.full(len(contrast.arm), np.nan), [], time.process_time()
    for fold in held:
        own = contrast.folds == fold
        model = UpliftModel(learner).fit(
            contrast.x[~own], contrast.arm[~own], contrast.outcome[~own], contrast.propensity[~own]
        )
        score[own] = model.predict(contrast.x[own])[:, 1]
        choices.append(model.choice)
    return Scored(score, time.process_time() - started, choices)


def peer_scores(
    contrast: Contrast, names: Sequence[str] = (), held: Sequence[int] = (0, 1, 2)
) -> dict[str, Scored]:
    """The same of libraries, by "peer <name>"; empty without `PROMO_RAY_UPLIFT_PYTHON`.

    Args:
        contrast: rows.
        names: of `uplift_peers.PEERS`; all if empty.
        held: folds.
    """
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
            held=np.array(held),
            names=np.array(names, dtype=np.str_),
        )
        subprocess.run([python, script, source, target], check=True, capture_output=True)
        found = np.load(target)
        return {
            f"peer {name}": Scored(found[name], float(found[f"{name}.cpu_s"]), [])
            for name in found.files
            if not name.endswith(".cpu_s")
        }
