/* Users with several offers: laminar limits. Node 0 is the root; parents come before children.
   The greedy by falling score is exact (a laminar family is a matroid). Part of _kernel.c. */

static inline int32_t node_of(const Users *b, int64_t i, int32_t j) {
    return b->group_of_offer[b->offer ? b->offer[i * b->m + j] : j];
}
static inline int has_room(const Users *b, const int32_t *count, int32_t g) {
    for (; g >= 0; g = b->group_parent[g])
        if (count[g] >= b->group_limit[g]) return 0;
    return 1;
}

/* Marks the chosen slots in t->order (first n) and counts nodes; returns their number. */
static int32_t greedy(const Users *b, Scratch *t, int64_t i, const double *s, double bonus) {
    const int32_t m = b->m;
    int32_t *order = t->order + m, n = 0;
    for (int32_t j = 0; j < m; j++) { /* stable insertion sort by falling score */
        int32_t at = j;
        while (at > 0 && s[order[at - 1]] < s[j]) { order[at] = order[at - 1]; at--; }
        order[at] = j;
    }
    memset(t->count, 0, sizeof(int32_t) * (size_t)b->n_groups);
    for (int32_t o = 0; o < m; o++) {
        const int32_t j = order[o];
        if (!(s[j] + (n ? 0.0 : bonus) > 0.0)) break;
        if (!has_room(b, t->count, node_of(b, i, j))) continue;
        t->order[n++] = j;
        for (int32_t g = node_of(b, i, j); g >= 0; g = b->group_parent[g]) t->count[g]++;
    }
    return n;
}

/* Least loss by another set than the chosen one: a drop, an addition or a replacement. */
static double loss_of_other(const Users *b, Scratch *t, int64_t i, const double *s, double bonus,
                            int32_t n) {
    double loss = INFINITY;
    for (int32_t c = 0; c < n; c++) {
        const double drop = s[t->order[c]] + (n == 1 ? bonus : 0.0);
        if (drop < loss) loss = drop;
    }
    for (int32_t j = 0; j < b->m; j++) {
        if (s[j] == -INFINITY) continue;
        int32_t is_taken = 0, block = -1, is_closed = 0;
        for (int32_t c = 0; c < n; c++) is_taken |= t->order[c] == j;
        if (is_taken) continue;
        for (int32_t g = node_of(b, i, j); g >= 0; g = b->group_parent[g]) {
            is_closed |= b->group_limit[g] <= 0;
            if (block < 0 && t->count[g] >= b->group_limit[g]) block = g;
        }
        if (is_closed) continue;
        if (block < 0) {
            const double add = -s[j] - (n ? 0.0 : bonus);
            if (add < loss) loss = add;
        }
        for (int32_t c = 0; c < n; c++) {
            int32_t g = node_of(b, i, t->order[c]);
            while (g >= 0 && block >= 0 && g != block) g = b->group_parent[g];
            if (block >= 0 && g < 0) continue;
            if (s[t->order[c]] - s[j] < loss) loss = s[t->order[c]] - s[j];
        }
    }
    return loss;
}

static void many_best(const Users *b, Scratch *t, int64_t a, int64_t c) {
    for (int64_t u = 0; u < c; u++) {
        const double *s = t->s + u * b->m;
        const int32_t n = greedy(b, t, a + u, s, t->bonus[u]);
        double best = n ? t->bonus[u] : 0.0;
        for (int32_t d = 0; d < n; d++) best += s[t->order[d]];
        t->best[u] = best;
        t->second[u] = best - loss_of_other(b, t, a + u, s, t->bonus[u], n);
    }
}

static int32_t choose_many(const Users *b, Scratch *t, int64_t i, const double *s, double bonus,
                           int32_t *own, double *gap) {
    const int32_t n = greedy(b, t, i, s, bonus);
    *gap = loss_of_other(b, t, i, s, bonus, n);
    for (int32_t d = 0; d < b->q; d++) own[d] = d < n ? t->order[d] : -1;
    return n;
}

/* A decided user: value and use of the greedy choice. */
static void add_many(const Users *b, const Sums *out, Scratch *t, int64_t i, double w,
                     const double *s, double bonus) {
    const int32_t n = greedy(b, t, i, s, bonus);
    for (int32_t d = 0; d < n; d++) {
        const int64_t p = i * b->m + t->order[d];
        add_wide(out->wide + 4, fixed(w * (double)b->value[p] * out->value_unit));
        for (int32_t k = 0; k < b->k; k++)
            add_wide(out->wide + 6 + 2 * k,
                     fixed(w * (double)b->costs[k * b->cost_stride + p] * out->unit[k]));
        if (b->n_offers) {
            const int32_t row = b->k + (b->offer ? b->offer[p] : t->order[d]);
            add_wide(out->wide + 6 + 2 * row,
                     fixed(w * (b->amount ? (double)b->amount[p] : 1.0) * out->unit[row]));
        }
    }
    if (n && b->segment && b->n_segments && b->segment[i] >= 0) {
        const int32_t row = b->k + b->n_offers + b->segment[i];
        add_wide(out->wide + 6 + 2 * row, fixed(-w * out->unit[row]));
    }
}

/* Binary entropy under the laminar limits: x_j = 1 / (1 + exp((theta_j - s_j) / tau)), theta_j
   the sum of the multipliers theta_g >= 0 of the nodes above j; coordinate ascent on them.
   A user whom a floor's price serves and who has no slot of positive score takes one: softmax. */
static double soften_many(const Users *b, Scratch *t, int64_t i, double tau, double bonus, double *y) {
    const int32_t m = b->m, n_nodes = b->n_groups;
    double top = -INFINITY, smooth = bonus, none = 1.0;
    for (int32_t j = 0; j < m; j++) {
        for (int32_t g = node_of(b, i, j); g >= 0; g = b->group_parent[g])
            if (b->group_limit[g] <= 0) t->told[j] = -INFINITY;
        if (t->told[j] > top) top = t->told[j];
    }
    t->is_single = bonus > 0.0 && top <= WINDOW * tau;
    if (t->is_single) return soften(b, t, tau, bonus, y);
    for (int32_t g = 0; g < n_nodes; g++) t->theta[g] = 0.0;
    for (int sweep = 0; sweep < 8; sweep++) {
        double change = 0.0;
        for (int32_t g = n_nodes - 1; g >= 0; g--) {
            double low = 0.0, high = 0.0, at = 0.0;
            for (int step = 0; step < 60; step++) {
                double sum = -(double)b->group_limit[g], slope = 0.0;
                for (int32_t j = 0; j < m; j++) {
                    double theta = at;
                    int32_t is_member = 0;
                    for (int32_t h = node_of(b, i, j); h >= 0; h = b->group_parent[h]) {
                        if (h == g) is_member = 1;
                        else theta += t->theta[h];
                    }
                    if (!is_member || t->told[j] == -INFINITY) continue;
                    const double x = share_of((t->told[j] - theta) / tau);
                    sum += x;
                    slope += x * (1.0 - x) / tau;
                    if (step == 0 && t->told[j] + WINDOW * tau > high) high = t->told[j] + WINDOW * tau;
                }
                if (step == 0 && sum <= 0.0) break;
                if (sum > 0.0) low = at; else high = at;
                if (fabs(sum) < 1e-12 || high - low < 1e-15 * high) break;
                double next = slope > 0.0 ? at + sum / slope : high;
                at = next > low && next < high ? next : 0.5 * (low + high);
            }
            change += fabs(at - t->theta[g]);
            t->theta[g] = at;
        }
        if (change < 1e-12 * tau || n_nodes == 1) break;
    }
    for (int32_t g = 0; g < n_nodes; g++) smooth += t->theta[g] * (double)b->group_limit[g];
    for (int32_t j = 0; j < m; j++) {
        double theta = 0.0;
        for (int32_t g = node_of(b, i, j); g >= 0; g = b->group_parent[g]) theta += t->theta[g];
        const double z = (t->told[j] - theta) / tau;
        t->x[j] = z < -WINDOW ? 0.0 : share_of(z);
        t->rest[j] = t->x[j] * (1.0 - t->x[j]);
        smooth += (z > 0.0 ? z * tau : 0.0) +
                  (z > -WINDOW && z < WINDOW ? tau * log_of(1.0 + exp_of(z > 0.0 ? -z : z)) : 0.0);
        none *= 1.0 - t->x[j];
    }
    if (bonus > 0.0) none = 0.0;
    for (int32_t j = 0; j < m; j++)
        t->floor[j] = t->x[j] < 1.0 ? none / (1.0 - t->x[j]) : 0.0;
    *y = 1.0 - none;
    return smooth;
}

/* Takes the directions that binding nodes forbid out of h: h - W' M^-1 W over those nodes. */
static void project_out(const Users *b, Scratch *t, int64_t i, int32_t n_rows, const int32_t *slot_row,
                        int has_floor, double *h) {
    const int32_t n_nodes = b->n_groups, m = b->m, k = b->k;
    double *w = t->bind, *mass = t->bind + (size_t)n_nodes * (size_t)(k + m + 1);
    memset(w, 0, sizeof(double) * (size_t)n_nodes * (size_t)(k + m + 1));
    memset(mass, 0, sizeof(double) * (size_t)(n_nodes * n_nodes));
    for (int32_t j = 0; j < m; j++) {
        const double d = t->rest[j];
        if (d <= 0.0) continue;
        for (int32_t g = node_of(b, i, j); g >= 0; g = b->group_parent[g]) {
            if (t->theta[g] <= 0.0) continue;
            double *own = w + g * n_rows;
            for (int32_t r = 0; r < k; r++)
                own[r] += d * (double)b->costs[r * b->cost_stride + i * m + j];
            if (b->n_offers) own[slot_row[j]] += d * (b->amount ? (double)b->amount[i * m + j] : 1.0);
            if (has_floor) own[n_rows - 1] -= d * t->floor[j];
            for (int32_t o = g; o >= 0; o = b->group_parent[o])
                if (t->theta[o] > 0.0) {
                    mass[g * n_nodes + o] += d;
                    if (o != g) mass[o * n_nodes + g] += d;
                }
        }
    }
    for (int32_t g = 0; g < n_nodes; g++) {
        const double pivot = mass[g * n_nodes + g];
        if (t->theta[g] <= 0.0 || pivot <= 1e-12) continue;
        for (int32_t r = 0; r < n_rows; r++)
            for (int32_t o = r; o < n_rows; o++)
                h[r * n_rows + o] -= w[g * n_rows + r] * w[g * n_rows + o] / pivot;
        for (int32_t o = g + 1; o < n_nodes; o++) {
            const double f = mass[o * n_nodes + g] / pivot;
            if (f == 0.0) continue;
            for (int32_t r = 0; r < n_rows; r++) w[o * n_rows + r] -= f * w[g * n_rows + r];
            for (int32_t p = 0; p < n_nodes; p++) mass[o * n_nodes + p] -= f * mass[g * n_nodes + p];
        }
    }
}
