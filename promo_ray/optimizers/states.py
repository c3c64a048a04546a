"""States of population methods as arrays and files, and batches of them taken apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save

from promo_ray.errors import ArtifactError, ConfigError
from promo_ray.optimizers.population import Clock
from promo_ray.optimizers.space import SearchSpace

S = TypeVar("S")


def to_arrays(state: Any) -> dict[str, NDArray[Any]]:
    """State as named NumPy arrays on the CPU, for files and other processes."""
    clock = state.clock
    numbers = [clock.seed, clock.generation, clock.is_asked, clock.is_constrained, *clock.islands]
    tensors = {name: getattr(state, name) for name in state._fields[2:]}
    return {
        "clock": np.array(numbers, dtype=np.int64),
        **{name: t.cpu().contiguous().numpy() for name, t in tensors.items()},
    }


def from_arrays(
    kind: type[S], arrays: Mapping[str, NDArray[Any]], space: SearchSpace, device: torch.device
) -> S:
    """State of a NamedTuple class from its arrays; they are copied."""
    numbers = [int(v) for v in arrays["clock"]]
    seed, generation, is_asked, is_constrained, *islands = numbers
    clock = Clock(seed, tuple(islands), generation, bool(is_asked), bool(is_constrained))
    names = kind._fields[2:]  # type: ignore[attr-defined]
    tensors = {name: torch.from_numpy(np.array(arrays[name])).to(device) for name in names}
    state: Any = kind
    found: S = state(space, clock, **tensors)
    return found


def to_bytes(state: Any) -> bytes:
    """State as a safetensors file with a JSON header."""
    header = {"state": type(state).__name__, "space": state.space.key(), "version": "1"}
    raw: bytes = save(to_arrays(state), metadata={"promo_ray": json.dumps(header)})
    return raw


def from_bytes(kind: type[S], raw: bytes, space: SearchSpace, device: torch.device) -> S:
    """State of a file.

    Raises:
        ArtifactError: it is of another method or space.
    """
    try:
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["promo_ray"])
        arrays = load(raw)
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise ArtifactError(f"state must be a whole safetensors file; {error}") from error
    want = {"state": kind.__name__, "space": space.key(), "version": "1"}
    wrong = [name for name in want if header.get(name) != want[name]]
    if wrong:
        raise ArtifactError(f"state must be of the same {wrong[0]}; it is of another")
    return from_arrays(kind, arrays, space, device)


def split(state: S) -> list[S]:
    """The single states of a batch, in the order of the flattened batch."""
    many: Any = state
    n_batch = many.epsilon.ndim  # which has no dimensions but those of the batch
    flat = [t.flatten(0, n_batch - 1) if n_batch else t.unsqueeze(0) for t in many[2:]]
    clocks = [many.clock._replace(islands=(k,)) for k in many.clock.islands]
    return [type(many)(many.space, c, *(t[i] for t in flat)) for i, c in enumerate(clocks)]


def stack(states: Sequence[S]) -> S:
    """Single states as one batch `(n,)`.

    Raises:
        ConfigError: none, or states of different generations.
    """
    clocks: list[Clock] = [s.clock for s in states]  # type: ignore[attr-defined]
    if len({c._replace(islands=(), is_constrained=False) for c in clocks}) != 1:
        raise ConfigError("states must be of one seed and generation, at least 1")
    islands = tuple(k for c in clocks for k in c.islands)
    clock = clocks[0]._replace(
        islands=islands, is_constrained=any(c.is_constrained for c in clocks)
    )
    columns = zip(*(s[2:] for s in states), strict=True)  # type: ignore[index]
    first: Any = states[0]
    stacked: S = type(first)(first.space, clock, *(torch.stack(c) for c in columns))
    return stacked
