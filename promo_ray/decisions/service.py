"""The state of a serving process: a ledger, and the decider of the bundle that is active now.

The active bundle is a setting of the ledger, so that all processes on one ledger follow an
activation within `FOLLOW_S`. A swap replaces one reference; requests under way keep the old
bundle, and each answer comes from exactly one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow.fs as pafs

from promo_ray.artifacts import Artifact, ArtifactStore
from promo_ray.artifacts.decision_bundle import DECISION_BUNDLE
from promo_ray.artifacts.files import open_filesystem
from promo_ray.config import parse
from promo_ray.decisions.bundle import DecisionBundle
from promo_ray.decisions.decider import Decider
from promo_ray.decisions.group_commit import LedgerUnavailableError
from promo_ray.decisions.ledger import Ledger
from promo_ray.decisions.policy import NAME, Policy
from promo_ray.errors import PromoRayError

logger = logging.getLogger(__name__)

FOLLOW_S = 0.5  # a process learns of another's activation within this
_ACTIVE = "active_bundle"


class NotReadyError(PromoRayError):
    """No bundle is active yet."""


class UnknownModelError(PromoRayError):
    """The models root has no such version."""


class Model(NamedTuple):
    """A bundle that can be activated; `fault` is empty if its policy can be read."""

    version: str
    campaign: str
    policy_version: str
    model_version: str
    digest: str
    is_active: bool
    fault: str


class DecisionService:
    """Ledger and active decider of one process.

    Args:
        ledger_path: the ledger's file, on a local disk; shared by the processes of one machine.
        models_root: URI under which each directory is a store with a bundle, named by version;
            None = the directory above the first bundle's store.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        ledger_path: str | Path,
        *,
        models_root: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ledger = Ledger(ledger_path, clock=clock)
        self._clock = clock
        self._models_root = models_root
        self._active: Decider | None = None
        self._refused: object = None  # setting that could not be followed; told once
        self._swapping = threading.Lock()
        self._stop = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="bundle-follower", daemon=True)
        self._follower.start()

    def close(self) -> None:
        """Stop following, commit what is queued and close the ledger."""
        self._stop.set()
        self._follower.join()
        self.ledger.close()

    @property
    def decider(self) -> Decider:
        """Decider of the active bundle.

        Raises:
            NotReadyError: none is active yet.
        """
        active = self._active
        if active is None:
            raise NotReadyError("a decision bundle must be active; none is yet")
        return active

    def configure(self, uri: str) -> None:
        """Serve the bundle that the configuration names.

        A restart with the same configuration keeps what was activated since; another `uri`
        overrides it.

        Raises:
            ArtifactError: the bundle is missing or damaged; what is active stays.
        """
        uri = _store_of(uri)
        if self._models_root is None:
            self._models_root = os.path.dirname(uri)
        with self._swapping:
            setting = self.ledger.setting(_ACTIVE)
            if setting and setting["configured"] == uri and setting["uri"] != uri:
                try:
                    self._active = self._load(setting["uri"])
                except PromoRayError as error:
                    logger.warning("activated bundle gave way to the configured one: %s", error)
                else:
                    return
            self._swap(uri, uri)

    def activate(self, version: str) -> Model:
        """Swap to another bundle of the models root, here and on all processes of the ledger.

        Raises:
            UnknownModelError: no such version.
            ArtifactError: the bundle is damaged; what is active stays.
        """
        versions = self._versions()
        if version not in versions:
            raise UnknownModelError(f"model must be one of {', '.join(versions)}; got {version!r}")
        with self._swapping:
            setting = self.ledger.setting(_ACTIVE) or {}
            uri = f"{self._models_root}/{version}"
            self._swap(setting.get("configured", uri), uri)
        return self._model(version)

    def models(self) -> list[Model]:
        """Every version under the models root."""
        return [self._model(version) for version in self._versions()]

    def _swap(self, configured: str, uri: str) -> None:
        decider = self._load(uri)
        setting = {"configured": configured, "uri": uri, "digest": decider.bundle.digest}
        self.ledger.put_setting(_ACTIVE, setting)
        self._active = decider

    def _load(self, uri: str) -> Decider:
        decider = Decider(DecisionBundle.open(uri), self.ledger, clock=self._clock)
        logger.info("bundle %s is loaded: %s", decider.bundle.digest[:12], uri)
        return decider

    def _follow(self) -> None:
        while not self._stop.wait(FOLLOW_S):
            try:
                setting = self.ledger.setting(_ACTIVE)
            except LedgerUnavailableError:
                continue  # readiness and requests tell of it
            if not setting or self._active is None or setting == self._refused:
                continue
            with self._swapping:
                if setting["digest"] == self._active.bundle.digest:
                    continue
                try:
                    self._active = self._load(setting["uri"])
                except PromoRayError as error:
                    self._refused = setting
                    logger.warning("bundle of another process could not be followed: %s", error)

    def _versions(self) -> list[str]:
        if self._models_root is None:
            raise NotReadyError("a decision bundle must be active; none is yet")
        fs, root = open_filesystem(self._models_root)
        found = fs.get_file_info(pafs.FileSelector(root, allow_not_found=True))
        names = [f.base_name for f in found if f.type == pafs.FileType.Directory]
        wanted = [n for n in names if NAME.fullmatch(n)]
        return sorted(n for n in wanted if _has_manifest(fs, f"{root}/{n}"))

    def _model(self, version: str) -> Model:
        active = self._active
        store = ArtifactStore(f"{self._models_root}/{version}")
        try:
            artifact: Artifact = store.read(DECISION_BUNDLE)
            policy = parse(Policy, artifact.json("policy"), where="policy.json")
        except PromoRayError as error:
            return Model(version, "", "", "", "", False, str(error))
        is_active = (
            active is not None
            and active.bundle.digest == artifact.digest
            and _store_of(active.bundle.uri) == store.uri
        )
        return Model(
            version=version,
            campaign=policy.campaign,
            policy_version=policy.policy_version,
            model_version=policy.model_version,
            digest=artifact.digest,
            is_active=is_active,
            fault="",
        )


def _has_manifest(fs: pafs.FileSystem, store: str) -> bool:
    path = f"{store}/{DECISION_BUNDLE.name}/manifest.json"
    return bool(fs.get_file_info(path).type == pafs.FileType.File)


def _store_of(uri: str) -> str:
    """URI of the store of a bundle named by its directory or its store; absolute if local."""
    uri = uri.rstrip("/")
    if "://" not in uri:
        uri = os.path.abspath(os.path.expanduser(uri))
    return uri.removesuffix(f"/{DECISION_BUNDLE.name}")
