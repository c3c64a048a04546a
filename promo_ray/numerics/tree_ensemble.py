"""Sums of regression trees as plain arrays, evaluated in NumPy without the library that grew them.

A row's leaf is found by QuickScorer (Lucchese et al., SIGIR 2015): leaves are numbered from left
to right, every split that a row fails (it goes right) clears the bits of the leaves to its left,
and the lowest bit left is the leaf. Each split is one comparison of a whole column, so nothing
jumps through memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError

_MAX_LEAVES = 64  # one bit each
_ROWS_PER_CHUNK = 16_384  # a chunk of columns stays in the cache of one core
_FIELDS = ("feature", "threshold", "is_missing_left", "left", "right", "value", "offset")


class _Split(NamedTuple):
    feature: int
    threshold: float
    is_missing_left: bool
    keep: np.unsignedinteger[Any]  # bits of the leaves that stay possible right of the split


class _Tree(NamedTuple):
    splits: tuple[_Split, ...]
    leaf_values: NDArray[np.float64]
    full: np.unsignedinteger[Any]  # a bit per leaf


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeEnsemble:
    """Sum of binary trees; node 0 of a tree is its root.

    Attributes:
        feature: `(n_nodes,)` int32 column that a node splits on; -1 marks a leaf.
        threshold: `(n_nodes,)` float64; a row goes left if its value is <= the threshold.
        is_missing_left: `(n_nodes,)` bool, where rows with NaN in the column go.
        left: `(n_nodes,)` int32 left child, counted within the tree.
        right: `(n_nodes,)` int32 right child, counted within the tree.
        value: `(n_nodes,)` float64 what a leaf adds.
        offset: `(n_trees + 1,)` int64; tree t owns nodes offset[t] to offset[t + 1].
        baseline: what the sum starts from.
        n_features: columns of the matrix to predict for.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    is_missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    offset: NDArray[np.int64]
    baseline: float
    n_features: int

    @classmethod
    def from_sklearn(cls, model: Any) -> TreeEnsemble:
        """Copy of a fitted HistGradientBoosting regressor or binary classifier.

        Args:
            model: fitted estimator without categorical features and with one tree per iteration.

        Returns:
            Ensemble whose `predict` equals the raw prediction of the model (log-odds for a
            classifier, before the inverse link for Poisson and gamma losses).

        Raises:
            DataError: categorical splits, or several trees per iteration (more than two classes).
        """
        rounds = model._predictors
        if any(len(trees) != 1 for trees in rounds):
            raise DataError("must have one tree per iteration (at most two classes)", where="model")
        trees = [r[0].nodes for r in rounds]
        sizes = [len(nodes) for nodes in trees]
        nodes = np.concatenate(trees) if trees else np.zeros(0, dtype=_EMPTY_NODES)
        if nodes["is_categorical"].any():
            raise DataError("must have numerical splits only", where="model")
        is_leaf = nodes["is_leaf"].astype(bool)
        return cls(
            feature=np.where(is_leaf, -1, nodes["feature_idx"]).astype(np.int32),
            threshold=nodes["num_threshold"].astype(np.float64),
            is_missing_left=nodes["missing_go_to_left"].astype(bool),
            left=nodes["left"].astype(np.int32),
            right=nodes["right"].astype(np.int32),
            value=nodes["value"].astype(np.float64),
            offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            baseline=float(np.ravel(model._baseline_prediction)[0]),
            n_features=int(model.n_features_in_),
        )

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.offset) - 1

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the trees for each row.

        Args:
            x: `(n, n_features)` float64; NaN goes where the split was told to send it.

        Returns:
            `(n,)` float64 in the units the model was fitted in.

        Raises:
            DataError: `x` is no matrix of `n_features` columns.
        """
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise DataError(f"must be (n, {self.n_features}); got {x.shape}", where="x")
        out = np.full(len(x), self.baseline)
        for start in range(0, len(x), _ROWS_PER_CHUNK):
            rows = slice(start, start + _ROWS_PER_CHUNK)
            columns = np.ascontiguousarray(x[rows].T)
            for tree in self._compiled:
                out[rows] += _evaluate(tree, columns)
        return out

    def to_arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """Arrays for an artefact, keys starting with `prefix`; see `from_arrays`."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _FIELDS}
        arrays["baseline"] = np.array([self.baseline])
        arrays["n_features"] = np.array([self.n_features], dtype=np.int64)
        return {prefix + name: array for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> TreeEnsemble:
        """The ensemble that `to_arrays` wrote; predicts the same bits.

        Raises:
            DataError: an array is missing.
        """
        for name in (*_FIELDS, "baseline", "n_features"):
            if prefix + name not in arrays:
                raise DataError(f"array {prefix + name!r} must be present", where="arrays")
        fields = {name: arrays[prefix + name] for name in _FIELDS}
        return cls(
            **fields,
            baseline=float(arrays[prefix + "baseline"][0]),
            n_features=int(arrays[prefix + "n_features"][0]),
        )

    @cached_property
    def _compiled(self) -> tuple[_Tree, ...]:
        return tuple(self._compile(t) for t in range(self.n_trees))

    def _compile(self, tree: int) -> _Tree:
        start, stop = int(self.offset[tree]), int(self.offset[tree + 1])
        leaves: list[int] = []
        spans: list[tuple[int, int, int]] = []  # (node, first, last + 1 leaf of its left side)

        def walk(node: int) -> None:
            if self.feature[node] < 0:
                leaves.append(node)
                return
            first = len(leaves)
            walk(start + int(self.left[node]))
            spans.append((node, first, len(leaves)))
            walk(start + int(self.right[node]))

        if stop > start:
            walk(start)
        if not 1 <= len(leaves) <= _MAX_LEAVES:
            raise DataError(
                f"must have trees of 1 to {_MAX_LEAVES} leaves; got {len(leaves)}", where="model"
            )
        kind = next(k for k in (np.uint8, np.uint16, np.uint32, np.uint64) if _bits(k, leaves))
        full = (1 << len(leaves)) - 1
        splits = tuple(
            _Split(
                int(self.feature[node]),
                float(self.threshold[node]),
                bool(self.is_missing_left[node]),
                kind(full & ~(((1 << last) - 1) ^ ((1 << first) - 1))),
            )
            for node, first, last in spans
        )
        return _Tree(splits, self.value[leaves], kind(full))


_EMPTY_NODES = [
    ("value", "f8"),
    ("feature_idx", "i8"),
    ("num_threshold", "f8"),
    ("missing_go_to_left", "u1"),
    ("left", "u4"),
    ("right", "u4"),
    ("is_leaf", "u1"),
    ("is_categorical", "u1"),
]


def _bits(kind: type[np.unsignedinteger[Any]], leaves: list[int]) -> bool:
    return np.dtype(kind).itemsize * 8 >= len(leaves)


def _evaluate(tree: _Tree, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leaf value of each row; `columns` is `(n_features, n)` float64."""
    possible = np.full(columns.shape[1], tree.full)
    for split in tree.splits:
        column = columns[split.feature]
        # NaN compares false: `>` sends it left, `not <=` right.
        if split.is_missing_left:
            goes_right = column > split.threshold
        else:
            goes_right = ~(column <= split.threshold)
        possible &= np.where(goes_right, split.keep, tree.full)
    one = possible.dtype.type(1)
    lowest = possible & (~possible + one)
    return np.asarray(tree.leaf_values[np.bitwise_count(lowest - one)])
