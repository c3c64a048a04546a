"""A response surface on torch: many users times many offers at once, on a GPU if there is one.

The same sums as `ResponseSurface.effects` in float64, in another order: equal to about 1e-12 of
the largest part. Trees are walked level by level, all trees and rows side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from promo_ray.numerics.tree_ensemble import TreeEnsemble
from promo_ray.response.offer_features import N_FEATURES, PairFeatures, pair_features
from promo_ray.response.surface import ResponseSurface, SurfaceEffects

Floats = NDArray[np.float64]

_CELLS = 1 << 24  # rows times trees of one walk: 128 MB for a column of float64


@dataclass(frozen=True, eq=False)
class TorchSurface:
    """A surface whose predictions are made on a device; stands in for it in `design_menu`.

    Attributes:
        surface: the surface.
        device: where it is evaluated, such as `cpu` or `cuda`.
    """

    surface: ResponseSurface
    device: str = "cpu"

    def effects(self, x: Floats, basket: Floats, offers: pa.Table) -> SurfaceEffects:
        """See `ResponseSurface.effects`."""
        gross, discount = self.tensors(x, basket, offers)
        return SurfaceEffects(gross.cpu().numpy(), discount.cpu().numpy())

    def tensors(self, x: Floats, basket: Floats, offers: pa.Table) -> tuple[Tensor, Tensor]:
        """`(n, m)` float64 gross effect and discount on the device; arguments as of `effects`."""
        own = self.surface
        pairs = pair_features(x, basket, offers, own.terms)
        baseline = own.scale.baseline(x)
        level, user = self._put(baseline), self._put(np.column_stack([x, baseline]))
        share = self._put(own.scale.standardize(x, baseline)) @ self._put(own.coef).view(
            -1, own.terms.n_basis
        )
        share[:, 1].clamp_(min=0.0)  # the slope on the pull of the saving
        basis = self._put(pairs.basis())
        gross = float(own.weights[0]) * level[:, None] * torch.einsum("nb,nmb->nm", share, basis)
        features = [self._put(pairs.of_offer(j)) for j in range(len(pairs.depth))]
        if own.weights[1] > 0:
            trees = _Trees.of(own.trees, self.device)
            nothing = user.new_zeros(len(x), N_FEATURES + own.terms.n_extra)
            none = trees.predict(torch.cat([user, nothing], dim=1))
            for j, feature in enumerate(features):
                more = trees.predict(torch.cat([user, feature], dim=1)) - none
                gross[:, j] += float(own.weights[1]) * more
        return gross, self._discount(user, features, pairs)

    def _discount(self, user: Tensor, features: list[Tensor], pairs: PairFeatures) -> Tensor:
        nominal, own = self._put(pairs.nominal), self.surface
        if own.cost is None:
            return torch.zeros_like(nominal)
        factor = np.where(pairs.mechanic.any(axis=1), pairs.mechanic @ own.cost_factor, 0.0)
        trees = _Trees.of(own.cost, self.device)
        columns = [
            trees.predict(torch.cat([user, feature], dim=1)).clamp(min=0.0) for feature in features
        ]
        share = torch.stack(columns, dim=1) if columns else torch.zeros_like(nominal)
        return self._put(factor) * share * nominal

    def _put(self, array: Floats) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)


class _Trees(NamedTuple):
    """Trees side by side, `(n_trees, most nodes)` each; leaves lead to themselves."""

    feature: Tensor
    threshold: Tensor
    is_missing_left: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    depth: int
    baseline: float

    @classmethod
    def of(cls, trees: TreeEnsemble, device: str) -> _Trees:
        sizes = np.diff(trees.offset)
        shape = len(sizes), int(sizes.max(initial=1))
        tree = np.repeat(np.arange(len(sizes)), sizes)
        node = np.arange(len(tree)) - trees.offset[tree]
        is_leaf = trees.feature < 0

        def spread(values: NDArray[np.generic]) -> Tensor:
            table = np.zeros(shape, dtype=values.dtype)
            table[tree, node] = values
            return torch.from_numpy(table).to(device)

        left = np.where(is_leaf, node, trees.left)
        right = np.where(is_leaf, node, trees.right)
        return cls(
            spread(np.maximum(trees.feature, 0).astype(np.int64)),
            spread(trees.threshold),
            spread(trees.is_missing_left),
            spread(left.astype(np.int64)),
            spread(right.astype(np.int64)),
            spread(trees.value),
            _depth(trees, tree, is_leaf),
            trees.baseline,
        )

    def predict(self, rows: Tensor) -> Tensor:
        """`(n,)` sum of the trees for rows `(n, n_features)`."""
        size = max(1, _CELLS // max(1, len(self.value)))
        return torch.cat([self._walk(part) for part in torch.split(rows, size)])

    def _walk(self, rows: Tensor) -> Tensor:
        at = torch.zeros(len(self.value), len(rows), dtype=torch.int64, device=rows.device)
        columns = rows.T
        row = torch.arange(len(rows), device=rows.device)
        for _ in range(self.depth):
            found = columns[self.feature.gather(1, at), row]
            goes_left = found <= self.threshold.gather(1, at)
            goes_left |= found.isnan() & self.is_missing_left.gather(1, at)
            at = torch.where(goes_left, self.left.gather(1, at), self.right.gather(1, at))
        return self.value.gather(1, at).sum(dim=0) + self.baseline


def _depth(trees: TreeEnsemble, tree: NDArray[np.int64], is_leaf: NDArray[np.bool_]) -> int:
    """Splits on the longest way to a leaf; children come after their parent."""
    level = np.zeros(len(tree), dtype=np.int64)
    start = trees.offset[tree]
    for node in np.flatnonzero(~is_leaf).tolist():
        for child in (trees.left[node], trees.right[node]):
            level[start[node] + child] = level[node] + 1
    return int(level.max(initial=0))
