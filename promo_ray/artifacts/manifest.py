"""The manifest of an artefact: what it is, from what it was made, and what its files hash to."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from promo_ray.errors import ArtifactError


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of an artefact; `rows` is None for files that are not tables."""

    name: str
    sha256: str
    n_bytes: int
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of `manifest.json`.

    Attributes:
        kind: kind of artefact.
        schema_version: version of the kind's schema.
        package_version: version of promo_ray that wrote it.
        config: resolved config of the stage.
        seed: seed of the run.
        inputs: digest of each input artefact by kind.
        files: every file with its SHA-256.
        metrics: scalars about the result.
    """

    kind: str
    schema_version: int
    package_version: str
    config: Any
    seed: int
    inputs: Mapping[str, str]
    files: tuple[FileEntry, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over kind, schema version and the digests of all files: the result alone."""
        lines = [self.kind, str(self.schema_version)]
        lines += [f"{f.name} {f.sha256}" for f in sorted(self.files, key=lambda f: f.name)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the result is made from; equal fingerprints need no new run."""
        return fingerprint(self.kind, self.package_version, self.config, self.seed, self.inputs)

    def entry(self, name: str) -> FileEntry:
        """Entry of a file.

        Raises:
            ArtifactError: the artefact has no such file.
        """
        for file in self.files:
            if file.name == name:
                return file
        raise ArtifactError(f"artefact {self.kind!r} must have file {name!r}; it has none")

    def to_bytes(self) -> bytes:
        """JSON with sorted keys, the digest included for readers."""
        values = dataclasses.asdict(self) | {"digest": self.digest}
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
        return orjson.dumps(values, option=options)

    @classmethod
    def from_bytes(cls, raw: bytes, where: str) -> Manifest:
        """Parse and check the digest.

        Raises:
            ArtifactError: broken JSON, missing key, or a digest that does not match.
        """
        try:
            values = orjson.loads(raw)
            digest = values.pop("digest")
            files = tuple(FileEntry(**f) for f in values.pop("files"))
            manifest = cls(files=files, **values)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ArtifactError(f"{where} must be a manifest; it is damaged ({error})") from error
        if manifest.digest != digest:
            raise ArtifactError(f"{where}: digest must match its files; it does not")
        return manifest


def fingerprint(
    kind: str, package_version: str, config: Any, seed: int, inputs: Mapping[str, str]
) -> str:
    """SHA-256 of everything that determines an artefact."""
    made_from = [kind, package_version, config, seed, dict(inputs)]
    options = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return hashlib.sha256(orjson.dumps(made_from, option=options)).hexdigest()
