"""What an adapter hands over: canonical tables of one data set and what was done to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.artifacts.kind import TableSpec


class Dataset(NamedTuple):
    """Canonical tables of one data set; None for what the set does not have.

    Attributes:
        name: name of the set.
        events: `events` table, not yet cleaned or sharded.
        catalog: `catalog` table.
        users: `users` table with `attr_*` and `protected_*` columns.
        campaign_log: `campaign_log` table.
        offers: offer terms of the campaign log.
        design: document `design` of the campaign log.
        notes: one sentence each on what was dropped, assumed or estimated, with counts.
    """

    name: str
    events: pa.Table | None
    catalog: pa.Table | None
    users: pa.Table | None
    campaign_log: pa.Table | None
    offers: pa.Table | None
    design: dict[str, Any] | None
    notes: tuple[str, ...]


class Adapter(Protocol):
    """Reads one data set; registered under `data.adapters`."""

    name: str

    def recognizes(self, files: frozenset[str]) -> bool:
        """Whether a directory with these file names holds the set."""
        ...

    def read(self, directory: str) -> Dataset:
        """Canonical tables of the set in a directory (local path or URI)."""
        ...


def conformed(columns: Mapping[str, Any], spec: TableSpec, where: str) -> pa.Table:
    """Table of a kind from some of its columns, for adapters; other optional ones are null.

    Args:
        columns: arrays by name, all of one length.
        spec: schema of the table.
        where: data set, for errors.

    Raises:
        DataError: the columns break the schema.
    """
    given = {
        name: v if isinstance(v, pa.Array | pa.ChunkedArray) else pa.array(v)
        for name, v in columns.items()
    }
    n_rows = len(next(iter(given.values())))
    nulls = {
        f.name: pa.nulls(n_rows, f.type) for f in spec.schema if f.nullable and f.name not in given
    }
    return spec.conform(pa.table({**given, **nulls}), where)


def offer_terms(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Table of offer terms from one mapping per offer; parameters left out are null."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=OFFER_TERMS)
