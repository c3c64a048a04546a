"""The contract of sharded methods, as a check that raises AssertionError with the breach."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from promo_ray.execution.iterate import ShardedMethod, iterate
from promo_ray.numerics.merge_tree import tree_reduce

_VERBS = ("init", "partial", "merge", "update", "done")


def is_sharded_method(cls: type) -> bool:
    """Whether a class offers `init / partial / merge / update / done`."""
    return all(callable(getattr(cls, verb, None)) for verb in _VERBS)


def difference(a: Any, b: Any, *, rtol: float = 0.0, where: str = "value") -> str | None:
    """First place where two values differ, or None.

    Args:
        a: arrays, Arrow tables, tuples, dataclasses, mappings, scalars or anything with `==`.
        b: same.
        rtol: allowed difference of floats, relative to the largest in the array; 0 asks for the
            same bits.
        where: name of the value in the text.
    """
    if type(a) is not type(b) and not (np.isscalar(a) and np.isscalar(b)):
        return f"{where}: types {type(a).__name__} and {type(b).__name__}"
    if isinstance(a, np.ndarray):
        return _array_difference(a, b, rtol, where)
    if isinstance(a, (pa.Table, pa.ChunkedArray, pa.Array)):
        return None if a.equals(b) else f"{where}: tables differ"
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        fields = [f.name for f in dataclasses.fields(a)]
        pairs = {f: (getattr(a, f), getattr(b, f)) for f in fields}
    elif isinstance(a, Mapping):
        if set(a) != set(b):
            return f"{where}: keys differ"
        pairs = {str(k): (a[k], b[k]) for k in a}
    elif isinstance(a, (tuple, list)):
        if len(a) != len(b):
            return f"{where}: lengths {len(a)} and {len(b)}"
        names = getattr(a, "_fields", range(len(a)))
        pairs = {str(n): (x, y) for n, x, y in zip(names, a, b, strict=True)}
    elif isinstance(a, (float, np.floating)):
        return _array_difference(np.array(a), np.array(b), rtol, where)
    else:
        return None if a == b else f"{where}: {a!r} and {b!r}"
    for name, (x, y) in pairs.items():
        found = difference(x, y, rtol=rtol, where=f"{where}.{name}")
        if found:
            return found
    return None


def _array_difference(
    a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], rtol: float, where: str
) -> str | None:
    if a.shape != b.shape:
        return f"{where}: shapes {a.shape} and {b.shape}"
    is_float = a.dtype.kind == "f" and b.dtype.kind == "f"
    if is_float and rtol > 0:
        finite = np.abs(a[np.isfinite(a)])
        atol = rtol * float(finite.max()) if finite.size else 0.0
        same = np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
    else:
        same = bool(np.array_equal(a, b, equal_nan=is_float))
    return None if same else f"{where}: arrays differ"


def _require(breach: str | None, rule: str, method: Any) -> None:
    if breach is not None:
        raise AssertionError(f"{type(method).__name__}: {rule}; {breach}")


def _pickling_breach(value: Any) -> str | None:
    try:
        pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return str(error)
    return None


class _Guarded:
    """Calls a method and checks after every call that its arguments are as before."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._method, verb)

        def guarded(*args: Any) -> Any:
            before = copy.deepcopy(args)
            result = call(*args)
            rule = f"{verb} must not change its arguments"
            _require(difference(before, args, where="argument"), rule, self._method)
            rule = f"the result of {verb} must be picklable"
            _require(_pickling_breach(result), rule, self._method)
            again = call(*copy.deepcopy(args))
            rule = f"{verb} must give the same bits again"
            _require(difference(result, again), rule, self._method)
            return result

        return guarded


def check_sharded_method(
    method: ShardedMethod[Any, Any, Any],
    shards: Sequence[Any],
    *,
    seed: int = 0,
    max_iter: int = 1000,
    rtol: float = 1e-10,
) -> Any:
    """Check a method against the contract of `promo_ray.execution.iterate`.

    The constructor stores hyperparameters and nothing else; the object pickles; no function
    changes its arguments; the same arguments give the same bits; results pickle; merge is
    associative up to rounding; the loop ends.

    Args:
        method: the method, a frozen dataclass.
        shards: at least 3 shards.
        seed: seed of the run.
        max_iter: rounds at most.
        rtol: allowed difference between statistics merged by the tree and from the right.

    Returns:
        The final state.

    Raises:
        AssertionError: with the rule that is broken and where.
    """
    _check_constructor(method)
    _require(_pickling_breach(method), "a method must be picklable", method)
    guarded = _Guarded(method)
    state = guarded.init(seed)
    n_rounds = 0
    while not guarded.done(state):
        if n_rounds == max_iter:
            raise AssertionError(f"{type(method).__name__}: not done after {max_iter} rounds")
        parts = [guarded.partial(shard, state) for shard in shards]
        by_tree = tree_reduce(parts, guarded.merge)
        from_right = parts[-1]
        for part in reversed(parts[:-1]):
            from_right = method.merge(part, from_right)
        _require(difference(by_tree, from_right, rtol=rtol), "merge must be associative", method)
        state = guarded.update(state, by_tree)
        n_rounds += 1
    copied = copy.deepcopy(method)
    again = iterate(copied, list(shards), seed=seed, max_iter=max(1, max_iter)).state
    _require(difference(state, again), "a copy must end with the same bits", method)
    return state


def _check_constructor(method: Any) -> None:
    name = type(method).__name__
    if not dataclasses.is_dataclass(method) or isinstance(method, type):
        raise AssertionError(f"{name}: a method must be a dataclass object")
    fields = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    stored = vars(method) if hasattr(method, "__dict__") else fields
    if set(stored) != set(fields):
        extra = ", ".join(sorted(set(stored) ^ set(fields)))
        raise AssertionError(f"{name}: the constructor must store its fields only; got {extra}")
    try:
        setattr(method, next(iter(fields), "n"), None)
    except (dataclasses.FrozenInstanceError, AttributeError):
        return
    raise AssertionError(f"{name}: a method must be frozen")
