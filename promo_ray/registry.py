"""Methods register themselves under a name; the folder of a family is scanned once.

A family is a package, named without `promo_ray.`: `profiles`, `data.adapters`. Adding a
method is adding a file with a decorated class there; no other file changes.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from promo_ray.errors import ConfigError

T = TypeVar("T")
_methods: dict[str, dict[str, type]] = {}
_scanned: set[str] = set()


def _family_of(module: str) -> str:
    return module.rpartition(".")[0].removeprefix("promo_ray.")


def register(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: offer the class as method `name` of the family that its package names.

    Raises:
        ConfigError: another class of the family has the name.
    """

    def enter(cls: type[T]) -> type[T]:
        family = _methods.setdefault(_family_of(cls.__module__), {})
        taken = family.get(name)
        if taken is not None and taken.__qualname__ != cls.__qualname__:
            raise ConfigError(f"method name {name!r} must be unique; {taken.__qualname__} has it")
        family[name] = cls
        return cls

    return enter


def methods(family: str) -> Mapping[str, type]:
    """Every registered method of a family by name, the folder scanned on first use."""
    if family not in _scanned:
        package = importlib.import_module(f"promo_ray.{family}")
        for info in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{info.name}")
        _scanned.add(family)
    return dict(sorted(_methods.get(family, {}).items()))


def build(family: str, spec: Mapping[str, Any]) -> Any:
    """Method object from `{method: name, hyperparameter: value, ...}`.

    Raises:
        ConfigError: unknown method or hyperparameter, or a value the method refuses.
    """
    known = methods(family)
    settings = dict(spec)
    name = settings.pop("method", None)
    if name not in known:
        raise ConfigError(f"{family} method must be one of {', '.join(known)}; got {name!r}")
    cls = known[name]
    fields = {f.name for f in dataclasses.fields(cls) if f.init}
    unknown = sorted(set(settings) - fields)
    if unknown:
        raise ConfigError(
            f"{family} method {name!r} knows {', '.join(sorted(fields))}; got {unknown[0]!r}"
        )
    return cls(**settings)
