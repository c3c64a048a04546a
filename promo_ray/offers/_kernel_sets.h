/* Whole sets out of units that may fit several slots: mechanics/matching.py. The units of a run are
   `quantity`, what a run fits are the bits of `fits`, the units placed come out in `reduced`. */

static int64_t path_to_free(Work *w, const int64_t *free_units, int64_t n_slots, int64_t start,
                            int64_t *movers, int64_t *leaves, int64_t *slots) {
    int64_t came_run[MAX_SLOTS], came_from[MAX_SLOTS], *queue = w->queue, head = 0, tail = 1;
    uint64_t seen = 0;
    queue[0] = start, queue[1] = -1;
    for (; head < tail; head++) {
        int64_t run = queue[2 * head], from = queue[2 * head + 1];
        for (int64_t s = 0; s < n_slots; s++) {
            if (!(w->units[run].fits >> s & 1) || seen >> s & 1) continue;
            seen |= (uint64_t)1 << s;
            came_run[s] = run, came_from[s] = from;
            if (free_units[s] > 0) {
                int64_t length = 0;
                for (int64_t at = s; at >= 0; at = came_from[at], length++)
                    movers[length] = came_run[at], leaves[length] = came_from[at], slots[length] = at;
                return length; /* last step first */
            }
            for (int64_t j = 0; j < w->n_units; j++)
                if (w->placed[j * n_slots + s] > 0) queue[2 * tail] = j, queue[2 * tail++ + 1] = s;
        }
    }
    return 0;
}

/* Place units in `times` sets in the order of ranks (NULL = of runs); returns how many. */
static int64_t fill(Work *w, const int64_t *slots, int64_t n_slots, const Rank *order, int64_t times,
                    int is_disjoint) {
    int64_t free_units[MAX_SLOTS], movers[MAX_SLOTS], leaves[MAX_SLOTS], to[MAX_SLOTS], all = 0;
    int64_t *placed = w->placed;
    for (int64_t s = 0; s < n_slots; s++) free_units[s] = slots[2 * s + 1] * times;
    memset(placed, 0, (size_t)(w->n_units * n_slots) * 8);
    for (int64_t k = 0; k < w->n_units; k++) {
        int64_t i = order ? order[k].index : k, left = w->units[i].quantity;
        for (uint64_t fits = w->units[i].fits; fits && left; fits &= fits - 1) {
            int s = __builtin_ctzll(fits);
            int64_t n = least(left, free_units[s]);
            placed[i * n_slots + s] += n;
            free_units[s] -= n;
            left -= n;
        }
        while (left && !is_disjoint) {
            int64_t length = path_to_free(w, free_units, n_slots, i, movers, leaves, to);
            if (!length) break;
            int64_t n = least(left, free_units[to[0]]);
            for (int64_t p = 0; p < length - 1; p++)
                n = least(n, placed[movers[p] * n_slots + leaves[p]]);
            for (int64_t p = 0; p < length; p++) {
                placed[movers[p] * n_slots + to[p]] += n;
                if (leaves[p] >= 0) placed[movers[p] * n_slots + leaves[p]] -= n;
            }
            free_units[to[0]] -= n;
            left -= n;
        }
    }
    for (int64_t i = 0; i < w->n_units; i++) {
        int64_t sum = 0;
        for (int64_t s = 0; s < n_slots; s++) sum += placed[i * n_slots + s];
        w->units[i].reduced = sum;
        all += sum;
    }
    return all;
}

static int64_t most_sets(Work *w, const int64_t *slots, int64_t n_slots, int is_disjoint) {
    int64_t in_set = 0, useful = 0, low = 0, high = INT64_MAX;
    for (int64_t s = 0; s < n_slots; s++) {
        int64_t n = 0;
        in_set += slots[2 * s + 1];
        for (int64_t i = 0; i < w->n_units; i++)
            n += w->units[i].fits >> s & 1 ? w->units[i].quantity : 0;
        high = least(high, n / slots[2 * s + 1]);
    }
    for (int64_t i = 0; i < w->n_units; i++) useful += w->units[i].fits ? w->units[i].quantity : 0;
    high = least(high, useful / in_set);
    if (is_disjoint) return high;
    for (int64_t times = high; low < high; times = (low + high + 1) / 2) {
        if (fill(w, slots, n_slots, NULL, times, 0) == times * in_set) low = times;
        else high = times - 1;
    }
    return low;
}

/* Saving of `times` of the dearest sets at a price each; mechanics/product_bundle.py. */
static wide_t sets_saving(Work *w, const Offer *o, int64_t times, int is_disjoint) {
    wide_t total = -(wide_t)times * most(o->price, 0);
    fill(w, w->b->slots + 2 * o->first, o->count, w->ranks, times, is_disjoint);
    for (int64_t i = 0; i < w->n_units; i++) total += (wide_t)w->units[i].reduced * w->units[i].basis;
    return total;
}

/* Units of whole bundles in `reduced`; minor units off in `amount` unless by share. */
static int64_t bundle(Work *w, const Offer *o, wide_t *amount) {
    const int64_t *slots = w->b->slots + 2 * o->first;
    int is_disjoint = 1;
    if (!ensure_sets(w, w->n_units * o->count)) { w->is_out_of_memory = 1; return refused(CLOSED); }
    for (int64_t i = 0; i < w->n_units; i++) {
        uint64_t fits = 0;
        for (int64_t s = 0; s < o->count; s++)
            fits |= (uint64_t)covers(w, slots[2 * s], w->runs[w->units[i].where].item) << s;
        w->units[i].fits = fits;
        is_disjoint &= !(fits & (fits - 1));
    }
    int64_t times = most_sets(w, slots, o->count, is_disjoint);
    if (o->max_times >= 0) times = least(times, o->max_times);
    if (!times) return refused(BUNDLE_INCOMPLETE);
    for (int64_t i = 0; i < w->n_units; i++) w->ranks[i] = (Rank){-w->units[i].basis, i};
    rank(w->ranks, w->n_units);
    *amount = (wide_t)times * most(o->amount, 0);
    if (o->price >= 0) {
        int64_t low = 0, high = times;
        while (low < high) {
            int64_t middle = (low + high) / 2;
            wide_t more = sets_saving(w, o, middle + 1, is_disjoint);
            if (more > sets_saving(w, o, middle, is_disjoint)) low = middle + 1;
            else high = middle;
        }
        if (!low) return refused(NOTHING_LEFT);
        times = low;
        *amount = sets_saving(w, o, times, is_disjoint);
    } else {
        fill(w, slots, o->count, w->ranks, times, is_disjoint);
    }
    return 0;
}
