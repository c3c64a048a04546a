"""One description of every field: its check, its JSON form and its JSON Schema.

A record is a frozen dataclass whose annotations say what each field may hold. `validate` checks a
record, `to_plain` and `from_plain` turn it into JSON values and back, `json_schema` publishes it.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from promo_ray.errors import DataError
from promo_ray.offers.money import FULL_BP, MAX_MONEY
from promo_ray.registry import methods

T = TypeVar("T")
TAG = "type"  # key that names the class of a tagged record in JSON


class Between(tuple[int, int]):
    """Rule: an int from the first to the second value."""


class OneOf(tuple[str, ...]):
    """Rule: one of these texts."""


class Family(str):
    """Rule: a record of a class registered in this family, tagged in JSON by its name."""


NOT_EMPTY = "not empty"  # rule: a text or a tuple with something in it

Money = Annotated[int, Between((0, MAX_MONEY))]  # minor units
SomeMoney = Annotated[int, Between((1, MAX_MONEY))]  # minor units
Rate = Annotated[int, Between((1, FULL_BP))]  # basis points
Count = Annotated[int, Between((1, 10**9))]
Name = Annotated[str, NOT_EMPTY]
Names = tuple[Name, ...]

_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
_WORDS |= {tuple: "a tuple", frozenset: "a frozenset", Mapping: "a mapping", datetime: "a time"}
_JSON_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


@dataclass(frozen=True)
class Field:
    """What one field may hold.

    Attributes:
        kind: `int`, `float`, `bool`, `str`, `datetime`, `tuple` or a record class.
        rule: `Between`, `OneOf`, `Family`, `NOT_EMPTY` or None.
        inner: what the members of a tuple hold.
        is_optional: whether None may stand here.
    """

    kind: type
    rule: Any = None
    inner: Field | None = None
    is_optional: bool = False

    @classmethod
    def of(cls, hint: Any) -> Field:
        """Field of a type annotation."""
        if get_origin(hint) in (Union, types.UnionType):
            (some,) = (a for a in get_args(hint) if a is not type(None))
            return dataclasses.replace(cls.of(some), is_optional=True)
        if get_origin(hint) is Annotated:
            return dataclasses.replace(cls.of(get_args(hint)[0]), rule=hint.__metadata__[0])
        if (kind := get_origin(hint)) in (tuple, frozenset, Mapping):
            return cls(kind, inner=cls.of(get_args(hint)[kind is Mapping]))
        return cls(hint)

    def check(self, value: Any, where: str) -> None:
        """Refuse a value that the field cannot hold.

        Raises:
            DataError: names `where`.
        """
        if value is None and self.is_optional:
            return
        is_int = isinstance(value, int) and not isinstance(value, bool)
        is_right = is_int if self.kind is int else isinstance(value, self.kind)
        if self.kind is float:  # any int will do, but no NaN or infinity
            is_right = (is_int or is_right) and abs(value) <= sys.float_info.max
        if isinstance(self.rule, Between):
            is_right = is_right and self.rule[0] <= value <= self.rule[1]
        elif isinstance(self.rule, OneOf):
            is_right = is_right and value in self.rule
        elif isinstance(self.rule, Family):
            is_right = type(value) in methods(self.rule).values()
        elif self.rule == NOT_EMPTY:
            is_right = is_right and bool(value)
        if isinstance(value, str) and not value.isascii():
            is_right = is_right and _is_unicode(value)
        if not is_right:
            raise DataError(f"must be {self.words()}; got {value!r}", where=where)
        if isinstance(value, datetime) and value.tzinfo is None:
            raise DataError(f"must have a time zone; got {value}", where=where)
        if self.inner is not None:
            members = value.items() if self.kind is Mapping else enumerate(value)
            for key, member in members:
                self.inner.check(member, f"{where}[{key!r}]")

    def words(self) -> str:
        """What may stand here, in plain words."""
        if isinstance(self.rule, Between):
            return f"an integer in [{self.rule[0]}, {self.rule[1]}]"
        if isinstance(self.rule, OneOf):
            return f"one of {', '.join(self.rule)}"
        kind = _WORDS.get(self.kind, f"a {self.kind.__name__}")
        return f"{kind} that is not empty" if self.rule == NOT_EMPTY else kind

    def read(self, plain: Any, where: str) -> Any:
        """Value of its JSON form; what is not of the form is left to `check`.

        Raises:
            DataError: names `where`.
        """
        if plain is None:
            return None
        if isinstance(self.rule, Family):
            return _read_tagged(self.rule, plain, where)
        if dataclasses.is_dataclass(self.kind):
            return from_plain(self.kind, plain, where)
        if self.inner is not None and isinstance(plain, list):
            return tuple(self.inner.read(p, f"{where}[{i}]") for i, p in enumerate(plain))
        if self.kind is datetime:
            return time_of(plain, where)
        return plain

    def schema(self, defs: dict[str, Any]) -> dict[str, Any]:
        """JSON Schema of the field; records go to `defs`."""
        if isinstance(self.rule, Family):
            kinds = methods(self.rule).items()
            found: dict[str, Any] = {"oneOf": [_record_schema(c, defs, tag) for tag, c in kinds]}
        elif dataclasses.is_dataclass(self.kind):
            found = _record_schema(self.kind, defs)
        elif self.inner is not None:
            found = {"type": "array", "items": self.inner.schema(defs)}
        elif self.kind is datetime:
            found = {"type": "string", "format": "date-time"}
        else:
            found = {"type": _JSON_TYPES[self.kind]}
        if isinstance(self.rule, Between):
            found |= {"minimum": self.rule[0], "maximum": self.rule[1]}
        elif isinstance(self.rule, OneOf):
            found["enum"] = list(self.rule)
        elif self.rule == NOT_EMPTY:
            found["minItems" if self.inner else "minLength"] = 1
        return {"anyOf": [found, {"type": "null"}]} if self.is_optional else found


def _is_unicode(text: str) -> bool:
    """Whether a text can be written in UTF-8; one with half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def fields_of(cls: Any) -> dict[str, Field]:
    """Fields of a record class by name."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: Field.of(hints[f.name]) for f in dataclasses.fields(cls)}


def validate(record: Any, where: str) -> None:
    """Refuse a record with a value that its annotation forbids; numbers get their one form.

    Raises:
        DataError: names the field, as `where.field`.
    """
    kind: Any = type(record)
    for name, field in fields_of(kind).items():
        value = getattr(record, name)
        field.check(value, f"{where}.{name}")
        if field.kind is float and value is not None:  # 1 and 1.0, 0.0 and -0.0: the same bytes
            object.__setattr__(record, name, float(value) + 0.0)


def to_plain(value: Any) -> Any:
    """JSON-able form; fields at their default are left out, times are UTC."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {
            f.name: to_plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not _is_default(f, getattr(value, f.name))
        }
        tag = getattr(type(value), "method", None)
        return plain if tag is None else {TAG: tag, **plain}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return [to_plain(v) for v in value] if isinstance(value, tuple) else value


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return bool(field.default is not dataclasses.MISSING and value == field.default)


def from_plain(cls: Callable[..., T], plain: Any, where: str) -> T:
    """Record of its JSON form.

    Raises:
        DataError: no object, an unknown or missing key, or a value that the record refuses.
    """
    if not isinstance(plain, Mapping):
        raise DataError(f"must be an object; got {type(plain).__name__}", where=where)
    known = fields_of(cls)
    for key in plain:
        if key not in known:
            raise DataError(f"unknown key {key!r}; known: {', '.join(sorted(known))}", where=where)
    for name in _needed(cls):
        if name not in plain:
            raise DataError(f"key {name!r} must be present", where=where)
    return cls(**{k: known[k].read(v, f"{where}.{k}") for k, v in plain.items()})


def _needed(cls: Any) -> list[str]:
    missing = dataclasses.MISSING
    return [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is missing and f.default_factory is missing
    ]


def _read_tagged(family: str, plain: Any, where: str) -> Any:
    if not isinstance(plain, Mapping):
        raise DataError(f"must be an object; got {type(plain).__name__}", where=where)
    known = methods(family)
    tag = str(plain.get(TAG))
    if tag not in known:
        raise DataError(f"must be one of {', '.join(known)}; got {tag!r}", where=f"{where}.{TAG}")
    return from_plain(known[tag], {k: v for k, v in plain.items() if k != TAG}, where)


def time_of(text: Any, where: str) -> datetime:
    """Time of an ISO text.

    Raises:
        DataError: not such a text.
    """
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise DataError(f"must be an ISO time; got {text!r}", where=where) from error


def _record_schema(cls: Any, defs: dict[str, Any], tag: str | None = None) -> dict[str, Any]:
    """Reference to the schema of a record class, which is entered in `defs`."""
    if cls.__name__ not in defs:
        defs[cls.__name__] = {}  # stands for it while its own fields are described
        properties = {name: field.schema(defs) for name, field in fields_of(cls).items()}
        needed = _needed(cls)
        if tag is not None:
            properties = {TAG: {"const": tag}, **properties}
            needed = [TAG, *needed]
        defs[cls.__name__] = {
            "description": (cls.__doc__ or "").splitlines()[0],
            "type": "object",
            "properties": properties,
            "required": needed,
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{cls.__name__}"}


def json_schema(cls: Any, title: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a record class."""
    defs: dict[str, Any] = {}
    reference = _record_schema(cls, defs)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return {**head, **reference, "$defs": dict(sorted(defs.items()))}
