/* Scores of menus: for each the dual price of one budget, and what its allocation is worth.
 *
 * A pass gives every user the offer of a menu with the largest value less price times cost, or
 * none, and sums value and cost. The price is closed in on until the value of a feasible allocation
 * meets the dual bound. Of several budgets the prices are found in prices.py; here are the passes,
 * at a price per cost and one per offer given of every offer. Sums are kept in 16 lanes whatever the vector width, so the bits are the
 * same on every machine; built with -ffp-contract=off.
 */
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

#define LANES 16
#define GROUP 4
#define MAX_SLOTS 64
#define MAX_PASSES 60
#define MAX_BUDGETS 32

typedef struct {
    double price, spend, value;
} Point;

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Masks __attribute__((vector_size(4 * LANES)));

typedef struct {
    int64_t stride; /* users of a column, rounded up to LANES * GROUP by users worth nothing */
    const float *value, *cost;
} Columns;

/* Spend and value over all users at a price. */
FAST static Point pass(const Columns *columns, const int16_t *offers, int64_t m, float price)
{
    double spend[LANES] = {0}, net[LANES] = {0};
    for (int64_t start = 0; start < columns->stride; start += GROUP * LANES) {
        Floats best[GROUP] = {0}, used[GROUP] = {0};
        for (int64_t j = 0; j < m; j++) {
            const int64_t at = offers[j] * columns->stride + start;
            for (int g = 0; g < GROUP; g++) {
                Floats value, cost;
                memcpy(&value, columns->value + at + g * LANES, sizeof value);
                memcpy(&cost, columns->cost + at + g * LANES, sizeof cost);
                const Floats mine = value - price * cost;
                const Masks wins = mine > best[g];
                best[g] = (Floats)(((Masks)mine & wins) | ((Masks)best[g] & ~wins));
                used[g] = (Floats)(((Masks)cost & wins) | ((Masks)used[g] & ~wins));
            }
        }
        for (int g = 0; g < GROUP; g++)
            for (int k = 0; k < LANES; k++) {
                spend[k] += used[g][k];
                net[k] += best[g][k];
            }
    }
    Point point = {price, 0, 0};
    double total = 0;
    for (int k = 0; k < LANES; k++) {
        point.spend += spend[k];
        total += net[k];
    }
    point.value = total + point.price * point.spend;
    return point;
}

static double bound_of(Point a, double budget) { return a.value + a.price * (budget - a.spend); }

/* Next price between one that overspends and one that fits: the secant of the spend, whose far end
 * is held back when it stays (Illinois); the middle when the bracket shrinks too slowly. */
static double next_price(Point low, Point high, double budget, const double *hold, int halve)
{
    if (halve)
        return low.price > 0 ? sqrt(low.price * high.price) : high.price / 2;
    const double over = (low.spend - budget) * hold[0], under = (budget - high.spend) * hold[1];
    const double share = over / (over + under);
    return low.price + (share < 0.01 ? 0.01 : share > 0.99 ? 0.99 : share)
        * (high.price - low.price);
}

typedef struct {
    double value, bound, price, spend;
    int64_t passes;
} Score;

static Score mixed(Point low, Point high, double budget, int64_t passes)
{
    const double span = low.spend - high.spend;
    const double share = span > 0 ? (budget - high.spend) / span : 0;
    const double a = bound_of(low, budget), b = bound_of(high, budget);
    Score score = {
        high.value + share * (low.value - high.value), a < b ? a : b, high.price,
        high.spend + share * (low.spend - high.spend), passes
    };
    return score;
}

static Score solve(const Columns *columns, const int16_t *offers, int64_t m, double budget,
                   double first, double top, double tolerance)
{
    Point low = pass(columns, offers, m, 0.0f), high = {0};
    Score score = {low.value, low.value, 0, low.spend, 1};
    if (low.spend <= budget)
        return score;
    const float last = (float)(top * (1 + 1e-5)); /* only free offers are taken here */
    double price = first > 0 && first < last ? first : last / 4, grow = 1.25, width = INFINITY;
    double hold[2] = {1, 1};
    int found = 0, side = 0, slow = 0;
    for (int64_t n_passes = 2; n_passes <= MAX_PASSES; n_passes++) {
        const float at = (float)price;
        if (!(at > (float)low.price) || (found && !(at < (float)high.price)))
            break;
        const Point point = pass(columns, offers, m, at);
        const int fits = point.spend <= budget || at >= last;
        if (fits) {
            high = point;
            hold[1] = 1;
            hold[0] = side == 1 ? hold[0] / 2 : 1;
            side = 1;
            found = 1;
        } else {
            low = point;
            hold[0] = 1;
            hold[1] = side == -1 ? hold[1] / 2 : 1;
            side = -1;
        }
        if (!found) {
            price = price * grow < last ? price * grow : last;
            grow *= grow;
            continue;
        }
        score = mixed(low, high, budget, n_passes);
        if (score.bound - score.value <= tolerance * fabs(score.bound))
            break;
        slow = high.price - low.price > 0.5 * width ? slow + 1 : 0;
        width = high.price - low.price;
        price = next_price(low, high, budget, hold, slow >= 3 || low.price <= 0);
    }
    return score;
}

/* Scores of menus.
 *
 * value, cost: (columns, stride), see Columns; value may be -infinity.
 * menus: (n_menus, slots) columns, negative = empty. own, top: (columns) price at which the offer
 * alone spends the budget, and its largest value per cost. budget: over all users, infinity = none.
 * out: (n_menus, 5) value, bound, price, spend, passes.
 */
EXPORT void promo_menu_scores(int64_t stride, const float *value, const float *cost,
                              int64_t n_menus, int64_t slots, const int16_t *menus,
                              const double *own, const double *top, double budget,
                              double tolerance, double *out)
{
    const Columns columns = {stride, value, cost};
    for (int64_t i = 0; i < n_menus; i++) {
        int16_t offers[MAX_SLOTS];
        int64_t m = 0;
        double first = 0, most = 0;
        for (int64_t j = 0; j < slots && m < MAX_SLOTS; j++) {
            const int16_t offer = menus[i * slots + j];
            if (offer < 0)
                continue;
            offers[m++] = offer;
            first = own[offer] > first ? own[offer] : first;
            most = top[offer] > most ? top[offer] : most;
        }
        const Score s = solve(&columns, offers, m, budget, first, most, tolerance);
        double *row = out + 5 * i;
        row[0] = s.value, row[1] = s.bound, row[2] = s.price, row[3] = s.spend;
        row[4] = (double)s.passes;
    }
}

/* What everyone takes at a price per unit of cost and a price per offer given of every slot.
 *
 * kind: (n, m) what each of n budgets counts of a slot: 0 nothing, 1 cost, 2 each offer given.
 * out: 1 + n: net value of all users, then the use of each budget. */
static inline __attribute__((always_inline)) void
split(const Columns *columns, const int16_t *offers, int64_t m, const int n, const uint8_t *kind,
      const float *per_cost, const float *per_offer, double *out)
{
    double net[LANES] = {0}, use[MAX_BUDGETS][LANES];
    const Floats one = (Floats){0} + 1.0f;
    memset(use, 0, sizeof use);
    for (int64_t start = 0; start < columns->stride; start += GROUP * LANES) {
        Floats best[GROUP] = {0}, used[MAX_BUDGETS][GROUP];
        memset(used, 0, sizeof(Floats) * GROUP * (size_t)n);
        for (int64_t j = 0; j < m; j++) {
            const int64_t at = offers[j] * columns->stride + start;
            for (int g = 0; g < GROUP; g++) {
                Floats value, cost;
                memcpy(&value, columns->value + at + g * LANES, sizeof value);
                memcpy(&cost, columns->cost + at + g * LANES, sizeof cost);
                const Floats mine = value - per_cost[j] * cost - per_offer[j];
                const Masks wins = mine > best[g];
                best[g] = (Floats)(((Masks)mine & wins) | ((Masks)best[g] & ~wins));
                for (int k = 0; k < n; k++) {
                    const uint8_t what = kind[k * m + j];
                    const Masks own = what == 1 ? (Masks)cost : what ? (Masks)one : (Masks){0};
                    used[k][g] = (Floats)((own & wins) | ((Masks)used[k][g] & ~wins));
                }
            }
        }
        for (int g = 0; g < GROUP; g++)
            for (int lane = 0; lane < LANES; lane++)
                net[lane] += best[g][lane];
        for (int k = 0; k < n; k++)
            for (int g = 0; g < GROUP; g++)
                for (int lane = 0; lane < LANES; lane++)
                    use[k][lane] += used[k][g][lane];
    }
    memset(out, 0, sizeof(double) * (size_t)(1 + n));
    for (int lane = 0; lane < LANES; lane++) {
        out[0] += net[lane];
        for (int k = 0; k < n; k++)
            out[1 + k] += use[k][lane];
    }
}

/* Their number is known to the compiler where it is small: sums then stay in registers. */
FAST static void split_pass(const Columns *columns, const int16_t *offers, int64_t m, int n,
                            const uint8_t *kind, const float *per_cost, const float *per_offer,
                            double *out)
{
    if (n == 2)
        split(columns, offers, m, 2, kind, per_cost, per_offer, out);
    else if (n == 3)
        split(columns, offers, m, 3, kind, per_cost, per_offer, out);
    else if (n == 4)
        split(columns, offers, m, 4, kind, per_cost, per_offer, out);
    else
        split(columns, offers, m, n, kind, per_cost, per_offer, out);
}

/* Passes of menus at their own prices; see split.
 *
 * menus: (n_menus, slots) columns, negative = empty. kinds: (n_menus, n, slots), n at most
 * MAX_BUDGETS. per_cost, per_offer: (n_menus, slots). out: (n_menus, 1 + n).
 */
EXPORT void promo_menu_passes(int64_t stride, const float *value, const float *cost,
                              int64_t n_menus, int64_t slots, const int16_t *menus, int64_t n,
                              const uint8_t *kinds, const float *per_cost, const float *per_offer,
                              double *out)
{
    const Columns columns = {stride, value, cost};
    for (int64_t i = 0; i < n_menus; i++) {
        int16_t offers[MAX_SLOTS];
        uint8_t kind[MAX_BUDGETS * MAX_SLOTS];
        float rates[2][MAX_SLOTS];
        int64_t m = 0, place[MAX_SLOTS];
        for (int64_t j = 0; j < slots && m < MAX_SLOTS; j++)
            if (menus[i * slots + j] >= 0)
                place[m++] = j;
        for (int64_t j = 0; j < m; j++) {
            const int64_t at = i * slots + place[j];
            offers[j] = menus[at];
            rates[0][j] = per_cost[at];
            rates[1][j] = per_offer[at];
            for (int64_t k = 0; k < n; k++)
                kind[k * m + j] = kinds[(i * n + k) * slots + place[j]];
        }
        split_pass(&columns, offers, m, (int)n, kind, rates[0], rates[1], out + (1 + n) * i);
    }
}

/* Of the arguments above; native.py asks for it. */
EXPORT int64_t promo_menu_version(void) { return 2; }

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_kernel", .m_size = -1};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&definition); }
