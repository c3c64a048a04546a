"""Karlan and List's matching-gift mail trial: letters with a match of 1:1, 2:1 or 3:1, or none.

Source: D. Karlan and J. List, "Does Price Matter in Charitable Giving? Evidence from a Large-Scale
Natural Field Experiment", American Economic Review 97(5), 2007.
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

_FILE = "gifts.parquet"
_RATIOS = (1, 2, 3)
_CONTROL_PROPENSITY = 1.0 / 3.0
_MATCH_PROPENSITY = 2.0 / 9.0  # two thirds were offered a match, its ratio drawn evenly
_SENT_AT = datetime(2005, 8, 1, tzinfo=UTC)  # letters went out in August 2005
# sex, marital state, and ethnic and age make-up of the zip code
_PROTECTED = ("female", "couple", "pwhite", "pblack", "page18_39")
# what was known of the donor, the state, the county and the zip code before the letter
_ATTRIBUTES = (
    "highest_prev",
    "ltmedmra",
    "freq",
    "years",
    "year5",
    "months_since_last",
    "dormant",
    "state50one",
    "nonlit",
    "cases",
    "perbush",
    "close25",
    "red0",
    "blue0",
    "redcty",
    "bluecty",
    "ave_hh_sz",
    "median_hhincome",
    "powner",
    "psch_atlstba",
    "pop_propurban",
)


@register("charitable_match")
@dataclass(frozen=True, kw_only=True)
class CharitableMatch:
    """Campaign log, offers and users of the trial; the outcome is the gift in USD.

    Attributes:
        contact_cost: cost of an offer in USD beyond that of the letter, which the control got
            too; 0 by the trial's design, since other donors paid the match.
        window_days: length of the outcome window in days. The source gives none; a month is an
            assumption and enters no estimate.
    """

    name: ClassVar[str] = "charitable_match"
    contact_cost: float = 0.0
    window_days: float = 30.0

    def __post_init__(self) -> None:
        if not self.contact_cost >= 0.0 or not self.window_days > 0.0:
            raise ConfigError(
                "contact_cost >= 0 and window_days > 0 must hold; "
                f"got {self.contact_cost!r}, {self.window_days!r}"
            )

    def recognizes(self, files: frozenset[str]) -> bool:
        """Whether the trial's file is there."""
        return _FILE in files

    def read(self, directory: str) -> Dataset:
        """See `Adapter.read`.

        Raises:
            DataError: the file cannot be read, lacks a column or holds an unknown match ratio.
        """
        uri = f"{directory.rstrip('/')}/{_FILE}"
        columns = ["row_id", "ratio", "amount", "gave", *_ATTRIBUTES, *_PROTECTED]
        frame = pl.DataFrame(read_source(uri, columns)).sort("row_id")
        if not frame["ratio"].is_in([0, *_RATIOS]).all():
            raise DataError("column 'ratio' must be one of 0, 1, 2, 3", where=uri)
        user_id = [f"c{i:05d}" for i in frame["row_id"].to_list()]
        users: dict[str, Any] = {"user_id": user_id}
        for prefix, names in (("attr", _ATTRIBUTES), ("protected", _PROTECTED)):
            users |= {f"{prefix}_{n}": frame[n].cast(pl.Float64).to_arrow() for n in names}
        return Dataset(
            name=self.name,
            events=None,
            catalog=None,
            users=conformed(users, USERS.tables["users"], uri),
            campaign_log=self._log(frame, user_id, uri),
            offers=self._offers(),
            design={
                "is_randomized": True,
                "outcome": "revenue",
                "unit": "USD",
                "currency": "USD",
                "control_propensity": _CONTROL_PROPENSITY,
                "note": "randomized trial: control 1/3, each match ratio 2/9",
            },
            notes=(
                f"{frame.height} former donors of a randomized mail trial of 2005.",
                "Match ceiling and suggested amount, drawn independently, are averaged over.",
                f"Outcome window of {self.window_days:g} days is assumed; the source gives none.",
                "Missing covariates stay null.",
            ),
        )

    def _log(self, frame: pl.DataFrame, user_id: list[str], where: str) -> pa.Table:
        n = frame.height
        ratio = frame["ratio"].to_list()
        columns = {
            "user_id": user_id,
            "offer_id": pa.array([f"match_{r}" if r else None for r in ratio], pa.string()),
            "exposed_at": [_SENT_AT] * n,
            "propensity": [_MATCH_PROPENSITY if r else _CONTROL_PROPENSITY for r in ratio],
            "channel": ["mail"] * n,
            "is_conversion": frame["gave"].cast(pl.Boolean).to_arrow(),
            "revenue": frame["amount"].cast(pl.Float64).to_arrow(),
            "cost": [0.0] * n,
            "window_s": [self.window_days * 86_400.0] * n,
        }
        return conformed(columns, CAMPAIGN_LOG.tables["campaign_log"], where)

    def _offers(self) -> pa.Table:
        return offer_terms(
            [
                {
                    "offer_id": f"match_{r}",
                    "mechanic": "message",
                    "contact_cost": self.contact_cost,
                    "label": f"gift matched {r}:1",
                }
                for r in _RATIOS
            ]
        )
