/* One pass over memory per generation for the population methods; see native.py.
 *
 * Each function computes what the tensor code beside its caller computes, bit for bit: every
 * operation is rounded on its own (built with -ffp-contract=off) and random numbers are the hash
 * of draws.py. The file includes itself to define the functions for float and for double.
 */
#ifndef REAL

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* one version of each function per instruction set, chosen when the library is loaded */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FAST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FAST
#endif
#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif

#define BLOCK 32

static ALWAYS_INLINE uint32_t word(uint32_t at, uint32_t low, uint32_t high)
{
    uint32_t x = at * 0x9E3779B1u + low;
    x = (x ^ (x >> 16)) * 0x21F0AAADu;
    x = (x ^ (x >> 15)) ^ high;
    x = x * 0x735A2D97u;
    return x ^ (x >> 15);
}

#define LOW(key) ((uint32_t)(key))
#define HIGH(key) ((uint32_t)((key) >> 32))

FAST EXPORT void promo_words(const uint64_t *keys, int64_t n_keys, uint64_t start, int64_t n,
                             uint32_t *restrict out)
{
    for (int64_t k = 0; k < n_keys; k++) {
        const uint32_t low = LOW(keys[k]), high = HIGH(keys[k]);
        for (int64_t i = 0; i < n; i++)
            out[k * n + i] = word((uint32_t)start + (uint32_t)i, low, high);
    }
}

#define JOIN(a, b) a##b
#define NAMED(a, b) JOIN(a, b)
#define NAME(base) NAMED(base, SUFFIX)

#define REAL float
#define SUFFIX _float32
#define SQRT sqrtf
#include "_kernel.c"
#undef REAL
#undef SUFFIX
#undef SQRT
#undef UNIT
#undef BELOW
#define REAL double
#define SUFFIX _float64
#define SQRT sqrt
#include "_kernel.c"

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_kernel", .m_size = -1};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&definition); }

#else /* the functions that exist for both types */

static ALWAYS_INLINE REAL NAME(inside)(REAL x, REAL low, REAL high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* x ** (1 / 2**n); written out for the usual n, so that the compiler can use vectors */
static ALWAYS_INLINE REAL NAME(root)(REAL x, int64_t n)
{
    if (n == 4)
        return SQRT(SQRT(SQRT(SQRT(x))));
    if (n == 2)
        return SQRT(SQRT(x));
    for (int64_t i = 0; i < n; i++)
        x = SQRT(x);
    return x;
}

/* rows of `fresh` where the mask holds, else of `old` */
EXPORT void NAME(promo_rows)(int64_t n, int64_t d, const uint8_t *mask, const REAL *fresh,
                             const REAL *old, REAL *out)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i * d, (mask[i] ? fresh : old) + i * d, (size_t)d * sizeof(REAL));
}

/* k rows per island by number, those of `fresh` counted on after the n_old rows of `old` */
EXPORT void NAME(promo_survivors)(int64_t n_islands, int64_t k, int64_t n_old, int64_t n_fresh,
                                  int64_t d, const REAL *old, const REAL *fresh,
                                  const int64_t *order, REAL *out)
{
    for (int64_t island = 0; island < n_islands; island++) {
        const REAL *first = old + island * n_old * d, *second = fresh + island * n_fresh * d;
        for (int64_t i = island * k; i < (island + 1) * k; i++) {
            const int64_t row = order[i];
            memcpy(out + i * d, row < n_old ? first + row * d : second + (row - n_old) * d,
                   (size_t)d * sizeof(REAL));
        }
    }
}

/* one step of a particle swarm; `leaders` holds one row number per island or per particle */
FAST EXPORT void NAME(promo_move)(const uint64_t *keys, int64_t n_keys, uint64_t start, int64_t n,
                                  int64_t d, const REAL *restrict x, const REAL *restrict velocity,
                                  const REAL *restrict best, const int64_t *leaders,
                                  int64_t n_leaders, const REAL *restrict low,
                                  const REAL *restrict high, double inertia, double cognitive,
                                  double social, REAL *restrict out_x, REAL *restrict out_velocity)
{
    const REAL keep = (REAL)inertia;
    const REAL own = (REAL)(cognitive * (1.0 / 65536)), others = (REAL)(social * (1.0 / 65536));
    for (int64_t k = 0; k < n_keys; k++) {
        const uint32_t key_low = LOW(keys[k]), key_high = HIGH(keys[k]);
        for (int64_t i = 0; i < n; i++) {
            const int64_t at = (k * n + i) * d;
            const int64_t leader = leaders[k * n_leaders + (n_leaders > 1 ? i : 0)];
            const REAL *restrict lead = best + (k * n + leader) * d;
            const uint32_t first = (uint32_t)start + (uint32_t)(i * d);
            for (int64_t j = 0; j < d; j++) {
                const uint32_t w = word(first + (uint32_t)j, key_low, key_high);
                const REAL here = x[at + j];
                REAL v = velocity[at + j] * keep +
                         ((REAL)(int32_t)(w & 0xFFFF) * own) * (best[at + j] - here);
                v = v + ((REAL)(int32_t)(w >> 16) * others) * (lead[j] - here);
                const REAL moved = here + v;
                const REAL held = NAME(inside)(moved, low[j], high[j]);
                out_x[at + j] = held;
                out_velocity[at + j] = held == moved ? v : v * (REAL)-0.5;
            }
        }
    }
}

static ALWAYS_INLINE void NAME(blend)(int64_t d, uint32_t first, uint32_t key_low,
                                      uint32_t key_high, int64_t n_roots, const REAL *restrict a,
                                      const REAL *restrict b, REAL *restrict out_a,
                                      REAL *restrict out_b)
{
    for (int64_t j = 0; j < d; j++) {
        const uint32_t w = word(first + (uint32_t)j, key_low, key_high);
        const REAL u = (REAL)(int32_t)((w >> 8) & 0x1FFFFF) * (REAL)(1.0 / 2097152);
        const int expands = (w >> 29) & 1;
        REAL root = NAME(root)(expands ? 1 - u : u, n_roots);
        root = root < (REAL)1e-3 ? (REAL)1e-3 : root;
        const REAL inverse = 1 / root;
        REAL factor = expands ? inverse : root;
        factor = (w >> 30) & 1 ? -factor : factor;
        const REAL middle = (a[j] + b[j]) * (REAL)0.5;
        const REAL half = (a[j] - b[j]) * (REAL)0.5 * factor;
        out_a[j] = w >> 31 ? a[j] : middle + half;
        out_b[j] = w >> 31 ? b[j] : middle - half;
    }
}

/* a constant number of roots lets the compiler use vectors */
static ALWAYS_INLINE void NAME(cross)(int64_t d, uint32_t first, uint32_t key_low,
                                      uint32_t key_high, int crosses, int64_t n_roots,
                                      const REAL *restrict a, const REAL *restrict b,
                                      REAL *restrict out_a, REAL *restrict out_b)
{
    if (!crosses) {
        memcpy(out_a, a, (size_t)d * sizeof(REAL));
        memcpy(out_b, b, (size_t)d * sizeof(REAL));
    } else if (n_roots == 4) {
        NAME(blend)(d, first, key_low, key_high, 4, a, b, out_a, out_b);
    } else if (n_roots == 2) {
        NAME(blend)(d, first, key_low, key_high, 2, a, b, out_a, out_b);
    } else {
        NAME(blend)(d, first, key_low, key_high, n_roots, a, b, out_a, out_b);
    }
}

static ALWAYS_INLINE void NAME(mutate)(int64_t d, uint32_t first, uint32_t key_low, uint32_t key_high,
                                double rate, int64_t n_roots, const REAL *restrict low,
                                const REAL *restrict high, REAL *restrict x)
{
    const REAL scale = (REAL)(1 / rate);
    /* below this the multiple of 2**-24 lies below the rate */
    const int32_t limit = (int32_t)ceil((double)(REAL)rate * 16777216.0);
    int32_t u[BLOCK];
    for (int64_t j0 = 0; j0 < d; j0 += BLOCK) {
        const int64_t size = d - j0 < BLOCK ? d - j0 : BLOCK;
        int32_t n_hits = 0;
        for (int64_t j = 0; j < BLOCK; j++) {
            u[j] = (int32_t)(word(first + (uint32_t)(j0 + j), key_low, key_high) >> 8);
            n_hits += u[j] < limit;
        }
        for (int64_t j = 0; j < size && n_hits; j++) {
            if (u[j] >= limit)
                continue;
            REAL share = (REAL)u[j] * (REAL)(1.0 / 16777216) * scale;
            share = share > 1 ? 1 : share;
            const REAL side = share < 1 - share ? share : 1 - share;
            const REAL step = 1 - NAME(root)(2 * side, n_roots);
            x[j0 + j] += (share < (REAL)0.5 ? -step : step) * (high[j0 + j] - low[j0 + j]);
        }
    }
    for (int64_t j = 0; j < d; j++)
        x[j] = NAME(inside)(x[j], low[j], high[j]);
}

/* children of pairs (i, n/2 + i) of parents: crossover and polynomial mutation; the random words
 * are n/2 that decide who crosses, n/2 * d of the crossover, n * d of the mutation */
FAST EXPORT void NAME(promo_breed)(const uint64_t *keys, int64_t n_keys, uint64_t start, int64_t n,
                                   int64_t d, const REAL *restrict x, const int64_t *parents,
                                   const REAL *restrict low, const REAL *restrict high,
                                   double cross_rate, double mutation_rate, int64_t cross_roots,
                                   int64_t mutation_roots, REAL *restrict out)
{
    const int64_t pairs = n / 2;
    const uint32_t at_cross = (uint32_t)start + (uint32_t)pairs;
    const uint32_t at_mutation = at_cross + (uint32_t)(pairs * d);
    for (int64_t k = 0; k < n_keys; k++) {
        const uint32_t key_low = LOW(keys[k]), key_high = HIGH(keys[k]);
        for (int64_t i = 0; i < pairs; i++) {
            const REAL *a = x + (k * n + parents[k * n + i]) * d;
            const REAL *b = x + (k * n + parents[k * n + pairs + i]) * d;
            REAL *out_a = out + (k * n + i) * d, *out_b = out + (k * n + pairs + i) * d;
            const uint32_t w = word((uint32_t)start + (uint32_t)i, key_low, key_high) >> 8;
            const int crosses = (REAL)(int32_t)w * (REAL)(1.0 / 16777216) < (REAL)cross_rate;
            NAME(cross)(d, at_cross + (uint32_t)(i * d), key_low, key_high, crosses, cross_roots,
                        a, b, out_a, out_b);
            if (mutation_rate > 0) {
                NAME(mutate)(d, at_mutation + (uint32_t)(i * d), key_low, key_high, mutation_rate,
                             mutation_roots, low, high, out_a);
                NAME(mutate)(d, at_mutation + (uint32_t)((pairs + i) * d), key_low, key_high,
                             mutation_rate, mutation_roots, low, high, out_b);
            } else {
                for (int64_t j = 0; j < d; j++) {
                    out_a[j] = NAME(inside)(out_a[j], low[j], high[j]);
                    out_b[j] = NAME(inside)(out_b[j], low[j], high[j]);
                }
            }
        }
    }
}

#define UNIT(w) ((REAL)(int32_t)((w) >> 8) * (REAL)(1.0 / 16777216))
#define BELOW(w, n) (int64_t)(((uint64_t)(w) * (uint64_t)(n)) >> 32)

static ALWAYS_INLINE void NAME(mix)(int64_t d, uint32_t first, uint32_t key_low, uint32_t key_high,
                                    REAL f, int32_t limit, int32_t must, const REAL *restrict own,
                                    const REAL *restrict base, const REAL *restrict lead,
                                    const REAL *restrict plus, const REAL *restrict minus,
                                    int has_lead, const REAL *restrict low,
                                    const REAL *restrict high, REAL *restrict out)
{
    for (int64_t j = 0; j < d; j++) {
        const int32_t u = (int32_t)(word(first + (uint32_t)j, key_low, key_high) >> 8);
        REAL step = plus[j] - minus[j];
        step = has_lead ? step + (lead[j] - base[j]) : step;
        REAL moved = base[j] + step * f;
        moved = moved < low[j] ? (low[j] + own[j]) * (REAL)0.5 : moved;
        moved = moved > high[j] ? (high[j] + own[j]) * (REAL)0.5 : moved;
        out[j] = (u < limit) | ((int32_t)j == must) ? moved : own[j];
    }
}

/* trials of differential evolution. Kind 0: random base; 1: the lead is the base; 2: the target is
 * the base and the lead pulls. Of 8 words per target, 3 choose partners, 1 the gene that is always
 * taken, 4 whether and how weight and rate change; n * d words decide the crossover. */
FAST EXPORT void NAME(promo_trial)(const uint64_t *keys, int64_t n_keys, uint64_t start, int64_t n,
                                   int64_t d, const REAL *restrict x, const int64_t *leads,
                                   const REAL *weights, const REAL *rates,
                                   const REAL *restrict low, const REAL *restrict high,
                                   int64_t kind, double change, REAL *restrict out,
                                   REAL *restrict out_weights, REAL *restrict out_rates)
{
    for (int64_t k = 0; k < n_keys; k++) {
        const uint32_t key_low = LOW(keys[k]), key_high = HIGH(keys[k]);
        const REAL *all = x + k * n * d;
        for (int64_t i = 0; i < n; i++) {
            const int64_t row = k * n + i;
            uint32_t w[8];
            for (int64_t c = 0; c < 8; c++)
                w[c] = word((uint32_t)start + (uint32_t)(8 * i + c), key_low, key_high);
            const int64_t a = 1 + BELOW(w[0], n - 1);
            int64_t b = 1 + BELOW(w[1], n - 2), c = 1 + BELOW(w[2], n - 3);
            b += b >= a;
            const int64_t near = a < b ? a : b, far = a < b ? b : a;
            c += c >= near;
            c += c >= far;
            const REAL f = UNIT(w[4]) < (REAL)change ? (REAL)0.1 + (REAL)0.9 * UNIT(w[5])
                                                     : weights[row];
            const REAL rate = UNIT(w[6]) < (REAL)change ? UNIT(w[7]) : rates[row];
            const REAL *own = all + i * d, *first = all + (i + a) % n * d;
            const REAL *second = all + (i + b) % n * d, *third = all + (i + c) % n * d;
            const REAL *lead = all + leads[row] * d;
            const int32_t limit = (int32_t)ceil((double)rate * 16777216.0);
            const int32_t must = (int32_t)BELOW(w[3], d);
            const uint32_t at = (uint32_t)start + (uint32_t)(8 * n + i * d);
            REAL *to = out + row * d;
            if (kind == 0)
                NAME(mix)(d, at, key_low, key_high, f, limit, must, own, first, lead, second,
                          third, 0, low, high, to);
            else if (kind == 1)
                NAME(mix)(d, at, key_low, key_high, f, limit, must, own, lead, lead, first,
                          second, 0, low, high, to);
            else
                NAME(mix)(d, at, key_low, key_high, f, limit, must, own, own, lead, first, second,
                          1, low, high, to);
            out_weights[row] = f;
            out_rates[row] = rate;
        }
    }
}

#endif
