"""Stage response: learn effect and cost of offers from the campaign log, and what proves them.

The model for decisions is fitted on all rows. For proof every user is predicted by models that
never saw that user; the folds and the final fit run side by side on the executor.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from promo_ray.artifacts import PartRef
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.config import config_class, resolve
from promo_ray.errors import DataError
from promo_ray.pipeline.scoring import design_of, inputs_of
from promo_ray.pipeline.stage import Context, StageResult, current, finished, skipped


@config_class
class ResponseConfig:
    """How responses are learned.

    Attributes:
        n_folds: folds of users for out-of-fold predictions, >= 2.
    """

    n_folds: Annotated[int, Field(ge=2, le=20)] = 5


def missing(context: Context) -> str:
    """Why the stage cannot run; empty if it can."""
    return "" if context.has(CAMPAIGN_LOG) else "there is no campaign log to learn from"


class _Rows(NamedTuple):
    """Rows of the campaign log of one shard, joined to the profiles of their users."""

    user_ids: list[str]
    x: NDArray[np.float64]
    basket: NDArray[np.float64]
    arm: NDArray[np.int64]
    outcome: NDArray[np.float64]
    cost: NDArray[np.float64]
    propensity: NDArray[np.float64]  # NaN = unknown


class _Source(NamedTuple):
    log: PartRef
    profiles: PartRef
    names: tuple[str, ...]
    offer_ids: tuple[str, ...]
    outcome: str

    def __call__(self) -> _Rows:
        log, profiles = self.log(), self.profiles()
        place = {user: i for i, user in enumerate(profiles["user_id"].to_pylist())}
        users = log["user_id"].to_pylist()
        rows = np.array([place[user] for user in users], dtype=np.int64)
        x, basket = inputs_of(profiles, self.names)
        arms = {None: 0} | {offer: j + 1 for j, offer in enumerate(self.offer_ids)}
        arm = [arms.get(offer, -1) for offer in log["offer_id"].to_pylist()]
        if -1 in arm:
            unknown = log["offer_id"][arm.index(-1)].as_py()
            raise DataError(
                f"offer {unknown!r} must be in the table of offers", where="campaign log"
            )
        return _Rows(
            users,
            x[rows],
            basket[rows],
            np.array(arm, dtype=np.int64),
            _numbers(log[self.outcome]),
            np.nan_to_num(_numbers(log["cost"])),
            _numbers(log["propensity"]),
        )


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return values
