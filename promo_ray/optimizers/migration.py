"""Who leaves an island and whom a newcomer replaces, for batches of islands at once.

Random choices are keyed by (seed, island, generation), so a batch gives the bits of its islands
alone, and a lost worker chooses the same again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promo_ray.execution.islands_keeper import Migrants
from promo_ray.optimizers.population import Clock, Optimizer
from promo_ray.optimizers.ranking import Ranked, best_first, is_better, take
from promo_ray.seeding import stream

EMIGRATIONS = ("best", "diverse", "random", "tournament")
REPLACEMENTS = ("worst_if_better", "worst", "random", "nearest")


class Fates(NamedTuple):
    """State after newcomers came, and what became of each, see `IslandKind.immigrate`."""

    state: Any
    fates: NDArray[np.int8]


def emigrants_of(ranked: Ranked, n: int, policy: str, clock: Clock, width: Tensor) -> Migrants:
    """Copies of individuals that leave.

    Args:
        ranked: `(islands, rows, genes)` of the batch.
        n: how many per island; no more than there are rows.
        policy: `best`; `diverse` = the best, then the farthest from those chosen within the better
            half; `random`; `tournament` = the better of two random ones, each time.
        clock: clock of the batch.
        width: `(genes,)` ranges, > 0, that distances are measured in.
    """
    n_rows = ranked.fitness.shape[1]
    n = min(n, n_rows)
    if policy == "best" or not n:
        return Migrants(*(a[:, :n] for a in ranked))
    if policy == "diverse":
        chosen = _far_apart(ranked.x[:, : max(n, n_rows // 2)] / width, n)
    else:
        rows = np.stack([_drawn(policy, clock, k, n_rows, n) for k in clock.islands])
        chosen = torch.from_numpy(rows).to(ranked.x.device)
    return Migrants(
        take(ranked.x, chosen), ranked.fitness.gather(1, chosen), ranked.violation.gather(1, chosen)
    )


def _drawn(policy: str, clock: Clock, island: int, n_rows: int, n: int) -> NDArray[np.int64]:
    rng = stream(clock.seed, "islands.emigrants", island, clock.generation)
    if policy == "random":
        return rng.permutation(n_rows)[:n].astype(np.int64)
    drawn = rng.integers(n_rows, size=(n, 2), dtype=np.int64)
    return np.minimum(drawn[:, 0], drawn[:, 1])


def _far_apart(x: Tensor, n: int) -> Tensor:
    """Rows `(islands, n)`: the first, then each time the one farthest from those chosen."""
    chosen = [torch.zeros(len(x), dtype=torch.int64, device=x.device)]
    nearest = torch.full(x.shape[:2], torch.inf, dtype=x.dtype, device=x.device)
    for _ in range(n - 1):
        last = take(x, chosen[-1].unsqueeze(1))
        nearest = torch.minimum(nearest, (x - last).square().sum(-1))
        nearest = nearest.scatter(1, chosen[-1].unsqueeze(1), -1.0)
        chosen.append(nearest.argmax(1))
    return torch.stack(chosen, dim=1)


def immigrated(
    method: Optimizer[Any], state: Any, newcomers: Migrants, policy: str, width: Tensor
) -> Fates:
    """Take newcomers in.

    Whom an island knows already is turned away, and so are those beyond half of its rows. The
    best of an island is never replaced.

    Args:
        method: of the islands.
        state: of the batch.
        newcomers: `(islands, m, genes)` tensors; fitness -inf = nobody.
        policy: `worst_if_better` = the best newcomers replace the worst rows where they are better;
            `worst` = always; `random` = any rows, always; `nearest` = the most similar row, if the
            newcomer is better (crowding, De Jong 1975; keeps niches apart).
        width: see `emigrants_of`.
    """
    here = method.ranked(state)
    n_rows = here.fitness.shape[1]
    came = _new_first(here, newcomers)
    x = take(newcomers.x, came.order)
    fitness = newcomers.fitness.gather(1, came.order)
    violation = newcomers.violation.gather(1, came.order)
    # row j of these replaces rank j + 1; holes have fitness -inf
    all_x = here.x[:, 1:].clone()
    all_fitness = torch.full_like(here.fitness[:, 1:], -torch.inf)
    all_violation = torch.zeros_like(all_fitness)
    fates = torch.zeros_like(came.order, dtype=torch.int8)
    ranks = _Ranks(policy, state.clock, here, width)
    for k in range(min(x.shape[1], n_rows // 2)):
        own = fitness[:, k : k + 1], violation[:, k : k + 1]
        rank = ranks.of(k, x[:, k : k + 1])
        there = here.fitness.gather(1, rank), here.violation.gather(1, rank)
        enters = came.is_new[:, k : k + 1]
        if policy in ("worst_if_better", "nearest"):
            enters = enters & is_better(own, there)
        at = (rank - 1).unsqueeze(-1).expand(-1, -1, x.shape[2])
        row = torch.where(enters.unsqueeze(-1), x[:, k : k + 1], all_x.gather(1, at))
        all_x.scatter_(1, at, row)
        for target, value in zip((all_fitness, all_violation), own, strict=True):
            held = target.gather(1, rank - 1)
            target.scatter_(1, rank - 1, torch.where(enters, value, held))
        leads = is_better(own, (here.fitness[:, :1], here.violation[:, :1]))
        fates[:, k : k + 1] = torch.where(enters, 1 + leads.to(torch.int8), 0).to(torch.int8)
    in_order_of_arrival = torch.zeros_like(fates).scatter(1, came.order, fates)
    state = method.replace_worst(state, all_x, all_fitness, all_violation)
    return Fates(state, in_order_of_arrival.cpu().numpy())


class _Came(NamedTuple):
    order: Tensor  # (islands, m): newcomers, those to consider first, best first
    is_new: Tensor  # (islands, m) in that order


def _new_first(here: Ranked, newcomers: Migrants) -> _Came:
    fitness, violation = newcomers.fitness, newcomers.violation
    order = best_first(fitness, torch.where(torch.isfinite(fitness), violation, torch.inf))
    x, fitness = take(newcomers.x, order), fitness.gather(1, order)
    is_new = torch.isfinite(fitness)
    for k in range(x.shape[1]):
        one = x[:, k : k + 1]
        is_known = (here.x == one).all(-1).any(1) | (x[:, :k] == one).all(-1).any(1)
        is_new[:, k] &= ~is_known
    packed = (~is_new).to(torch.int8).argsort(dim=1, stable=True)
    return _Came(order.gather(1, packed), is_new.gather(1, packed))


class _Ranks:
    """Which rank the k-th newcomer would take; no rank twice."""

    def __init__(self, policy: str, clock: Clock, here: Ranked, width: Tensor) -> None:
        self._policy, self._here, self._width = policy, here, width
        n = here.fitness.shape[1]
        if policy == "random":
            drawn = [
                stream(clock.seed, "islands.replaced", k, clock.generation).permutation(n - 1) + 1
                for k in clock.islands
            ]
            self._ranks = torch.from_numpy(np.stack(drawn)).to(here.x.device)
        else:
            worst = torch.arange(n - 1, 0, -1, device=here.x.device)
            self._ranks = worst.expand(len(here.fitness), n - 1)
        self._is_taken = torch.zeros_like(here.fitness, dtype=torch.bool)
        self._is_taken[:, 0] = True

    def of(self, k: int, x: Tensor) -> Tensor:
        """Rank `(islands, 1)` for the newcomers `(islands, 1, genes)`."""
        if self._policy != "nearest":
            return self._ranks[:, k : k + 1]
        distance = ((self._here.x - x) / self._width).square().sum(-1)
        distance = torch.where(self._is_taken, torch.inf, distance)
        rank = distance.argmin(1, keepdim=True)
        self._is_taken = self._is_taken.scatter(1, rank, True)
        return rank
