/* Users near a tie, their pairs, and the moves that change one user's set of pairs: what a move
 * gives up, what it uses, and which moves give up least. */
#ifndef PROMO_RAY_EXCHANGE_MOVES_H
#define PROMO_RAY_EXCHANGE_MOVES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SLOTS 64 /* most pairs of one user in a set that are looked at */

typedef struct {
    int64_t n_users, n_pairs, n_budgets, n_offers, n_floors, n_rows, n_nodes;
    const int64_t *start, *offer, *segment, *limit, *parent, *node;
    const double *value, *cost, *amount, *prices;
    double *room;
    uint8_t *chosen;
    double gap;  /* relaxed value less value of the choice */
    double work, given; /* steps left; steps allowed in all */
    double money; /* largest value of a pair */
    double *score;
    uint8_t *is_whole; /* rows whose use is in whole units */
    double *scale;     /* (n_rows) typical use of a row */
    double *spread;    /* (n_rows) price times mean square root of use */
    int64_t *count;    /* (n_nodes) of the user looked at */
    int64_t *offer_start, *offer_pair; /* pairs by offer, for rows of offers */
    int32_t *user;                     /* of each pair */
    /* moves of users looked at */
    int64_t n_moves, most_moves;
    int32_t *m_user, *m_old, *m_new;
    int8_t *m_served;        /* change of the number of users served */
    double *m_loss, *m_rise; /* rise of the gap: value given up */
    /* moves looked at, by loss; the first changes nothing */
    int64_t n_list, most_list, n_touch;
    int32_t *l_move, *l_rows; /* l_rows: (most_list, n_touch), -1 ends */
    double *l_delta;          /* (most_list, n_rows) change of use */
    int64_t n_rounds, *moved; /* round in which a user last moved */
    int64_t n_lacking;
    int32_t *lacking; /* rows without room, which moves must restore */
    /* scratch for choosing */
    double *key;
    int32_t *order;
} State;

static uint64_t mix64(uint64_t x)
{
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double magnitude(double x) { return x < 0.0 ? -x : x; }

static int32_t floor_int(double x)
{
    double most = x > 1e9 ? 1e9 : (x < -1e9 ? -1e9 : x);
    int32_t whole = (int32_t)most;
    return whole - (most < (double)whole);
}

static double credit_of(const State *s, int64_t user)
{
    int64_t g = s->n_floors ? s->segment[user] : -1;
    return g < 0 ? 0.0 : s->prices[s->n_budgets + s->n_offers + g];
}

static double price_pair(const State *s, int64_t p)
{
    double score = s->value[p];
    for (int64_t r = 0; r < s->n_budgets; r++)
        if (s->prices[r] != 0.0) score -= s->prices[r] * s->cost[r * s->n_pairs + p];
    if (s->n_offers) score -= s->prices[s->n_budgets + s->offer[p]] * s->amount[p];
    return score;
}

static void count_add(const State *s, int64_t p, int64_t by)
{
    for (int64_t g = s->node[p]; g >= 0; g = s->parent[g]) s->count[g] += by;
}

static int count_allows(const State *s, int64_t p)
{
    for (int64_t g = s->node[p]; g >= 0; g = s->parent[g])
        if (s->count[g] >= s->limit[g]) return 0;
    return 1;
}

/* ---- best sets at prices -------------------------------------------------------------- */

/* Best value of a user with pair `in` taken (-1: any) and pair `out` not; order by score.
 * Greedy on the tree of limits is optimal (a laminar matroid). */
static double best_set(State *s, int64_t user, const int32_t *order, int64_t n, int64_t in,
                       int64_t out, uint8_t *taken)
{
    double total = 0.0, credit = credit_of(s, user);
    int64_t n_taken = 0;
    memset(s->count, 0, (size_t)s->n_nodes * sizeof *s->count);
    if (in >= 0) {
        if (!count_allows(s, in)) return -1e300;
        count_add(s, in, 1);
        total = s->score[in];
        n_taken = 1;
    }
    for (int64_t a = 0; a < n; a++) {
        int64_t p = order[a];
        if (p == in || p == out || !count_allows(s, p)) continue;
        if (s->score[p] <= 0.0 && (n_taken || s->score[p] + credit <= 0.0)) break;
        count_add(s, p, 1);
        total += s->score[p];
        n_taken++;
        if (taken) taken[p] = 1;
    }
    return n_taken ? total + credit : 0.0;
}

static void order_scores(const State *s, int64_t a, int64_t b, int32_t *order)
{
    for (int64_t p = a; p < b; p++) { /* insertion: a user has few pairs */
        int64_t at = p - a;
        while (at > 0 && s->score[order[at - 1]] < s->score[p]) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = (int32_t)p;
    }
}

/* ---- moves ---------------------------------------------------------------------------- */

static void add_move(State *s, int64_t user, int64_t old, int64_t new, int64_t served)
{
    int64_t at = s->n_moves;
    if (at >= s->most_moves) return;
    s->n_moves++;
    s->m_user[at] = (int32_t)user, s->m_old[at] = (int32_t)old, s->m_new[at] = (int32_t)new;
    s->m_served[at] = (int8_t)served;
    s->m_rise[at] = (old < 0 ? 0.0 : s->value[old]) - (new < 0 ? 0.0 : s->value[new]);
    s->m_loss[at] = (old < 0 ? 0.0 : s->score[old]) - (new < 0 ? 0.0 : s->score[new]) -
                    (double)served * credit_of(s, user);
}

static void list_user(State *s, int64_t u)
{
    int64_t held[MAX_SLOTS], n_held = 0;
    memset(s->count, 0, (size_t)s->n_nodes * sizeof *s->count);
    for (int64_t p = s->start[u]; p < s->start[u + 1]; p++)
        if (s->chosen[p]) {
            count_add(s, p, 1);
            if (n_held < MAX_SLOTS) held[n_held++] = p;
        }
    for (int64_t a = 0; a < n_held; a++) add_move(s, u, held[a], -1, n_held == 1 ? -1 : 0);
    for (int64_t p = s->start[u]; p < s->start[u + 1]; p++) {
        if (s->chosen[p]) continue;
        if (count_allows(s, p)) add_move(s, u, -1, p, n_held == 0);
        for (int64_t a = 0; a < n_held; a++) {
            count_add(s, held[a], -1);
            if (count_allows(s, p)) add_move(s, u, held[a], p, 0);
            count_add(s, held[a], 1);
        }
    }
}

/* Moves of all users, or of those who can get an offer (>= 0). */
static void list_moves(State *s, int64_t offer)
{
    int64_t last = -1;
    s->n_moves = 0;
    if (offer < 0)
        for (int64_t u = 0; u < s->n_users; u++) list_user(s, u);
    else
        for (int64_t a = s->offer_start[offer]; a < s->offer_start[offer + 1]; a++) {
            int64_t user = s->user[s->offer_pair[a]];
            if (user != last) list_user(s, user);
            last = user;
        }
    s->work -= (double)s->n_moves;
}

/* Change of use of a move into a dense row of l_delta, and the rows it touches. */
static void fill_delta(State *s, int64_t at, int32_t move)
{
    double *delta = s->l_delta + at * s->n_rows;
    int32_t *rows = s->l_rows + at * s->n_touch;
    int64_t n = 0, floor_at = s->n_budgets + s->n_offers;
    memset(delta, 0, (size_t)s->n_rows * sizeof *delta);
    s->l_move[at] = move;
    if (move >= 0) {
        int64_t old = s->m_old[move], new = s->m_new[move], user = s->m_user[move];
        for (int64_t r = 0; r < s->n_budgets; r++) {
            const double *cost = s->cost + r * s->n_pairs;
            delta[r] = (new < 0 ? 0.0 : cost[new]) - (old < 0 ? 0.0 : cost[old]);
            if (delta[r] != 0.0 && s->room[r] < 1e300) rows[n++] = (int32_t)r;
        }
        if (s->n_offers) {
            int64_t a = old < 0 ? -1 : s->n_budgets + s->offer[old];
            int64_t b = new < 0 ? -1 : s->n_budgets + s->offer[new];
            if (a >= 0) delta[a] -= s->amount[old];
            if (b >= 0) delta[b] += s->amount[new];
            if (a >= 0 && s->room[a] < 1e300) rows[n++] = (int32_t)a;
            if (b >= 0 && b != a && s->room[b] < 1e300) rows[n++] = (int32_t)b;
        }
        if (s->n_floors && s->segment[user] >= 0 && s->m_served[move]) {
            delta[floor_at + s->segment[user]] = -(double)s->m_served[move];
            rows[n++] = (int32_t)(floor_at + s->segment[user]);
        }
    }
    if (n < s->n_touch) rows[n] = -1;
}

/* Change of use of one row by a move. */
static double delta_of(const State *s, int64_t move, int64_t r)
{
    int64_t old = s->m_old[move], new = s->m_new[move], o = r - s->n_budgets;
    double delta = 0.0;
    if (o < 0) {
        const double *cost = s->cost + r * s->n_pairs;
        return (new < 0 ? 0.0 : cost[new]) - (old < 0 ? 0.0 : cost[old]);
    }
    if (o >= s->n_offers)
        return s->segment[s->m_user[move]] == o - s->n_offers ? -(double)s->m_served[move] : 0.0;
    if (old >= 0 && s->offer[old] == o) delta -= s->amount[old];
    if (new >= 0 && s->offer[new] == o) delta += s->amount[new];
    return delta;
}

static void apply(State *s, int64_t at)
{
    int32_t move = s->l_move[at];
    if (move < 0) return;
    if (s->m_old[move] >= 0) s->chosen[s->m_old[move]] = 0;
    if (s->m_new[move] >= 0) s->chosen[s->m_new[move]] = 1;
    s->gap += s->m_rise[move];
    for (int64_t r = 0; r < s->n_rows; r++) s->room[r] -= s->l_delta[at * s->n_rows + r];
}

/* ---- choosing the moves of least key -------------------------------------------------- */

static int before(const State *s, int32_t a, int32_t b)
{
    return s->key[a] < s->key[b] || (s->key[a] == s->key[b] && a < b);
}

/* Puts the n_least moves of least key, ascending, in front of `order` (n). */
static void least_first(State *s, int64_t n, int64_t n_least)
{
    int32_t *order = s->order;
    int64_t low = 0, high = n - 1;
    if (n_least > n) n_least = n;
    while (n_least < n && low < high) {
        int32_t pivot = order[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (before(s, order[i], pivot)) i++;
            while (before(s, pivot, order[j])) j--;
            if (i <= j) {
                int32_t swap = order[i];
                order[i++] = order[j], order[j--] = swap;
            }
        }
        if (n_least - 1 <= j) high = j;
        else if (n_least - 1 >= i) low = i;
        else break;
    }
    for (int64_t gap = n_least / 2; gap > 0; gap /= 2) /* Shell sort: few, and no callbacks */
        for (int64_t i = gap; i < n_least; i++) {
            int32_t held = order[i];
            int64_t j = i;
            for (; j >= gap && before(s, held, order[j - gap]); j -= gap) order[j] = order[j - gap];
            order[j] = held;
        }
    s->work -= 3.0 * (double)n;
}

/* The list: nothing, then the first n of `order`. */
static void take_list(State *s, int64_t n)
{
    if (n > s->most_list - 1) n = s->most_list - 1;
    fill_delta(s, 0, -1);
    for (int64_t a = 0; a < n; a++) fill_delta(s, a + 1, s->order[a]);
    s->n_list = n + 1;
    s->work -= (double)(n * (s->n_rows + 2 * s->n_touch));
}

/* A number in [0, 1) that belongs to what a move is, not to where its user stands. */
static double draw(const State *s, int32_t move, uint64_t seed)
{
    int32_t a = s->m_old[move], b = s->m_new[move];
    uint64_t x = mix64(seed);
    if (a >= 0) x = mix64(x ^ bits_of(s->value[a]) ^ (uint64_t)s->offer[a]);
    if (b >= 0) x = mix64(x + bits_of(s->value[b]) + (uint64_t)s->offer[b]);
    if (b >= 0 && s->n_budgets) x = mix64(x ^ bits_of(s->cost[b]));
    if (a >= 0 && s->n_budgets) x = mix64(x ^ bits_of(s->cost[a]));
    return (double)(x >> 11) * (1.0 / 9007199254740992.0);
}

/* ---- rows ----------------------------------------------------------------------------- */

static double lack(const State *s, int64_t r, double room)
{
    return room < 0.0 ? -room / s->scale[r] : 0.0;
}

static double room_after(const State *s, int64_t r, const int64_t *at, int n)
{
    double room = s->room[r];
    for (int b = 0; b < n; b++) room -= s->l_delta[at[b] * s->n_rows + r];
    return room;
}

static void find_lacking(State *s)
{
    s->n_lacking = 0;
    for (int64_t r = 0; r < s->n_rows; r++)
        if (s->room[r] < 0.0) s->lacking[s->n_lacking++] = (int32_t)r;
}

/* Whether all rows have room after n moves of the list. */
static int all_fit(const State *s, const int64_t *at, int n)
{
    for (int64_t t = 0; t < s->n_lacking; t++)
        if (room_after(s, s->lacking[t], at, n) < 0.0) return 0;
    for (int a = 0; a < n; a++) {
        const int32_t *rows = s->l_rows + at[a] * s->n_touch;
        for (int64_t t = 0; t < s->n_touch && rows[t] >= 0; t++)
            if (room_after(s, rows[t], at, n) < 0.0) return 0;
    }
    return 1;
}

#endif
