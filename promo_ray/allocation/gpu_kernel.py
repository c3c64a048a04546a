# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# (jitted functions are Triton's language, which has no types)
"""The pass over users as one fused kernel: every number is read from memory once; see `gpu`.

A thread owns one user of a tile and walks over its slots as `_kernel.c` does, operation by
operation (fused multiply-add is off); what the walks share lies in the program's `room`, where each
thread reads only what it wrote. A program (a block of threads) owns every P-th tile and its own
sums of integers, which torch adds up in the end: neither the number of programs nor the order of
tiles shows in the result. Shares and curvature cost work only in tiles with an open user.

Letters: M slots, T users of a tile, K budgets, S segments, R rows, of which P = R - S are not
floors. Local rows of a user: those P, and the floor of its segment.
"""

from __future__ import annotations

import os

import numpy as np
import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

from promo_ray.allocation.gpu_arithmetic import exp_of, fixed, log_of, mix
from promo_ray.allocation.gpu_block import WINDOW, DeviceBlock, Setting
from promo_ray.allocation.gpu_torch import CERTAIN, GOLDEN

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_TILE = 128  # users; one per thread of 4 warps
_MOST_TILES = 64  # per program and launch: sums of 2**50 each stay far below 2**63
_PROGRAMS_PER_CORE = 4

_WINDOW = tl.constexpr(WINDOW)
_CERTAIN = tl.constexpr(CERTAIN)
_GOLDEN = tl.constexpr(GOLDEN)
_N_REALS = tl.constexpr(6)  # before the prices


@triton.jit
def _add_one(at, x):
    tl.store(at, tl.load(at) + x)


@triton.jit
def _add_wide(wide, q):
    """Add numbers of users `(T,)` to one wide sum."""
    _add_one(wide, tl.sum(q >> 32, axis=0))
    _add_one(wide + 1, tl.sum(q & 0xFFFFFFFF, axis=0))


@triton.jit
def _add_row(sums, step, row, q, segment, P: tl.constexpr, S: tl.constexpr):
    """Add numbers of users to the sum of local row `row`; sums of rows are `step` apart."""
    if row < P:
        _add_one(sums + row * step, tl.sum(q, axis=0))
    else:
        for g in range(S):
            _add_one(sums + (P + g) * step, tl.sum(tl.where(segment == g, q, 0), axis=0))


@triton.jit
def _of_pair(array, j, n, at, own):
    """Numbers `(T,)` of users and slot j, 0 beyond the users."""
    return tl.load(array + j * n + at, mask=own, other=0.0).to(tl.float64)


@triton.jit
def _amount(amounts, j, n, at, own, HAS_AMOUNTS: tl.constexpr):
    """Use `(T,)` of the own row of offer j."""
    amount = tl.full(at.shape, 1.0, tl.float64)
    if HAS_AMOUNTS:
        amount = _of_pair(amounts, j, n, at, own)
    return amount


@triton.jit
def _net_score(value, costs, amounts, prices, j, n, at, own, K: tl.constexpr, M: tl.constexpr,
               P: tl.constexpr, HAS_AMOUNTS: tl.constexpr):  # fmt: skip
    """Scores `(T,)` of slot j before the floor's price."""
    s = tl.load(value + j * n + at, mask=own, other=float("-inf")).to(tl.float64)
    for k in tl.static_range(K):
        s = s - tl.load(prices + k) * _of_pair(costs, k * M + j, n, at, own)
    if P > K:
        s = s - tl.load(prices + K + j) * _amount(amounts, j, n, at, own, HAS_AMOUNTS)
    return s


@triton.jit
def _draw(key, j):
    """Uniform numbers of users and slot j that tell ties apart."""
    turn = tl.full(key.shape, 1, tl.uint64) * (j + 1) * _GOLDEN
    return ((mix(key + turn) >> 11).to(tl.float64) + 0.5) * (1.0 / 9007199254740992.0)


@triton.jit
def _soften(x_at, top, is_open, tau, rate, M: tl.constexpr, T: tl.constexpr):
    """Turn told scores in `room` into shares (0 of users not open); see `_soften` of `gpu_torch`.

    Returns:
        `(T,)` each: share served, largest share of a slot or none, tau log sum exp.
    """
    none = exp_of(tl.maximum(-top / tau, -2 * _WINDOW))
    none = tl.where(top > _WINDOW * tau, 0.0, none)
    z = none
    for j in range(M):
        below = (tl.load(x_at + j * T) - top) * rate
        e = tl.where(below > -_WINDOW, exp_of(tl.maximum(below, -_WINDOW)), 0.0)
        tl.store(x_at + j * T, e)
        z += e
    served = 1.0 - none / z
    most = 1.0 - served
    for j in range(M):
        x = tl.where(is_open, tl.load(x_at + j * T) / z, 0.0)
        tl.store(x_at + j * T, x)
        most = tl.maximum(most, x)
    return tl.where(is_open, served, 0.0), most, top + tau * log_of(z)


@triton.jit
def _product(a, b, x_at, u_at, costs, amounts, n, at, own, K: tl.constexpr, M: tl.constexpr,
             P: tl.constexpr, T: tl.constexpr, HAS_AMOUNTS: tl.constexpr):  # fmt: skip
    """Mean over slots of the product of uses of local rows a <= b `(T,)`."""
    h = tl.zeros(at.shape, tl.float64)
    if b < K:
        for j in range(M):
            x = tl.load(x_at + j * T) * _of_pair(costs, a * M + j, n, at, own)
            h += x * _of_pair(costs, b * M + j, n, at, own)
    elif b < P:
        amount = _amount(amounts, b - K, n, at, own, HAS_AMOUNTS)
        if a < K:
            h = tl.load(x_at + (b - K) * T) * _of_pair(costs, a * M + b - K, n, at, own) * amount
        elif a == b:
            h = tl.load(u_at + b * T) * amount
    elif a < P:
        h = -tl.load(u_at + a * T)
    else:
        for j in range(M):
            h += tl.load(x_at + j * T)
    return h


@triton.jit
def _add_open(x_at, u_at, served, segment, value, costs, amounts, reals, wide, curvature, n, at,
              own, K: tl.constexpr, M: tl.constexpr, P: tl.constexpr, S: tl.constexpr,
              L: tl.constexpr, T: tl.constexpr, HAS_AMOUNTS: tl.constexpr):  # fmt: skip
    """Add value, use and curvature of users by their shares, as `add_open` of `_kernel.c`."""
    value_unit, most = tl.load(reals + 4), tl.load(reals + 5)
    units = reals + _N_REALS + P + S
    scales = units + P + S
    worth, factor = tl.zeros(at.shape, tl.float64), tl.full(at.shape, 1.0, tl.float64)
    for j in range(M):
        x = tl.load(x_at + j * T)
        worth += x * tl.load(value + j * n + at, mask=x > 0, other=0.0).to(tl.float64)
    _add_wide(wide + 4, fixed(worth * value_unit))
    for a in range(L):
        row = tl.where(a < P, a, P + segment)
        is_row = (a < P) | (segment >= 0)
        u = tl.zeros(at.shape, tl.float64)
        if a < K:
            for j in range(M):
                u += tl.load(x_at + j * T) * _of_pair(costs, a * M + j, n, at, own)
        elif a < P:
            u = tl.load(x_at + (a - K) * T) * _amount(amounts, a - K, n, at, own, HAS_AMOUNTS)
        else:
            u = -served
        tl.store(u_at + a * T, u)
        q = fixed(u * tl.load(units + row, mask=is_row, other=0.0))
        _add_row(wide + 6, 2, a, q >> 32, segment, P, S)
        _add_row(wide + 7, 2, a, q & 0xFFFFFFFF, segment, P, S)
        h = _product(a, a, x_at, u_at, costs, amounts, n, at, own, K, M, P, T, HAS_AMOUNTS)
        scale = tl.load(scales + row, mask=is_row, other=0.0)
        h = (h - u * u) * scale * scale
        factor = tl.where(factor * h > most, most / h, factor)
    for a in range(L):
        u = tl.load(u_at + a * T)
        row = tl.where(a < P, a, P + segment)
        scale = tl.load(scales + row, mask=(a < P) | (segment >= 0), other=0.0)
        for b in range(a, L):
            h = _product(a, b, x_at, u_at, costs, amounts, n, at, own, K, M, P, T, HAS_AMOUNTS)
            h = (h - u * tl.load(u_at + b * T)) * scale
            row = tl.where(b < P, b, P + segment)
            h = h * tl.load(scales + row, mask=(b < P) | (segment >= 0), other=0.0)
            start, step = tl.where(a < P, a * (P + S), 0), tl.where(a < P, 1, P + S + 1)
            _add_row(curvature + start, step, b, fixed(factor * h), segment, P, S)


@triton.jit
def _add_sums(wide, all_best, all_smooth, all_value, all_use, r_row, R):
    """Adds the sums of a program's decided users to its wide sums."""
    _add_wide(wide, all_best)
    _add_wide(wide + 2, all_smooth)
    _add_wide(wide + 4, all_value)
    tl.debug_barrier()  # one thread has written sums of open users that others read now
    rows, is_row = wide + 6 + 2 * r_row, r_row < R
    high, low = tl.sum(all_use >> 32, axis=1), tl.sum(all_use & 0xFFFFFFFF, axis=1)
    tl.store(rows, tl.load(rows, mask=is_row, other=0) + high, mask=is_row)
    tl.store(rows + 1, tl.load(rows + 1, mask=is_row, other=0) + low, mask=is_row)


@triton.jit(do_not_specialize=["first_tile", "last_tile", "n_programs"])
def _pass(value, costs, keys, amounts, segments, reals, integers, room, near_out, wide, curvature,
          first_tile, last_tile, n_programs, K: tl.constexpr, M: tl.constexpr, S: tl.constexpr,
          P: tl.constexpr, L: tl.constexpr, R_PAD: tl.constexpr, T: tl.constexpr,
          HAS_AMOUNTS: tl.constexpr):  # fmt: skip
    """Adds tiles [first_tile + program, last_tile) by steps of n_programs to the program's sums."""
    program, R = tl.program_id(0), P + S
    wide += program * (3 + R) * 2
    curvature += program * R * R
    tau, rate, reach = tl.load(reals), tl.load(reals + 1), tl.load(reals + 2)
    tie, value_unit, prices = tl.load(reals + 3), tl.load(reals + 4), reals + _N_REALS
    units = prices + R
    n = tl.load(integers)
    lane, r_row = tl.arange(0, T), tl.arange(0, R_PAD)
    x_at, none = room + program.to(tl.int64) * (M + L) * T + lane, tl.zeros((T,), tl.int64)
    near, all_value, all_best, all_smooth = none, none, none, none
    all_use = tl.zeros((R_PAD, T), tl.int64)
    for tile in range(first_tile + program, last_tile, n_programs):
        at = tile * T + lane.to(tl.int64)
        own = at < n
        segment, bonus = tl.full((T,), -1, tl.int32), tl.zeros((T,), tl.float64)
        if S > 0:
            segment = tl.load(segments + at, mask=own, other=-1)
            bonus = tl.load(prices + P + segment, mask=segment >= 0, other=0.0)
        best, slot = tl.zeros((T,), tl.float64), tl.full((T,), -1, tl.int32)
        second = tl.full((T,), float("-inf"), tl.float64)
        for i in tl.static_range(M):
            s = bonus + _net_score(value, costs, amounts, prices, i, n, at, own, K, M, P,
                                   HAS_AMOUNTS)  # fmt: skip
            second = tl.where(s > best, best, tl.maximum(second, s))
            slot = tl.where(s > best, i, slot)
            best = tl.maximum(best, s)
        is_open = best - second <= reach
        smooth = best
        if tl.sum(is_open.to(tl.int32), axis=0) > 0:
            key = tl.load(keys + at, mask=own, other=0)
            key = mix(key.to(tl.uint64) * _GOLDEN + tl.load(integers + 1).to(tl.uint64))
            top = tl.zeros((T,), tl.float64)
            for j in range(M):
                told = _net_score(value, costs, amounts, prices, j, n, at, own, K, M, P,
                                  HAS_AMOUNTS)  # fmt: skip
                told = told - tie * _draw(key, j) + bonus
                tl.store(x_at + j * T, told)
                top = tl.maximum(top, told)
            served, most, soft = _soften(x_at, top, is_open, tau, rate, M, T)
            near += (is_open & (most < _CERTAIN)).to(tl.int64)
            smooth = tl.where(is_open, soft, best)
            _add_open(x_at, x_at + M * T, served, segment, value, costs, amounts, reals, wide,
                      curvature, n, at, own, K, M, P, S, L, T, HAS_AMOUNTS)  # fmt: skip
        all_best += fixed(best * value_unit)
        all_smooth += fixed(smooth * value_unit)
        chosen = (slot >= 0) & (best - second > reach)
        all_value += fixed(_of_pair(value, slot, n, at, chosen) * value_unit)
        for k in tl.static_range(K):
            q = fixed(_of_pair(costs, k * M + slot, n, at, chosen) * tl.load(units + k))
            all_use += tl.where(r_row[:, None] == k, q[None, :], 0)
        if P > K:
            unit = tl.load(units + K + slot, mask=chosen, other=0.0)
            q = fixed(_amount(amounts, slot, n, at, chosen, HAS_AMOUNTS) * unit)
            all_use += tl.where(r_row[:, None] == K + slot[None, :], q[None, :], 0)
        if S > 0:
            is_served = chosen & (segment >= 0)
            q = fixed(-tl.load(units + P + segment, mask=is_served, other=0.0))
            all_use += tl.where(r_row[:, None] == P + segment[None, :], q[None, :], 0)
    _add_one(near_out + program, tl.sum(near, axis=0))
    _add_sums(wide, all_best, all_smooth, all_value, all_use, r_row, R)


def fused_sums(
    block: DeviceBlock, setting: Setting, n_programs: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of `gpu_torch.torch_sums` by the fused kernel."""
    device, n_rows = block.value.device, len(setting.prices)
    n_tiles = -(-block.n // _TILE)
    if n_programs is None:
        n_programs = max(1, min(n_tiles, _PROGRAMS_PER_CORE * _n_cores(device)))
    tau, tie = setting.tau, setting.where.tie
    head = [tau, 1.0 / tau, setting.reach, tie, setting.value_unit, setting.curvature_most]
    per_row = [setting.prices, setting.use_unit, setting.curvature_scale]
    reals = torch.tensor(np.concatenate([head, *per_row]), device=device)
    integers = torch.tensor([block.n, setting.draw_seed], device=device)
    shape = _shape(block, setting)
    room = torch.empty(
        (n_programs, shape["M"] + shape["L"], _TILE), dtype=torch.float64, device=device
    )
    sums = [
        torch.zeros((n_programs, *size), dtype=torch.int64, device=device)
        for size in ((), (3 + n_rows, 2), (n_rows, n_rows))
    ]
    arrays = [*_arrays(block), reals, integers, room, *sums]
    step = n_programs * _MOST_TILES
    with torch.cuda.device_of(block.value):  # Triton launches on the current device
        for first in range(0, n_tiles, step):
            last = min(n_tiles, first + step)
            _pass[(n_programs,)](*arrays, first, last, n_programs, **shape, num_warps=4,
                                  enable_fp_fusion=False)  # fmt: skip
    near, wide, curvature = (x.sum(0) for x in sums)
    return near, wide, curvature


def _arrays(block: DeviceBlock) -> list[Tensor]:
    """Value, costs, keys, amounts, segments; what is not there is never read."""
    nobody = torch.full((block.n,), -1, dtype=torch.int32, device=block.value.device)
    segments = nobody if block.segment_idx is None else block.segment_idx
    arrays = (block.value, block.costs, block.keys, block.capacity_use, segments)
    return [(block.value if x is None else x).contiguous() for x in arrays]


def _shape(block: DeviceBlock, setting: Setting) -> dict[str, int]:
    """What the kernel is compiled for."""
    rows = setting.where.rows
    return {
        "K": len(block.costs),
        "M": len(block.value),
        "S": rows.n_segments,
        "P": rows.n_packing,
        "L": rows.n_packing + min(1, rows.n_segments),
        "R_PAD": triton.next_power_of_2(max(1, rows.n)),
        "T": _TILE,
        "HAS_AMOUNTS": block.capacity_use is not None,
    }


def _n_cores(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
