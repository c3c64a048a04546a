"""Online Retail: two years of invoices of a British gift shop; events and catalog, no campaign.

Source: D. Chen, UCI Machine Learning Repository, "Online Retail" (2015) and "Online Retail II"
(2019), CC BY 4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import polars as pl
import pyarrow as pa

from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.data.dataset import Dataset, conformed
from promo_ray.data.read import read_source
from promo_ray.registry import register

_FIRST = "year_2009_2010.parquet"
_SECOND = "year_2010_2011.parquet"
_COLUMNS = ("description", "quantity", "invoice_date", "price", "customer_id")
# postage, fees, corrections, samples and tests: no goods
_SERVICES = (
    "POST", "DOT", "C2", "C3", "M", "D", "S", "B", "BANK CHARGES", "AMAZONFEE", "CRUK",
    "ADJUST", "ADJUST2", "TEST001", "TEST002", "DESC:CRUK COMMISSION",
)  # fmt: skip
_CATEGORY = "gifts"


class _Lines(NamedTuple):
    """Lines of both years: frame and counts for the notes."""

    frame: pl.DataFrame
    n_overlap: int
    n_described: int  # lines of the second year whose item has no stock code


@register("online_retail")
@dataclass(frozen=True, kw_only=True)
class OnlineRetail:
    """Events and catalog of customers with an id.

    Items are stock codes. The second year has none: an item there is looked up by its description
    in the first year (its most frequent code there), else it is `DESC:` and the description.
    Orders are invoices, in the second year customer and second. Times are local, taken as UTC.
    """

    name: ClassVar[str] = "online_retail"

    def recognizes(self, files: frozenset[str]) -> bool:
        """Whether both years are there."""
        return {_FIRST, _SECOND} <= files

    def read(self, directory: str) -> Dataset:
        """See `Adapter.read`.

        Raises:
            DataError: a file cannot be read or lacks a column.
        """
        root = directory.rstrip("/")
        first = _load(f"{root}/{_FIRST}", ("invoice", "stock_code", *_COLUMNS))
        second = _load(f"{root}/{_SECOND}", _COLUMNS)
        lines = _join(first, second)
        known = lines.frame.filter(pl.col("customer_id").is_not_null())
        goods = known.filter(~pl.col("item_id").is_in(_SERVICES) & (pl.col("quantity") != 0))
        goods = goods.sort(["customer_id", "at"], maintain_order=True)
        n_returns = goods.filter(pl.col("quantity") < 0).height
        n_lines = lines.frame.height
        return Dataset(
            name=self.name,
            events=_events(goods, directory),
            catalog=_catalog(goods, directory),
            users=None,
            campaign_log=None,
            offers=None,
            design=None,
            notes=(
                f"{goods.height} lines of {n_lines} kept; money is GBP, times are local.",
                f"{lines.n_overlap} lines of December 2010 stand in both years; the second copy "
                "is dropped.",
                f"{n_lines - known.height} lines without a customer are dropped.",
                f"{known.height - goods.height} lines of postage, fees and corrections are "
                "dropped.",
                f"{n_returns} lines with a negative quantity are returns.",
                f"{lines.n_described} lines of the second year have no stock code; the "
                "description stands for the item.",
                f"The source has no categories; all items are in {_CATEGORY!r}.",
            ),
        )


def _load(uri: str, columns: tuple[str, ...]) -> pl.DataFrame:
    frame = pl.DataFrame(read_source(uri, columns))
    texts = [c for c in ("invoice", "stock_code", "description") if c in columns]
    return frame.with_columns(
        pl.col(texts).cast(pl.String),
        pl.col("invoice_date").cast(pl.Datetime("us")).alias("at"),
        pl.col("description")
        .cast(pl.String)
        .str.strip_chars()
        .str.to_uppercase()
        .str.replace_all(r"\s+", " ")
        .alias("words"),
    )


def _join(first: pl.DataFrame, second: pl.DataFrame) -> _Lines:
    first = first.with_columns(pl.col("stock_code").str.to_uppercase().alias("item_id"))
    codes = (
        first.drop_nulls(["words", "item_id"])
        .group_by("words", "item_id")
        .len()
        .sort(["words", "len", "item_id"], descending=[False, True, False])
        .group_by("words", maintain_order=True)
        .first()
        .select("words", "item_id")
    )
    n_second = second.height
    second = second.filter(pl.col("at") > first["at"].max())
    n_overlap = n_second - second.height
    second = second.join(codes, on="words", how="left", maintain_order="left")
    of_words = "DESC:" + pl.col("words").fill_null("")
    n_described = second.filter(
        pl.col("item_id").is_null() & pl.col("customer_id").is_not_null()
    ).height
    second_of = pl.col("at").dt.strftime("%Y%m%d%H%M%S")
    second = second.with_columns(
        pl.coalesce(pl.col("item_id"), of_words).alias("item_id"),
        pl.format("{}-{}", pl.col("customer_id"), second_of).alias("invoice"),
    )
    columns = ["customer_id", "item_id", "invoice", "words", "at", "quantity", "price"]
    return _Lines(
        pl.concat([first.select(columns), second.select(columns)]), n_overlap, n_described
    )


def _events(goods: pl.DataFrame, where: str) -> pa.Table:
    is_return = pl.col("quantity") < 0
    frame = goods.select(
        user_id=pl.col("customer_id").cast(pl.Int64).cast(pl.String),
        item_id=pl.col("item_id"),
        event_type=pl.when(is_return).then(pl.lit("return")).otherwise(pl.lit("purchase")),
        at=pl.col("at").dt.replace_time_zone("UTC"),
        quantity=pl.col("quantity").abs().cast(pl.Int32),
        unit_price=pl.col("price").cast(pl.Float64),
        channel=pl.lit("web"),
        order_id=pl.col("invoice"),
    )
    columns = {n: frame[n].to_arrow() for n in frame.columns}
    return conformed(columns, EVENTS.tables["events"], where)


def _catalog(goods: pl.DataFrame, where: str) -> pa.Table:
    """Items sold, with their median price and most frequent description."""
    titles = (
        goods.drop_nulls("words")
        .group_by("item_id", "words")
        .len()
        .sort(["item_id", "len", "words"], descending=[False, True, False])
        .group_by("item_id", maintain_order=True)
        .first()
        .select("item_id", "words")
    )
    price = pl.col("price")
    sold = goods.group_by("item_id").agg(
        # free gifts say nothing about the price unless the item was never charged for
        pl.coalesce(price.filter(price > 0).median(), pl.lit(0.0)).alias("list_price")
    )
    items = sold.join(titles, on="item_id", how="left").sort("item_id")
    columns = {
        "item_id": items["item_id"].to_arrow(),
        "category": [_CATEGORY] * items.height,
        "title": items["words"].to_arrow(),
        "list_price": items["list_price"].to_arrow(),
        "is_active": [True] * items.height,
    }
    return conformed(columns, CATALOG.tables["catalog"], where)
