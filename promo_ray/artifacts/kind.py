"""What a kind of artefact is: a name, a schema version, its tables and its migrations."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from promo_ray.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """Columns of one table of a kind.

    Attributes:
        schema: required columns, in order, with Arrow types; `nullable=False` forbids nulls.
        prefixes: further columns are allowed if their name starts with one of these.
        is_sharded: stored as `name/part-0000.parquet` ..., one part per shard of users.
    """

    schema: pa.Schema
    prefixes: tuple[str, ...] = ()
    is_sharded: bool = False

    def conform(self, table: pa.Table, where: str) -> pa.Table:
        """Table with exactly these columns in this order, cast without loss.

        Raises:
            DataError: a column is missing, unknown, of another type, or null where forbidden.
        """
        names = set(table.column_names)
        columns, fields = [], []
        for want in self.schema:
            if want.name not in names:
                raise DataError(
                    f"column {want.name!r} must be present; got {', '.join(table.column_names)}",
                    where=where,
                )
            column = table.column(want.name)
            if column.type != want.type:
                column = self._cast(column, want, where)
            if not want.nullable and column.null_count:
                raise DataError(
                    f"column {want.name!r} must have no null; got {column.null_count}", where=where
                )
            columns.append(column)
            fields.append(want)
        known = set(self.schema.names)
        for name in table.column_names:
            if name in known:
                continue
            if not name.startswith(self.prefixes or ("\0",)):
                raise DataError(f"column {name!r} is not part of the schema", where=where)
            columns.append(table.column(name))
            fields.append(table.schema.field(name).remove_metadata())
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))

    @staticmethod
    def _cast(column: pa.ChunkedArray, want: pa.Field, where: str) -> pa.ChunkedArray:
        try:
            return column.cast(want.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise DataError(
                f"column {want.name!r} must be {want.type}; got {column.type} ({error})"[:300],
                where=where,
            ) from error


class Migration(NamedTuple):
    """Pure functions `(name, value) -> value` from one schema version to the next."""

    document: Callable[[str, Any], Any] = lambda _name, value: value
    table: Callable[[str, pa.Table], pa.Table] = lambda _name, table: table


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of artefact.

    Attributes:
        name: directory name in a store.
        schema_version: version that this package writes, from 1.
        tables: Arrow tables by name.
        documents: names of JSON documents that must be there.
        migrations: `version -> Migration` that lifts what it wrote to the next version.
    """

    name: str
    schema_version: int = 1
    tables: Mapping[str, TableSpec] = field(default_factory=dict)
    documents: tuple[str, ...] = ()
    migrations: Mapping[int, Migration] = field(default_factory=dict)

    def lift_document(self, name: str, value: Any, version: int) -> Any:
        """A JSON document of an older schema version, as the present one."""
        for step in range(version, self.schema_version):
            value = self.migrations[step].document(name, value)
        return value

    def lift_table(self, name: str, table: pa.Table, version: int) -> pa.Table:
        """A table of an older schema version, as the present one."""
        for step in range(version, self.schema_version):
            table = self.migrations[step].table(name, table)
        return table


def kinds() -> Mapping[str, Kind]:
    """Every kind of artefact by name."""
    package = importlib.import_module("promo_ray.artifacts")
    found: dict[str, Kind] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        found |= {k.name: k for k in vars(module).values() if isinstance(k, Kind)}
    return dict(sorted(found.items()))
