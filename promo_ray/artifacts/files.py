"""Bytes of artefacts on any pyarrow filesystem: written with their digest, read against it."""

from __future__ import annotations

import hashlib
import os
import shutil

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from promo_ray.artifacts.manifest import FileEntry
from promo_ray.errors import ArtifactError, ConfigError, OutputError


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Filesystem and path of a URI; a plain path is local.

    Raises:
        ConfigError: no such kind of URI.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"must be a path or a URI that pyarrow.fs knows; got {uri!r}") from error
    return filesystem, path


def write_bytes(fs: pafs.FileSystem, path: str, raw: bytes | pa.Buffer) -> None:
    """Write a file, its directory made if absent.

    Raises:
        OutputError: the place cannot be written.
    """
    try:
        fs.create_dir(path.rpartition("/")[0], recursive=True)
        with fs.open_output_stream(path) as sink:
            sink.write(raw)
    except OSError as error:
        raise OutputError(f"output must be writable; {path}: {error}") from error


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """Parquet file of a table; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_statistics=True)
    return sink.getvalue()


def put(uri: str, file: str, raw: bytes | pa.Buffer, rows: int | None) -> FileEntry:
    """Write a file of an artefact and say what it holds."""
    fs, root = open_filesystem(uri)
    write_bytes(fs, f"{root}/{file}", raw)
    view = memoryview(raw)
    sha256 = hashlib.sha256(view).hexdigest()
    return FileEntry(name=file, sha256=sha256, n_bytes=view.nbytes, rows=rows)


def read_checked(uri: str, entry: FileEntry) -> bytes:
    """Contents of a file of an artefact.

    Raises:
        ArtifactError: the file cannot be read or differs from its entry.
    """
    fs, root = open_filesystem(uri)
    path = f"{root}/{entry.name}"
    try:
        with fs.open_input_stream(path) as source:
            raw: bytes = source.read()
    except OSError as error:
        raise ArtifactError(f"file {path} must be readable: {error}") from error
    if hashlib.sha256(raw).hexdigest() != entry.sha256:
        raise ArtifactError(f"file {path} must match its manifest; its SHA-256 differs")
    return raw


def swap(staging: str, final: str) -> None:
    """Put a finished directory in its place; at no moment is half of one there."""
    old = f"{staging}.old"
    try:
        if os.path.isdir(final):
            os.replace(final, old)
        os.replace(staging, final)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"output must be writable; {final}: {error}") from error
