"""The Complete Journey: grocery purchases, demographics and coupon campaigns of 2,469 households.

Source: 84.51 / dunnhumby, "The Complete Journey 2.0", year 2017, a 5.1 % sample of its lines. The
campaigns were targeted, not randomized: differences between arms are not effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, NamedTuple

import polars as pl
import pyarrow as pa

from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.users import USERS
from promo_ray.data.dataset import Dataset, conformed, offer_terms
from promo_ray.data.read import read_source
from promo_ray.errors import ConfigError, DataError
from promo_ray.registry import register

_COLUMNS = {
    "transactions_sample": (
        "household_id", "basket_id", "product_id", "quantity", "sales_value", "retail_disc",
        "coupon_disc", "coupon_match_disc", "transaction_timestamp",
    ),
    "products": (
        "product_id", "department", "brand", "product_category", "product_type", "package_size",
    ),
    "campaigns": ("campaign_id", "household_id"),
    "campaign_descriptions": ("campaign_id", "campaign_type", "start_date", "end_date"),
    "coupons": ("product_id", "campaign_id"),
    "demographics": (
        "household_id", "age", "income", "home_ownership", "marital_status", "household_size",
        "household_comp", "kids_count",
    ),
}  # fmt: skip
_ATTRIBUTES = ("income", "home_ownership", "household_size")
_PROTECTED = ("age", "marital_status", "household_comp", "kids_count")
_NO_GOODS = ("FUEL", "COUPON")  # departments; fuel is counted in thousandths of a gallon
_OFFERS = {"Type A": "coupons_a", "Type B": "coupons_b", "Type C": "coupons_c"}

_DESIGN = {
    "is_randomized": False,
    "outcome": "revenue",
    "unit": "USD",
    "currency": "USD",
    "control_propensity": None,
    "note": "targeted mailings, not randomized: the mailed households bought more before; without "
    "adjustment a difference between arms is not an effect",
}


class _Campaigns(NamedTuple):
    """Rows of the campaign log and counts for the notes."""

    rows: pl.DataFrame
    n_campaigns: int
    n_busy_controls: int
    n_busy_treated: int


@register("complete_journey")
@dataclass(frozen=True, kw_only=True)
class CompleteJourney:
    """Events, catalog, users and a campaign log of household x campaign rows.

    Events: `unit_price` is what the customer paid per unit, after loyalty discount and coupons;
    `discount` holds all three discounts of the line. Fuel (not counted in pieces), coupon
    bookkeeping and lines without units or value are left out.

    Campaign log: the arm is the type of the mailed campaign; `amount` of its offer is the median
    face value of the coupons used on products that campaigns of the type cover. Control rows are
    households that were not mailed in the campaign nor in another one that runs at some time in
    its window. Every row has a purchase before the start. The window is the same for all
    campaigns; those that start on one day are one wave, with one row per household. Revenue is
    `sales_value` of goods in it; `is_conversion` says whether anything was bought
    (redemption is known of mailed households only); cost is what coupons took off covered
    products in the window, 0 for control. All are sums over the sampled lines: 1/19.6 of the
    whole.

    Attributes:
        history_days: least days between the first day of the data and the start of a campaign.
        window_days: length of the outcome window in days; it must end within the data.
        contact_cost: cost of one mailing in USD at the scale of the sample. The source gives
            none; 0.025 assumes 0.50 USD for print and postage, times the sampled share 5.1 %.
    """

    name: ClassVar[str] = "complete_journey"
    history_days: int = 175
    window_days: int = 28
    contact_cost: float = 0.025

    def __post_init__(self) -> None:
        if self.history_days < 0 or self.window_days < 1 or not self.contact_cost >= 0.0:
            raise ConfigError(
                "history_days >= 0, window_days >= 1 and contact_cost >= 0 must hold; "
                f"got {self.history_days}, {self.window_days}, {self.contact_cost}"
            )

    def recognizes(self, files: frozenset[str]) -> bool:
        """Whether all files that the adapter reads are there."""
        return {f"{name}.parquet" for name in _COLUMNS} <= files

    def read(self, directory: str) -> Dataset:
        """See `Adapter.read`.

        Raises:
            DataError: a file cannot be read or lacks a column, or no campaign fits.
        """
        root = directory.rstrip("/")
        raw = {
            name: pl.DataFrame(read_source(f"{root}/{name}.parquet", columns))
            for name, columns in _COLUMNS.items()
        }
        strange = set(raw["campaign_descriptions"]["campaign_type"].to_list()) - set(_OFFERS)
        if strange:
            raise DataError(
                f"column 'campaign_type' must be one of {', '.join(_OFFERS)}; got {min(strange)!r}",
                where=f"{root}/campaign_descriptions.parquet",
            )
        products = raw["products"].with_columns(pl.selectors.categorical().cast(pl.String))
        lines = raw["transactions_sample"]
        goods = _goods(lines, products)
        campaigns = self._campaigns(raw, goods, directory)
        return Dataset(
            name=self.name,
            events=_events(goods, directory),
            catalog=_catalog(goods, products, directory),
            users=_users(raw, directory),
            campaign_log=self._log(campaigns.rows, directory),
            offers=self._offers(_face_values(raw, goods)),
            design=dict(_DESIGN),
            notes=self._notes(lines, goods, campaigns),
        )

    def _notes(
        self, lines: pl.DataFrame, goods: pl.DataFrame, campaigns: _Campaigns
    ) -> tuple[str, ...]:
        n_clipped = goods.filter(pl.col("sales_value") < pl.col("coupon_disc")).height
        n_treated = campaigns.rows["offer_id"].count()
        return (
            f"{goods.height} of {lines.height} lines kept; the others are fuel, coupon "
            "bookkeeping, or lines without units or value.",
            "The lines are a 5.1 % random sample: baskets are broken up, and sums per household "
            "are 1/19.6 of the whole.",
            f"{n_clipped} lines whose coupon exceeds their price count as free.",
            f"Campaign log: {campaigns.n_campaigns} campaigns that start at least "
            f"{self.history_days} days into the data and end their {self.window_days} days within "
            f"it; {n_treated} mailed and {campaigns.rows.height - n_treated} control rows.",
            f"{campaigns.n_busy_controls} control rows under another campaign are left out; "
            f"{campaigns.n_busy_treated} mailed rows are under another campaign too and stay.",
            "Mailings were targeted, not randomized: propensities are unknown.",
            f"A mailing is assumed to cost {self.contact_cost:g} USD at the scale of the sample.",
        )

    def _campaigns(
        self, raw: dict[str, pl.DataFrame], goods: pl.DataFrame, where: str
    ) -> _Campaigns:
        """Household x campaign rows with outcomes."""
        at = raw["transactions_sample"]["transaction_timestamp"]
        window = timedelta(days=self.window_days)
        first = at.dt.truncate("1d").min() + timedelta(days=self.history_days)  # type: ignore[operator]
        runs = raw["campaign_descriptions"].with_columns(
            pl.col("campaign_type").cast(pl.String),
            pl.col("start_date", "end_date").cast(pl.Datetime("us")),
        )
        used = runs.filter(
            (pl.col("start_date") >= first) & (pl.col("start_date") + window <= at.max())
        ).sort("start_date", "campaign_id")
        if used.is_empty():
            raise DataError(
                f"some campaign must have {self.history_days} days before and "
                f"{self.window_days} days after its start; got none",
                where=where,
            )
        parts, n_busy_controls, n_busy_treated = [], 0, 0
        for _, wave in used.group_by("start_date", maintain_order=True):
            part, busy = _candidates(wave, runs, raw["campaigns"], goods, window)
            is_control = part["offer_id"].is_null()
            is_busy = part["household_id"].is_in(busy.implode())
            n_busy_controls += int((is_control & is_busy).sum())
            n_busy_treated += int((~is_control & is_busy).sum())
            coupons = raw["coupons"].join(wave, on="campaign_id", how="semi")
            part = part.filter(~(is_control & is_busy))
            parts.append(_outcomes(part, wave["start_date"][0], window, goods, coupons))
        return _Campaigns(pl.concat(parts), used.height, n_busy_controls, n_busy_treated)

    def _log(self, rows: pl.DataFrame, where: str) -> pa.Table:
        columns = {
            "user_id": rows["household_id"].cast(pl.String).to_arrow(),
            "offer_id": rows["offer_id"].to_arrow(),
            "exposed_at": rows["exposed_at"].dt.replace_time_zone("UTC").to_arrow(),
            "channel": ["mail"] * rows.height,
            "is_conversion": rows["is_conversion"].to_arrow(),
            "revenue": rows["revenue"].to_arrow(),
            "cost": rows["cost"].to_arrow(),
            "window_s": [self.window_days * 86_400.0] * rows.height,
        }
        return conformed(columns, CAMPAIGN_LOG.tables["campaign_log"], where)

    def _offers(self, faces: dict[str, float]) -> pa.Table:
        return offer_terms(
            {
                "offer_id": offer_id,
                "mechanic": "amount_off",
                "amount": faces[kind],
                "contact_cost": self.contact_cost,
                "label": f"coupons of a {kind} campaign",
            }
            for kind, offer_id in _OFFERS.items()
        )


def _goods(lines: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    """Lines of goods in pieces, with what was paid and what was taken off; currency units."""
    kinds = products.select("product_id", "department", "product_type")
    shelf = pl.col("sales_value") + pl.col("retail_disc") + pl.col("coupon_match_disc")
    paid = (pl.col("sales_value") - pl.col("coupon_disc")).clip(lower_bound=0.0)
    is_fuel = pl.col("product_type").fill_null("").str.contains("GASOLINE")
    return (
        lines.join(kinds, on="product_id", how="left", maintain_order="left")
        .filter(~pl.col("department").is_in(_NO_GOODS) & ~is_fuel)
        .filter((pl.col("quantity") > 0) & (shelf > 0))
        .with_columns(
            paid=paid,
            discount=(shelf - paid).clip(lower_bound=0.0),
            shelf_price=shelf / pl.col("quantity"),
            coupon=pl.col("coupon_disc") + pl.col("coupon_match_disc"),
            at=pl.col("transaction_timestamp").cast(pl.Datetime("us")),
        )
        .sort("household_id", "at", "basket_id", "product_id", maintain_order=True)
    )


def _events(goods: pl.DataFrame, where: str) -> pa.Table:
    columns: dict[str, Any] = {
        "user_id": goods["household_id"].cast(pl.String).to_arrow(),
        "item_id": goods["product_id"].cast(pl.String).to_arrow(),
        "event_type": ["purchase"] * goods.height,
        "at": goods["at"].dt.replace_time_zone("UTC").to_arrow(),
        "quantity": goods["quantity"].cast(pl.Int32).to_arrow(),
        "unit_price": (goods["paid"] / goods["quantity"]).to_arrow(),
        "discount": goods["discount"].to_arrow(),
        "channel": ["store"] * goods.height,
        "order_id": goods["basket_id"].cast(pl.String).to_arrow(),
    }
    return conformed(columns, EVENTS.tables["events"], where)


def _catalog(goods: pl.DataFrame, products: pl.DataFrame, where: str) -> pa.Table:
    """Items that were sold, priced at the median of their shelf prices."""
    path = ("department", "product_category", "product_type")
    items = (
        goods.group_by("product_id")
        .agg(pl.col("shelf_price").median())
        .join(products, on="product_id", how="left")
        .with_columns(
            category=pl.concat_str(path, separator=" > ", ignore_nulls=True),
            title=pl.concat_str(
                ["product_type", "package_size"], separator=", ", ignore_nulls=True
            ),
        )
        .sort("product_id")
    )
    columns = {
        "item_id": items["product_id"].cast(pl.String).to_arrow(),
        "category": items["category"].to_arrow(),
        "brand": items["brand"].to_arrow(),
        "title": items["title"].to_arrow(),
        "list_price": items["shelf_price"].to_arrow(),
        "is_active": [True] * items.height,
    }
    return conformed(columns, CATALOG.tables["catalog"], where)


def _users(raw: dict[str, pl.DataFrame], where: str) -> pa.Table:
    """All households of any table; demographics are known of a third."""
    tables = ("transactions_sample", "campaigns", "demographics")
    households = pl.concat([raw[t].select("household_id") for t in tables]).unique()
    frame = households.join(raw["demographics"], on="household_id", how="left").sort("household_id")
    columns = {"user_id": frame["household_id"].cast(pl.String).to_arrow()}
    names = {f"attr_{n}": n for n in _ATTRIBUTES} | {f"protected_{n}": n for n in _PROTECTED}
    columns |= {k: frame[n].cast(pl.String).to_arrow().cast(pa.string()) for k, n in names.items()}
    return conformed(columns, USERS.tables["users"], where)


def _face_values(raw: dict[str, pl.DataFrame], goods: pl.DataFrame) -> dict[str, float]:
    """Median face value in USD of coupons used on covered products, by type of campaign."""
    runs = raw["campaign_descriptions"].with_columns(pl.col("campaign_type").cast(pl.String))
    covered = raw["coupons"].join(runs, on="campaign_id").select("product_id", "campaign_type")
    used = goods.filter(pl.col("coupon_disc") > 0).select("product_id", "coupon_disc")
    by_type = used.join(covered.unique(), on="product_id").group_by("campaign_type")
    medians = dict(by_type.agg(pl.col("coupon_disc").median()).iter_rows())
    overall = float(used["coupon_disc"].median() or 0.0)  # type: ignore[arg-type]
    return {kind: medians.get(kind, overall) for kind in _OFFERS}


def _candidates(
    wave: pl.DataFrame,
    runs: pl.DataFrame,
    mailed: pl.DataFrame,
    goods: pl.DataFrame,
    window: timedelta,
) -> tuple[pl.DataFrame, pl.Series]:
    """Households with a purchase before the start and their arm; those under another campaign.

    A wave is the campaigns that start on one day; a household in two of them has the first type.
    """
    start = wave["start_date"][0]
    others = runs.join(wave, on="campaign_id", how="anti").filter(
        (pl.col("start_date") < start + window) & (pl.col("end_date") >= start)
    )
    busy = mailed.join(others, on="campaign_id", how="semi")["household_id"].unique()
    arm = pl.col("campaign_type").min().replace_strict(_OFFERS)
    arms = mailed.join(wave, on="campaign_id").group_by("household_id").agg(offer_id=arm)
    known = goods.filter(pl.col("at") < start).select("household_id").unique()
    part = known.join(arms, on="household_id", how="left").sort("household_id")
    return part.with_columns(exposed_at=pl.lit(start, pl.Datetime("us"))), busy


def _outcomes(
    part: pl.DataFrame,
    start: Any,
    window: timedelta,
    goods: pl.DataFrame,
    covered: pl.DataFrame,
) -> pl.DataFrame:
    """Rows with revenue, purchase and coupon cost in the window."""
    is_covered = pl.col("product_id").is_in(covered["product_id"].implode())
    sums = (
        goods.filter((pl.col("at") >= start) & (pl.col("at") < start + window))
        .group_by("household_id")
        .agg(
            revenue=pl.col("sales_value").sum(),
            cost=pl.col("coupon").filter(is_covered).sum(),
        )
    )
    joined = part.join(sums, on="household_id", how="left", maintain_order="left")
    is_mailed = pl.col("offer_id").is_not_null()
    return joined.with_columns(
        is_conversion=pl.col("revenue").is_not_null(),
        revenue=pl.col("revenue").fill_null(0.0),
        cost=pl.when(is_mailed).then(pl.col("cost").fill_null(0.0)).otherwise(0.0),
    )
