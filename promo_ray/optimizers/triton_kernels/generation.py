"""Triton kernels of the population methods, one pass over memory per generation; see `gpu`.

Each computes what the function of the same name in `_kernel.c` computes. A program holds a tile of
rows (individuals) and columns (genes) of one island; random numbers are the hash of `draws`, made
in registers. `params` is int64: the keys of the islands, the first random word, then scalars as
the bits of float64, which an argument of Triton would round to float32. Needs Triton.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import triton
import triton.language as tl


@triton.jit
def _word(at, low, high):
    x = at * 0x9E3779B1 + low
    x = (x ^ (x >> 16)) * 0x21F0AAAD
    x = (x ^ (x >> 15)) ^ high
    x = x * 0x735A2D97
    return x ^ (x >> 15)


@triton.jit
def _key(params):
    """Halves of the key of this program's island, and the first random word."""
    key = tl.load(params + tl.program_id(2))
    start = tl.load(params + tl.num_programs(2))
    return key.to(tl.uint32), (key >> 32).to(tl.uint32), start.to(tl.uint32)


@triton.jit
def _scalar(params, number, real: tl.constexpr):
    bits = tl.load(params + tl.num_programs(2) + 1 + number)
    return bits.to(tl.float64, bitcast=True).to(real)


@triton.jit
def _unit(word, real: tl.constexpr):
    return (word >> 8).to(tl.int32).to(real) * (1.0 / 16777216)


@triton.jit
def _below(word, n):
    return ((word.to(tl.uint64) * n) >> 32).to(tl.int32)


@triton.jit
def _inside(x, low, high):
    x = tl.where(x < low, low, x)
    return tl.where(x > high, high, x)


@triton.jit
def _root(x, n_roots: tl.constexpr):
    """Root of x, x ** (1 / 2**n_roots), rounded as on the CPU."""
    for _ in tl.static_range(n_roots):
        x = tl.sqrt_rn(x) if x.dtype == tl.float32 else tl.sqrt(x)
    return x


@triton.jit
def _inverse(x):
    return tl.div_rn(tl.full(x.shape, 1.0, x.dtype), x) if x.dtype == tl.float32 else 1.0 / x


@triton.jit
def rows(mask, fresh, old, out, n, d, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Rows of `fresh` where the mask holds, else of `old`; the others are not read."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    is_fresh = tl.load(mask + row, mask=row < n, other=0)[:, None] != 0
    is_in = (row < n)[:, None] & (col < d)[None, :]
    at = row[:, None] * d + col[None, :]
    new = tl.load(fresh + at, mask=is_in & is_fresh, other=0.0)
    kept = tl.load(old + at, mask=is_in & (is_fresh == 0), other=0.0)
    tl.store(out + at, tl.where(is_fresh, new, kept), mask=is_in)


@triton.jit
def survivors(old, fresh, order, out, k, n_old, n_fresh, d, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Give k rows per island by number, those of `fresh` counted on after the rows of `old`."""
    island = tl.program_id(2).to(tl.int64)
    to = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    row = tl.load(order + island * k + to, mask=to < k, other=0)
    is_fresh = (row >= n_old)[:, None]
    is_in = (to < k)[:, None] & (col < d)[None, :]
    at_old = (island * n_old + row)[:, None] * d + col[None, :]
    at_fresh = (island * n_fresh + row - n_old)[:, None] * d + col[None, :]
    kept = tl.load(old + at_old, mask=is_in & (is_fresh == 0), other=0.0)
    new = tl.load(fresh + at_fresh, mask=is_in & is_fresh, other=0.0)
    at = (island * k + to)[:, None] * d + col[None, :]
    tl.store(out + at, tl.where(is_fresh, new, kept), mask=is_in)


@triton.jit
def move(
    params, x, velocity, best, leaders, low, high, out_x, out_velocity, n, d, n_leaders,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """One step of particle swarms; scalars: inertia, then both pulls / 65536."""
    real: tl.constexpr = x.dtype.element_ty
    key_low, key_high, start = _key(params)
    first_row = tl.program_id(2).to(tl.int64) * n
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    is_in = (row < n)[:, None] & (col < d)[None, :]
    at = (first_row + row)[:, None] * d + col[None, :]
    which = tl.program_id(2) * n_leaders + tl.where(n_leaders > 1, row, 0)
    leader = first_row + tl.load(leaders + which, mask=row < n, other=0)
    word = _word(start + (row[:, None] * d + col[None, :]).to(tl.uint32), key_low, key_high)
    here = tl.load(x + at, mask=is_in, other=0.0)
    own = tl.load(best + at, mask=is_in, other=0.0) - here
    lead = tl.load(best + leader[:, None] * d + col[None, :], mask=is_in, other=0.0) - here
    v = tl.load(velocity + at, mask=is_in, other=0.0) * _scalar(params, 0, real)
    v = v + ((word & 0xFFFF).to(tl.int32).to(real) * _scalar(params, 1, real)) * own
    v = v + ((word >> 16).to(tl.int32).to(real) * _scalar(params, 2, real)) * lead
    moved = here + v
    lowest = tl.load(low + col, mask=col < d, other=0.0)[None, :]
    highest = tl.load(high + col, mask=col < d, other=0.0)[None, :]
    held = _inside(moved, lowest, highest)
    tl.store(out_x + at, held, mask=is_in)
    tl.store(out_velocity + at, tl.where(held == moved, v, v * -0.5), mask=is_in)


@triton.jit
def trial(
    params, x, leads, weights, rates, low, high, out, out_weights, out_rates, n, d,
    KIND: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Trials of differential evolution; scalar: share of weights and rates drawn anew."""
    real: tl.constexpr = x.dtype.element_ty
    key_low, key_high, start = _key(params)
    first_row = tl.program_id(2).to(tl.int64) * n
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    is_row = row < n
    is_in = is_row[:, None] & (col < d)[None, :]
    at_row = start + (row * 8).to(tl.uint32)
    a = 1 + _below(_word(at_row, key_low, key_high), n - 1)
    b = 1 + _below(_word(at_row + 1, key_low, key_high), n - 2)
    c = 1 + _below(_word(at_row + 2, key_low, key_high), n - 3)
    b = b + (b >= a).to(tl.int32)
    c = c + (c >= tl.minimum(a, b)).to(tl.int32)
    c = c + (c >= tl.maximum(a, b)).to(tl.int32)
    must = _below(_word(at_row + 3, key_low, key_high), d)
    change = _scalar(params, 0, real)
    weight = tl.load(weights + first_row + row, mask=is_row, other=0.0)
    drawn = _unit(_word(at_row + 5, key_low, key_high), real) * 0.9 + 0.1
    weight = tl.where(_unit(_word(at_row + 4, key_low, key_high), real) < change, drawn, weight)
    rate = tl.load(rates + first_row + row, mask=is_row, other=0.0)
    drawn = _unit(_word(at_row + 7, key_low, key_high), real)
    rate = tl.where(_unit(_word(at_row + 6, key_low, key_high), real) < change, drawn, rate)

    at = (first_row + row)[:, None] * d + col[None, :]
    own = tl.load(x + at, mask=is_in, other=0.0)
    first = _partner(x, first_row, row, a, n, d, col, is_in)
    second = _partner(x, first_row, row, b, n, d, col, is_in)
    if KIND == 0:
        base = first
        step = second - _partner(x, first_row, row, c, n, d, col, is_in)
    else:
        lead_row = first_row + tl.load(leads + first_row + row, mask=is_row, other=0)
        lead = tl.load(x + lead_row[:, None] * d + col[None, :], mask=is_in, other=0.0)
        step = first - second
        if KIND == 1:
            base = lead
        else:
            base = own
            step = step + (lead - base)
    moved = base + step * weight[:, None]
    lowest = tl.load(low + col, mask=col < d, other=0.0)[None, :]
    highest = tl.load(high + col, mask=col < d, other=0.0)[None, :]
    moved = tl.where(moved < lowest, (lowest + own) * 0.5, moved)
    moved = tl.where(moved > highest, (highest + own) * 0.5, moved)
    at_gene = start + (n * 8 + row[:, None] * d + col[None, :]).to(tl.uint32)
    takes = _unit(_word(at_gene, key_low, key_high), real) < rate[:, None]
    takes = takes | (col[None, :] == must[:, None])
    tl.store(out + at, tl.where(takes, moved, own), mask=is_in)
    if tl.program_id(1) == 0:
        tl.store(out_weights + first_row + row, weight, mask=is_row)
        tl.store(out_rates + first_row + row, rate, mask=is_row)


@triton.jit
def _partner(x, first_row, row, offset, n, d, col, is_in):
    """Rows `offset` further on, around the end."""
    other = row + offset
    other = first_row + tl.where(other >= n, other - n, other)
    return tl.load(x + other[:, None] * d + col[None, :], mask=is_in, other=0.0)


@triton.jit
def breed(
    params, x, parents, low, high, out, n, d,
    CROSS_ROOTS: tl.constexpr, MUTATION_ROOTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Children of pairs (i, n/2 + i) of parents.

    Scalars: share of pairs that cross, of genes that mutate, inverse of the latter (0 for 0).
    """
    real: tl.constexpr = x.dtype.element_ty
    key_low, key_high, start = _key(params)
    first_row = tl.program_id(2).to(tl.int64) * n
    pairs = n // 2
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    is_in = (row < pairs)[:, None] & (col < d)[None, :]
    row_a = first_row + tl.load(parents + first_row + row, mask=row < pairs, other=0)
    row_b = first_row + tl.load(parents + first_row + pairs + row, mask=row < pairs, other=0)
    a = tl.load(x + row_a[:, None] * d + col[None, :], mask=is_in, other=0.0)
    b = tl.load(x + row_b[:, None] * d + col[None, :], mask=is_in, other=0.0)
    word = _word(start + row.to(tl.uint32), key_low, key_high)
    crosses = (_unit(word, real) < _scalar(params, 0, real))[:, None]

    gene = row[:, None] * d + col[None, :]
    at_cross = start + (pairs + gene).to(tl.uint32)
    word = _word(at_cross, key_low, key_high)
    u = ((word >> 8) & 0x1FFFFF).to(tl.int32).to(real) * (1.0 / 2097152)
    expands = ((word >> 29) & 1) != 0
    root = _root(tl.where(expands, 1.0 - u, u), CROSS_ROOTS)
    root = tl.where(root < 1e-3, 1e-3, root)
    factor = tl.where(expands, _inverse(root), root)
    factor = tl.where(((word >> 30) & 1) != 0, -factor, factor)
    keeps = ((word >> 31) != 0) | (crosses == 0)
    middle = (a + b) * 0.5
    half = (a - b) * 0.5 * factor
    child_a = tl.where(keeps, a, middle + half)
    child_b = tl.where(keeps, b, middle - half)

    lowest = tl.load(low + col, mask=col < d, other=0.0)[None, :]
    highest = tl.load(high + col, mask=col < d, other=0.0)[None, :]
    at_mutation = at_cross + (pairs * d).to(tl.uint32)
    width = highest - lowest
    word = _word(at_mutation, key_low, key_high)
    child_a = child_a + _step(params, word, real, MUTATION_ROOTS) * width
    word = _word(at_mutation + (pairs * d).to(tl.uint32), key_low, key_high)
    child_b = child_b + _step(params, word, real, MUTATION_ROOTS) * width
    at = (first_row + row)[:, None] * d + col[None, :]
    tl.store(out + at, _inside(child_a, lowest, highest), mask=is_in)
    at = (first_row + pairs + row)[:, None] * d + col[None, :]
    tl.store(out + at, _inside(child_b, lowest, highest), mask=is_in)


@triton.jit
def _step(params, word, real: tl.constexpr, n_roots: tl.constexpr):
    """Polynomial mutation as a share of the range; 0 where a gene stays."""
    u = _unit(word, real)
    share = u * _scalar(params, 2, real)
    share = tl.where(share > 1, 1.0, share)
    side = tl.where(share < 1 - share, share, 1 - share)
    step = 1 - _root(2 * side, n_roots)
    step = tl.where(share < 0.5, -step, step)
    return tl.where(u < _scalar(params, 1, real), step, 0.0)
