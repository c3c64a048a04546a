"""Which hyperparameters a search tries: drawn by seed, or proposed by Optuna from what was seen.

Proposals come in batches of fixed size, so that they depend on the seed and on losses but never on
which worker was faster.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from promo_ray.errors import ConfigError
from promo_ray.pricing.params import PricingParams
from promo_ray.seeding import derive, stream

if TYPE_CHECKING:
    from promo_ray.pricing.tuning import SearchSpace

RANGES = (
    "week_prior_units",
    "memory_half_life_weeks",
    "level_half_life_weeks",
    "pooling_strength",
)
_OPTUNA_BATCH = 8


class Proposals(Protocol):
    """Source of hyperparameters; the first are the defaults, so that a search never loses."""

    def ask(self, n_left: int) -> list[PricingParams]:
        """Next batch, at most `n_left`."""
        ...

    def tell(self, reached: Sequence[tuple[int, float]]) -> None:
        """Held-out weeks seen and loss of each trial of the last batch."""
        ...


def _as_params(drawn: dict[str, Any]) -> PricingParams:
    # rounded: the table of trials shows what was run
    rounded = {name: float(f"{drawn[name]:.4g}") for name in RANGES}
    return PricingParams(week_effect=drawn["week_effect"], **rounded)


class RandomProposals:
    """All trials at once, uniform in the logarithm; trial i depends on seed and i alone."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space, self._seed = space, seed

    def ask(self, n_left: int) -> list[PricingParams]:
        """See `Proposals.ask`."""
        return [PricingParams(), *(self._draw(trial) for trial in range(1, n_left))]

    def _draw(self, trial: int) -> PricingParams:
        rng = stream(self._seed, "pricing.trial", trial)
        effects = self._space.week_effect
        drawn: dict[str, Any] = {"week_effect": effects[int(rng.integers(len(effects)))]}
        for name in RANGES:
            low, high = getattr(self._space, name)
            drawn[name] = low * (high / low) ** rng.random()
        return _as_params(drawn)

    def tell(self, reached: Sequence[tuple[int, float]]) -> None:
        """Nothing to learn."""


class OptunaProposals:
    """Batches from Optuna's tree-structured Parzen estimator (Bergstra et al. 2011)."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        try:
            self._optuna = importlib.import_module("optuna")
        except ImportError as error:
            raise ConfigError(
                "search 'optuna' needs the package optuna; install promo-ray[optuna]"
            ) from error
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        sampler = self._optuna.samplers.TPESampler(seed=derive(seed, "pricing.optuna"))
        self._study = self._optuna.create_study(sampler=sampler, direction="minimize")
        self._space, self._open, self._is_first = space, list[Any](), True

    def ask(self, n_left: int) -> list[PricingParams]:
        """See `Proposals.ask`."""
        found = [PricingParams()] if self._is_first else []
        self._is_first, self._open = False, []
        while len(found) < min(_OPTUNA_BATCH, n_left):
            trial = self._study.ask()
            effects = list(self._space.week_effect)
            drawn: dict[str, Any] = {"week_effect": trial.suggest_categorical("effect", effects)}
            for name in RANGES:
                low, high = getattr(self._space, name)
                drawn[name] = trial.suggest_float(name, low, high, log=True)
            found.append(_as_params(drawn))
            self._open.append(trial)
        return found

    def tell(self, reached: Sequence[tuple[int, float]]) -> None:
        """Give losses; trials that were cut count as pruned at the weeks they saw."""
        state = self._optuna.trial.TrialState
        for trial, (weeks, loss) in zip(self._open, reached[-len(self._open) :], strict=True):
            trial.report(loss, weeks)
            if weeks == self._space.holdout_weeks:
                self._study.tell(trial, loss)
            else:
                self._study.tell(trial, state=state.PRUNED)


def proposals_of(space: SearchSpace, seed: int) -> Proposals:
    """The source that the space asks for."""
    return (
        OptunaProposals(space, seed) if space.search == "optuna" else RandomProposals(space, seed)
    )
