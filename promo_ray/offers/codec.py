"""Frozen dataclasses to plain JSON values and back; unknown and missing keys are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from promo_ray.errors import DataError
from promo_ray.offers.mechanic import Mechanic
from promo_ray.registry import methods

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """JSON-able form of a dataclass of ints, strings, tuples, times and dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        kind = getattr(type(value), "method", None)
        return plain if kind is None else {"type": kind, **plain}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else value


def keys_checked(cls: type, plain: Any, where: str) -> dict[str, Any]:
    """Mapping with known keys only and every key that has no default.

    Raises:
        DataError: not a mapping, an unknown key, or one missing.
    """
    if not isinstance(plain, Mapping):
        raise DataError(f"must be an object; got {type(plain).__name__}", where=where)
    fields = dataclasses.fields(cls)
    known = {f.name for f in fields}
    for key in plain:
        if key not in known:
            raise DataError(f"unknown key {key!r}; known: {', '.join(sorted(known))}", where=where)
    for f in fields:
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            if f.name not in plain:
                raise DataError(f"key {f.name!r} must be present", where=where)
    return dict(plain)


def from_plain(cls: type[T], plain: Any, where: str) -> T:
    """Dataclass of strings, ints, tuples of strings and times from its JSON form.

    Raises:
        DataError: unknown or missing key, or a value that the class refuses.
    """
    values = keys_checked(cls, plain, where)
    for key, value in values.items():
        if isinstance(value, list):
            if not all(isinstance(v, str) for v in value):
                raise DataError("must be a list of strings", where=f"{where}.{key}")
            values[key] = tuple(value)
        elif key.endswith("_at") and value is not None:
            values[key] = time_of(value, f"{where}.{key}")
    return cls(**values)


def time_of(text: Any, where: str) -> datetime:
    """UTC time of an ISO text with a zone.

    Raises:
        DataError: not such a text.
    """
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise DataError(f"must be an ISO time; got {text!r}", where=where) from error


def mechanic_class(name: Any, where: str) -> type[Mechanic]:
    """Class of a registered mechanic.

    Raises:
        DataError: no such mechanic.
    """
    known = methods("offers")
    if name not in known:
        raise DataError(f"must be one of {', '.join(known)}; got {name!r}", where=where)
    return known[name]
