/* Passes over users at given prices; see kernel.py for the meaning of every argument.

   Sums are integers of fixed point (contributions rounded to a unit that the caller chooses), so
   they do not depend on the order of users or on how they are split. No FMA (-ffp-contract=off),
   no libm and no reassociation: the same bits on every x86-64 and ARM machine. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FAST __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define FAST
#endif
#define API __attribute__((visibility("default")))

#define CHUNK 128      /* users scored at once: their scores stay in the first cache */
#define WINDOW 40.0    /* exp(-40) = 4e-18: slots further below the best have no weight */
#define N_PARTS 256    /* exact sums: one integer per binary exponent of float32 */

typedef struct {
    int64_t n, cost_stride;
    int32_t m, k, n_offers, n_segments, q, n_groups;
    const float *value, *costs, *amount;
    const int32_t *offer, *segment;
    const uint64_t *keys;
    uint64_t first, seed;
    const double *weight, *most;
    const int32_t *group_limit, *group_parent, *group_of_offer;
    double tie, value_factor;
} Users;

typedef struct {
    double tau, value_unit, curvature_most; /* a user's curvature is at most the last */
    const double *price, *unit; /* (R,) prices; (R,) inverse of the unit of use */
    const double *curvature_scale; /* (R,) inverse of the root of the unit of curvature */
    int64_t *wide;       /* (3 + R, 2) exact, smooth, value, use: multiples of 2^32, and the rest */
    int64_t *curvature;  /* (R, R) upper triangle, or NULL */
    int64_t *n_near;     /* (1,) users with a choice at this temperature */
} Sums;

static inline uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}
static inline uint64_t key_of(const Users *b, int64_t i) {
    uint64_t key = b->keys ? b->keys[i] : b->first + (uint64_t)i;
    return mix(key * 0x9E3779B97F4A7C15ull + b->seed);
}
static inline double unit_interval(uint64_t bits) { return ((double)(bits >> 11) + 0.5) * 0x1p-53; }

/* exp(x) for x in [-700, 0]: 2^k * p(r), r in [-ln2/2, ln2/2], Taylor to r^13; error < 1e-15.
   Adding 1.5 * 2^52 rounds to a whole number and leaves it in the low bits. No branch: loops over
   slots are turned into vector instructions. */
static inline double exp_of(double x) {
    union { double d; uint64_t i; } whole = {.d = x * 1.4426950408889634 + 6755399441055744.0};
    double k = whole.d - 6755399441055744.0;
    double r = (x - k * 0x1.62e42fefa0000p-1) - k * 0x1.cf79abc9e3b3ap-40;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    whole.i = (whole.i + 1023u) << 52;
    return p * whole.d;
}
/* log(z) for z >= 1: z = 2^k f, f in [sqrt(1/2), sqrt(2)), atanh series to s^21; error < 1e-15. */
static inline double log_of(double z) {
    union { double d; uint64_t i; } bits = {.d = z};
    int64_t k = (int64_t)(bits.i >> 52) - 1023;
    bits.i = (bits.i & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
    double f = bits.d;
    if (f > 1.4142135623730951) { f *= 0.5; k += 1; }
    double s = (f - 1.0) / (f + 1.0), s2 = s * s, p = 1.0 / 21.0;
    for (int d = 19; d >= 1; d -= 2) p = p * s2 + 1.0 / (double)d;
    return 2.0 * s * p + (double)k * 0.6931471805599453;
}
static inline double share_of(double x) { /* 1 / (1 + exp(-x)) */
    if (x >= 0.0) return 1.0 / (1.0 + exp_of(x > WINDOW ? -WINDOW : -x));
    double e = x < -700.0 ? 0.0 : exp_of(x);
    return e / (1.0 + e);
}

/* Scores of the users [a, a + c): s = value - prices . use (+ price of the segment's floor). */
FAST static void scores(const Users *b, const double *price, int64_t a, int64_t c, double *s) {
    const int64_t p = c * b->m, from = a * b->m;
    const float *v = b->value + from;
    if (b->value_factor == 1.0)
        for (int64_t i = 0; i < p; i++) s[i] = (double)v[i];
    else
        for (int64_t i = 0; i < p; i++) s[i] = v[i] == -INFINITY ? -INFINITY : v[i] * b->value_factor;
    for (int32_t k = 0; k < b->k; k++) {
        const double lam = price[k];
        const float *cost = b->costs + k * b->cost_stride + from;
        if (lam == 0.0) continue;
        for (int64_t i = 0; i < p; i++) s[i] -= lam * (double)cost[i];
    }
    if (b->n_offers) {
        const double *mu = price + b->k;
        const int32_t *offer = b->offer ? b->offer + from : NULL;
        const float *amount = b->amount ? b->amount + from : NULL;
        if (offer && amount)
            for (int64_t i = 0; i < p; i++) s[i] -= mu[offer[i]] * (double)amount[i];
        else if (offer)
            for (int64_t i = 0; i < p; i++) s[i] -= mu[offer[i]];
        else
            for (int64_t u = 0; u < c; u++)
                for (int32_t j = 0; j < b->m; j++)
                    s[u * b->m + j] -= amount ? mu[j] * (double)amount[u * b->m + j] : mu[j];
    }
    if (b->most) {
        for (int32_t k = 0; k < b->k; k++) {
            const float *cost = b->costs + k * b->cost_stride + from;
            const double most = b->most[k];
            if (most < INFINITY)
                for (int64_t i = 0; i < p; i++) s[i] = (double)cost[i] > most ? -INFINITY : s[i];
        }
        if (b->n_offers)
            for (int64_t i = 0; i < p; i++) {
                int32_t o = b->offer ? b->offer[from + i] : (int32_t)(i % b->m);
                double w = b->amount ? (double)b->amount[from + i] : 1.0;
                if (w > b->most[b->k + o]) s[i] = -INFINITY;
            }
    }
}

/* Best and second best score of each user with none = 0 among them, and the best slot. */
FAST static void two_best(const double *s, int64_t c, int32_t m, const double *bonus, double *best,
                          double *second, double *slot) {
    for (int64_t u = 0; u < c; u++) { best[u] = 0.0; second[u] = -INFINITY; slot[u] = -1.0; }
    for (int32_t j = 0; j < m; j++) {
        const double at = (double)j;
        for (int64_t u = 0; u < c; u++) {
            const double x = s[u * m + j] + bonus[u], old = best[u], next = second[u];
            const double lower = x > next ? x : next;
            second[u] = x > old ? old : lower;
            slot[u] = x > old ? at : slot[u];
            best[u] = x > old ? x : old;
        }
    }
}

typedef struct {
    double *s, *told, *x, *rest, *floor, *theta, *bind, *local;
    int32_t *rows, *order, *node, *count, is_single;
    double best[CHUNK], second[CHUNK], slot[CHUNK], bonus[CHUNK];
} Scratch;

static int scratch_open(Scratch *t, const Users *b) {
    const size_t m = (size_t)b->m, g = (size_t)b->n_groups + 1, t_rows = (size_t)b->k + m + 1;
    memset(t, 0, sizeof *t);
    t->s = malloc(sizeof(double) * (CHUNK * m + 4 * m + t_rows * t_rows + 2 * t_rows + g + g * (t_rows + g)));
    t->rows = malloc(sizeof(int32_t) * (t_rows + 3 * m + g));
    if (!t->s || !t->rows) { free(t->s); free(t->rows); return -1; }
    t->told = t->s + CHUNK * m;
    t->x = t->told + m;
    t->rest = t->x + m;
    t->floor = t->rest + m;
    t->theta = t->floor + m;
    t->bind = t->theta + g;
    t->local = t->bind + g * (t_rows + g);
    t->order = t->rows + t_rows;
    t->node = t->order + 2 * m;
    t->count = t->node + m;
    return 0;
}
static void scratch_close(Scratch *t) { free(t->s); free(t->rows); }

static void load_bonus(const Users *b, const double *price, int64_t a, int64_t c, double *bonus) {
    const double *nu = price + b->k + b->n_offers;
    for (int64_t u = 0; u < c; u++)
        bonus[u] = b->segment && b->n_segments && b->segment[a + u] >= 0 ? nu[b->segment[a + u]] : 0.0;
}

/* Scores of one user with exact ties told apart by a number that belongs to user and slot. */
static void tell_apart(const Users *b, int64_t i, const double *s, double *told) {
    uint64_t key = key_of(b, i);
    for (int32_t j = 0; j < b->m; j++)
        told[j] = s[j] - b->tie * unit_interval(mix(key + 0x9E3779B97F4A7C15ull * (uint64_t)(j + 1)));
}

static inline void add_wide(int64_t *sum, int64_t x) {
    sum[0] += x >> 32;
    sum[1] += x & 0xFFFFFFFFll;
}
static inline int64_t fixed(double x) { return (int64_t)(x + (x < 0.0 ? -0.5 : 0.5)); }

static double soften(const Users *b, Scratch *t, double tau, double bonus, double *y);
#include "_kernel_many.h"

/* Adds one user with shares x and served share y: value, use u = sum_j x_j a_j, and curvature
   tau * d u / d s: sum_j d_j a_j a_j' - u u' for one slot (d = x), less binding nodes for many. */
static void add_open(const Users *b, const Sums *out, Scratch *t, int64_t i, double y, double w) {
    const int32_t m = b->m, k = b->k;
    const float *v = b->value + i * m;
    int32_t n_rows = k;
    double *u = t->local, *h = t->local + (k + m + 1), value = 0.0;
    int32_t *slot_row = t->node; /* local row of each slot's offer */
    for (int32_t r = 0; r < k; r++) t->rows[r] = r;
    for (int32_t j = 0; j < m; j++) {
        if (t->x[j] > 0.0) value += t->x[j] * (double)v[j];
        if (!b->n_offers || t->x[j] <= 0.0) continue;
        int32_t row = k + (b->offer ? b->offer[i * m + j] : j), at = k;
        while (at < n_rows && t->rows[at] != row) at++;
        if (at == n_rows) t->rows[n_rows++] = row;
        slot_row[j] = at;
    }
    const int has_floor = b->segment && b->n_segments && b->segment[i] >= 0;
    if (has_floor) t->rows[n_rows++] = k + b->n_offers + b->segment[i];
    memset(u, 0, sizeof(double) * (size_t)n_rows);
    if (out->curvature) memset(h, 0, sizeof(double) * (size_t)(n_rows * n_rows));
    for (int32_t j = 0; j < m; j++) {
        const double x = t->x[j], d = t->rest[j];
        if (x <= 0.0) continue;
        const double amount = b->amount ? (double)b->amount[i * m + j] : 1.0;
        for (int32_t r = 0; r < k; r++) u[r] += x * (double)b->costs[r * b->cost_stride + i * m + j];
        if (b->n_offers) u[slot_row[j]] += x * amount;
        if (!out->curvature || d <= 0.0) continue;
        for (int32_t r = 0; r < k; r++) {
            const double cd = d * (double)b->costs[r * b->cost_stride + i * m + j];
            for (int32_t o = r; o < k; o++)
                h[r * n_rows + o] += cd * (double)b->costs[o * b->cost_stride + i * m + j];
            if (b->n_offers) h[r * n_rows + slot_row[j]] += cd * amount;
            if (has_floor) h[r * n_rows + n_rows - 1] -= cd * t->floor[j];
        }
        if (b->n_offers) {
            h[slot_row[j] * n_rows + slot_row[j]] += d * amount * amount;
            if (has_floor) h[slot_row[j] * n_rows + n_rows - 1] -= d * amount * t->floor[j];
        }
        if (has_floor) h[(n_rows - 1) * n_rows + n_rows - 1] += d * t->floor[j] * t->floor[j];
    }
    if (has_floor) u[n_rows - 1] = -y;
    add_wide(out->wide + 4, fixed(w * value * out->value_unit));
    for (int32_t r = 0; r < n_rows; r++)
        add_wide(out->wide + 6 + 2 * t->rows[r], fixed(w * u[r] * out->unit[t->rows[r]]));
    if (!out->curvature) return;
    if (b->n_groups && !t->is_single) project_out(b, t, i, n_rows, slot_row, has_floor, h);
    else
        for (int32_t r = 0; r < n_rows; r++)
            for (int32_t o = r; o < n_rows; o++) h[r * n_rows + o] -= u[r] * u[o];
    const int32_t n_all = k + b->n_offers + b->n_segments;
    double factor = w; /* the whole of a user is scaled down, so that the sum stays convex */
    for (int32_t r = 0; r < n_rows; r++) {
        const double scale = out->curvature_scale[t->rows[r]];
        const double x = h[r * n_rows + r] * scale * scale;
        if (factor * x > out->curvature_most) factor = out->curvature_most / x;
    }
    for (int32_t r = 0; r < n_rows; r++)
        for (int32_t o = r; o < n_rows; o++) {
            const int32_t p = t->rows[r], c = t->rows[o];
            const double x = h[r * n_rows + o] * out->curvature_scale[p] * out->curvature_scale[c];
            out->curvature[p < c ? p * (int64_t)n_all + c : c * (int64_t)n_all + p] +=
                fixed(factor * x);
        }
}

/* x = exp((s - top) rate), 0 further than WINDOW below the top. */
FAST static void shares(const double *s, int32_t m, double top, double rate, double *x) {
    for (int32_t j = 0; j < m; j++) {
        const double z = (s[j] - top) * rate;
        const double e = exp_of(z > -WINDOW ? z : -WINDOW);
        x[j] = z > -WINDOW ? e : 0.0;
    }
}

/* Softmax of the slots and none at temperature tau; returns tau log sum exp. */
static double soften(const Users *b, Scratch *t, double tau, double bonus, double *y) {
    double top = 0.0, z;
    for (int32_t j = 0; j < b->m; j++) {
        t->told[j] += bonus;
        if (t->told[j] > top) top = t->told[j];
    }
    z = top > WINDOW * tau ? 0.0 : exp_of(-top / tau);
    const double none = z;
    shares(t->told, b->m, top, 1.0 / tau, t->x);
    for (int32_t j = 0; j < b->m; j++) z += t->x[j];
    for (int32_t j = 0; j < b->m; j++) {
        t->rest[j] = t->x[j] /= z;
        t->floor[j] = 1.0;
    }
    *y = 1.0 - none / z;
    return top + tau * log_of(z);
}

/* Whether the temperature leaves a choice: some share is neither 0 nor 1, within exp(-8). */
static int is_open(const Scratch *t, int32_t m, int is_free, double y) {
    double top = is_free ? 0.0 : 1.0 - y;
    for (int32_t j = 0; j < m; j++) {
        if (is_free && t->x[j] > 3.4e-4 && t->x[j] < 1.0 - 3.4e-4) return 1;
        if (t->x[j] > top) top = t->x[j];
    }
    return !is_free && top < 1.0 - 3.4e-4;
}

/* Sums of exact and smoothed dual, value, use and curvature; adds to `out`. 0, or -1: no memory. */
API int promo_evaluate(const Users *b, const Sums *out) {
    Scratch t;
    if (scratch_open(&t, b)) return -1;
    const int is_many = b->n_groups > 0;
    const double near = WINDOW * out->tau + b->tie;
    for (int64_t a = 0; a < b->n; a += CHUNK) {
        const int64_t c = b->n - a < CHUNK ? b->n - a : CHUNK;
        int64_t decided[CHUNK], n_decided = 0;
        scores(b, out->price, a, c, t.s);
        load_bonus(b, out->price, a, c, t.bonus);
        if (is_many) many_best(b, &t, a, c);
        else two_best(t.s, c, b->m, t.bonus, t.best, t.second, t.slot);
        for (int64_t u = 0; u < c; u++) {
            const double w = b->weight ? b->weight[a + u] : 1.0;
            add_wide(out->wide, fixed(w * t.best[u] * out->value_unit));
            if (t.best[u] - t.second[u] > near) {
                add_wide(out->wide + 2, fixed(w * t.best[u] * out->value_unit));
                if (is_many) add_many(b, out, &t, a + u, w, t.s + u * b->m, t.bonus[u]);
                else if (t.slot[u] >= 0.0) decided[n_decided++] = u;
                continue;
            }
            double y, smooth;
            tell_apart(b, a + u, t.s + u * b->m, t.told);
            smooth = is_many ? soften_many(b, &t, a + u, out->tau, t.bonus[u], &y)
                             : soften(b, &t, out->tau, t.bonus[u], &y);
            add_wide(out->wide + 2, fixed(w * smooth * out->value_unit));
            out->n_near[0] += is_open(&t, b->m, is_many && !t.is_single, y);
            add_open(b, out, &t, a + u, y, w);
        }
        for (int64_t d = 0; d < n_decided; d++) {
            const int64_t i = a + decided[d], p = i * b->m + (int64_t)t.slot[decided[d]];
            const double w = b->weight ? b->weight[i] : 1.0;
            add_wide(out->wide + 4, fixed(w * (double)b->value[p] * out->value_unit));
            for (int32_t k = 0; k < b->k; k++)
                add_wide(out->wide + 6 + 2 * k,
                         fixed(w * (double)b->costs[k * b->cost_stride + p] * out->unit[k]));
            if (b->n_offers) {
                const int32_t row = b->k + (b->offer ? b->offer[p] : (int32_t)(p - i * b->m));
                const double amount = b->amount ? (double)b->amount[p] : 1.0;
                add_wide(out->wide + 6 + 2 * row, fixed(w * amount * out->unit[row]));
            }
            if (b->segment && b->n_segments && b->segment[i] >= 0) {
                const int32_t row = b->k + b->n_offers + b->segment[i];
                add_wide(out->wide + 6 + 2 * row, fixed(-w * out->unit[row]));
            }
        }
    }
    scratch_close(&t);
    return 0;
}

static inline void add_part(int64_t *parts, float x) {
    union { float f; uint32_t i; } bits = {.f = x};
    const uint32_t e = (bits.i >> 23) & 255u;
    const int64_t size = (int64_t)(bits.i & 0x7FFFFFu) | (e ? 0x800000 : 0);
    parts[e] += bits.i >> 31 ? -size : size;
}
static void add_parts(const Users *b, int64_t i, int32_t j, int64_t *parts) {
    const int64_t p = i * b->m + j;
    add_part(parts, b->value[p]);
    for (int32_t k = 0; k < b->k; k++)
        add_part(parts + N_PARTS * (1 + k), b->costs[k * b->cost_stride + p]);
    if (b->n_offers)
        add_part(parts + N_PARTS * (1 + b->k + (b->offer ? b->offer[p] : j)),
                 b->amount ? b->amount[p] : 1.0f);
}

/* Slots (n, q) at prices, loss by the nearest other choice (n,), exact sums of value and use.
   `margin`, `parts` (1 + R, 256) and `wide` (1, 2) may be NULL. 0, or -1: no memory. */
API int promo_decide(const Users *b, const double *price, double value_unit, int32_t *slots,
                     double *margin, int64_t *parts, int64_t *wide) {
    Scratch t;
    if (scratch_open(&t, b)) return -1;
    const int is_many = b->n_groups > 0;
    for (int64_t a = 0; a < b->n; a += CHUNK) {
        const int64_t c = b->n - a < CHUNK ? b->n - a : CHUNK;
        scores(b, price, a, c, t.s);
        load_bonus(b, price, a, c, t.bonus);
        if (is_many) many_best(b, &t, a, c);
        else two_best(t.s, c, b->m, t.bonus, t.best, t.second, t.slot);
        for (int64_t u = 0; u < c; u++) {
            int32_t *own = slots + (a + u) * b->q, n_own = 0;
            const double *s = t.s + u * b->m;
            double gap = t.best[u] - t.second[u];
            if (wide) add_wide(wide, fixed(t.best[u] * value_unit));
            if (gap <= b->tie) {
                tell_apart(b, a + u, s, t.told);
                s = t.told;
            }
            if (is_many) n_own = choose_many(b, &t, a + u, s, t.bonus[u], own, &gap);
            else if (s == t.told) {
                two_best(s, 1, b->m, t.bonus + u, t.best + u, t.second + u, t.slot + u);
                gap = t.best[u] - t.second[u];
            }
            if (!is_many) {
                own[0] = (int32_t)t.slot[u];
                n_own = own[0] >= 0;
            }
            if (margin) margin[a + u] = gap;
            if (!parts) continue;
            for (int32_t d = 0; d < n_own; d++) add_parts(b, a + u, own[d], parts);
            if (n_own && b->segment && b->n_segments && b->segment[a + u] >= 0)
                add_part(parts + N_PARTS * (1 + b->k + b->n_offers + b->segment[a + u]), 1.0f);
        }
    }
    scratch_close(&t);
    return 0;
}

#define LANES 16

typedef struct {
    double high[LANES];
    float large[LANES], small[LANES];
    int32_t bad[LANES];
} Facts;

/* Facts about one row over p pairs: value / use, use, and numbers that break a rule. */
FAST static void look_at_row(const float *v, const float *c, int64_t p, Facts *f) {
    for (int64_t i = 0; i < p; i += LANES) {
        const int n = p - i < LANES ? (int)(p - i) : LANES;
        float value[LANES], use[LANES];
        for (int l = 0; l < LANES; l++) { value[l] = -INFINITY; use[l] = 0.0f; }
        memcpy(value, v + i, sizeof(float) * (size_t)n);
        memcpy(use, c + i, sizeof(float) * (size_t)n);
        for (int l = 0; l < LANES; l++) {
            const float x = use[l];
            const double q = (double)value[l] / (double)x, high = x > 0.0f ? q : 0.0;
            const float able = value[l] > -INFINITY ? x : 0.0f;
            const float least = able > 0.0f ? able : INFINITY;
            f->bad[l] += !(x >= 0.0f) | !(x < INFINITY);
            f->high[l] = high > f->high[l] ? high : f->high[l];
            f->large[l] = able > f->large[l] ? able : f->large[l];
            f->small[l] = least < f->small[l] ? least : f->small[l];
        }
    }
}

/* Largest absolute finite value of p pairs in f->large, and numbers that break a rule. */
FAST static void look_at_values(const float *v, int64_t p, Facts *f) {
    for (int64_t i = 0; i < p; i += LANES) {
        const int n = p - i < LANES ? (int)(p - i) : LANES;
        float value[LANES];
        for (int l = 0; l < LANES; l++) value[l] = -INFINITY;
        memcpy(value, v + i, sizeof(float) * (size_t)n);
        for (int l = 0; l < LANES; l++) {
            const float x = value[l], size = x > -INFINITY ? (x < 0.0f ? -x : x) : 0.0f;
            f->bad[l] += !(x < INFINITY);
            f->large[l] = size > f->large[l] ? size : f->large[l];
        }
    }
}

FAST static void top_of(const float *v, int64_t c, int32_t m, float *top, int32_t *slot) {
    for (int64_t u = 0; u < c; u++) { top[u] = 0.0f; slot[u] = -1; }
    for (int32_t j = 0; j < m; j++)
        for (int64_t u = 0; u < c; u++) {
            const float x = v[u * m + j];
            slot[u] = x > top[u] ? j : slot[u];
            top[u] = x > top[u] ? x : top[u];
        }
}

static void facts_start(Facts *f) {
    for (int l = 0; l < LANES; l++) {
        f->high[l] = 0.0;
        f->large[l] = 0.0f;
        f->small[l] = INFINITY;
        f->bad[l] = 0;
    }
}
static void facts_end(const Facts *f, double *high, double *large, double *small, int64_t *n_bad) {
    for (int l = 0; l < LANES; l++) {
        if (f->high[l] > *high) *high = f->high[l];
        if (f->large[l] > *large) *large = f->large[l];
        if (f->small[l] < *small) *small = f->small[l];
        *n_bad += f->bad[l];
    }
}

static void look_at_offers(const Users *b, int64_t a, int64_t c, double *highest, double *largest,
                           double *smallest, int64_t *n_bad) {
    for (int64_t i = a * b->m; i < (a + c) * b->m; i++) {
        const int32_t o = b->offer ? b->offer[i] : (int32_t)(i % b->m), r = b->k + o;
        const double x = b->amount ? (double)b->amount[i] : 1.0, v = (double)b->value[i];
        if (o < 0 || o >= b->n_offers || !(x >= 0.0 && x < INFINITY)) { (*n_bad)++; continue; }
        if (v == -INFINITY || x == 0.0) continue;
        if (x > largest[r]) largest[r] = x;
        if (x < smallest[r]) smallest[r] = x;
        if (v > highest[r] * x) highest[r] = v / x;
    }
}

/* Facts about users: see survey.Survey. top (n,) best positive value, draw (n,) number of the key. */
API int promo_survey(const Users *b, double *highest, double *largest, double *smallest,
                     double *largest_value, int64_t *parts, int64_t *n_bad, float *top, double *draw) {
    double none = 0.0, least = INFINITY;
    for (int64_t a = 0; a < b->n; a += CHUNK) {
        const int64_t c = b->n - a < CHUNK ? b->n - a : CHUNK, from = a * b->m;
        int32_t slot[CHUNK];
        int64_t bad = 0;
        Facts f;
        facts_start(&f);
        look_at_values(b->value + from, c * b->m, &f);
        facts_end(&f, &none, largest_value, &least, &bad);
        for (int32_t r = 0; r < b->k; r++) {
            facts_start(&f);
            look_at_row(b->value + from, b->costs + r * b->cost_stride + from, c * b->m, &f);
            facts_end(&f, highest + r, largest + r, smallest + r, &bad);
        }
        if (b->n_offers) look_at_offers(b, a, c, highest, largest, smallest, &bad);
        top_of(b->value + from, c, b->m, top + a, slot);
        for (int64_t u = 0; u < c; u++) {
            const int64_t i = a + u;
            const int32_t g = b->segment && b->n_segments ? b->segment[i] : -1;
            draw[i] = unit_interval(key_of(b, i));
            if (g >= b->n_segments && b->segment && b->n_segments) { bad++; continue; }
            if (bad) continue;
            if (slot[u] >= 0) add_parts(b, i, slot[u], parts);
            if (g < 0) continue;
            int32_t is_able = 0;
            for (int32_t j = 0; j < b->m; j++) is_able |= b->value[i * b->m + j] > -INFINITY;
            if (is_able) add_part(parts + N_PARTS * (1 + b->k + b->n_offers + g), 1.0f);
        }
        *n_bad += bad;
    }
    return 0;
}

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel",
                                    "Compiled passes of promo_ray.allocation; bound by native.py.", -1,
                                    NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&module); }
