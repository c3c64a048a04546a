/* What a mechanic takes off, with products in WIDE: mechanics/base.py and units.py. */

static void NAME(share_off)(Work *w, int64_t bp) {
    for (int64_t j = 0; j < w->n_units; j++) {
        Unit *u = &w->units[j];
        WIDE part = (WIDE)bp * u->basis, room = (WIDE)FULL_BP * u->room;
        u->off = part < room ? part : room;
    }
}

static WIDE NAME(spread_off)(Work *w, wide_t amount) {
    int64_t room = 0;
    for (int64_t j = 0; j < w->n_units; j++) room += w->units[j].room * w->units[j].reduced;
    WIDE total = amount < room ? (WIDE)amount : room;
    for (int64_t j = 0; j < w->n_units; j++) w->units[j].off = total * w->units[j].room;
    return room ? room : 1;
}

static int64_t NAME(tiered)(Work *w, const Offer *o, WIDE *den) {
    int64_t reached = 0, n = 0;
    const int64_t *tiers = w->b->tiers + 3 * o->first; /* min, amount or bp, whether bp */
    for (int64_t j = 0; j < w->n_units; j++) {
        const Unit *u = &w->units[j];
        reached += u->quantity * (o->is_quantity ? 1 : o->by_list ? u->list : u->item_price);
    }
    while (n < o->count && tiers[3 * n] <= reached) n++;
    if (!n) return refused(BELOW_THRESHOLD);
    int64_t first = o->is_cumulative ? 0 : n - 1;
    wide_t sum = 0;
    for (int64_t i = first; i < n; i++) sum += tiers[3 * i + 1];
    if (tiers[3 * first + 2]) {
        NAME(share_off)(w, sum < FULL_BP ? (int64_t)sum : FULL_BP);
        *den = FULL_BP;
        return 0;
    }
    if (o->repeat_every >= 0) sum *= 1 + (reached - tiers[3 * first]) / o->repeat_every;
    *den = NAME(spread_off)(w, sum);
    return 0;
}

/* Exact shares of the units, over `den`; 0 or why there are none. */
static int64_t NAME(reward)(Work *w, const Offer *o, WIDE *den) {
    int64_t n = w->n_units, refusal = 0;
    wide_t amount = 0;
    Unit *u = w->units;
    *den = 1;
    if (o->kind == BUNDLE) {
        if ((refusal = bundle(w, o, &amount))) return refusal;
        if (o->bp < 0) { *den = NAME(spread_off)(w, amount); return 0; }
    } else if (o->kind == BUY_GET) {
        if ((refusal = buy_get(w, o))) return refusal;
    } else {
        for (int64_t j = 0; j < n; j++) u[j].reduced = u[j].quantity;
    }
    switch (o->kind) {
    case MESSAGE: return refused(NO_PRICE_CHANGE);
    case TIERED: return NAME(tiered)(w, o, den);
    case FIXED_PRICE:
        for (int64_t j = 0; j < n; j++) u[j].off = least(most(0, u[j].basis - o->price), u[j].room);
        return 0;
    case FREE_SHIPPING: u[0].off = u[0].room; return 0;
    case AMOUNT_OFF:
        if (!o->is_per_unit) { *den = NAME(spread_off)(w, o->amount); return 0; }
        for (int64_t j = 0; j < n; j++) u[j].off = least(o->amount, u[j].room);
        return 0;
    default: NAME(share_off)(w, o->bp); *den = FULL_BP; return 0;
    }
}

/* Largest remainder; `share` and `more` of the units, and the sum: money.allocate. */
static int64_t NAME(allocate)(Work *w, WIDE den, int64_t limit) {
    WIDE exact = 0;
    int64_t n = w->n_units, left;
    Unit *u = w->units;
    for (int64_t j = 0; j < n; j++) exact += (WIDE)u[j].off * u[j].reduced;
    WIDE total = (2 * exact + den - 1) / (2 * den);
    if (limit >= 0 && total > limit) {
        for (int64_t j = 0; j < n; j++) u[j].off = (WIDE)limit * (WIDE)u[j].off;
        den = exact;
        total = limit;
    }
    left = (int64_t)total;
    for (int64_t j = 0; j < n; j++) {
        u[j].more = 0;
        if (!u[j].reduced) continue;
        WIDE off = (WIDE)u[j].off, share = off / den;
        u[j].share = (int64_t)share;
        u[j].rest = off - share * den;
        left -= u[j].share * u[j].reduced;
    }
    if (!left) return (int64_t)total;
    int64_t m = 0;
    for (int64_t j = 0; j < n; j++)
        if (u[j].reduced) w->ranks[m++] = (Rank){-u[j].rest, j};
    if (m > 1) rank(w->ranks, m);
    for (int64_t k = 0; left; k++) {
        Unit *x = &u[w->ranks[k].index];
        x->more = least(left, x->reduced);
        left -= x->more;
    }
    return (int64_t)total;
}

/* New runs in place of those that the offer touched: units.reduced. */
static void NAME(apply)(Work *w, const Offer *o) {
    int marks = TOUCHED | (o->is_stop ? STOPPED : 0) | (keeps_units(o) ? CLOSED_UNIT : 0);
    int is_ship = o->layer == SHIPPING;
    int64_t n = 0, done = 0, n_runs = is_ship ? 1 : w->n_runs;
    if (!ensure_runs(w, 4 * n_runs + 16)) { w->is_out_of_memory = 1; return; }
    Run *before = is_ship ? &w->ship : w->runs, *after = w->after;
    for (int64_t j = 0; j < w->n_units; j++) {
        const Unit *u = &w->units[j];
        while (done < u->where) after[n++] = before[done++];
        Run r = before[done++];
        int64_t off[2] = {u->share + 1, u->share}, count[2] = {u->more, u->reduced - u->more};
        int64_t rest = r.quantity - u->reduced - u->used;
        for (int k = 0; k < 2; k++) {
            if (!count[k]) continue;
            Run x = r;
            x.quantity = count[k];
            x.price -= off[k];
            if (o->layer == ITEM) x.item_price = x.price;
            if (off[k]) x.taken = remember(w, r.taken, o->column, off[k]);
            x.marks |= marks;
            after[n++] = x;
        }
        if (u->used) {
            after[n] = r;
            after[n].quantity = u->used;
            after[n++].marks |= marks;
        }
        if (rest) {
            after[n] = r;
            after[n++].quantity = rest;
        }
    }
    while (done < n_runs) after[n++] = before[done++];
    if (is_ship) { w->ship = after[0]; return; }
    w->after = w->runs;
    w->runs = after;
    w->n_runs = n;
}

/* Saving, or why there is none; `is_final` also takes it off. */
static int64_t NAME(attempt)(Work *w, const Offer *o, int is_final) {
    int64_t refusal = not_allowed(w, o);
    if (refusal) return refusal;
    int is_ship = o->layer == SHIPPING;
    if (is_ship && w->ship_list < 0) return refused(NO_SHIPPING);
    refusal = open_units(w, o, is_ship ? &w->ship : w->runs, is_ship ? 1 : w->n_runs);
    if (refusal) return refusal;
    if (o->kind == FREE_SHIPPING && !w->fits_method[o->column]) return refused(WRONG_METHOD);
    WIDE den;
    if ((refusal = NAME(reward)(w, o, &den))) return refusal;
    int64_t limit = tighter(o->limit, o->per_order);
    limit = tighter(limit, tighter(w->user_left[o->column], w->budget_left[o->column]));
    int64_t saving = NAME(allocate)(w, den, limit);
    if (!saving) return refused(NOTHING_LEFT);
    if (is_final) NAME(apply)(w, o);
    return saving;
}
