"""Reading, checking, cleaning and simulating shop data; virtual blocks of users.

Most names are handed on lazily, so that `promo_ray.data.blocks` loads no reader. `clean` is not:
the module of that name would hide the function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from promo_ray.data.clean import CleanPolicy, clean

if TYPE_CHECKING:
    from promo_ray.data.dataset import Dataset
    from promo_ray.data.pseudonym import pseudonymize
    from promo_ray.data.quality import QualityReport, check_quality
    from promo_ray.data.read import read_events, read_table
    from promo_ray.data.shards import shard_table

__all__ = [
    "CleanPolicy",
    "Dataset",
    "QualityReport",
    "check_quality",
    "clean",
    "pseudonymize",
    "read_events",
    "read_table",
    "shard_table",
]

_HOMES = {
    "Dataset": "dataset",
    "QualityReport": "quality",
    "check_quality": "quality",
    "pseudonymize": "pseudonym",
    "read_events": "read",
    "read_table": "read",
    "shard_table": "shards",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
