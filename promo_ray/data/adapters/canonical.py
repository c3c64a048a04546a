"""Own data: canonical tables as parquet or CSV, with a mapping for columns named otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from promo_ray.data.dataset import Dataset, offer_terms
from promo_ray.data.read import (
    EXTENSIONS,
    list_files,
    read_campaign_log,
    read_catalog,
    read_events,
    read_offers,
    read_users,
)
from promo_ray.errors import ConfigError, DataError
from promo_ray.registry import register

_READERS: Mapping[str, Callable[[str, Mapping[str, str] | None], pa.Table]] = {
    "events": read_events,
    "catalog": read_catalog,
    "users": read_users,
    "campaign_log": read_campaign_log,
    "offers": read_offers,
}
_UNITS = {"is_conversion": "conversions", "is_visit": "visits"}
_OUTCOMES = ("margin", "revenue", *_UNITS)


@register("canonical")
@dataclass(frozen=True, kw_only=True)
class Canonical:
    """Tables `events`, `catalog`, `users`, `campaign_log`, `offers`, each in a file of its name.

    Files end in `.parquet` or `.csv`; events or a campaign log must be there. A campaign log that
    names offers needs the table `offers` with their terms.

    Attributes:
        columns: table -> canonical column -> column of the file.
        currency: ISO 4217 code of all money.
        outcome: outcome of the campaign that counts: margin, revenue, is_conversion or is_visit;
            the first of these that has no null if None.
        is_randomized: whether chance alone drew the arms; if None, whether every row has a
            propensity.
    """

    name: ClassVar[str] = "canonical"
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    currency: str = "USD"
    outcome: str | None = None
    is_randomized: bool | None = None

    def __post_init__(self) -> None:
        for table in self.columns:
            if table not in _READERS:
                known = ", ".join(_READERS)
                raise ConfigError(f"columns must name tables among {known}; got {table!r}")
        if self.outcome is not None and self.outcome not in _OUTCOMES:
            known = ", ".join(_OUTCOMES)
            raise ConfigError(f"outcome must be one of {known}; got {self.outcome!r}")

    def recognizes(self, files: frozenset[str]) -> bool:
        """Whether events or a campaign log under their canonical name are there."""
        return any(f"{t}{e}" in files for t in ("events", "campaign_log") for e in EXTENSIONS)

    def read(self, directory: str) -> Dataset:
        """See `Adapter.read`.

        Raises:
            DataError: a table breaks its rules, stands in two files, or offers are missing.
        """
        files = list_files(directory)
        if not self.recognizes(files):
            raise DataError("events or campaign_log must be there", where=directory)
        tables = {name: self._table(directory, name, files) for name in _READERS}
        log, offers = tables["campaign_log"], tables["offers"]
        design = None
        if log is not None:
            where = f"{directory.rstrip('/')}/campaign_log"
            _check_offers(log, offers, where)
            tables["offers"] = offer_terms([]) if offers is None else offers
            design = self._design(log, where)
        return Dataset(name=self.name, design=design, notes=(), **tables)

    def _table(self, directory: str, name: str, files: frozenset[str]) -> pa.Table | None:
        found = [f"{name}{e}" for e in EXTENSIONS if f"{name}{e}" in files]
        if len(found) > 1:
            raise DataError(f"table must stand in one file; got {found}", where=directory)
        if not found:
            return None
        return _READERS[name](f"{directory.rstrip('/')}/{found[0]}", self.columns.get(name))

    def _design(self, log: pa.Table, where: str) -> dict[str, Any]:
        full = [name for name in _OUTCOMES if log.column(name).null_count == 0]
        if not full or self.outcome not in (None, *full):
            wanted = self.outcome or "one of " + ", ".join(_OUTCOMES)
            raise DataError(f"outcome {wanted} must be known in every row", where=where)
        outcome = self.outcome or full[0]
        propensity = log.column("propensity")
        is_randomized = self.is_randomized
        if is_randomized is None:
            is_randomized = propensity.null_count == 0
        control = pc.unique(propensity.filter(log.column("offer_id").is_null())).to_pylist()
        return {
            "is_randomized": is_randomized,
            "outcome": outcome,
            "unit": _UNITS.get(outcome, self.currency),
            "currency": self.currency,
            "control_propensity": control[0] if len(control) == 1 else None,
            "note": "own data",
        }


def _check_offers(log: pa.Table, offers: pa.Table | None, where: str) -> None:
    named = pc.unique(log.column("offer_id").drop_null())
    if len(named) and offers is None:
        raise DataError(
            f"a log that names offers must come with the table offers; got {len(named)} offers "
            "and no such file",
            where=where,
        )
    if offers is not None:
        known = offers.column("offer_id").combine_chunks()
        strange = named.filter(pc.invert(pc.is_in(named, value_set=known)))
        if len(strange):
            raise DataError(
                f"column 'offer_id' must name rows of offers; got {strange[0].as_py()!r}",
                where=where,
            )
