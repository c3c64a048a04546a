"""Off-policy evaluation of logs larger than memory: blocks in, moments merged, one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from promo_ray.errors import DataError
from promo_ray.evaluation.checks import check_level
from promo_ray.evaluation.off_policy_log import log_moments
from promo_ray.evaluation.off_policy_moments import Moments, merge_moments
from promo_ray.evaluation.policy_value import PolicyEstimate, difference_of, value_of
from promo_ray.execution import Executor, SerialExecutor


class LogBlock(NamedTuple):
    """Some rows of a log; arrays as in `policy_value`, all rows of a user in one block.

    Attributes:
        policy_probs: `(n, n_arms)` array or SciPy sparse matrix, or `(n,)` arms.
        action: `(n,)` arm in the log.
        reward: `(n,)` outcome.
        propensity: `(n,)` of the arm taken; None or NaN where it is not known.
        q_hat: `(n, n_arms)` predicted rewards; None: cross-fitted means of the arms in the block.
        groups: `(n,)` user of each row.
        other_probs: policy to compare with.
    """

    policy_probs: Any
    action: Any
    reward: Any
    propensity: Any
    q_hat: Any = None
    groups: Any = None
    other_probs: Any = None


class _Shard(NamedTuple):
    """Kept in a worker instead of the blocks, which would not fit."""

    read: Callable[[], Iterable[LogBlock]]


def block_moments(block: LogBlock, method: str = "auto", seed: int = 0) -> Moments:
    """Moments of one block; `merge_moments` adds those of others.

    Raises:
        ConfigError: unknown method.
        DataError: bad shape or value, the argument named.
    """
    others = () if block.other_probs is None else (block.other_probs,)
    return log_moments(
        (block.policy_probs, *others),
        block.action,
        block.reward,
        block.propensity,
        None,
        block.q_hat,
        method,
        block.groups,
        seed,
    )


def stream_policy_value(
    shards: Sequence[Callable[[], Iterable[LogBlock]]],
    method: str = "auto",
    *,
    executor: Executor | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> PolicyEstimate:
    """`policy_value` over blocks; `compare_policies` where blocks carry `other_probs`.

    A worker holds one block and one set of sums at a time. Sums merge in the order of blocks within
    a shard and in a fixed tree over shards: the same bytes for any number of workers.

    Args:
        shards: picklable functions that read the blocks of a shard one after another.
        method: see `policy_value`.
        executor: where to run; this process if None.
        level: of the interval.
        seed: of the folds for blocks without `q_hat`.

    Raises:
        ConfigError: unknown method, or a level outside (0, 1).
        DataError: no shard, a shard without blocks, or a fault of a block.
    """
    check_level(level)
    if not shards:
        raise DataError("must hold at least one shard; got none", where="shards")
    resident = (executor or SerialExecutor()).load([_Shard(read) for read in shards])
    try:
        moments = resident.reduce(_shard_moments, merge_moments, method, seed)
    finally:
        resident.release()
    if moments.plan.n_policies == 2:
        return difference_of(moments, method, level)
    return value_of(moments, method, level)


def _shard_moments(shard: _Shard, method: str, seed: int) -> Moments:
    found: Moments | None = None
    for block in shard.read():
        own = block_moments(block, method, seed)
        found = own if found is None else merge_moments(found, own)
    if found is None:
        raise DataError("must hold at least one block; got none", where="shard")
    return found
