"""Reading the canonical tables from parquet or CSV on any pyarrow filesystem.

Faults of structure always fail: a missing column, a wrong type, an unknown event type, a null or
repeated id in a catalog. Faults of value in events (missing prices, negative quantities) pass
here; `quality.check_quality` counts them and `clean.clean` deals with them. Times without a zone
are taken as UTC. A directory is read as one table from its `.parquet` or `.csv` parts by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENT_TYPES, EVENTS
from promo_ray.artifacts.files import open_filesystem
from promo_ray.artifacts.kind import TableSpec
from promo_ray.artifacts.users import USERS
from promo_ray.data.cast import cast_attribute, cast_column, parse_text
from promo_ray.errors import ConfigError, DataError

EXTENSIONS = (".parquet", ".csv")
MECHANICS = ("percent_off", "amount_off", "spend_threshold", "product_bundle", "message")
Mapped = Mapping[str, str]  # canonical column -> source column


def read_table(
    uri: str,
    spec: TableSpec | pa.Schema,
    mapping: Mapped | None = None,
    *,
    allow_nulls: bool = False,
) -> pa.Table:
    """Read one canonical table.

    Args:
        uri: `.parquet` or `.csv` file, or a directory of such; local path, `s3://` or `gs://`.
        spec: columns to read. Optional ones that the file lacks are filled with nulls; columns
            that the spec does not know are left out.
        mapping: canonical column -> source column, for those that are named otherwise.
        allow_nulls: let nulls in required columns pass, for a later cleaning.

    Returns:
        Table with the columns of `spec` in order, then those that match its prefixes.

    Raises:
        DataError: no such file, unknown extension, empty, damaged, or a column that is missing,
            of a wrong type, or null where that is forbidden; names file and column.
    """
    spec = spec if isinstance(spec, TableSpec) else TableSpec(schema=spec)
    sources = dict(mapping or {})
    _check_mapping(sources, spec, uri)
    raw = _load(uri, [sources.get(name, name) for name in spec.schema.names])
    if raw.num_rows == 0:
        raise DataError("file must have rows; got an empty table", where=uri)
    columns, fields = [], []
    for want in spec.schema:
        column = _find(raw, want, sources, uri)
        if not want.nullable and not allow_nulls:
            _no_null(column, want.name, uri)
        columns.append(column)
        fields.append(pa.field(want.name, want.type, want.nullable or allow_nulls))
    for name, source in _prefixed(raw, spec, sources, uri):
        column = cast_attribute(raw.column(source), name, uri)
        columns.append(column)
        fields.append(pa.field(name, column.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def read_events(uri: str, mapping: Mapped | None = None) -> pa.Table:
    """Events as they are in the file, values unchecked but for their types.

    Args:
        uri: see `read_table`.
        mapping: see `read_table`.

    Returns:
        `events` table in the order of the file; required columns may hold nulls until `clean`.

    Raises:
        DataError: as `read_table`, or an event type that is not one of `EVENT_TYPES`.
    """
    events = read_table(uri, EVENTS.tables["events"].schema, mapping, allow_nulls=True)
    _one_of(events, "event_type", EVENT_TYPES, uri)
    return events


def read_catalog(uri: str, mapping: Mapped | None = None) -> pa.Table:
    """Catalog with unique `item_id` and no negative price, cost or stock.

    Raises:
        DataError: a rule is broken; names file, column and row.
    """
    catalog = read_table(uri, CATALOG.tables["catalog"], mapping)
    _unique(catalog, "item_id", uri)
    for name in ("list_price", "unit_cost", "stock"):
        _in_range(catalog, name, uri, low=0.0)
    return catalog


def read_users(uri: str, mapping: Mapped | None = None) -> pa.Table:
    """Users with unique `user_id`; `attr_*` and `protected_*` columns are kept.

    Raises:
        DataError: a rule is broken; names file and column.
    """
    users = read_table(uri, USERS.tables["users"], mapping)
    _unique(users, "user_id", uri)
    return users


def read_campaign_log(uri: str, mapping: Mapped | None = None) -> pa.Table:
    """Campaign log with propensities in (0, 1] or all unknown, and windows above 0.

    Raises:
        DataError: a rule is broken; names file, column and row.
    """
    log = read_table(uri, CAMPAIGN_LOG.tables["campaign_log"], mapping)
    _in_range(log, "propensity", uri, above=0.0, high=1.0)
    _in_range(log, "window_s", uri, above=0.0)
    n_unknown = log["propensity"].null_count
    if 0 < n_unknown < log.num_rows:
        raise DataError(
            "column 'propensity' must be known in every row or in none; "
            f"{n_unknown} of {log.num_rows} are null",
            where=uri,
        )
    keys = ["user_id", "offer_id", "exposed_at"]
    n_distinct = log.group_by(keys, use_threads=False).aggregate([]).num_rows
    if n_distinct < log.num_rows:
        raise DataError(
            f"rows must differ in {', '.join(keys)}; got {log.num_rows - n_distinct} duplicates",
            where=uri,
        )
    return log


def read_offers(uri: str, mapping: Mapped | None = None) -> pa.Table:
    """Offer terms with unique `offer_id`, a known mechanic and parameters in range.

    Raises:
        DataError: a rule is broken; names file, column and row.
    """
    offers = read_table(uri, CAMPAIGN_LOG.tables["offers"], mapping)
    _unique(offers, "offer_id", uri)
    _one_of(offers, "mechanic", MECHANICS, uri)
    _in_range(offers, "depth_rate", uri, low=0.0, high=1.0)
    for name in ("amount", "threshold", "contact_cost"):
        _in_range(offers, name, uri, low=0.0)
    return offers


def read_source(uri: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a foreign file as they are, for adapters.

    Raises:
        DataError: the file cannot be read, is empty or lacks a column.
    """
    raw = _load(uri, [])
    for name in columns:
        if name not in raw.column_names:
            raise _absent(raw, name, name, uri)
    if raw.num_rows == 0:
        raise DataError("file must have rows; got an empty table", where=uri)
    return raw.select(list(columns))


def list_files(uri: str) -> frozenset[str]:
    """Names of files and folders right under a directory.

    Raises:
        DataError: it is no directory, or cannot be listed.
    """
    fs, path = _open(uri)
    try:
        if fs.get_file_info(path).type != pafs.FileType.Directory:
            raise DataError("data directory must exist", where=uri)
        infos = fs.get_file_info(pafs.FileSelector(path))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"directory must be readable; {error}", where=uri) from error
    return frozenset(info.base_name for info in infos)


def _check_mapping(sources: Mapping[str, str], spec: TableSpec, where: str) -> None:
    for name in sources:
        if name not in spec.schema.names and not name.startswith(spec.prefixes or ("\0",)):
            known = ", ".join([*spec.schema.names, *(f"{p}*" for p in spec.prefixes)])
            raise DataError(
                f"column mapping must name canonical columns; got {name!r}; known: {known}",
                where=where,
            )


def _open(uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        return open_filesystem(uri)
    except ConfigError as error:
        raise DataError("must be a local path or a known URI", where=uri) from error


def _load(uri: str, sources: list[str]) -> pa.Table:
    fs, path = _open(uri)
    try:
        paths = _parts(fs, path, uri)
        tables = [_load_file(fs, p, sources, uri) for p in paths]
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeDecodeError) as error:
        kind = "parquet" if uri.endswith(".parquet") else "CSV"
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"file must be whole, valid {kind}; {reason}", where=uri) from error
    except OSError as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"file must be readable; {reason}", where=uri) from error
    return table


def _parts(fs: pafs.FileSystem, path: str, uri: str) -> list[str]:
    info = fs.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise DataError("file must exist", where=uri)
    if info.type == pafs.FileType.Directory:
        found = [i.path for i in fs.get_file_info(pafs.FileSelector(path))]
        found = sorted(p for p in found if p.endswith(EXTENSIONS))
        if not found:
            raise DataError("directory must hold .parquet or .csv parts; got none", where=uri)
        return found
    if not path.endswith(EXTENSIONS):
        raise DataError("file must end in .parquet or .csv", where=uri)
    if info.size == 0:
        raise DataError("file must have rows; got an empty file", where=uri)
    return [path]


def _load_file(fs: pafs.FileSystem, path: str, sources: list[str], where: str) -> pa.Table:
    if path.endswith(".parquet"):
        with fs.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            _unique_names(file.schema_arrow.names, where)
            return file.read()
    # read as text, so that a fault can be named by its row and no type hangs on a first block
    with fs.open_input_stream(path) as source:
        names = pacsv.open_csv(source).schema.names
    _unique_names(names, where)
    convert = pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
    )
    with fs.open_input_stream(path) as source:
        table = pacsv.read_csv(source, convert_options=convert)
    for place, name in enumerate(names):
        if name not in sources:
            table = table.set_column(place, name, parse_text(table.column(place)))
    return table


def _unique_names(names: list[str], where: str) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"column names must be unique; got {twice[0]!r} twice", where=where)


def _find(raw: pa.Table, want: pa.Field, sources: Mapped, where: str) -> pa.ChunkedArray:
    source = sources.get(want.name, want.name)
    if source in raw.column_names:
        return cast_column(raw.column(source), want, where)
    if want.nullable and want.name not in sources:
        return pa.chunked_array([pa.nulls(raw.num_rows, want.type)])
    raise _absent(raw, want.name, source, where)


def _absent(raw: pa.Table, name: str, source: str, where: str) -> DataError:
    hint = f" (mapped to {name!r})" if source != name else ""
    got = ", ".join(raw.column_names)
    return DataError(f"column {source!r}{hint} must be present; got {got}", where=where)


def _prefixed(
    raw: pa.Table, spec: TableSpec, sources: Mapped, where: str
) -> Iterable[tuple[str, str]]:
    """Pairs of canonical and source name of the columns that match a prefix of the spec."""
    if not spec.prefixes:
        return []
    known = set(spec.schema.names)
    named = {n: s for n, s in sources.items() if n not in known}
    for name, source in named.items():
        if source not in raw.column_names:
            raise _absent(raw, name, source, where)
    own = {n: n for n in raw.column_names if n not in known and n.startswith(spec.prefixes)}
    return sorted({**own, **named}.items())


def _no_null(column: pa.ChunkedArray, name: str, where: str) -> None:
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py() + 1
        raise DataError(
            f"column {name!r} must have no null or NaN; "
            f"got {column.null_count}, the first in row {row}",
            where=where,
        )


def _unique(table: pa.Table, name: str, where: str) -> None:
    column = table.column(name)
    n_extra = len(column) - pc.count_distinct(column).as_py()
    if n_extra:
        raise DataError(f"column {name!r} must be unique; got {n_extra} repeated", where=where)


def _one_of(table: pa.Table, name: str, allowed: tuple[str, ...], where: str) -> None:
    column = table.column(name)
    is_bad = pc.and_(column.is_valid(), pc.invert(pc.is_in(column, pa.array(allowed))))
    row = pc.index(is_bad, True).as_py()
    if row >= 0:
        raise DataError(
            f"column {name!r} must be one of {', '.join(allowed)}; "
            f"got {column[row].as_py()[:40]!r} in row {row + 1}",
            where=where,
        )


def _in_range(
    table: pa.Table,
    name: str,
    where: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
) -> None:
    column = table.column(name)
    tests = [
        (f"at least {low}", low, pc.less),
        (f"above {above}", above, pc.less_equal),
        (f"at most {high}", high, pc.greater),
    ]
    rule = " and ".join(text for text, bound, _ in tests if bound is not None)
    for _, bound, fails in tests:
        row = -1 if bound is None else pc.index(fails(column, bound), True).as_py()
        if row >= 0:
            got = column[row].as_py()
            raise DataError(
                f"column {name!r} must be {rule}; got {got} in row {row + 1}", where=where
            )
