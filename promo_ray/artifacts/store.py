"""Store of artefacts on any pyarrow filesystem; a manifest written last is the commit.

On a local disk an artefact is written beside its place and moved there whole, so that a failed
run leaves the former one untouched. On object stores, which cannot move, the old manifest is
removed first and the new one written last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from safetensors.numpy import load, save

from promo_ray import __version__
from promo_ray.artifacts.files import (
    open_filesystem,
    parquet_bytes,
    put,
    read_checked,
    swap,
    write_bytes,
)
from promo_ray.artifacts.kind import Kind
from promo_ray.artifacts.manifest import FileEntry, Manifest, fingerprint
from promo_ray.errors import ArtifactError, DataError, OutputError

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class PartWriter:
    """Writes parts of a sharded table from any worker; picklable."""

    uri: str
    kind: Kind

    def __call__(self, name: str, index: int, table: pa.Table) -> FileEntry:
        """Write part `index` of table `name`; hand the entry to `ArtifactWriter.add`."""
        spec = self.kind.tables[name]
        file = f"{name}/part-{index:04d}.parquet"
        table = spec.conform(table, f"{self.kind.name}/{file}")
        return put(self.uri, file, parquet_bytes(table), table.num_rows)


class ArtifactWriter:
    """Collects the files of one artefact; made by `ArtifactStore.write`."""

    def __init__(self, uri: str, kind: Kind) -> None:
        self.uri = uri
        self.kind = kind
        self.metrics: dict[str, Any] = {}
        self._files: dict[str, FileEntry] = {}

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Entries so far, by name."""
        return tuple(self._files[name] for name in sorted(self._files))

    def add(self, entries: Iterable[FileEntry]) -> None:
        """Enter files that workers wrote through `part_writer`."""
        for entry in entries:
            self._files[entry.name] = entry

    def part_writer(self) -> PartWriter:
        """Picklable writer of parts for workers."""
        return PartWriter(uri=self.uri, kind=self.kind)

    def part(self, name: str, index: int, table: pa.Table) -> None:
        """Write one part of a sharded table."""
        self.add([self.part_writer()(name, index, table)])

    def table(self, name: str, table: pa.Table) -> None:
        """Write an unsharded table as `name.parquet`."""
        file = f"{name}.parquet"
        table = self.kind.tables[name].conform(table, f"{self.kind.name}/{file}")
        self.add([put(self.uri, file, parquet_bytes(table), table.num_rows)])

    def json(self, name: str, value: Any) -> None:
        """Write a JSON document as `name.json`, keys sorted."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
        self.add([put(self.uri, f"{name}.json", orjson.dumps(value, option=options), None)])

    def tensors(self, name: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Write arrays as `name.safetensors`."""
        contiguous = {k: np.ascontiguousarray(arrays[k]) for k in sorted(arrays)}
        self.add([put(self.uri, f"{name}.safetensors", save(contiguous), None)])

    def text(self, file: str, text: str) -> None:
        """Write a text file under its full name, for example `report.html`."""
        self.add([put(self.uri, file, text.encode(), None)])


@dataclass(frozen=True, kw_only=True)
class PartRef:
    """One part of a sharded table; call it to read the part. Picklable, checks the digest."""

    uri: str
    entry: FileEntry
    index: int
    kind: Kind
    version: int

    def __call__(self) -> pa.Table:
        """Read the part as an Arrow table."""
        table = pq.read_table(pa.BufferReader(read_checked(self.uri, self.entry)))
        name = self.entry.name.partition("/")[0].removesuffix(".parquet")
        return self.kind.lift_table(name, table, self.version)


class Artifact:
    """A committed artefact, open for reading; every read checks the file's digest."""

    def __init__(self, uri: str, kind: Kind, manifest: Manifest) -> None:
        self.uri = uri
        self.kind = kind
        self.manifest = manifest

    @property
    def digest(self) -> str:
        """Digest of the artefact."""
        return self.manifest.digest

    def has(self, file: str) -> bool:
        """Whether the artefact has a file of this full name."""
        return any(f.name == file for f in self.manifest.files)

    def parts(self, name: str) -> list[PartRef]:
        """References to the parts of a sharded table, in shard order."""
        entries = [f for f in self.manifest.files if f.name.startswith(f"{name}/part-")]
        entries.sort(key=lambda f: f.name)
        return [self._ref(entry, i) for i, entry in enumerate(entries)]

    def ref(self, name: str) -> PartRef:
        """Reference to an unsharded table, for workers."""
        return self._ref(self.manifest.entry(f"{name}.parquet"), 0)

    def _ref(self, entry: FileEntry, index: int) -> PartRef:
        version = self.manifest.schema_version
        return PartRef(uri=self.uri, entry=entry, index=index, kind=self.kind, version=version)

    def table(self, name: str) -> pa.Table:
        """Whole table; a sharded one is concatenated in shard order."""
        if self.kind.tables[name].is_sharded:
            return pa.concat_tables([part() for part in self.parts(name)])
        return self.ref(name)()

    def json(self, name: str) -> Any:
        """JSON document `name.json`."""
        value = orjson.loads(read_checked(self.uri, self.manifest.entry(f"{name}.json")))
        return self.kind.lift_document(name, value, self.manifest.schema_version)

    def tensors(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays of `name.safetensors`."""
        arrays: dict[str, np.ndarray[Any, Any]] = load(
            read_checked(self.uri, self.manifest.entry(f"{name}.safetensors"))
        )
        return arrays

    def local_path(self, file: str) -> Path:
        """Path of a file on a local store, its digest checked, for memory mapping.

        Raises:
            ArtifactError: the store is not local or the file is damaged.
        """
        fs, root = open_filesystem(self.uri)
        if not isinstance(fs, pafs.LocalFileSystem):
            raise ArtifactError(f"memory mapping needs a local store; got {self.uri}")
        read_checked(self.uri, self.manifest.entry(file))
        return Path(root) / file


class ArtifactStore:
    """Artefacts of one run, one directory per kind under a URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._fs, self._root = open_filesystem(self.uri)

    def find(self, kind: Kind) -> Manifest | None:
        """Manifest of the committed artefact of a kind, or None.

        Raises:
            ArtifactError: the manifest is damaged, of another kind or too new.
        """
        path = f"{self._root}/{kind.name}/{MANIFEST}"
        if self._fs.get_file_info(path).type != pafs.FileType.File:
            return None
        with self._fs.open_input_stream(path) as source:
            manifest = Manifest.from_bytes(source.read(), path)
        if manifest.kind != kind.name:
            raise ArtifactError(f"{path} must be of kind {kind.name!r}; got {manifest.kind!r}")
        if manifest.schema_version > kind.schema_version:
            raise ArtifactError(
                f"{path} must have schema version <= {kind.schema_version}; "
                f"got {manifest.schema_version} (written by promo_ray {manifest.package_version})"
            )
        return manifest

    def read(self, kind: Kind) -> Artifact:
        """Open the committed artefact of a kind.

        Raises:
            ArtifactError: there is none, or it is damaged or too new.
        """
        manifest = self.find(kind)
        if manifest is None:
            raise ArtifactError(
                f"artefact {kind.name!r} must be in {self.uri}; run the stage that makes it first"
            )
        return Artifact(f"{self.uri}/{kind.name}", kind, manifest)

    def is_current(self, kind: Kind, config: Any, seed: int, inputs: Mapping[str, str]) -> bool:
        """Whether the committed artefact was made from exactly this."""
        manifest = self.find(kind)
        want = fingerprint(kind.name, __version__, config, seed, inputs)
        return manifest is not None and manifest.fingerprint == want

    @contextlib.contextmanager
    def write(
        self, kind: Kind, *, config: Any, seed: int, inputs: Mapping[str, str]
    ) -> Iterator[ArtifactWriter]:
        """Write an artefact; it is committed when the block ends without an error.

        Raises:
            OutputError: the store cannot be written.
            DataError: a document or table of the kind was not written.
        """
        final = f"{self._root}/{kind.name}"
        is_local = isinstance(self._fs, pafs.LocalFileSystem)
        staging = f"{self._root}/.{kind.name}.partial" if is_local else final
        self._clear(staging)
        prefix = "" if is_local else self.uri.partition("://")[0] + "://"
        writer = ArtifactWriter(prefix + staging, kind)
        try:
            yield writer
            self._check_complete(writer)
            manifest = Manifest(
                kind=kind.name,
                schema_version=kind.schema_version,
                package_version=__version__,
                config=config,
                seed=seed,
                inputs=dict(inputs),
                files=writer.files,
                metrics=writer.metrics,
            )
            write_bytes(self._fs, f"{staging}/{MANIFEST}", manifest.to_bytes())
        except BaseException:
            with contextlib.suppress(OSError):
                self._clear(staging)
            raise
        if is_local:
            swap(staging, final)

    def remove(self, kind: Kind) -> None:
        """Delete the artefact of a kind, if there is one."""
        self._clear(f"{self._root}/{kind.name}")

    def sweep(self, prefix: str, keep: str = "") -> None:
        """Delete directories of working files whose name starts with `prefix`, but for `keep`."""
        selector = pafs.FileSelector(self._root, allow_not_found=True)
        for info in self._fs.get_file_info(selector):
            if info.base_name.startswith(prefix) and info.base_name != keep:
                self._clear(info.path)

    def _clear(self, path: str) -> None:
        try:
            manifest = f"{path}/{MANIFEST}"
            if self._fs.get_file_info(manifest).type == pafs.FileType.File:
                self._fs.delete_file(manifest)
            if self._fs.get_file_info(path).type == pafs.FileType.Directory:
                self._fs.delete_dir(path)
        except OSError as error:
            raise OutputError(f"output must be writable; {path}: {error}") from error

    @staticmethod
    def _check_complete(writer: ArtifactWriter) -> None:
        names = {f.name for f in writer.files}
        for name in writer.kind.documents:
            if f"{name}.json" not in names:
                raise DataError(f"artefact {writer.kind.name!r} must have {name}.json")
        for name, spec in writer.kind.tables.items():
            wanted = f"{name}/part-0000.parquet" if spec.is_sharded else f"{name}.parquet"
            if wanted not in names:
                raise DataError(f"artefact {writer.kind.name!r} must have {wanted}")
