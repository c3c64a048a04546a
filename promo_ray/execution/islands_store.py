"""Files of an island run: states, the index that makes them a checkpoint, the migration log.

States are safetensors, one file per cell and interval, written by the worker that computed them.
The index is JSON, written by the driver after them: what it names is whole. Nothing is pickled.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from promo_ray.artifacts.files import open_filesystem, parquet_bytes
from promo_ray.errors import ArtifactError, OutputError

INDEX, LOG = "checkpoint.json", "migrations.parquet"
_VERSION = 1
_STATE, _PART, _PARTIAL = "state-", "migrations-", ".partial"


class Index(NamedTuple):
    """What a checkpoint says beside the states.

    Attributes:
        key: what the search is; another key is refused.
        rounds: intervals that each island has behind it.
        files: file of each island's state; empty = it has not finished an interval.
        history: see `islands_log.History`.
        log: see `islands_log.MigrationLog`.
    """

    key: str
    rounds: list[int]
    files: list[str]
    history: dict[str, Any]
    log: dict[str, Any]


class IslandStore:
    """Files of one run at a URI; picklable, opened where it is used."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._opened: tuple[pafs.FileSystem, str] | None = None
        self._has_directory = False

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "_opened": None, "_has_directory": False}

    def _place(self) -> tuple[pafs.FileSystem, str]:
        if self._opened is None:
            self._opened = open_filesystem(self.uri)
        return self._opened

    def _write(self, name: str, raw: bytes | pa.Buffer) -> None:
        """Put a file in its place whole; two writers of one name write the same bytes."""
        fs, root = self._place()
        partial = f"{root}/.{uuid.uuid4().hex}{_PARTIAL}"
        try:
            if not self._has_directory:
                fs.create_dir(root, recursive=True)
                self._has_directory = True
            with fs.open_output_stream(partial) as sink:
                sink.write(raw)
            fs.move(partial, f"{root}/{name}")
        except OSError as error:
            raise _unwritable(self.uri, error) from error

    def _read(self, name: str) -> bytes:
        fs, root = self._place()
        try:
            with fs.open_input_stream(f"{root}/{name}") as source:
                raw: bytes = source.read()
        except OSError as error:
            raise ArtifactError(f"checkpoint {self.uri} must hold {name}: {error}") from error
        return raw

    @staticmethod
    def name_of(islands: Sequence[int], at_round: int) -> str:
        """File of the states of a cell after a number of intervals."""
        return f"{_STATE}{islands[0]:05d}-{len(islands):05d}-{at_round:09d}.safetensors"

    def write_states(
        self, islands: Sequence[int], at_round: int, parts: Sequence[Mapping[str, NDArray[Any]]]
    ) -> str:
        """Write the states of a cell; the name of their file."""
        arrays = {
            f"{island}/{field}": np.asarray(array, order="C")
            for island, part in zip(islands, parts, strict=True)
            for field, array in part.items()
        }
        name = self.name_of(islands, at_round)
        self._write(name, save(arrays))
        return name

    def read_states(
        self, files: Sequence[str], islands: Sequence[int]
    ) -> list[dict[str, NDArray[Any]]]:
        """States of islands, each from its file."""
        contents = {}
        for name in sorted(set(files)):
            try:
                contents[name] = load(self._read(name))
            except SafetensorError as error:
                raise self._damaged(name, error) from error
        found = []
        for name, island in zip(files, islands, strict=True):
            prefix = f"{island}/"
            own = {k: v for k, v in contents[name].items() if k.startswith(prefix)}
            found.append({k[len(prefix) :]: v for k, v in own.items()})
        return found

    def write_index(self, index: Index) -> None:
        """Make what is written a checkpoint, and delete what it no longer needs."""
        self._write(INDEX, orjson.dumps({"version": _VERSION, **index._asdict()}))
        self._sweep(index, lambda name: _is_ahead(name, index))

    def _sweep(self, index: Index | None, is_kept: Callable[[str], bool]) -> None:
        needed = set() if index is None else {*index.files, *index.log["parts"]}
        fs, root = self._place()
        for info in fs.get_file_info(pafs.FileSelector(root, allow_not_found=True)):
            name = info.base_name
            is_ours = name.startswith((_STATE, _PART)) or name.endswith(_PARTIAL)
            if is_ours and name not in needed and not is_kept(name):
                fs.delete_file(info.path)

    def read_index(self, key: str, n_islands: int) -> Index | None:
        """The checkpoint, or None if there is none yet; what a killed run left over is deleted.

        Raises:
            ArtifactError: it is of another search or of another version.
        """
        index = self.peek()
        if index is not None and (index.key != key or len(index.rounds) != n_islands):
            raise ArtifactError(
                f"checkpoint {self.uri} must be of this search; it has other islands, settings "
                "or another seed"
            )
        self._sweep(index, lambda name: False)
        return index

    def peek(self) -> Index | None:
        """The checkpoint of whatever search, or None; nothing is changed."""
        fs, root = self._place()
        if fs.get_file_info(f"{root}/{INDEX}").type != pafs.FileType.File:
            return None
        try:
            found = orjson.loads(self._read(INDEX))
            version = found.pop("version", 0)
            if version != _VERSION:
                raise ArtifactError(
                    f"checkpoint {self.uri} must be of version {_VERSION}; got {version}"
                )
            return Index(**found)
        except (AttributeError, TypeError, ValueError) as error:
            raise self._damaged(INDEX, error) from error

    def write_log(self, name: str, table: pa.Table) -> None:
        """Write a part of the migration log, or the log."""
        self._write(name, parquet_bytes(table))

    def read_log(self, name: str) -> pa.Table:
        """Read a part of the migration log."""
        try:
            return pq.read_table(pa.BufferReader(self._read(name)))
        except pa.ArrowException as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> ArtifactError:
        return ArtifactError(f"checkpoint {self.uri} is damaged; {name}: {error}")

    @staticmethod
    def part_name(number: int) -> str:
        """File of a part of the migration log."""
        return f"{_PART}{number:09d}.parquet"


def _unwritable(uri: str, error: OSError) -> OutputError:
    return OutputError(f"checkpoint_uri must be writable; {uri}: {error}")


def _is_ahead(name: str, index: Index) -> bool:
    """Whether a file is newer than the index: a worker wrote it while the index was made."""
    if not name.startswith(_STATE):
        return name.endswith(_PARTIAL)
    first, _, at_round = name.removeprefix(_STATE).removesuffix(".safetensors").split("-")
    return int(at_round) > index.rounds[int(first)]
