"""Blocks of users: where they come from, and checks before any number of them is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.problem import AllocationProblem, Block, Rows
from promo_ray.errors import DataError

_DTYPES = {
    "value": np.float32,
    "costs": np.float32,
    "keys": np.uint64,
    "offer_idx": np.int32,
    "capacity_use": np.float32,
    "segment_idx": np.int32,
}


class Shape(NamedTuple):
    """What the driver must know of a block.

    Attributes:
        n: users.
        k: budgets.
        m: slots.
        given: names of the optional arrays given.
        fault: what breaks a rule, empty if nothing does.
    """

    n: int
    k: int
    m: int
    given: tuple[str, ...]
    fault: str


def shape_of(block: Any) -> Shape:
    """Shape of a block; its fault instead of an error, so that the driver can name the block."""
    if not isinstance(block, Block):
        return Shape(0, 0, 0, (), f"must be a Block; got {type(block).__name__}")
    given = tuple(name for name in _DTYPES if getattr(block, name) is not None)
    for name in given:
        array, dtype = getattr(block, name), np.dtype(_DTYPES[name])
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            got = getattr(array, "dtype", type(array).__name__)
            return Shape(0, 0, 0, (), f"{name} must be an array of {dtype}; got {got}")
    if block.value.ndim != 2 or block.costs.ndim != 3 or not block.value.shape[1]:
        shapes = f"{block.value.shape} and {block.costs.shape}"
        return Shape(0, 0, 0, (), f"value must be (n, m > 0) and costs (k, n, m); got {shapes}")
    (n, m), k = block.value.shape, len(block.costs)
    wanted = {"costs": (k, n, m), "keys": (n,), "segment_idx": (n,)}
    for name in given:
        array, want = getattr(block, name), wanted.get(name, (n, m))
        if array.shape != want:
            return Shape(0, 0, 0, (), f"{name} must be {want}; got {array.shape}")
    return Shape(n, k, m, given, "")


def check_shapes(shapes: list[Shape], rows: Rows) -> None:
    """All blocks are sound and alike.

    Raises:
        DataError: naming the first block that is not.
    """
    for i, shape in enumerate(shapes):
        where = f"blocks[{i}]"
        if shape.fault:
            raise DataError(shape.fault, where=where)
        if shape.k != rows.n_budgets:
            raise DataError(
                f"must have costs of {rows.n_budgets} budgets; got {shape.k}", where=where
            )
        if (shape.m, shape.given) != (shapes[0].m, shapes[0].given):
            raise DataError(
                f"must have slots and arrays of the first block ({shapes[0].m}; "
                f"{', '.join(shapes[0].given)}); got {shape.m}; {', '.join(shape.given)}",
                where=where,
            )
        if rows.n_segments and shape.n and "segment_idx" not in shape.given:
            raise DataError("must have segment_idx, as there are floors", where=where)


class _Mapped(NamedTuple):
    """A part of a memory-mapped file."""

    file: str
    dtype: str
    offset: int
    shape: tuple[int, ...]

    def open(self) -> NDArray[Any]:
        """The array, mapped anew."""
        return np.memmap(self.file, self.dtype, "r", self.offset, self.shape)


class MappedSource(NamedTuple):
    """Reads a block of mapped files where it is used: only their names travel.

    Attributes:
        arrays: `_Mapped` file, array as it is, or None, by name of the field.
        start: first user.
        stop: one past the last user.
    """

    arrays: dict[str, Any]
    start: int
    stop: int

    def __call__(self) -> Block:
        """The block."""
        own = slice(self.start, self.stop)
        found = {
            name: array.open() if isinstance(array, _Mapped) else array
            for name, array in self.arrays.items()
        }
        parts: dict[str, Any] = {
            name: array if array is None else array[:, own] if name == "costs" else array[own]
            for name, array in found.items()
        }
        return Block(**parts, first=self.start)


def _mapped(array: NDArray[Any] | None) -> Any:
    """The file of an array that is a whole memory map; the array otherwise."""
    base = array
    while base is not None and not isinstance(base, np.memmap):
        base = base.base if isinstance(base, np.ndarray) else None
    if array is None or base is None or base.filename is None or not array.flags.c_contiguous:
        return array
    offset = base.offset + array.ctypes.data - base.ctypes.data
    return _Mapped(str(base.filename), array.dtype.str, offset, array.shape)


def sources_of(problem: Any, block_users: int) -> list[Any]:
    """One source per block; blocks at hand are told where their users stand."""
    if isinstance(problem, AllocationProblem):
        arrays = {name: _mapped(getattr(problem, name)) for name in _DTYPES}
        if problem.floors is None:
            arrays["segment_idx"] = None
        if isinstance(arrays["value"], _Mapped):
            n = len(problem.value)
            starts = range(0, max(1, n), block_users)
            own = {k: a if isinstance(a, _Mapped) else None for k, a in arrays.items()}
            if all(own[k] is not None or a is None or not a.size for k, a in arrays.items()):
                return [MappedSource(arrays, a, min(n, a + block_users)) for a in starts]
        return list(problem.blocks(block_users))
    sources: list[Any] = []
    n = 0
    for part in problem:
        own_blocks = part.blocks(block_users) if isinstance(part, AllocationProblem) else [part]
        for block in own_blocks:
            if isinstance(block, Block):
                sources.append(block._replace(first=n))
                n += len(block.value)
            elif callable(block):
                sources.append(block)
            else:
                raise DataError(
                    f"must be blocks, callables or problems; got {type(block).__name__}",
                    where="problem",
                )
    return sources


class Placed(NamedTuple):
    """Reads a block and tells it where its users stand."""

    source: Callable[[], Block]
    first: int

    def __call__(self) -> Block:
        """The block."""
        return self.source()._replace(first=self.first)
