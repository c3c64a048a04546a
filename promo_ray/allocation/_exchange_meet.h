/* Four or six moves at once: combinations of at most two or three moves of one half of the users
 * against those of the other, met in a table keyed by the rows counted in whole units and by
 * cells over the dearest others (meet in the middle, Horowitz and Sahni 1974; Schroeppel and
 * Shamir 1981). */
#ifndef PROMO_RAY_EXCHANGE_MEET_H
#define PROMO_RAY_EXCHANGE_MEET_H

#include "_exchange_moves.h"

#define MAX_DIMS 5
#define MAX_EACH 3 /* moves of a combination */
#define MOST_THREES 80000 /* of one half: they stay near the cache */
#define MAX_LISTS 81 /* three cells in each row of cells but the last */
#define MAX_SPANS (2 * MAX_LISTS)
#define BATCH 16

#if defined(__GNUC__)
#define PREFETCH(at) __builtin_prefetch(at)
#else
#define PREFETCH(at) ((void)(at))
#endif

typedef struct {
    float x[MAX_DIMS + 1];     /* price times change of use in the dearest rows; rise */
    uint32_t key;              /* linear in the change of whole rows */
    uint16_t at[MAX_EACH + 1]; /* in the list; 0: nothing */
} Combo;

typedef struct {
    int n_dims, n_grid; /* rows compared; rows that form cells, the last contiguous */
    int64_t row[MAX_DIMS];
    double need[MAX_DIMS]; /* price times room */
    double within;         /* room left over in a row of cells that is looked for */
    double width, per_width; /* of a cell, and its inverse */
    uint32_t key;          /* of the room of whole rows */
    uint32_t *row_key;     /* (n_rows), 0 = row not keyed */
    uint32_t mask;
} Plan;

typedef struct {
    Combo *own, *other, *sorted, *lone;
    uint32_t *start, *cell;
    uint8_t *half;
    int32_t *member; /* moves of one half, by loss */
    int64_t most_combos, n_own, n_other, n_member;
    int64_t forced[3];
    int n_forced, n_each; /* moves made before; moves of a combination: 2 or 3 */
    double checks_each;   /* looks at others per combination to aim at */
    float largest;        /* need of a row, or change by a move */
    Plan plan;
} Table;

typedef struct {
    double rise, checks;
    int64_t at[2 * MAX_EACH];
    int n;
} Found;

/* ---- plan ------------------------------------------------------------------------------ */

/* Rows that the table is keyed by: whole ones where a unit left over costs too much, exactly;
 * of the others the dearest, by cells. */
static void make_plan(const State *s, Plan *plan, double width)
{
    double weight[MAX_DIMS];
    plan->n_dims = 0, plan->key = 0, plan->width = width;
    for (int64_t r = 0; r < s->n_rows; r++) {
        plan->row_key[r] = 0;
        if (s->room[r] >= 1e300 || s->prices[r] <= 0.0) continue;
        if (s->is_whole[r]) {
            if (s->prices[r] <= width) continue;
            plan->row_key[r] = (uint32_t)mix64((uint64_t)r + 77) | 1u;
            plan->key += plan->row_key[r] * (uint32_t)floor_int(s->room[r]);
            continue;
        }
        double own = s->spread[r];
        int at = plan->n_dims < MAX_DIMS ? plan->n_dims++ : MAX_DIMS;
        while (at > 0 && weight[at - 1] < own) {
            if (at < MAX_DIMS) weight[at] = weight[at - 1], plan->row[at] = plan->row[at - 1];
            at--;
        }
        if (at < MAX_DIMS) weight[at] = own, plan->row[at] = r;
    }
    for (int d = 0; d < plan->n_dims; d++)
        plan->need[d] = s->prices[plan->row[d]] * s->room[plan->row[d]];
}

/* Expected number of combinations looked at for one, for cells over the first n rows. */
static double expected(const double *reach, double width, int n, double n_combos)
{
    for (int d = 0; d < n; d++) n_combos *= 2.0 * width < reach[d] ? 2.0 * width / reach[d] : 1.0;
    return n_combos;
}

/* Width of cells, at most as given, and number of rows that form them, for least work. */
static void plan_cells(Table *t)
{
    Plan *plan = &t->plan;
    double reach[MAX_DIMS], same = 1.0, looked = 1.0;
    int64_t step = t->n_other / 500 + 1, own_step = t->n_own / 64 + 1;
    for (int d = 0; d < plan->n_dims; d++) {
        double total = 0.0, n = 1e-9;
        for (int64_t b = 0; b < t->n_other; b += step, n += 1.0)
            total += magnitude(t->other[b].x[d]);
        reach[d] = 4.0 * total / n + 1e-30;
    }
    for (int64_t a = 0; a < t->n_own; a += own_step)
        for (int64_t b = 0; b < t->n_other; b += step, looked += 1.0)
            if (plan->key - t->own[a].key == t->other[b].key) same += 1.0;
    const double widest = plan->width;
    for (int turn = 0; turn <= 24; turn++) {
        double least = 1e300;
        if (turn == 24) plan->width = widest; /* uses too much alike: no cells help */
        for (int n = 0; n <= plan->n_dims; n++) {
            double lists = n > 1 ? (double)(1 << (n - 1)) : 1.0;
            double alike = same / looked * (double)t->n_other;
            double work = 4.0 * lists + expected(reach, plan->width, n, alike);
            if (work < least) least = work, plan->n_grid = n;
        }
        if (least < t->checks_each) return;
        plan->width *= 0.7;
    }
}

/* ---- combinations ---------------------------------------------------------------------- */

/* What a move of the list is as a combination. */
static void measure_lone(const State *s, const Plan *plan, Combo *lone, int64_t at)
{
    const double *delta = s->l_delta + at * s->n_rows;
    const int32_t *rows = s->l_rows + at * s->n_touch;
    memset(lone, 0, sizeof *lone);
    lone->at[0] = (uint16_t)at;
    lone->x[MAX_DIMS] = (float)s->m_rise[s->l_move[at]];
    for (int d = 0; d < plan->n_dims; d++)
        lone->x[d] = (float)(s->prices[plan->row[d]] * delta[plan->row[d]]);
    for (int64_t t = 0; t < s->n_touch && rows[t] >= 0; t++)
        if (plan->row_key[rows[t]])
            lone->key += plan->row_key[rows[t]] * (uint32_t)floor_int(delta[rows[t]]);
}

static void find_members(const State *s, Table *t, uint8_t own)
{
    t->n_member = 0;
    for (int64_t i = 1; i < s->n_list; i++)
        if (t->half[i] == own) t->member[t->n_member++] = (int32_t)i;
}

static double loss_of(const State *s, const Table *t, int64_t a)
{
    return s->m_loss[s->l_move[t->member[a]]];
}

static int32_t user_of(const State *s, const Table *t, int64_t a)
{
    return s->m_user[s->l_move[t->member[a]]];
}

/* Number of threes of members whose losses sum up to `most` or less; ends above `enough`. */
static double count_threes(const State *s, const Table *t, double most, double enough)
{
    double n = 0.0;
    for (int64_t a = 2; a < t->n_member && n <= enough; a++) {
        int64_t c = 0;
        for (int64_t b = a - 1; b > 0; b--) { /* the smaller b, the more c */
            double rest = most - loss_of(s, t, a) - loss_of(s, t, b);
            while (c < b && loss_of(s, t, c) <= rest) c++;
            n += (double)(c < b ? c : b);
        }
    }
    return n;
}

static int64_t room_of(const Table *t)
{
    return t->n_each == 2 || t->most_combos < MOST_THREES ? t->most_combos : MOST_THREES;
}

/* Largest sum of losses, at most `most`, for which there is room for all threes. */
static double fit_loss(State *s, const Table *t, double most)
{
    double twos = 0.5 * (double)(t->n_member * t->n_member);
    double room = 0.95 * (double)room_of(t) - twos, low = -magnitude(most), high = most;
    for (int turn = 0; turn < 12; turn++) {
        double at = turn ? 0.5 * (low + high) : most, n = count_threes(s, t, at, room);
        s->work -= 0.3 * twos;
        if (n > room) high = at;
        else low = at;
        if (n <= room && (turn == 0 || n > 0.8 * room)) break;
    }
    return low;
}

/* A combination and one move more. */
static void join(Combo *to, const Combo *from, const Combo *lone, int turn)
{
    *to = *from;
    to->key += lone->key, to->at[turn] = lone->at[0];
    for (int d = 0; d <= MAX_DIMS; d++) to->x[d] += lone->x[d];
}

/* Combinations of moves of one half, losses at most `most`; nothing is one of them. */
static int64_t make_combos(State *s, Table *t, uint8_t own, double most, Combo *combos)
{
    int64_t n = 0, room = room_of(t);
    find_members(s, t, own);
    double most_of_three = t->n_each == 3 ? fit_loss(s, t, most) : -1e300;
    memset(&combos[n++], 0, sizeof *combos);
    for (int64_t a = 0; a < t->n_member && n < room; a++) {
        measure_lone(s, &t->plan, &t->lone[a], t->member[a]);
        for (int d = 0; d < t->plan.n_dims; d++)
            if (magnitude(t->lone[a].x[d]) > t->largest)
                t->largest = (float)magnitude(t->lone[a].x[d]);
        int32_t user = user_of(s, t, a);
        combos[n++] = t->lone[a];
        for (int64_t b = 0; b < a && n < room; b++) {
            double loss = loss_of(s, t, a) + loss_of(s, t, b);
            int32_t other = user_of(s, t, b);
            if (loss > most) break;
            if (user == other) continue;
            Combo *two = &combos[n++];
            join(two, &t->lone[a], &t->lone[b], 1);
            for (int64_t c = 0; c < b && n < room; c++) {
                if (loss + loss_of(s, t, c) > most_of_three) break;
                int32_t third = user_of(s, t, c);
                if (third != user && third != other) join(&combos[n++], two, &t->lone[c], 2);
            }
        }
    }
    return n;
}

/* ---- cells ----------------------------------------------------------------------------- */

static const uint32_t cell_factor[MAX_DIMS] = {0x85EBCA6Bu, 0xC2B2AE35u, 0x27D4EB2Fu, 0x165667B1u,
                                               0x9E3779B1u};

/* Mixed so that neighbors along the last row of cells lie together. */
static uint32_t mix_cell(uint32_t h)
{
    h ^= h >> 15;
    h *= 0x2C1B3C6Du;
    return h ^ (h >> 13);
}

static uint32_t cell_of(const Plan *plan, const Combo *combo)
{
    uint32_t h = combo->key * 0x9E3779B1u, last = 0;
    for (int d = 0; d < plan->n_grid; d++) {
        uint32_t c = (uint32_t)floor_int((double)combo->x[d] * plan->per_width);
        if (d == plan->n_grid - 1) last = c;
        else h += c * cell_factor[d];
    }
    return (mix_cell(h) + last) & plan->mask;
}

/* Combinations ordered by cell; start[c + 1] is the begin of cell c. */
static void bucket(Table *t, const Combo *combos, int64_t n, Combo *sorted)
{
    uint32_t *start = t->start;
    memset(start, 0, ((size_t)t->plan.mask + 2) * sizeof *start);
    for (int64_t a = 0; a < n; a++) start[(t->cell[a] = cell_of(&t->plan, &combos[a])) + 1]++;
    for (uint32_t c = 0; c <= t->plan.mask; c++) start[c + 1] += start[c];
    start[t->plan.mask + 2] = (uint32_t)n;
    for (int64_t a = n - 1; a >= 0; a--) sorted[--start[t->cell[a] + 1]] = combos[a];
}

static void try_meeting(State *s, const Combo *a, const Combo *b, Found *found)
{
    int64_t at[2 * MAX_EACH];
    double rise = 0.0;
    int n = 0;
    for (int k = 0; k < MAX_EACH; k++) {
        if (a->at[k]) at[n++] = a->at[k];
        if (b->at[k]) at[n++] = b->at[k];
    }
    for (int k = 0; k < n; k++) rise += s->m_rise[s->l_move[at[k]]];
    found->checks += 2.0 * (double)(n + 2);
    if (rise >= found->rise || !all_fit(s, at, n)) return;
    found->rise = rise, found->n = n;
    memcpy(found->at, at, sizeof at);
}

typedef struct {
    const Combo *own;
    float left[MAX_DIMS + 1];
    int n_spans;
    uint32_t begin[MAX_SPANS], end[MAX_SPANS];
} Search;

/* Where in the table combinations stand that fill the rows together with `own`: room left over, if
 * any, below a width. */
static void aim(const Table *t, const Combo *own, const float *need, Search *to)
{
    const Plan *plan = &t->plan;
    uint32_t lists[MAX_LISTS], span = 0;
    int32_t low = 0, high = 0;
    int n_lists = 1;
    lists[0] = (plan->key - own->key) * 0x9E3779B1u;
    to->own = own, to->n_spans = 0;
    for (int d = 0; d <= MAX_DIMS; d++) to->left[d] = need[d] - own->x[d];
    for (int d = 0; d < plan->n_grid; d++) {
        low = floor_int(((double)to->left[d] - plan->within) * plan->per_width);
        high = floor_int((double)to->left[d] * plan->per_width);
        if (d == plan->n_grid - 1) span = (uint32_t)(high - low);
        if (d == plan->n_grid - 1) break;
        if (high > low + 2) low = high - 2;
        int n = n_lists;
        for (int32_t c = low; c < high; c++)
            for (int k = 0; k < n; k++) lists[n_lists++] = lists[k] + (uint32_t)c * cell_factor[d];
        for (int k = 0; k < n; k++) lists[k] += (uint32_t)high * cell_factor[d];
    }
    if (span > plan->mask) span = plan->mask;
    for (int k = 0; k < n_lists; k++) {
        uint32_t c = (mix_cell(lists[k]) + (uint32_t)low) & plan->mask, e = c + span;
        int at = to->n_spans++;
        to->begin[at] = t->start[c + 1];
        to->end[at] = t->start[(e < plan->mask ? e : plan->mask) + 2];
        PREFETCH(t->sorted + to->begin[at]);
        if (e <= plan->mask) continue;
        at = to->n_spans++;
        to->begin[at] = 0, to->end[at] = t->start[e - plan->mask + 1];
    }
}

static void look(State *s, const Table *t, const Search *at, Found *found)
{
    uint32_t want = t->plan.key - at->own->key;
    for (int k = 0; k < at->n_spans; k++) {
        const Combo *last = t->sorted + at->end[k];
        for (const Combo *b = t->sorted + at->begin[k]; b < last; b++) {
            int is_over = b->key != want; /* one branch: each test alone is hard to foretell */
            for (int d = 0; d <= MAX_DIMS; d++) is_over |= b->x[d] > at->left[d];
            if (!is_over) try_meeting(s, at->own, b, found);
        }
        found->checks += 4.0 + (double)(at->end[k] - at->begin[k]);
    }
}

/* All of one half against the table, some at a time so that memory is asked for early. */
static void scan(State *s, const Table *t, float *need, Found *found)
{
    Search batch[BATCH];
    double cap = 2.0 * t->checks_each * (double)(t->n_own + t->n_other);
    float slack = 8e-7f * t->largest; /* rounding of sums */
    for (int d = 0; d < MAX_DIMS; d++) need[d] += slack;
    for (int64_t a = 0; a < t->n_own && found->checks < cap; a += BATCH) {
        int64_t n = t->n_own - a < BATCH ? t->n_own - a : BATCH;
        need[MAX_DIMS] = (float)found->rise + slack;
        for (int64_t k = 0; k < n; k++) aim(t, &t->own[a + k], need, &batch[k]);
        for (int64_t k = 0; k < n; k++) look(s, t, &batch[k], found);
    }
}

/* ---- a meeting ------------------------------------------------------------------------- */

/* Halves of the users, drawn; those of moves made before are in neither. Returns the sum of
 * losses below 0. */
static double draw_halves(const State *s, Table *t, uint64_t seed)
{
    double least = 0.0;
    for (int64_t i = 1; i < s->n_list; i++) {
        int32_t a = s->l_move[i];
        t->half[i] = (uint8_t)(mix64(seed ^ mix64((uint64_t)s->m_user[a])) & 1u);
        for (int m = 0; m < t->n_forced; m++)
            if (s->m_user[s->l_move[t->forced[m]]] == s->m_user[a]) t->half[i] = 2;
        if (s->m_loss[a] < 0.0) least += s->m_loss[a];
    }
    return least;
}

/* One meeting of the list's halves: the best moves that bring the gap below `below` are made.
 * Room left over is looked for up to `width` in every row of cells. */
static int meet_once(State *s, Table *t, double below, double width, uint64_t seed)
{
    double lost = s->gap, least = draw_halves(s, t, seed);
    float need[MAX_DIMS + 1];
    for (int64_t r = 0; r < s->n_rows; r++)
        if (s->room[r] < 1e300) lost -= s->prices[r] * s->room[r];
    if (least < -lost) least = -lost;
    find_lacking(s);
    make_plan(s, &t->plan, width);
    double most = below - lost - least;
    t->largest = 0.0f;
    t->n_own = make_combos(s, t, 0, most, t->own);
    t->n_other = make_combos(s, t, 1, most, t->other);
    plan_cells(t);
    t->plan.within = t->plan.width;
    t->plan.width *= 2.0; /* fewer cells for one combination, more in each */
    t->plan.per_width = 1.0 / t->plan.width;
    t->plan.mask = 255;
    while ((int64_t)t->plan.mask < t->n_other) t->plan.mask = 2 * t->plan.mask + 1;
    bucket(t, t->own, t->n_own, t->sorted); /* neighbors look at the same cells */
    Combo *sorted = t->own;
    t->own = t->sorted, t->sorted = sorted;
    bucket(t, t->other, t->n_other, t->sorted);
    for (int d = 0; d < MAX_DIMS; d++) {
        need[d] = d < t->plan.n_dims ? (float)t->plan.need[d] : 1.0f;
        if (magnitude(need[d]) > t->largest) t->largest = (float)magnitude(need[d]);
    }
    Found found = {.rise = below - s->gap};
    scan(s, t, need, &found);
    s->work -= found.checks + 8.0 * (double)(t->n_own + t->n_other) + 16.0 * (double)s->n_list;
    for (int k = 0; k < found.n; k++) apply(s, found.at[k]);
    return found.n > 0;
}

static int table_new(Table *t, int64_t most_list, const State *s)
{
    int64_t half = most_list * 5 / 8;
    t->most_combos = half * half / 2 + half + 2;
    uint32_t mask = 255;
    while ((int64_t)mask < t->most_combos) mask = 2 * mask + 1;
    t->own = malloc((size_t)t->most_combos * sizeof(Combo));
    t->other = malloc((size_t)t->most_combos * sizeof(Combo));
    t->sorted = malloc((size_t)t->most_combos * sizeof(Combo));
    t->lone = malloc((size_t)(most_list + 1) * sizeof(Combo));
    t->cell = malloc((size_t)t->most_combos * sizeof(uint32_t));
    t->start = malloc(((size_t)mask + 3) * sizeof(uint32_t));
    t->half = malloc((size_t)most_list + 1);
    t->member = malloc((size_t)(most_list + 1) * sizeof(int32_t));
    t->plan.row_key = malloc((size_t)(s->n_rows + 1) * sizeof(uint32_t));
    return t->own && t->other && t->sorted && t->lone && t->cell && t->start && t->half &&
           t->member && t->plan.row_key;
}

static void table_free(Table *t)
{
    free(t->own), free(t->other), free(t->sorted), free(t->lone), free(t->cell), free(t->start);
    free(t->half), free(t->member), free(t->plan.row_key);
}

#endif
