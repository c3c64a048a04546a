"""A sharded method run on what a function makes of each shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Viewed:
    """`method` on `view(shard, *args)`: one resident table serves methods with other inputs.

    Attributes:
        method: sharded method, see `promo_ray.execution.ShardedMethod`.
        view: picklable function of the shard, cheap next to reading it.
        args: further arguments of `view`.
    """

    method: Any
    view: Callable[..., Any]
    args: tuple[Any, ...] = ()

    def init(self, seed: int) -> Any:
        """State before the first round."""
        return self.method.init(seed)

    def partial(self, shard: Any, state: Any) -> Any:
        """Statistics of the view of one shard."""
        return self.method.partial(self.view(shard, *self.args), state)

    def merge(self, a: Any, b: Any) -> Any:
        """Statistics of both."""
        return self.method.merge(a, b)

    def update(self, state: Any, stats: Any) -> Any:
        """Next state."""
        return self.method.update(state, stats)

    def done(self, state: Any) -> bool:
        """Whether the state is final."""
        return bool(self.method.done(state))
