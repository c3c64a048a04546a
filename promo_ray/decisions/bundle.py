"""The decision bundle: all that serving needs, in one artefact that processes map, not copy.

Tensors `users` hold one row per known user, sorted by the 64-bit key of the id; raw ids are not
stored. Documents: `policy`, `offers` (menu order) and `items`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from promo_ray.artifacts import Artifact, ArtifactStore, ArtifactWriter
from promo_ray.artifacts.decision_bundle import DECISION_BUNDLE
from promo_ray.config import parse, resolve
from promo_ray.decisions.policy import MAX_MINOR, Policy
from promo_ray.errors import ArtifactError, DataError
from promo_ray.seeding import keys_of

_TENSORS = "users.safetensors"
_MAX_HEADER = 1 << 20  # bytes; ours have under a thousand
_CHECK_ROWS = 1 << 16  # rows looked at in one go, to bound memory
_DTYPES = {
    "key": "<u8", "value": "<f4", "cost": "<f4", "choice": "<i4", "segment_idx": "<i4",
    "top_items": "<i4",
}  # fmt: skip
_SAFETENSORS = {"<u8": "U64", "<f4": "F32", "<i4": "I32"}


@dataclass(frozen=True, kw_only=True)
class BundleContent:
    """What goes into a bundle: n users, m offers, k budgets, r recommended items.

    Attributes:
        user_ids: n ids, unique, as events name them (pseudonyms if the policy says so).
        value: `(n, m)` float32 expected gain of each offer, currency units; -inf = not eligible.
        cost: `(k, n, m)` float32 expected use of each budget, currency units, >= 0.
        choice: `(n,)` int32 offer slot that the allocation gave, -1 = no offer.
        segment_idx: `(n,)` int32.
        top_items: `(n, r)` int32 index into `items`, best first, -1 = none.
        items: item ids.
        popular_items: indices into `items` for users without rows, best first.
        offers: m offers in menu order as JSON objects with an `id` (the form of `Offer.to_json`).
        policy: budgets, guardrails and versions.
    """

    user_ids: Sequence[str]
    value: NDArray[np.float32]
    cost: NDArray[np.float32]
    choice: NDArray[np.int32]
    segment_idx: NDArray[np.int32]
    top_items: NDArray[np.int32]
    items: Sequence[str]
    popular_items: Sequence[int]
    offers: Sequence[Mapping[str, Any]]
    policy: Policy


def write_bundle(writer: ArtifactWriter, content: BundleContent) -> None:
    """Write the files of a decision bundle; the store commits them.

    Raises:
        DataError: shapes disagree, an id comes twice, or a number is out of its range.
    """
    keys = keys_of(content.user_ids)
    order = np.argsort(keys, kind="stable")
    if content.cost.ndim != 3:
        raise DataError(f"cost must be (k, n, m); got {content.cost.shape}", where="cost")
    arrays: dict[str, NDArray[Any]] = {
        "key": keys[order],
        "value": _rows(content.value, order, "value"),
        "cost": _rows(content.cost.transpose(1, 0, 2), order, "cost"),
        "choice": _rows(content.choice, order, "choice"),
        "segment_idx": _rows(content.segment_idx, order, "segment_idx"),
        "top_items": _rows(content.top_items, order, "top_items"),
    }
    items = {"items": list(content.items), "popular": [int(i) for i in content.popular_items]}
    offers = [dict(offer) for offer in content.offers]
    fault = _fault(arrays, offers, items, content.policy)
    if fault:
        raise DataError(fault, where="decision bundle")
    writer.json("policy", resolve(content.policy))
    writer.json("offers", offers)
    writer.json("items", items)
    writer.tensors("users", arrays)
    writer.metrics |= {
        "n_users": len(keys),
        "n_offers": len(offers),
        "n_planned": int((content.choice >= 0).sum()),
    }


def _rows(array: NDArray[Any], order: NDArray[np.intp], name: str) -> NDArray[Any]:
    if len(array) != len(order):
        raise DataError(f"must have {len(order)} rows; got {len(array)}", where=name)
    return np.ascontiguousarray(array[order], dtype=_DTYPES[name])


def _fault(
    arrays: Mapping[str, NDArray[Any]],
    offers: Sequence[Mapping[str, Any]],
    items: Mapping[str, Any],
    policy: Policy,
) -> str:
    """First rule that the contents break; empty if they break none."""
    n, m, k = len(arrays["key"]), len(offers), len(policy.budget_names)
    wanted = {"key": (n,), "value": (n, m), "cost": (n, k, m), "choice": (n,), "segment_idx": (n,)}
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            return f"{name} must be {shape}; got {arrays[name].shape}"
    if arrays["top_items"].ndim != 2 or len(arrays["top_items"]) != n:
        return f"top_items must be ({n}, r); got {arrays['top_items'].shape}"
    ids = [offer.get("id") for offer in offers]
    if not all(isinstance(i, str) and i for i in ids) or len(set(ids)) != m:
        return f"offers must have unique texts as id; got {ids!r}"
    if not -1 <= policy.fallback_slot < m:
        return f"fallback_slot must lie in [-1, {m}); got {policy.fallback_slot}"
    keys = arrays["key"]
    if (keys[1:] <= keys[:-1]).any():
        return "user ids must be unique (64-bit keys rise strictly); two are the same"
    popular = np.asarray(items["popular"], dtype=np.int64)
    limits = {"choice": m, "top_items": len(items["items"])}
    for name, end in limits.items():
        if arrays[name].size and not -1 <= arrays[name].min() <= arrays[name].max() < end:
            return f"{name} must lie in [-1, {end})"
    if popular.size and not 0 <= popular.min() <= popular.max() < len(items["items"]):
        return f"popular items must lie in [0, {len(items['items'])})"
    return _fault_in_numbers(arrays, MAX_MINOR / policy.minor_per_unit)


def _fault_in_numbers(arrays: Mapping[str, NDArray[Any]], max_cost: float) -> str:
    for start in range(0, len(arrays["key"]), _CHECK_ROWS):
        rows = slice(start, start + _CHECK_ROWS)
        value, cost = arrays["value"][rows], arrays["cost"][rows]
        if np.isnan(value).any() or np.isposinf(value).any():
            return "value must be finite or -inf; it has NaN or +inf"
        if not ((cost >= 0) & (cost < max_cost)).all():
            return f"cost must lie in [0, {max_cost:g}); it does not"
    return ""


class Profiles(NamedTuple):
    """Numbers of n users: `(n, m)` value, `(n, k, m)` cost, `(n,)` choice."""

    value: NDArray[np.float32]
    cost: NDArray[np.float32]
    choice: NDArray[np.int32]


class DecisionBundle:
    """An open bundle; arrays are read-only maps of the file on a local store.

    Attributes:
        policy: the policy.
        offers: offers in menu order.
        items: item ids.
        popular: `(p,)` int64 indices into `items`.
        keys: `(n,)` uint64 user keys, rising.
        value: `(n, m)` float32.
        cost: `(n, k, m)` float32.
        choice: `(n,)` int32.
        segment_idx: `(n,)` int32.
        top_items: `(n, r)` int32.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.uri = artifact.uri
        self.digest = artifact.digest
        self.policy = parse(Policy, artifact.json("policy"), where=f"{artifact.uri}/policy.json")
        self.offers: tuple[Mapping[str, Any], ...] = tuple(artifact.json("offers"))
        items = artifact.json("items")
        self.items: tuple[str, ...] = tuple(items["items"])
        self.popular = np.asarray(items["popular"], dtype=np.int64)
        arrays = _map_tensors(artifact)
        for name, dtype in _DTYPES.items():
            if name not in arrays or arrays[name].dtype != np.dtype(dtype):
                raise ArtifactError(f"{artifact.uri}/{_TENSORS} must have {name!r} as {dtype}")
        fault = _fault(arrays, self.offers, items, self.policy)
        if fault:
            raise ArtifactError(f"decision bundle {artifact.uri} must be sound: {fault}")
        self.keys: NDArray[np.uint64] = arrays["key"]
        self.value: NDArray[np.float32] = arrays["value"]
        self.cost: NDArray[np.float32] = arrays["cost"]
        self.choice: NDArray[np.int32] = arrays["choice"]
        self.segment_idx: NDArray[np.int32] = arrays["segment_idx"]
        self.top_items: NDArray[np.int32] = arrays["top_items"]

    @classmethod
    def open(cls, source: Artifact | str | Path) -> DecisionBundle:
        """Open a bundle from its artefact, its directory or the store that holds it.

        Raises:
            ArtifactError: there is none, or it is damaged, too new or inconsistent.
        """
        if isinstance(source, Artifact):
            return cls(source)
        uri = str(source).rstrip("/")
        head, _, last = uri.rpartition("/")
        if last == DECISION_BUNDLE.name:
            uri = head or "."
        return cls(ArtifactStore(uri).read(DECISION_BUNDLE))

    def rows_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Row of each user.

        Args:
            keys: `(n,)` uint64, from `seeding.keys_of` of the ids.

        Returns:
            `(n,)` int64, -1 for users without a row.
        """
        if not len(self.keys):
            return np.full(len(keys), -1, dtype=np.int64)
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[rows] == keys, rows, -1)

    def profiles(self, rows: NDArray[np.int64]) -> Profiles:
        """Numbers of users by row; where the row is -1 no offer is eligible and none planned."""
        is_known = rows >= 0
        known = rows[is_known]
        n, (k, m) = len(rows), self.cost.shape[1:]
        value = np.full((n, m), -np.inf, dtype=np.float32)
        cost = np.zeros((n, k, m), dtype=np.float32)
        choice = np.full(n, -1, dtype=np.int32)
        value[is_known], cost[is_known] = self.value[known], self.cost[known]
        choice[is_known] = self.choice[known]
        return Profiles(value, cost, choice)

    def items_of(self, row: int, n_items: int) -> list[str]:
        """Best items of a user, filled up with popular ones; row -1 gives popular ones."""
        top = self.top_items[row].tolist() if row >= 0 else []
        slots = dict.fromkeys([i for i in top if i >= 0] + self.popular.tolist())
        return [self.items[i] for i in list(slots)[:n_items]]


def _map_tensors(artifact: Artifact) -> dict[str, NDArray[Any]]:
    """Arrays of the users file, mapped read-only; read into memory from a remote store."""
    if "://" in artifact.uri and not artifact.uri.startswith("file://"):
        return artifact.tensors("users")
    path = artifact.local_path(_TENSORS)
    try:
        return _views(np.asarray(np.memmap(path, dtype=np.uint8, mode="r")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"file {path} must be safetensors; {error}") from error


def _views(data: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Views of a safetensors file: 8 bytes of header length, JSON header, data.

    Source: the format section of the safetensors README.

    Raises:
        ValueError: the header does not describe this file.
    """
    n_header = int.from_bytes(data[:8].tobytes(), "little")
    if not 2 <= n_header <= min(_MAX_HEADER, len(data) - 8):
        raise ValueError(f"its header length is {n_header} of {len(data)} bytes")
    header = orjson.loads(data[8 : 8 + n_header].tobytes())
    body = data[8 + n_header :]
    known = {code: dtype for dtype, code in _SAFETENSORS.items()}
    views: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        dtype, shape = np.dtype(known[entry["dtype"]]), tuple(entry["shape"])
        n_bytes = math.prod(shape) * dtype.itemsize
        if not 0 <= start <= end <= len(body) or end - start != n_bytes or min(shape) < 0:
            raise ValueError(f"tensor {name!r} does not fit the file")
        views[name] = body[start:end].view(dtype).reshape(shape)
    return views
