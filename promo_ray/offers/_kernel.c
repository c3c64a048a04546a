/* Many carts under many offers: the steps of pricing.py on columns, cart by cart, in integers.

   Every rule here is one of pricing.py, units.py, money.py or of a mechanic, and stands under its
   name; the tests compare both to the cent. A cart whose list prices sum to less than 2^20 minor
   units is computed in 64 bits (no product of three sums can overflow), others up to 2^41 in 128;
   larger ones are left to the caller. Columns and offers are described in encode.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define FULL_BP 10000
#define SMALL ((int64_t)1 << 20)
#define LARGE ((int64_t)1 << 41)
#define MAX_SLOTS 64
#define VERSION 3 /* of the rules; native.py asks for it */

typedef __int128 wide_t;

enum { MESSAGE, PERCENT_OFF, AMOUNT_OFF, FIXED_PRICE, TIERED, BUNDLE, BUY_GET, FREE_SHIPPING, GIFT };
enum { ITEM, ORDER, SHIPPING };
enum { ALL, FIRST, BEST, SMALLEST };
enum { CLOSED_UNIT = 1, STOPPED = 2, TOUCHED = 4 };
enum { /* order of KERNEL_REASONS in encode.py */
    BUDGET_SPENT, USES_SPENT, USER_USES_SPENT, USER_MONEY_SPENT, GROUP_TAKEN, GROUP_BEATEN,
    LAYER_CLOSED, NOT_COMBINABLE, BELOW_MIN_SPEND, BELOW_MIN_UNITS, NO_SHIPPING, WRONG_METHOD,
    NOT_IN_SCOPE, CLOSED, COST_UNKNOWN, BELOW_THRESHOLD, BUNDLE_INCOMPLETE, TOO_FEW_UNITS,
    NO_PRICE_CHANGE, GIFT_OUT_OF_STOCK, NOTHING_LEFT
};

typedef struct { /* OFFER in encode.py; -1 = none */
    int64_t column, kind, layer, scope, max_units;
    int64_t has_needs, need_scope, min_spend, min_units, by_list;
    int64_t group, in_group, is_exclusive, is_stop, combines, is_initial, id_rank;
    int64_t floor_price, margin_bp, per_order, budget, uses, user_uses, user_money, period;
    int64_t bp, amount, price, limit, is_per_unit, is_dearest, max_times;
    int64_t is_quantity, is_cumulative, repeat_every, first, count, gift, gift_quantity, gift_cost;
} Offer;

typedef struct { /* native.CBatch */
    int64_t n_offers, n_groups, n_words, n_methods, n_skus, n_gifts, reason_stride;
    const Offer *offers;
    const int64_t *tiers, *slots;
    const uint64_t *masks, *skips;
    const uint8_t *method_fits; /* (n_methods, n_offers) */
    const int64_t *start;
    const int32_t *item;
    const int64_t *list_price, *quantity, *cost;
    const uint8_t *sale;
    const int64_t *shipping;
    const int32_t *method, *row;
    const uint8_t *reason;
    const int64_t *money_left;
    const int32_t *gift_sku;
    const int64_t *stock;
    const int16_t *codes;
    const int32_t *user;
    const int64_t *period;
    int64_t n_carts;
    int64_t *left, *left_period, *user_left, *user_period;
    int64_t *pay, *totals, *saving, *by_line, *units; /* the last two may be NULL */
    int16_t *outcome;
    uint8_t *status;
} Batch;

typedef struct {
    int64_t quantity, price, item_price;
    int32_t item, taken, marks;
} Run;

typedef struct { int64_t cents; int32_t before, offer; } Taken;

typedef struct { int64_t price, cost, quantity; int32_t item, sale, line; } Line;

typedef struct { wide_t key; int64_t index; } Rank;

typedef struct { /* a run in the scope of an offer: Units and Reward of mechanics/base.py */
    int64_t where, quantity, price, item_price, list, room, basis, reduced, used, share, more;
    uint64_t fits;
    wide_t off, rest;
} Unit;

typedef struct {
    Run *runs, *after;
    Unit *units;
    Rank *ranks;
    Line *lines;
    int64_t *list, *cost, *cursor, *cursor_used, *placed, *queue;
    int32_t *item_of_line;
    uint64_t *masks;
    Taken *taken;
    uint8_t *groups, *on_sale;
    int64_t *budget_left, *user_left; /* of this cart, by offer */
    int64_t *given;
    int64_t n_runs, n_units, n_items, n_taken, room_runs, room_lines, room_taken, room_sets;
    const uint8_t *fits_method; /* by offer, for the method of this cart */
    Run ship;
    int64_t ship_list;
    int32_t layers, open_layers, closed_layers, is_out_of_memory;
    const Batch *b;
} Work;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
/* the smaller of two limits, -1 = none */
static inline int64_t tighter(int64_t a, int64_t b) { return a < 0 ? b : b < 0 ? a : least(a, b); }
static inline int64_t refused(int reason) { return -1 - (int64_t)reason; }

static int by_key(const void *a, const void *b) {
    const Rank *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Stable, by rising key. */
static void rank(Rank *r, int64_t n) {
    if (n > 24) { qsort(r, (size_t)n, sizeof *r, by_key); return; }
    for (int64_t i = 1; i < n; i++) {
        Rank x = r[i];
        int64_t j = i;
        for (; j > 0 && r[j - 1].key > x.key; j--) r[j] = r[j - 1];
        r[j] = x;
    }
}

static int compare_lines(const Line *x, const Line *y) {
    if (x->item != y->item) return x->item < y->item ? -1 : 1;
    if (x->price != y->price) return x->price < y->price ? -1 : 1;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    return x->sale - y->sale;
}

static int by_line(const void *a, const void *b) {
    int c = compare_lines(a, b);
    return c ? c : ((const Line *)a)->line - ((const Line *)b)->line;
}

static void sort_lines(Line *l, int64_t n) {
    if (n > 24) { qsort(l, (size_t)n, sizeof *l, by_line); return; }
    for (int64_t i = 1; i < n; i++) {
        Line x = l[i];
        int64_t j = i;
        for (; j > 0 && compare_lines(&l[j - 1], &x) > 0; j--) l[j] = l[j - 1];
        l[j] = x;
    }
}

static inline int covers(const Work *w, int64_t scope, int32_t item) {
    if (scope < 0 || item < 0) return 1;
    return (int)(w->masks[item * w->b->n_words + (scope >> 6)] >> (scope & 63) & 1);
}

/* ---- memory ---- */

static int grow(void **p, int64_t n, size_t size) {
    void *q = realloc(*p, (size_t)n * size);
    if (!q) return 0;
    *p = q;
    return 1;
}

static int ensure_runs(Work *w, int64_t n) {
    if (n <= w->room_runs) return 1;
    n *= 2;
    if (!grow((void **)&w->runs, n, sizeof(Run)) || !grow((void **)&w->after, n, sizeof(Run)) ||
        !grow((void **)&w->units, n, sizeof(Unit)) || !grow((void **)&w->ranks, n, sizeof(Rank)))
        return 0;
    w->room_runs = n;
    return 1;
}

static int ensure_sets(Work *w, int64_t n) {
    if (n <= w->room_sets) return 1;
    n *= 2;
    if (!grow((void **)&w->placed, n, 8) || !grow((void **)&w->queue, 2 * (n + 1), 8)) return 0;
    w->room_sets = n;
    return 1;
}

static int ensure_lines(Work *w, int64_t n) {
    if (n <= w->room_lines) return 1;
    n *= 2;
    if (!grow((void **)&w->lines, n, sizeof(Line)) || !grow((void **)&w->list, n, 8) ||
        !grow((void **)&w->cost, n, 8) || !grow((void **)&w->cursor, n, 8) ||
        !grow((void **)&w->cursor_used, n, 8) || !grow((void **)&w->item_of_line, n, 4) ||
        !grow((void **)&w->masks, n * w->b->n_words, 8) || !grow((void **)&w->on_sale, n, 1))
        return 0;
    w->room_lines = n;
    return 1;
}

static int32_t remember(Work *w, int32_t before, int64_t offer, int64_t cents) {
    if (w->n_taken == w->room_taken) {
        if (!grow((void **)&w->taken, 2 * w->room_taken + 64, sizeof(Taken))) {
            w->is_out_of_memory = 1;
            return before;
        }
        w->room_taken = 2 * w->room_taken + 64;
    }
    w->taken[w->n_taken] = (Taken){cents, before, (int32_t)offer};
    return (int32_t)w->n_taken++;
}

#include "_kernel_sets.h"

/* ---- open_units ---- */

static void cheapest(Work *w, int64_t n) {
    for (int64_t j = 0; j < w->n_units; j++) w->ranks[j] = (Rank){w->units[j].basis, j};
    rank(w->ranks, w->n_units);
    for (int64_t k = 0; k < w->n_units; k++) {
        Unit *u = &w->units[w->ranks[k].index];
        u->quantity = least(u->quantity, n);
        n -= u->quantity;
    }
    int64_t kept = 0;
    for (int64_t j = 0; j < w->n_units; j++)
        if (w->units[j].quantity) w->units[kept++] = w->units[j];
    w->n_units = kept;
}

/* In other layers an exclusive offer keeps the layer. */
static inline int keeps_units(const Offer *o) { return o->is_exclusive && o->layer == ITEM; }

/* Units that the offer may touch; 0 or why there are none. */
static int64_t open_units(Work *w, const Offer *o, const Run *runs, int64_t n_runs) {
    int barred = CLOSED_UNIT | STOPPED | (keeps_units(o) ? TOUCHED : 0);
    int is_covered = 0, is_open = 0;
    int64_t n = 0, part = FULL_BP - o->margin_bp;
    for (int64_t i = 0; i < n_runs; i++) {
        const Run *r = &runs[i];
        if (!covers(w, o->scope, r->item)) continue;
        is_covered = 1;
        if (r->marks & barred) continue;
        is_open = 1;
        int64_t floor = most(o->floor_price, 0);
        if (o->margin_bp >= 0) {
            if (w->cost[r->item] < 0) continue;
            /* at most 10^15 * 10^4: fits without a sign */
            uint64_t least_price =
                ((uint64_t)w->cost[r->item] * FULL_BP + (uint64_t)part - 1) / (uint64_t)part;
            floor = most(floor, least_price > (uint64_t)INT64_MAX ? INT64_MAX : (int64_t)least_price);
        }
        Unit *u = &w->units[n++];
        u->where = i;
        u->quantity = r->quantity;
        u->price = r->price;
        u->item_price = r->item_price;
        u->list = r->item < 0 ? w->ship_list : w->list[r->item];
        u->room = floor >= r->price ? 0 : r->price - floor;
        u->basis = o->is_initial ? u->list : r->price;
        u->reduced = u->used = 0;
    }
    w->n_units = n;
    if (!is_covered) return refused(NOT_IN_SCOPE);
    if (!is_open) return refused(CLOSED);
    if (!n) return refused(COST_UNKNOWN);
    if (o->max_units >= 0) cheapest(w, o->max_units);
    return 0;
}

/* ---- what does not depend on the width of products ---- */

static int64_t unmet(const Work *w, const Offer *o) {
    int64_t n = 0, spend = 0;
    if (!o->has_needs) return 0;
    for (int64_t i = 0; i < w->n_runs; i++) {
        const Run *r = &w->runs[i];
        if (!covers(w, o->need_scope, r->item)) continue;
        n += r->quantity;
        spend += r->quantity * (o->by_list ? w->list[r->item] : r->item_price);
    }
    if (n < most(o->min_units, o->min_spend < 0)) return refused(BELOW_MIN_UNITS);
    return o->min_spend >= 0 && spend < o->min_spend ? refused(BELOW_MIN_SPEND) : 0;
}

static int64_t not_allowed(const Work *w, const Offer *o) {
    int layer = 1 << o->layer;
    if (o->group >= 0 && w->groups[o->group] == FIRST) return refused(GROUP_TAKEN);
    if (w->closed_layers & layer) return refused(LAYER_CLOSED);
    if (o->is_exclusive && o->layer != ITEM && w->layers & layer) return refused(LAYER_CLOSED);
    if (!(w->open_layers & layer) || w->layers & ~o->combines) return refused(NOT_COMBINABLE);
    return unmet(w, o);
}

static void accept(Work *w, const Offer *o, int64_t c, int16_t *turn) {
    if (o->group >= 0 && o->in_group == FIRST) w->groups[o->group] = FIRST;
    w->layers |= 1 << o->layer;
    w->open_layers &= (int32_t)o->combines;
    if (o->is_exclusive && o->layer != ITEM) w->closed_layers |= 1 << o->layer;
    w->b->outcome[c * w->b->n_offers + o->column] = (*turn)++;
}

static void reject(const Work *w, const Offer *o, int64_t c, int64_t refusal) {
    w->b->outcome[c * w->b->n_offers + o->column] = (int16_t)-w->b->codes[-1 - refusal];
}

static int64_t give(Work *w, const Offer *o, int64_t row) {
    const Batch *b = w->b;
    int32_t sku = b->gift_sku[row * b->n_gifts + o->gift];
    int64_t stock = b->stock[row * b->n_skus + sku];
    if (stock >= 0 && stock - w->given[sku] < o->gift_quantity) return refused(GIFT_OUT_OF_STOCK);
    if (w->user_left[o->column] >= 0 && w->user_left[o->column] < o->gift_cost)
        return refused(USER_MONEY_SPENT);
    if (w->budget_left[o->column] >= 0 && w->budget_left[o->column] < o->gift_cost)
        return refused(BUDGET_SPENT);
    w->given[sku] += o->gift_quantity;
    return 0;
}

/* Units to buy and to get; see mechanics/buy_get.py. */
static int64_t buy_get(Work *w, const Offer *o) {
    const int64_t *slots = w->b->slots + 2 * o->first;
    int64_t n = w->n_units, n_buy = 0, n_get = 0, n_either = 0;
    Unit *u = w->units;
    for (int64_t j = 0; j < n; j++) {
        int32_t item = w->runs[u[j].where].item;
        int pays = u[j].price > 0;
        int buys = pays && covers(w, slots[0], item), gets = pays && covers(w, slots[2], item);
        u[j].fits = (uint64_t)(buys | gets << 1);
        n_buy += buys ? u[j].quantity : 0;
        n_get += gets ? u[j].quantity : 0;
        n_either += buys | gets ? u[j].quantity : 0;
    }
    int64_t times = least(n_buy / slots[1], least(n_get / slots[3], n_either / (slots[1] + slots[3])));
    if (o->max_times >= 0) times = least(times, o->max_times);
    if (!times) return refused(TOO_FEW_UNITS);
    for (int64_t j = 0; j < n; j++) w->ranks[j] = (Rank){o->is_dearest ? -u[j].basis : u[j].basis, j};
    rank(w->ranks, n);
    int64_t wanted = times * slots[3], spare = n_buy - times * slots[1];
    for (int64_t k = 0; k < n; k++) {
        Unit *x = &u[w->ranks[k].index];
        if (!(x->fits & 2)) continue;
        x->reduced = least(x->quantity, x->fits & 1 ? least(wanted, spare) : wanted);
        wanted -= x->reduced;
        if (x->fits & 1) spare -= x->reduced;
    }
    for (int64_t j = 0; j < n; j++) w->ranks[j] = (Rank){-u[j].basis, j};
    rank(w->ranks, n);
    wanted = times * slots[1];
    for (int64_t k = 0; k < n; k++) {
        Unit *x = &u[w->ranks[k].index];
        if (!(x->fits & 1)) continue;
        x->used = least(x->quantity - x->reduced, wanted);
        wanted -= x->used;
    }
    return 0;
}

#define WIDE int64_t
#define NAME(x) x##_64
#include "_kernel_price.h"
#undef WIDE
#undef NAME
#define WIDE wide_t
#define NAME(x) x##_128
#include "_kernel_price.h"

/* ---- caps over carts: ledger.py ---- */

/* Caps of this cart; nonzero reason if one is spent. */
static int64_t draw(Work *w, const Offer *o, int64_t c, int64_t row) {
    const Batch *b = w->b;
    int64_t j = o->column;
    w->user_left[j] = b->money_left[2 * (row * b->n_offers + j)];
    w->budget_left[j] = b->money_left[2 * (row * b->n_offers + j) + 1];
    if (!b->left) return 0;
    int64_t at = o->period < 0 ? 0 : b->period[o->period * b->n_carts + c];
    if (b->left_period[j] != at) {
        b->left_period[j] = at;
        b->left[2 * j] = o->budget;
        b->left[2 * j + 1] = o->uses;
    }
    int64_t cell = b->user ? b->user[c] * b->n_offers + j : -1;
    if (cell >= 0 && b->user_period[cell] != at) {
        b->user_period[cell] = at;
        b->user_left[2 * cell] = o->user_uses;
        b->user_left[2 * cell + 1] = o->user_money;
    }
    w->budget_left[j] = tighter(w->budget_left[j], b->left[2 * j]);
    if (!w->budget_left[j]) return refused(BUDGET_SPENT);
    if (!b->left[2 * j + 1]) return refused(USES_SPENT);
    if (cell < 0) return 0;
    w->user_left[j] = tighter(w->user_left[j], b->user_left[2 * cell + 1]);
    if (!b->user_left[2 * cell]) return refused(USER_USES_SPENT);
    return w->user_left[j] ? 0 : refused(USER_MONEY_SPENT);
}

static void book(const Batch *b, const Offer *o, int64_t c, int64_t money) {
    int64_t j = o->column;
    if (b->left[2 * j] >= 0) b->left[2 * j] -= money;
    if (b->left[2 * j + 1] > 0) b->left[2 * j + 1]--;
    if (!b->user) return;
    int64_t *mine = b->user_left + 2 * (b->user[c] * b->n_offers + j);
    if (mine[0] > 0) mine[0]--;
    if (mine[1] >= 0) mine[1] -= money;
}

/* ---- one cart ---- */

/* Lines to items and runs in canonical order; 0 if the cart is too large or memory is out. */
static int64_t load(Work *w, int64_t c) {
    const Batch *b = w->b;
    int64_t first = b->start[c], n = b->start[c + 1] - first, n_items = 0;
    wide_t total = 0;
    if (!ensure_lines(w, n + 1) || !ensure_runs(w, 4 * n + 16)) return -1;
    for (int64_t i = 0; i < n; i++) {
        int64_t l = first + i;
        w->lines[i] = (Line){b->list_price[l], b->cost[l], b->quantity[l], b->item[l], b->sale[l], (int32_t)i};
        total += (wide_t)b->list_price[l] * b->quantity[l];
    }
    sort_lines(w->lines, n);
    for (int64_t i = 0; i < n; i++) {
        const Line *l = &w->lines[i];
        if (i && !compare_lines(l, l - 1)) {
            w->runs[n_items - 1].quantity += l->quantity;
        } else {
            const uint64_t *mask = b->masks + l->item * b->n_words;
            for (int64_t k = 0; k < b->n_words; k++)
                w->masks[n_items * b->n_words + k] = l->sale ? mask[k] & ~b->skips[k] : mask[k];
            w->list[n_items] = l->price;
            w->cost[n_items] = l->cost;
            w->on_sale[n_items] = (uint8_t)l->sale;
            w->runs[n_items] = (Run){l->quantity, l->price, l->price, (int32_t)n_items, -1, 0};
            n_items++;
        }
        w->item_of_line[l->line] = (int32_t)(n_items - 1);
    }
    w->n_runs = w->n_items = n_items;
    w->n_taken = 0;
    w->ship_list = b->shipping[c];
    w->fits_method = b->method_fits + b->method[c] * b->n_offers;
    w->ship = (Run){1, most(w->ship_list, 0), most(w->ship_list, 0), -1, -1, 0};
    w->layers = w->closed_layers = w->is_out_of_memory = 0;
    w->open_layers = 7;
    memset(w->groups, 0, (size_t)b->n_groups);
    if (b->n_skus) memset(w->given, 0, (size_t)b->n_skus * 8);
    total += most(w->ship_list, 0);
    return total > LARGE ? -1 : (int64_t)total;
}

/* Hand units back to the lines of the cart: bill.py. */
static void write_out(Work *w, int64_t c, int64_t gift_cost) {
    const Batch *b = w->b;
    int64_t goods = 0, pay = 0, *saving = b->saving + c * b->n_offers;
    for (int64_t i = w->n_runs - 1; i >= 0; i--) {
        const Run *r = &w->runs[i];
        w->cursor[r->item] = i;
        w->cursor_used[r->item] = 0;
        for (int32_t t = r->taken; t >= 0; t = w->taken[t].before) {
            saving[w->taken[t].offer] += r->quantity * w->taken[t].cents;
            if (b->units && !w->on_sale[r->item])
                b->units[c * b->n_offers + w->taken[t].offer] += r->quantity;
        }
    }
    for (int32_t t = w->ship.taken; t >= 0; t = w->taken[t].before)
        saving[w->taken[t].offer] += w->taken[t].cents;
    for (int64_t l = b->start[c]; l < b->start[c + 1]; l++) {
        int32_t item = w->item_of_line[l - b->start[c]];
        int64_t wanted = b->quantity[l], *i = &w->cursor[item], *used = &w->cursor_used[item];
        int64_t sum = 0;
        while (wanted) {
            const Run *r = &w->runs[*i];
            int64_t n = least(wanted, r->quantity - *used);
            sum += n * r->price;
            if (b->by_line)
                for (int32_t t = r->taken; t >= 0; t = w->taken[t].before)
                    b->by_line[l * b->n_offers + w->taken[t].offer] += n * w->taken[t].cents;
            wanted -= n;
            *used += n;
            if (*used == r->quantity) { ++*i; *used = 0; }
        }
        b->pay[l] = sum;
        pay += sum;
        goods += b->quantity[l] * b->list_price[l];
    }
    int64_t sent = most(w->ship_list, 0), *t = b->totals + 6 * c;
    t[0] = goods, t[1] = goods - pay, t[2] = sent, t[3] = sent - w->ship.price;
    t[4] = pay + w->ship.price, t[5] = gift_cost;
}

/* The member of a group that saves most, or least; ties by id; NULL if none saves. */
static const Offer *best_of(Work *w, const Offer *first, const Offer *end, int64_t c, int64_t total) {
    const Offer *best = NULL;
    int64_t most_gain = 0;
    for (const Offer *o = first; o < end; o++) {
        if (o->group != first->group || w->b->outcome[c * w->b->n_offers + o->column] < 0) continue;
        int64_t saved = total < SMALL ? attempt_64(w, o, 0) : attempt_128(w, o, 0);
        if (saved < 0) { reject(w, o, c, saved); continue; }
        int64_t gain = first->in_group == SMALLEST ? -saved : saved;
        int is_better = !best || gain > most_gain || (gain == most_gain && o->id_rank < best->id_rank);
        const Offer *beaten = is_better ? best : o;
        if (beaten) reject(w, beaten, c, refused(GROUP_BEATEN));
        if (is_better) best = o, most_gain = gain;
    }
    w->groups[first->group] = BEST; /* judged */
    return best;
}

static int price_one(Work *w, int64_t c) {
    const Batch *b = w->b;
    int64_t total = load(w, c), layer = ITEM, gift_cost = 0, row = b->row ? b->row[c] : 0;
    int16_t turn = 0;
    if (total < 0) return 0;
    const Offer *end = b->offers + b->n_offers;
    for (const Offer *o = b->offers; o < end; o++) {
        int64_t j = c * b->n_offers + o->column;
        uint8_t reason = b->reason[c * b->reason_stride + o->column];
        b->outcome[j] = (int16_t)-reason;
        b->saving[j] = 0;
        if (reason) continue;
        int64_t spent = draw(w, o, c, row);
        if (spent) reject(w, o, c, spent);
    }
    for (const Offer *o = b->offers; o < end; o++) {
        if (b->outcome[c * b->n_offers + o->column] < 0) continue;
        if (o->layer != layer) {
            for (int64_t i = 0; i < w->n_runs; i++) w->runs[i].marks &= ~STOPPED;
            layer = o->layer;
        }
        const Offer *one = o;
        if (o->in_group >= BEST) {
            if (w->groups[o->group] == BEST) continue;
            if (!(one = best_of(w, o, end, c, total))) continue;
        }
        int64_t saved;
        if (one->kind == GIFT) {
            saved = not_allowed(w, one);
            if (!saved) saved = give(w, one, row);
            if (!saved) gift_cost += one->gift_cost;
        } else {
            saved = total < SMALL ? attempt_64(w, one, 1) : attempt_128(w, one, 1);
        }
        if (w->is_out_of_memory) return 0;
        if (saved < 0) reject(w, one, c, saved);
        else accept(w, one, c, &turn);
    }
    if (w->is_out_of_memory) return 0;
    write_out(w, c, gift_cost);
    if (b->left)
        for (const Offer *o = b->offers; o < end; o++) {
            int64_t j = c * b->n_offers + o->column;
            if (b->outcome[j] >= 0) book(b, o, c, o->kind == GIFT ? o->gift_cost : b->saving[j]);
        }
    return 1;
}

/* Carts first ... end - 1; status 1 = the cart is left to the caller. With a ledger it stops there,
   so that caps are drawn in order. Returns the first cart not looked at, or not done. */
API int64_t promo_price_carts(const Batch *b, int64_t first, int64_t end) {
    Work w = {.b = b};
    int64_t c = first;
    w.groups = calloc((size_t)b->n_groups + 1, 1);
    w.given = calloc((size_t)b->n_skus + 1, 8);
    w.budget_left = calloc((size_t)b->n_offers + 1, 8);
    w.user_left = calloc((size_t)b->n_offers + 1, 8);
    if (w.groups && w.given && w.budget_left && w.user_left)
        for (; c < end; c++) {
            b->status[c] = (uint8_t)!price_one(&w, c);
            if (b->status[c] && b->left) break;
        }
    void *all[] = {w.runs, w.after, w.units, w.ranks, w.lines, w.list, w.cost, w.cursor, w.cursor_used,
                   w.placed, w.queue, w.item_of_line, w.masks, w.on_sale, w.taken, w.groups, w.given,
                   w.budget_left, w.user_left};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    return c;
}

API int64_t promo_sizes(int64_t which) {
    return which == 0 ? (int64_t)sizeof(Offer) : which == 1 ? (int64_t)sizeof(Batch) : VERSION;
}

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", NULL, -1, NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&module); }
