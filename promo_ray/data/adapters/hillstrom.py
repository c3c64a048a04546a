"""Hillstrom's MineThatData e-mail trial: two e-mails and a control, one third each.

Source: K. Hillstrom, "The MineThatData E-Mail Analytics And Data Mining Challenge", 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa

from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.users import USERS
from promo_ray.data.dataset import Dataset, conformed, offer_terms
from promo_ray.data.read import read_source
from promo_ray.errors import ConfigError, DataError
from promo_ray.registry import register

_FILE = "hillstrom.parquet"
_ARMS = {"No E-Mail": None, "Mens E-Mail": "mens_email", "Womens E-Mail": "womens_email"}
_NUMBERS = ("recency", "history", "mens", "womens", "newbie")
_TEXTS = ("zip_code", "channel")
_PROPENSITY = 1.0 / 3.0
_WINDOW_S = 14 * 86_400.0
_SENT_AT = datetime(2008, 3, 1, tzinfo=UTC)  # the source gives no date; it came out in March 2008


@register("hillstrom")
@dataclass(frozen=True, kw_only=True)
class Hillstrom:
    """Campaign log, offers and users of the e-mail trial; the outcome is a visit in two weeks.

    Attributes:
        contact_cost: cost of one e-mail in USD. The source gives none; 0.05 is an assumption.
    """

    name: ClassVar[str] = "hillstrom"
    contact_cost: float = 0.05

    def __post_init__(self) -> None:
        if not self.contact_cost >= 0.0:
            raise ConfigError(f"contact_cost must be >= 0; got {self.contact_cost!r}")

    def recognizes(self, files: frozenset[str]) -> bool:
        """Whether the trial's file is there."""
        return _FILE in files

    def read(self, directory: str) -> Dataset:
        """See `Adapter.read`.

        Raises:
            DataError: the file cannot be read, lacks a column or names an unknown arm.
        """
        uri = f"{directory.rstrip('/')}/{_FILE}"
        columns = ["row_id", "segment", *_NUMBERS, *_TEXTS, "visit", "conversion", "spend"]
        frame = pl.DataFrame(read_source(uri, columns)).sort("row_id")
        strange = sorted(set(frame["segment"].to_list()) - set(_ARMS))
        if strange:
            raise DataError(
                f"column 'segment' must name a known arm; got {strange[0]!r}", where=uri
            )
        user_id = [f"h{i:05d}" for i in frame["row_id"].to_list()]
        users: dict[str, Any] = {"user_id": user_id}
        users |= {f"attr_{n}": frame[n].cast(pl.Float64).to_arrow() for n in _NUMBERS}
        users |= {
            # the source misspells Suburban
            f"attr_{n}": pa.array(frame[n].str.replace("Surburban", "Suburban").to_list())
            for n in _TEXTS
        }
        return Dataset(
            name=self.name,
            events=None,
            catalog=None,
            users=conformed(users, USERS.tables["users"], uri),
            campaign_log=self._log(frame, user_id, uri),
            offers=self._offers(),
            design={
                "is_randomized": True,
                "outcome": "is_visit",
                "unit": "visits",
                "currency": "USD",
                "control_propensity": _PROPENSITY,
                "note": "randomized trial, one third of the customers per arm",
            },
            notes=(
                f"{frame.height} customers of a randomized e-mail trial of 2008.",
                "The date of exposure is not in the source; March 2008 stands in for it.",
                f"Cost of an e-mail is assumed to be {self.contact_cost:g} USD.",
                "history_segment is left out: it is the band of history.",
            ),
        )

    def _log(self, frame: pl.DataFrame, user_id: list[str], where: str) -> pa.Table:
        n = frame.height
        columns = {
            "user_id": user_id,
            "offer_id": pa.array([_ARMS[s] for s in frame["segment"].to_list()], pa.string()),
            "exposed_at": [_SENT_AT] * n,
            "propensity": [_PROPENSITY] * n,
            "channel": ["email"] * n,
            "is_visit": frame["visit"].cast(pl.Boolean).to_arrow(),
            "is_conversion": frame["conversion"].cast(pl.Boolean).to_arrow(),
            "revenue": frame["spend"].cast(pl.Float64).to_arrow(),
            "cost": [0.0] * n,  # an e-mail gives no discount
            "window_s": [_WINDOW_S] * n,
        }
        return conformed(columns, CAMPAIGN_LOG.tables["campaign_log"], where)

    def _offers(self) -> pa.Table:
        return offer_terms(
            {
                "offer_id": f"{who}s_email",
                "mechanic": "message",
                "contact_cost": self.contact_cost,
                "label": f"e-mail with {who}'s merchandise",
            }
            for who in ("men", "women")
        )
