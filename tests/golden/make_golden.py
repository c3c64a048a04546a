"""Writes one small artefact per kind; run it when a schema version is released.

python tests/golden/make_golden.py tests/golden/v1
"""

import sys
from typing import Any

import numpy as np
import pyarrow as pa

from promo_ray.artifacts import ArtifactStore, Kind, TableSpec, kinds

_BY_TYPE: dict[str, list[Any]] = {
    "string": ["a", "b"],
    "double": [0.25, 2.5],
    "float": [0.5, 1.5],
    "bool": [True, False],
    "int8": [1, 2],
    "int32": [3, 4],
    "int64": [5, 6],
    "timestamp[us, tz=UTC]": [0, 86_400_000_000],
}


def column(field: pa.Field) -> pa.Array:
    if pa.types.is_list(field.type):
        inner = column(pa.field("item", field.type.value_type)).to_pylist()
        return pa.array([inner, inner[:1]], field.type)
    values = list(_BY_TYPE[str(field.type)])
    if field.nullable:
        values[1] = None
    return pa.array(values, field.type)


def table(spec: TableSpec) -> pa.Table:
    return pa.Table.from_arrays([column(f) for f in spec.schema], schema=spec.schema)


def write(store: ArtifactStore, kind: Kind) -> None:
    with store.write(kind, config={"a": 1}, seed=7, inputs={"source": "0"}) as writer:
        for name, spec in kind.tables.items():
            if spec.is_sharded:
                writer.part(name, 0, table(spec))
                writer.part(name, 1, table(spec))
            else:
                writer.table(name, table(spec))
        for name in kind.documents:
            writer.json(name, {"name": name, "numbers": [1, 2.5]})
        writer.tensors("arrays", {"w": np.arange(6.0).reshape(2, 3)})


if __name__ == "__main__":
    for each in kinds().values():
        write(ArtifactStore(sys.argv[1]), each)
