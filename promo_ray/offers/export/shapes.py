"""Check that JSON from outside has the kinds of values that a reader expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promo_ray.errors import DataError

# what a value must be: an object with some fields, a list of one shape, or one of some kinds
Shape = Mapping[str, "Shape"] | list["Shape"] | tuple[type, ...]

TEXT = (str,)
WHOLE = (int,)
_NAMES = {str: "a text", int: "an integer", bool: "a boolean", float: "a number", list: "a list"}


def check_shape(value: Any, shape: Shape, where: str) -> None:
    """Check all fields that a shape names; the others are free.

    A field may be missing or null, except in an object that a list holds.

    Raises:
        DataError: a value is of another kind; names its path.
    """
    if isinstance(shape, tuple):
        if type(value) not in shape:
            wanted = " or ".join(_NAMES[kind] for kind in shape)
            raise DataError(f"must be {wanted}; got {value!r}", where=where)
    elif isinstance(shape, list):
        check_shape(value, (list,), where)
        for i, element in enumerate(value):
            at = f"{where}[{i}]"
            missing = _missing(element, shape[0])
            if missing is not None:
                raise DataError("must be present", where=f"{at}.{missing}")
            check_shape(element, shape[0], at)
    elif not isinstance(value, Mapping):
        raise DataError(f"must be an object; got {value!r}", where=where)
    else:
        for name, inner in shape.items():
            if value.get(name) is not None:
                check_shape(value[name], inner, f"{where}.{name}" if where else name)


def _missing(value: Any, shape: Shape) -> str | None:
    """The first field of the shape that an object lacks."""
    if not (isinstance(shape, Mapping) and isinstance(value, Mapping)):
        return None
    return next((name for name in shape if value.get(name) is None), None)
