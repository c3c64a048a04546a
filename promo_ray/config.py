"""Typed configuration: one YAML per job, `--set a.b=c` overrides, unknown keys fail.

Configs are frozen pydantic dataclasses (see `config_class`), so that a wrong type or an unknown
key gives one line that names the key. `resolve` turns a config into plain values for manifests.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from promo_ray.errors import ConfigError

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def config_class(cls: type[T]) -> type[T]:
    """Frozen keyword-only pydantic dataclass that refuses unknown keys and NaN."""
    options = ConfigDict(extra="forbid", allow_inf_nan=False)
    return pydantic_dataclass(cls, frozen=True, kw_only=True, config=options)  # type: ignore[return-value]


def _merge(base: dict[str, Any], path: list[str], value: Any, text: str) -> None:
    node = base
    for key in path[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {text}: {key!r} must be a section; got {child!r}")
        node = child
    node[path[-1]] = value


def read_settings(file: str | Path | None, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Plain settings of a YAML file with `a.b=value` overrides applied (values are YAML).

    Raises:
        ConfigError: unreadable file, no mapping, or an override without `=`.
    """
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            loaded = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ConfigError(f"config {file} must be UTF-8 text; it is not") from error
        except OSError as error:
            raise ConfigError(
                f"config file must be readable; got {file}: {error.strerror}"
            ) from error
        except yaml.YAMLError as error:
            line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
            raise ConfigError(f"config file must be YAML; {file} breaks at line {line}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(
                f"config file must hold a mapping; {file} is a {type(loaded).__name__}"
            )
        settings = loaded or {}
    for text in overrides:
        key, sign, raw = text.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set wants key=value; got {text!r}")
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {key.strip()}: value must be YAML; got {raw!r}") from error
        _merge(settings, key.strip().split("."), value, text)
    return settings


def parse(cls: type[T], settings: Mapping[str, Any], where: str = "config") -> T:
    """Config object of `cls` from plain settings.

    Raises:
        ConfigError: first fault, with its dotted key, what was got and the known keys.
    """
    try:
        return TypeAdapter(cls).validate_python(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"]) or "(top level)"
        if first["type"] == "unexpected_keyword_argument":
            raise ConfigError(f"{where}: unknown key {key!r}{_known(cls, first['loc'])}") from error
        cause = (first.get("ctx") or {}).get("error")
        if isinstance(cause, ConfigError):
            at = f"{where}: {key}" if first["loc"] else where
            raise ConfigError(f"{at}: {cause}") from error
        got = repr(first.get("input"))[:80]
        raise ConfigError(f"{where}: {key}: {first['msg']}; got {got}") from error


def _known(cls: Any, loc: tuple[int | str, ...]) -> str:
    node = cls
    for part in loc[:-1]:
        if not dataclasses.is_dataclass(node):
            return ""
        if part not in {f.name for f in dataclasses.fields(node)}:
            return ""
        node = _field_type(node, str(part))
    if not dataclasses.is_dataclass(node):
        return ""
    return "; known: " + ", ".join(f.name for f in dataclasses.fields(node))


def _field_type(cls: Any, name: str) -> Any:
    hint = typing.get_type_hints(cls)[name]
    options = [a for a in typing.get_args(hint) if dataclasses.is_dataclass(a)]
    return options[0] if options else hint


def load(cls: type[T], file: str | Path | None, overrides: Iterable[str] = ()) -> T:
    """Config object of `cls` from a YAML file and `--set` overrides; see `parse`."""
    return parse(cls, read_settings(file, overrides), where=str(file or "config"))


def resolve(config: Any) -> Any:
    """Plain JSON-able values of a config, every default filled in."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")
