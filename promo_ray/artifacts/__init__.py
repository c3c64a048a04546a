"""Typed, versioned artefacts: one kind per file, a store on any pyarrow filesystem, manifests.

`ArtifactStore(uri)` holds one artefact per kind in a directory of its own. Every directory has a
`manifest.json` that is written last and means committed.
"""

from promo_ray.artifacts.kind import Kind, TableSpec, kinds
from promo_ray.artifacts.manifest import FileEntry, Manifest
from promo_ray.artifacts.store import Artifact, ArtifactStore, ArtifactWriter, PartRef, PartWriter

__all__ = [
    "Artifact",
    "ArtifactStore",
    "ArtifactWriter",
    "FileEntry",
    "Kind",
    "Manifest",
    "PartRef",
    "PartWriter",
    "TableSpec",
    "kinds",
]
