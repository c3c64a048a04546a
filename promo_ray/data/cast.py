"""Columns of foreign files as the Arrow types of the canonical tables, with the faulty row named.

Rules: text is trimmed before it is read as a number, flag or time; empty text and NaN are null;
numbers as ids lose no digit (`4.0128e+10` becomes `40128000000`); times without a zone are UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from promo_ray.artifacts.columns import TIME
from promo_ray.errors import DataError

LIST_SEPARATOR = "|"  # between the parts of a list column in CSV
_NULL_WORDS = pa.array(["", "NaN", "nan", "NA", "null", "NULL", "None"])
_ZONE = r"\d:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
_ARROW_FAULTS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)


def cast_column(column: pa.ChunkedArray, want: pa.Field, where: str) -> pa.ChunkedArray:
    """Column cast to the type of `want`; nulls stay nulls.

    Args:
        column: any Arrow column of `n` rows.
        want: name and type of the canonical column.
        where: file the column stands in.

    Raises:
        DataError: a value cannot be of that type; names the first such row.
    """
    column = _plain(column)
    try:
        return _convert(column, want.type)
    except _ARROW_FAULTS as error:
        if isinstance(error, pa.ArrowInvalid):
            row = _first_fault(column, lambda c: _convert(c, want.type))
            got = f"{str(column[row].as_py())[:40]!r} in row {row + 1}"
        else:
            got = f"type {column.type}"
        raise DataError(f"column {want.name!r} must be {want.type}; got {got}", where=where) from (
            error
        )


def cast_attribute(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """Attribute column as float64 (numbers, flags) or string (anything read as text).

    Raises:
        DataError: the column is neither numbers, flags nor text.
    """
    column = _plain(column)
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return column.cast(pa.float64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return cast_column(column, pa.field(name, pa.float64()), where)
    if pa.types.is_string(kind):
        return column
    raise DataError(f"column {name!r} must hold numbers or text; got type {kind}", where=where)


def parse_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text column of a CSV as float64 if all its values are numbers, bool if flags, else text."""
    try:
        return _number(column, pa.float64())
    except pa.ArrowInvalid:
        pass
    try:
        return _flag(column)
    except pa.ArrowInvalid:
        return _identifier(column)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Column without dictionary encoding or large offsets."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or column.type == pa.string_view():
        column = column.cast(pa.string())
    return column


def _convert(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_floating(kind):
        return _number(column, kind)
    if pa.types.is_integer(kind):
        return (
            _number(column, pa.float64()).cast(kind) if _is_inexact(column) else column.cast(kind)
        )
    if pa.types.is_boolean(kind):
        return _flag(column)
    if pa.types.is_timestamp(kind):
        return _time(column)
    if pa.types.is_string(kind):
        return _identifier(column)
    if pa.types.is_list(kind) and pa.types.is_string(column.type):
        return pc.split_pattern(_null_words(column), LIST_SEPARATOR).cast(kind)
    return column.cast(kind)


def _is_inexact(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_floating(column.type) or pa.types.is_string(column.type))


def _null_words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text trimmed, and null where it says that there is no value."""
    text = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(text, _NULL_WORDS), pa.scalar(None, pa.string()), text)


def _number(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_temporal(column.type) or pa.types.is_boolean(column.type):
        raise pa.ArrowTypeError("not a number")
    if pa.types.is_string(column.type):
        column = _null_words(column)
    column = column.cast(kind)
    if pc.any(pc.is_inf(column)).as_py():
        raise pa.ArrowInvalid("infinite")
    return pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)


def _flag(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_boolean(column.type):
        return column
    if pa.types.is_string(column.type):
        text = pc.utf8_lower(_null_words(column))
        zero = pa.array(["0", "0.0"])
        one = pa.array(["1", "1.0"])
        text = pc.if_else(pc.is_in(text, zero), "false", text)
        return pc.if_else(pc.is_in(text, one), "true", text).cast(pa.bool_())
    number = _number(column, pa.float64())
    if not pc.all(pc.is_in(number.drop_null(), pa.array([0.0, 1.0]))).as_py():
        raise pa.ArrowInvalid("neither 0 nor 1")
    return number.cast(pa.bool_())


def _time(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        text = _null_words(column)
        has_zone = pc.match_substring_regex(text, _ZONE)
        none = pa.scalar(None, pa.string())
        zoned = pc.if_else(has_zone, text, none).cast(TIME)
        local = pc.if_else(has_zone, none, text).cast(pa.timestamp("us")).cast(TIME)
        return pc.coalesce(zoned, local)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        raise pa.ArrowTypeError("a number is no time")
    # nanoseconds are cut to microseconds
    return column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(TIME)


def _identifier(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):
        number = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        return number.cast(pa.int64()).cast(pa.string())
    text = column.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _first_fault(column: pa.ChunkedArray, convert: Callable[[pa.ChunkedArray], Any]) -> int:
    """First row that makes `convert` fail; a prefix fails from that row on, so halving finds it."""
    low, high = 0, column.length()  # the first `low` rows are sound, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(column.slice(low, middle - low))
            low = middle
        except _ARROW_FAULTS:
            high = middle
    return low
