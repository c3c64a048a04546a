/* Exchanges between the users near a tie: rows stay within their room, the value rises.
 *
 * A move changes one user's set of pairs: adds one, drops one, or replaces one. Its loss is the
 * reduced value it gives up at fixed prices. Searches, each a bounded number of steps and free of
 * clocks and global state, so that the same input gives the same bits:
 *   repair       two moves at a time until no row lacks room;
 *   pairs        the best two moves among those of least loss, or among those that touch a row;
 *   meet         the best four or six: see _exchange_meet.h.
 * A row is `room` = what is left >= 0. Rows: budgets, offers, floors (use -1 per served user).
 */
#include "_exchange_meet.h"
#include "_exchange_moves.h"

/* ---- losses ---------------------------------------------------------------------------- */

/* Loss of every pair at prices: of taking it where the best set does not, of leaving it where
 * the best set takes it. best: (n_users) value of the best set; taken: (n_pairs). */
int64_t pr_losses(int64_t n_users, int64_t n_pairs, int64_t n_budgets, int64_t n_offers,
                  int64_t n_floors, int64_t n_nodes, const int64_t *start, const double *value,
                  const double *cost, const int64_t *offer, const double *amount,
                  const int64_t *segment, const int64_t *limit, const int64_t *parent,
                  const int64_t *node, const double *prices, double *best, uint8_t *taken,
                  double *loss)
{
    State s = {0};
    int64_t most = 1;
    s.n_users = n_users, s.n_pairs = n_pairs, s.n_budgets = n_budgets, s.n_offers = n_offers;
    s.n_floors = n_floors, s.n_nodes = n_nodes, s.start = start, s.value = value, s.cost = cost;
    s.offer = offer, s.amount = amount, s.segment = segment, s.limit = limit;
    s.parent = parent, s.node = node, s.prices = prices;
    for (int64_t u = 0; u < n_users; u++)
        if (start[u + 1] - start[u] > most) most = start[u + 1] - start[u];
    s.score = malloc((size_t)(n_pairs + 1) * sizeof *s.score);
    s.count = malloc((size_t)n_nodes * sizeof *s.count);
    int32_t *order = malloc((size_t)most * sizeof *order);
    if (!s.score || !s.count || !order) {
        free(s.score), free(s.count), free(order);
        return -1;
    }
    memset(taken, 0, (size_t)n_pairs);
    for (int64_t p = 0; p < n_pairs; p++) s.score[p] = price_pair(&s, p);
    for (int64_t u = 0; u < n_users; u++) {
        int64_t a = start[u], n = start[u + 1] - a;
        order_scores(&s, a, a + n, order);
        best[u] = best_set(&s, u, order, n, -1, -1, taken);
        for (int64_t p = a; p < a + n; p++) {
            if (limit[0] == 1 && !taken[p]) { /* one offer: no search */
                loss[p] = best[u] - s.score[p] - credit_of(&s, u);
                continue;
            }
            loss[p] = best[u] - (taken[p] ? best_set(&s, u, order, n, -1, p, NULL)
                                          : best_set(&s, u, order, n, p, -1, NULL));
        }
    }
    free(s.score), free(s.count), free(order);
    return 0;
}

/* ---- repair --------------------------------------------------------------------------- */

/* Change of the sum of lacks if moves i and j are made. */
static double lack_change(const State *s, int64_t i, int64_t j)
{
    double change = 0.0;
    const int64_t at[2] = {i, j};
    for (int a = 0; a < 2; a++) {
        const int32_t *rows = s->l_rows + at[a] * s->n_touch;
        const double *di = s->l_delta + i * s->n_rows, *dj = s->l_delta + j * s->n_rows;
        for (int64_t t = 0; t < s->n_touch && rows[t] >= 0; t++) {
            int64_t r = rows[t];
            if (a == 1 && di[r] != 0.0) continue; /* counted with i */
            change += lack(s, r, s->room[r] - di[r] - dj[r]) - lack(s, r, s->room[r]);
        }
    }
    return change;
}

static double total_lack(const State *s)
{
    double total = 0.0;
    for (int64_t r = 0; r < s->n_rows; r++) total += lack(s, r, s->room[r]);
    return total;
}

/* One repair: moves that help the row that lacks most, with one more move. 0: none helps. */
static int repair_once(State *s, int64_t n_each)
{
    int64_t worst = -1, n = 0, n_help, best_i = -1, best_j = -1;
    double most = 0.0, best = -1e-12, best_rise = 0.0;
    for (int64_t r = 0; r < s->n_rows; r++)
        if (lack(s, r, s->room[r]) > most) most = lack(s, r, s->room[r]), worst = r;
    if (worst < 0) return 0;
    list_moves(s, -1);
    for (int64_t a = 0; a < s->n_moves; a++) {
        s->key[a] = s->m_loss[a];
        if (delta_of(s, a, worst) < 0.0) s->order[n++] = (int32_t)a;
    }
    s->work -= (double)s->n_moves;
    least_first(s, n, n_each);
    take_list(s, n < n_each ? n : n_each);
    n_help = s->n_list;
    for (int64_t a = 0; a < s->n_moves; a++) s->order[a] = (int32_t)a;
    least_first(s, s->n_moves, n_each);
    for (int64_t a = 0; a < n_each && a < s->n_moves && s->n_list < s->most_list; a++)
        fill_delta(s, s->n_list++, s->order[a]);
    for (int64_t i = 1; i < n_help; i++)
        for (int64_t j = 0; j < s->n_list; j++) {
            int32_t a = s->l_move[i], b = s->l_move[j];
            if (b >= 0 && s->m_user[a] == s->m_user[b]) continue;
            double change = lack_change(s, i, j);
            double rise = s->m_rise[a] + (b < 0 ? 0.0 : s->m_rise[b]);
            if (change < best - 1e-12 || (change < best + 1e-12 && best_i >= 0 && rise < best_rise))
                best = change < best ? change : best, best_rise = rise, best_i = i, best_j = j;
        }
    s->work -= (double)(n_help * s->n_list * 4);
    if (best_i < 0) return 0;
    apply(s, best_i);
    apply(s, best_j);
    return 1;
}

/* ---- pairs ---------------------------------------------------------------------------- */

/* The best two moves of the list, made. 0: none raises the value. */
static int pair_once(State *s)
{
    double best = -1e-13 * (s->money + magnitude(s->gap));
    int64_t best_at[2] = {-1, -1}, n = s->n_list;
    find_lacking(s);
    for (int64_t i = 1; i < n; i++) {
        double rise = s->m_rise[s->l_move[i]];
        for (int64_t j = 0; j < i; j++) {
            int32_t b = s->l_move[j];
            double both = rise + (b < 0 ? 0.0 : s->m_rise[b]);
            if (both >= best) continue;
            if (b >= 0 && s->m_user[s->l_move[i]] == s->m_user[b]) continue;
            int64_t at[2] = {i, j};
            if (!all_fit(s, at, 2)) continue;
            best = both, best_at[0] = i, best_at[1] = j;
        }
    }
    s->work -= (double)(n * n);
    if (best_at[0] < 0) return 0;
    apply(s, best_at[0]);
    apply(s, best_at[1]);
    return 1;
}

static void pairs_of_all(State *s, double target, int64_t n_list)
{
    while (s->work > 0.0 && s->gap > target) {
        list_moves(s, -1);
        for (int64_t a = 0; a < s->n_moves; a++)
            s->order[a] = (int32_t)a, s->key[a] = s->m_loss[a];
        least_first(s, s->n_moves, n_list);
        take_list(s, s->n_moves < n_list ? s->n_moves : n_list);
        if (!pair_once(s)) return;
    }
}

/* Offer after offer whose room is worth something: the best two of the moves that touch its row,
 * of equal ones those drawn. 0: none helped. */
static int pairs_by_offer(State *s, double target, int64_t n_list, uint64_t seed)
{
    int any = 0;
    for (int64_t o = 0; o < s->n_offers; o++) {
        int64_t r = s->n_budgets + o;
        if (s->room[r] >= 1e300) continue;
        for (int rounds = 0; rounds < 8 && s->work > 0.0 && s->gap > target; rounds++) {
            int64_t n = 0;
            if (s->prices[r] * s->room[r] <= 0.1 * target / (double)s->n_rows) break;
            list_moves(s, o);
            for (int64_t a = 0; a < s->n_moves; a++) {
                if (delta_of(s, a, r) == 0.0) continue;
                s->key[a] = s->m_loss[a] + 1e-6 * s->spread[r] * draw(s, (int32_t)a, seed);
                s->order[n++] = (int32_t)a;
            }
            least_first(s, n, n_list);
            take_list(s, n < n_list ? n : n_list);
            if (!pair_once(s)) break;
            any = 1;
        }
    }
    return any;
}

/* Single moves that fit, of greatest rise first, as long as there are any. */
static void fill(State *s, double target)
{
    int any = 1;
    find_lacking(s);
    while (any && s->work > 0.0 && s->gap > target) {
        int64_t n = 0;
        any = 0;
        list_moves(s, -1);
        for (int64_t a = 0; a < s->n_moves; a++) {
            s->key[a] = s->m_rise[a];
            if (s->m_rise[a] < 0.0) s->order[n++] = (int32_t)a;
        }
        least_first(s, n, n);
        int32_t last = -1;
        for (int64_t a = 0; a < n; a++) {
            int64_t at[1] = {1};
            int32_t move = s->order[a];
            fill_delta(s, 1, move);
            if (!all_fit(s, at, 1)) continue;
            /* the set of a user who has moved in this round is another: next round */
            int64_t user = s->m_user[move];
            if (s->moved[user] == s->n_rounds) {
                any = 1;
                continue;
            }
            s->moved[user] = s->n_rounds;
            apply(s, 1);
            any = 1;
            last = move;
        }
        s->n_rounds++;
        s->work -= (double)(n * (s->n_rows + 8));
        if (last < 0) break;
    }
}

/* ---- meetings -------------------------------------------------------------------------- */

static void list_least(State *s, int64_t n)
{
    list_moves(s, -1);
    for (int64_t a = 0; a < s->n_moves; a++) s->order[a] = (int32_t)a, s->key[a] = s->m_loss[a];
    least_first(s, s->n_moves, n);
    take_list(s, s->n_moves < n ? s->n_moves : n);
}

/* One to three moves of small loss, drawn from the list, are counted as made whatever the rows
 * say: a new place from which four more may end better. Their users' other moves are left out. */
static int kick(State *s, Table *t, double most, uint64_t seed)
{
    int64_t n_kicks = 1 + (int64_t)(mix64(seed) % 3u), n = 1;
    t->n_forced = 0;
    while (n < s->n_list && s->m_loss[s->l_move[n]] < most / (double)n_kicks) n++;
    for (int64_t k = 0; k < n_kicks && n > 1; k++) {
        int64_t at = 1 + (int64_t)(mix64(seed + 0x1000u * (uint64_t)(k + 1)) % (uint64_t)(n - 1));
        int is_new = 1;
        for (int m = 0; m < t->n_forced; m++)
            if (s->m_user[s->l_move[t->forced[m]]] == s->m_user[s->l_move[at]]) is_new = 0;
        if (!is_new) continue;
        t->forced[t->n_forced++] = at;
        for (int64_t r = 0; r < s->n_rows; r++) s->room[r] -= s->l_delta[at * s->n_rows + r];
        s->gap += s->m_rise[s->l_move[at]];
    }
    return t->n_forced;
}

static void make_forced(State *s, const Table *t)
{
    for (int m = 0; m < t->n_forced; m++) {
        int32_t move = s->l_move[t->forced[m]];
        if (s->m_old[move] >= 0) s->chosen[s->m_old[move]] = 0;
        if (s->m_new[move] >= 0) s->chosen[s->m_new[move]] = 1;
    }
}

typedef struct {
    uint8_t *chosen;
    double *room;
    double gap;
} Place;

static void keep_place(const State *s, Place *at)
{
    memcpy(at->chosen, s->chosen, (size_t)s->n_pairs);
    memcpy(at->room, s->room, (size_t)s->n_rows * sizeof(double));
    at->gap = s->gap;
}

static void return_to(State *s, const Place *at)
{
    memcpy(s->chosen, at->chosen, (size_t)s->n_pairs);
    memcpy(s->room, at->room, (size_t)s->n_rows * sizeof(double));
    s->gap = at->gap;
}

static int place_new(const State *s, Place *at)
{
    at->chosen = malloc((size_t)s->n_pairs + 1);
    at->room = malloc((size_t)(s->n_rows + 1) * sizeof(double));
    return at->chosen && at->room;
}

static void place_free(Place *at) { free(at->chosen), free(at->room); }

/* When to stop: the gap that is enough, and the gap above which six moves are tried. */
typedef struct {
    double target, wanted, deep_work;
    uint64_t seed;
} Aim;

/* Six moves fill few rows at once, apart from those counted in whole units. */
static int can_deepen(const State *s)
{
    int64_t n = 0;
    for (int64_t r = 0; r < s->n_rows; r++)
        n += s->prices[r] > 0.0 && s->room[r] < 1e300 && !s->is_whole[r];
    return n <= MAX_DIMS + 2;
}

/* Six moves at once, from `base`, kicked, and from the best place in turn, users halved anew. */
static void deepen(State *s, Table *t, double wanted, const Place *base, Place *best,
                   uint64_t seed)
{
    t->n_each = 3, t->checks_each = 60.0;
    for (uint64_t round = 0; s->work > 0.0 && s->gap > wanted; round++) {
        double gap = s->gap, below = gap - 1e-13 * (s->money + magnitude(gap));
        int is_from_base = round % 2 == 0;
        s->work -= 100.0;
        keep_place(s, best);
        if (is_from_base) return_to(s, base);
        list_least(s, 400);
        t->n_forced = 0;
        int is_ready = !round || !is_from_base || kick(s, t, 0.02 * gap, mix64(seed + round));
        double aim = 2.0 * wanted; /* room left over for far more than is wanted takes long */
        if (aim < 0.15 * gap) aim = 0.15 * gap;
        if (aim > gap) aim = gap;
        if (is_ready && meet_once(s, t, below, 0.2 * aim, seed + round)) make_forced(s, t);
        else return_to(s, best);
    }
}

/* Searches from the best place and, kicked, from `base`, where nothing is lost but rows may lack
 * room or have too much: four moves from there may fill them. Lists grow as searches fail. */
static void meet(State *s, Table *t, Aim aim, const Place *base, Place *best, Place *from)
{
    const double target = aim.target, deep_at = 0.8 * s->work;
    const int64_t first_list = s->most_list < 400 ? s->most_list / 2 : 200;
    const uint64_t seed = aim.seed;
    double n_list = (double)first_list;
    int turn = 1, is_last = 0, is_paired = 0; /* first the base: the best place has losses */
    t->n_each = 2, t->checks_each = 160.0;
    for (uint64_t round = 0; s->gap > target; round++) {
        if (s->work < deep_at && s->gap > aim.wanted && can_deepen(s)) {
            s->given += aim.deep_work - s->work;
            s->work = aim.deep_work;
            deepen(s, t, aim.wanted, base, best, seed);
            return;
        }
        if (s->work <= 0.0) return;
        if (turn == 0 && !is_paired) {
            pairs_of_all(s, target, first_list);
            is_paired = 1;
        }
        double gap = s->gap, below = gap - 1e-13 * (s->money + magnitude(gap));
        int is_from_base = turn > 0 && turn < 4;
        s->work -= 100.0; /* ends the search even where there is nothing to do */
        keep_place(s, best);
        if (is_from_base) return_to(s, base);
        double before = s->work;
        list_least(s, (int64_t)n_list);
        before -= s->work;
        double until = s->work - 2.0 * before; /* more tries as long as the list cost more */
        int found = 0, is_kicked = turn > 1 || is_last;
        keep_place(s, from);
        for (uint64_t attempt = 0; !found && (attempt == 0 || s->work > until); attempt++) {
            uint64_t drawn = mix64(seed + round + (attempt << 32));
            t->n_forced = 0;
            return_to(s, from);
            if ((is_kicked || attempt) && !kick(s, t, 0.12 * gap, drawn)) break;
            found = meet_once(s, t, below, 0.5 * gap, seed + round + attempt);
        }
        if (found) {
            make_forced(s, t);
            turn = 0;
            continue;
        }
        return_to(s, best);
        turn++;
        if (turn < 4) continue;
        turn = 0;
        if (is_last) continue;
        if (n_list * 1.5 < (double)s->most_list - 1.0) {
            n_list *= 1.5;
            continue;
        }
        is_last = 1; /* from now on as many moves as may matter: four lose a gap's worth */
        list_least(s, (int64_t)n_list);
        int64_t n = 150;
        while (n < s->n_list && s->m_loss[s->l_move[n]] < 0.25 * s->gap) n++;
        if (n < s->n_list) n_list = (double)n;
    }
}

/* ---- the whole search ----------------------------------------------------------------- */

static void measure_use(State *s, int64_t r, double use)
{
    if (use == 0.0) return;
    if (use > 1e6 || use != (double)floor_int(use)) s->is_whole[r] = 0;
    s->scale[r] += use;
    s->spread[r] += 1.0;
}

/* Which rows count in whole units, and the mean use of a pair in each. */
static void measure_rows(State *s)
{
    for (int64_t p = 0; p < s->n_pairs; p++)
        if (magnitude(s->value[p]) > s->money) s->money = magnitude(s->value[p]);
    for (int64_t r = 0; r < s->n_rows; r++) s->is_whole[r] = 1, s->scale[r] = s->spread[r] = 0.0;
    for (int64_t r = 0; r < s->n_budgets; r++)
        for (int64_t p = 0; p < s->n_pairs; p++) measure_use(s, r, s->cost[r * s->n_pairs + p]);
    for (int64_t p = 0; s->n_offers && p < s->n_pairs; p++)
        measure_use(s, s->n_budgets + s->offer[p], s->amount[p]);
    for (int64_t r = 0; r < s->n_rows; r++) {
        s->scale[r] = s->spread[r] > 0.0 ? s->scale[r] / s->spread[r] : 1.0;
        s->spread[r] = s->prices[r] * s->scale[r];
    }
}

static void group_pairs(State *s)
{
    for (int64_t u = 0; u < s->n_users; u++)
        for (int64_t p = s->start[u]; p < s->start[u + 1]; p++) s->user[p] = (int32_t)u;
    if (!s->n_offers) return;
    for (int64_t p = 0; p < s->n_pairs; p++) s->offer_start[s->offer[p] + 2]++;
    for (int64_t o = 2; o <= s->n_offers; o++) s->offer_start[o] += s->offer_start[o - 1];
    for (int64_t p = 0; p < s->n_pairs; p++)
        s->offer_pair[s->offer_start[s->offer[p] + 1]++] = p;
}

static int state_new(State *s, int64_t most_list)
{
    int64_t most_set = s->limit[0] < MAX_SLOTS ? s->limit[0] : MAX_SLOTS;
    s->n_rows = s->n_budgets + s->n_offers + s->n_floors;
    s->n_touch = s->n_budgets + 4;
    s->n_rounds = 1;
    s->most_list = most_list;
    s->most_moves = s->n_pairs * (most_set + 1) + 1;
    size_t moves = (size_t)s->most_moves, rows = (size_t)s->n_rows + 1, list = (size_t)most_list;
    s->score = malloc(((size_t)s->n_pairs + 1) * sizeof(double));
    s->is_whole = malloc(rows);
    s->scale = malloc(rows * sizeof(double));
    s->spread = malloc(rows * sizeof(double));
    s->lacking = malloc(rows * sizeof(int32_t));
    s->count = malloc((size_t)s->n_nodes * sizeof(int64_t));
    s->moved = calloc((size_t)s->n_users + 1, sizeof(int64_t));
    s->offer_start = calloc((size_t)s->n_offers + 2, sizeof(int64_t));
    s->user = malloc(((size_t)s->n_pairs + 1) * sizeof(int32_t));
    s->offer_pair = malloc(((size_t)s->n_pairs + 1) * sizeof(int64_t));
    s->m_user = malloc(moves * sizeof(int32_t));
    s->m_old = malloc(moves * sizeof(int32_t));
    s->m_new = malloc(moves * sizeof(int32_t));
    s->m_loss = malloc(moves * sizeof(double));
    s->m_rise = malloc(moves * sizeof(double));
    s->m_served = malloc(moves);
    s->key = malloc(moves * sizeof(double));
    s->order = malloc(moves * sizeof(int32_t));
    s->l_move = malloc(list * sizeof(int32_t));
    s->l_rows = malloc(list * (size_t)s->n_touch * sizeof(int32_t));
    s->l_delta = malloc(list * rows * sizeof(double));
    return s->score && s->is_whole && s->scale && s->spread && s->lacking && s->count && s->moved &&
           s->offer_start && s->offer_pair && s->user && s->m_user && s->m_old &&
           s->m_new && s->m_loss && s->m_rise && s->m_served && s->key && s->order &&
           s->l_move && s->l_rows &&
           s->l_delta;
}

static void state_free(State *s)
{
    free(s->score), free(s->is_whole), free(s->scale), free(s->spread), free(s->lacking);
    free(s->count);
    free(s->moved), free(s->offer_start), free(s->offer_pair), free(s->user);
    free(s->m_user), free(s->m_old), free(s->m_new), free(s->m_loss), free(s->m_rise);
    free(s->m_served);
    free(s->key), free(s->order), free(s->l_move), free(s->l_rows), free(s->l_delta);
}

/* Takes a pair (by = 1) or gives it back (-1), whatever the rows say. */
static void take_pair(State *s, int64_t p, int by)
{
    int64_t held = 0, user = s->user[p], g = s->n_floors ? s->segment[user] : -1;
    s->chosen[p] = by > 0;
    s->gap -= by * s->value[p];
    for (int64_t r = 0; r < s->n_budgets; r++) s->room[r] -= by * s->cost[r * s->n_pairs + p];
    if (s->n_offers) s->room[s->n_budgets + s->offer[p]] -= by * s->amount[p];
    for (int64_t o = s->start[user]; o < s->start[user + 1]; o++) held += s->chosen[o];
    if (g >= 0 && held == (by > 0)) s->room[s->n_budgets + s->n_offers + g] += by;
}

/* Every user whose set loses anything at the prices gets the best set. */
static int go_to_best_sets(State *s)
{
    int64_t most = 1;
    for (int64_t u = 0; u < s->n_users; u++)
        if (s->start[u + 1] - s->start[u] > most) most = s->start[u + 1] - s->start[u];
    int32_t *order = malloc((size_t)most * sizeof *order);
    uint8_t *taken = calloc((size_t)s->n_pairs + 1, 1);
    for (int64_t u = 0; order && taken && u < s->n_users; u++) {
        int64_t a = s->start[u], b = s->start[u + 1], n_held = 0;
        double held = 0.0;
        for (int64_t p = a; p < b; p++)
            if (s->chosen[p]) held += s->score[p], n_held++;
        if (n_held) held += credit_of(s, u);
        order_scores(s, a, b, order);
        if (best_set(s, u, order, b - a, -1, -1, taken) - held <= 1e-9 * s->money) continue;
        for (int64_t p = a; p < b; p++)
            if (s->chosen[p]) take_pair(s, p, -1);
        for (int64_t p = a; p < b; p++)
            if (taken[p]) take_pair(s, p, 1);
    }
    int done = order && taken;
    free(order), free(taken);
    return done;
}

/* Sum of squares of price times room after two moves; whole rows, which must be met, weigh more. */
static double distance(const State *s, int64_t i, int64_t j)
{
    const double *di = s->l_delta + i * s->n_rows, *dj = s->l_delta + j * s->n_rows;
    double total = 0.0;
    for (int64_t r = 0; r < s->n_rows; r++) {
        if (s->prices[r] <= 0.0 || s->room[r] >= 1e300) continue;
        double own = s->prices[r] * (s->room[r] - di[r] - dj[r]);
        total += own * own * (s->is_whole[r] ? 30.0 : 1.0);
    }
    return total;
}

/* Moves that lose next to nothing bring the rows as near to full as they can, two at a time: the
 * linear program leaves it open which of a split user's sets is taken. */
static void center(State *s, double most)
{
    const double until = 0.85 * s->work;
    for (int turn = 0; turn < 40 && s->work > until; turn++) {
        int64_t at[2] = {0, 0}, n = 1;
        list_least(s, 100);
        while (n < s->n_list && s->m_loss[s->l_move[n]] <= most) n++;
        double least = distance(s, 0, 0) * (1.0 - 1e-9);
        for (int64_t i = 1; i < n; i++)
            for (int64_t j = 0; j < i; j++) {
                if (j && s->m_user[s->l_move[i]] == s->m_user[s->l_move[j]]) continue;
                double to = distance(s, i, j);
                if (to < least) least = to, at[0] = i, at[1] = j;
            }
        s->work -= 0.5 * (double)(n * n * s->n_rows);
        if (!at[0]) return;
        apply(s, at[0]);
        apply(s, at[1]);
    }
}

/* The start, and a place where next to nothing is lost, then the searches. */
static void search(State *s, Aim aim)
{
    Table table = {0};
    Place start = {0}, base = {0}, from = {0};
    int64_t each = s->most_list / 2 < 300 ? s->most_list / 2 : 300;
    int ready = place_new(s, &start) && place_new(s, &base) && place_new(s, &from);
    if (table_new(&table, s->most_list - 1, s) && ready) {
        keep_place(s, &start);
        if (!go_to_best_sets(s)) return_to(s, &start);
        if (can_deepen(s)) center(s, 3e-5 * s->money);
        keep_place(s, &base);
        return_to(s, &start);
        while (total_lack(s) > 0.0 && s->work > 0.0)
            if (!repair_once(s, 60) && !repair_once(s, each)) break;
        if (total_lack(s) == 0.0) {
            fill(s, aim.target);
            if (s->n_offers > 32)
                for (uint64_t n = 0; n < 6 && s->work > 0.0 && s->gap > aim.target; n++)
                    if (!pairs_by_offer(s, aim.target, 160, aim.seed + n)) break;
            meet(s, &table, aim, &base, &start, &from);
        }
    }
    table_free(&table);
    place_free(&start), place_free(&base), place_free(&from);
}

/* Searches from `chosen` (n_pairs, 0 or 1; limits of users kept) with `room` left (n_rows,
 * infinite = no limit, negative = lacking) and `gap` above its value; both and chosen are
 * updated. Stops at gap <= target or when `work` steps are done. Returns steps done, -1 without
 * memory; rows may still lack room. */
double pr_exchange(int64_t n_users, int64_t n_pairs, int64_t n_budgets, int64_t n_offers,
                   int64_t n_floors, int64_t n_nodes, const int64_t *start, const double *value,
                   const double *cost, const int64_t *offer, const double *amount,
                   const int64_t *segment, const int64_t *limit, const int64_t *parent,
                   const int64_t *node, const double *prices, double *room, uint8_t *chosen,
                   double *gap, double target, double wanted, double work, double deep_work,
                   int64_t most_list, uint64_t seed)
{
    State s = {0};
    if (most_list > 4000) most_list = 4000;
    if (most_list < 16) most_list = 16;
    s.n_users = n_users, s.n_pairs = n_pairs, s.n_budgets = n_budgets, s.n_offers = n_offers;
    s.n_floors = n_floors, s.n_nodes = n_nodes, s.start = start, s.value = value, s.cost = cost;
    s.offer = offer, s.amount = amount, s.segment = segment, s.limit = limit;
    s.parent = parent, s.node = node, s.prices = prices, s.room = room, s.chosen = chosen;
    s.gap = *gap, s.work = s.given = work;
    if (!state_new(&s, most_list + 1)) {
        state_free(&s);
        return -1.0;
    }
    for (int64_t p = 0; p < n_pairs; p++) s.score[p] = price_pair(&s, p);
    measure_rows(&s);
    group_pairs(&s);
    search(&s, (Aim){target, wanted, deep_work, seed});
    *gap = s.gap;
    state_free(&s);
    return s.given - s.work;
}
