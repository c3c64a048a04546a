# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# (jitted functions are Triton's language, which has no types)
"""Elementary functions of `_kernel.c` in Triton, to the last bit if multiply-add is not fused."""

from __future__ import annotations

import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]

from promo_ray.allocation.gpu_torch import MIX, ROUND, TAYLOR

_MIX_1 = tl.constexpr(MIX[0])
_MIX_2 = tl.constexpr(MIX[1])
_TAYLOR = tl.constexpr(TAYLOR)
_ROUND = tl.constexpr(ROUND)
_LN2_HIGH = tl.constexpr(float.fromhex("0x1.62e42fefa0000p-1"))
_LN2_LOW = tl.constexpr(float.fromhex("0x1.cf79abc9e3b3ap-40"))


@triton.jit
def exp_of(x):
    """exp(x) for x in [-700, 0]; error < 1e-15."""
    whole = x * 1.4426950408889634 + _ROUND
    k = whole - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = r * 0.0 + _TAYLOR[0]
    for i in tl.static_range(1, 14):
        p = p * r + _TAYLOR[i]
    return p * ((whole.to(tl.int64, bitcast=True) + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def log_of(z):
    """log(z) for z >= 1; error < 1e-15."""
    bits = z.to(tl.int64, bitcast=True)
    k = (bits >> 52) - 1023
    f = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    is_high = f > 1.4142135623730951
    f = tl.where(is_high, f * 0.5, f)
    k += is_high.to(tl.int64)
    s = (f - 1.0) / (f + 1.0)
    s2 = s * s
    p = s2 * 0.0 + 1.0 / 21.0
    for d in tl.static_range(10):
        p = p * s2 + 1.0 / (19 - 2 * d)
    return 2.0 * s * p + k.to(tl.float64) * 0.6931471805599453


@triton.jit
def fixed(x):
    """Nearest int64, halves away from zero."""
    return (x + tl.where(x < 0, -0.5, 0.5).to(tl.float64)).to(tl.int64)


@triton.jit
def mix(z):
    """The last rounds of SplitMix64, on uint64."""
    z = (z ^ (z >> 30)) * _MIX_1
    z = (z ^ (z >> 27)) * _MIX_2
    return z ^ (z >> 31)
