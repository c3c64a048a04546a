"""Adapters from public data sets and own data to the canonical tables, one per file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from promo_ray.data.dataset import Adapter
from promo_ray.data.read import list_files
from promo_ray.errors import DataError
from promo_ray.registry import build, methods

_FAMILY = "data.adapters"


def find_adapter(
    directory: str, name: str | None = None, settings: Mapping[str, Any] | None = None
) -> Adapter:
    """Adapter for the data set in a directory.

    Args:
        directory: local path or URI of the directory.
        name: name of the adapter; recognized by the files in the directory if None.
        settings: fields of the adapter, for example `columns` of `canonical`.

    Raises:
        DataError: no such directory, or no adapter or several recognize its files.
        ConfigError: unknown adapter or field.
    """
    files = list_files(directory)
    if name is not None:
        return cast(Adapter, build(_FAMILY, {"method": name, **(settings or {})}))
    known = methods(_FAMILY)
    found = [n for n, cls in known.items() if cls().recognizes(files)]
    if len(found) != 1:
        reason = "none does" if not found else " and ".join(found) + " do"
        raise DataError(
            f"one of the adapters {', '.join(known)} must recognize the files; {reason}; "
            "canonical data are events, campaign_log, ... as .parquet or .csv",
            where=directory,
        )
    return cast(Adapter, build(_FAMILY, {"method": found[0], **(settings or {})}))
