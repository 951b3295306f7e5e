/* The transient law of reference.py, W corners side by side: arrays are [element][W], the corners innermost.

   Built once for W = 1 and once for W = LANES by native.py; kernel.py is the same in numba, for machines without a
   compiler. Order of a step: docs/sfq.md 2.2. */

#include <math.h>
#include <stdint.h>

#ifndef W
#define W 1
#endif
#define LANE for (int w = 0; w < W; w++)
#define AT(x, k) ((x) + (int64_t)(k) * W)

/* Where it is hot, corners go by vectors of 8: a loop over W doubles is unrolled into scalars before it is vectorised. */
#if W % 8 == 0
#define NV (W / 8)
typedef double vec __attribute__((vector_size(64), aligned(8), may_alias));
typedef int64_t mask __attribute__((vector_size(64), aligned(8), may_alias));
static inline int any(mask m) { return (m[0] | m[1] | m[2] | m[3] | m[4] | m[5] | m[6] | m[7]) != 0; }
#elif W == 1
#define NV 1
typedef double vec;
typedef int64_t mask;
static inline int any(mask m) { return m != 0; }
#else
#error "W is 1 or a multiple of 8"
#endif
#define VEC for (int v = 0; v < NV; v++)
#define VAT(x, k) ((vec *)(x) + (int64_t)(k) * NV)

typedef const int32_t *restrict Index;
typedef const double *restrict Number;
typedef double *restrict Out;

/* Fields in the order of native.FIELDS. */
typedef struct {
    /* sizes */
    int64_t n, places, mr, mc, mj, mt, mf, me, mo, mb, mfold, mneed, mtouch, mterm, mrow, depth, width_nodes, width_jj,
        width_edges, plain, harmonics, corrector, account, need_edges, pairs;
    /* places of elements */
    Index row, ra, rb, ca, cb, ja, jb, ta, tb, fa, fb, fwave, ep, ec, ephase, ewave, oa, ob;
    /* the factored matrix */
    Index start, rows, targets, first, slots, pair_column, pair_row, pair_at, fold_row, fold_j, need_i, need_j, touch;
    /* border: terms of B (place, unknown) and of C (unknown, place); row_past is 1 where C acts on the past */
    Index bplace, bcol, crow, cplace, row_past;
    Index watch_nodes, watch_jj, watch_edges, rtype;
    Number rg, cg, jg, jcond, jit, jamp, c_2h, c_h2, v_low, v_high, phi, cpr, gap, transparency, tg, t_frac;
    Index t_steps;
    Number fscale, esign, escale, base, fold_value, need_value, bvalue, cvalue, z, sinv;
    /* state */
    double *f, *jp, *jv, *turns, *tw, *source, *last_fp, *last_fi, *last_si, *work;
    int64_t *region, *slips, *tripped;
    /* work space */
    double *factors, *b, *b0, *q, *qc, *s, *need, *sv, *w0, *w1, *w2, *w3, *w4, *w5, *y, *tline, *bwork, *pair_l;
    int64_t *stale, *head;
    double h, guard, sigma;
    double *v[3], *jp_next; /* the voltages in order of age */
} Sys;

typedef struct {
    int32_t *jj, *lane, *turns;
    double *time;
    int64_t capacity, filled;
} Events;

enum { DONE, STEP_TOO_LARGE, NOT_SPD };

#define SIGMA (y->sigma)
int64_t kernel_width(void) { return W; }
int64_t kernel_size(void) { return (int64_t)sizeof(Sys); }

/* sin(x) below 1e8 rad to 1e-15: reduced by pi in two parts, Taylor to the 19th power; no branch. */
static inline vec sine(vec x) {
    const double big = 6755399441055744.0;
    vec turns = (x * 0.31830988618379067154 + big) - big;
    vec r = (x - turns * 3.1415926218032837) - turns * 3.178650954705639e-08;
    vec z = r * r, p = z * (-1.0 / 121645100408832000.0) + 1.0 / 355687428096000.0;
    p = p * z - 1.0 / 1307674368000.0;
    p = p * z + 1.0 / 6227020800.0;
    p = p * z - 1.0 / 39916800.0;
    p = p * z + 1.0 / 362880.0;
    p = p * z - 1.0 / 5040.0;
    p = p * z + 1.0 / 120.0;
    p = p * z - 1.0 / 6.0;
    vec half = turns * 0.5, odd = half - ((half + big) - big);
    return (1.0 - 8.0 * odd * odd) * (r + r * z * p);
}

static void supercurrent(const Sys *y, Number x, Out out) {
    if (y->plain) {
        const vec *restrict angle = (const vec *)x, *restrict amp = (const vec *)y->jamp;
        vec *restrict to = (vec *)out;
        const int64_t m = y->mj * NV;
        for (int64_t k = 0; k < m; k++) to[k] = amp[k] * sine(angle[k]);
        return;
    }
    for (int64_t k = 0; k < y->mj; k++) LANE {
        double wave = 0.0, half = 0.0, angle = x[k * W + w];
        for (int64_t i = 0; i < y->harmonics; i++) {
            double a = y->cpr[k * y->harmonics + i];
            wave += a * sin((double)(i + 1) * angle);
            half += a * sin((double)(i + 1) * 0.5 * angle);
        }
        if (y->gap[k] > 0) {
            double root = sqrt(1.0 - y->transparency[k] * half * half);
            wave *= tanh(root * y->gap[k]) / root;
        }
        out[k * W + w] = y->jamp[k * W + w] * wave;
    }
}

/* L D L^T of the base values plus the junctions; 1/D and L into factors. */
static int factor(const Sys *y) {
    int64_t n = y->n, total = n + y->start[n] + 1;
    double *v = y->factors;
    for (int64_t k = 0; k < total * W; k++) v[k] = y->base[k];
    for (int64_t k = 0; k < y->mj; k++) LANE {
        double g = y->jg[(y->region[k * W + w] * y->mj + k) * W + w];
        v[(int64_t)y->slots[k] * W + w] += g;
        v[(int64_t)y->slots[y->mj + k] * W + w] += g;
        v[(int64_t)y->slots[2 * y->mj + k] * W + w] -= g;
    }
    for (int64_t k = 0; k < n; k++) {
        double d[W];
        LANE { if (!(v[k * W + w] > 0.0)) return 1; }
        LANE d[w] = 1.0 / v[k * W + w];
        int64_t at = y->first[k], end = n + y->start[k + 1];
        for (int64_t p = n + y->start[k]; p < end; p++) {
            double scaled[W];
            LANE scaled[w] = v[p * W + w] * d[w];
            for (int64_t q = p; q < end; q++, at++) {
                double *t = AT(v, y->targets[at]);
                const double *u = AT(v, q);
                LANE t[w] -= scaled[w] * u[w];
            }
            LANE v[p * W + w] = scaled[w];
        }
        LANE v[k * W + w] = d[w];
    }
    return 0;
}

#if W == 1
/* Columns cut into pairs of rows, a lone one filled up with the column itself and 0: no inner loop to mispredict. */
static void pack(const Sys *y) {
    const double *lower = y->factors + y->n;
    for (int64_t k = 0; k < 2 * y->pairs; k++) y->pair_l[k] = y->pair_at[k] < 0 ? 0.0 : lower[y->pair_at[k]];
}

static void forward(const Sys *y, double *x) {
    Index column = y->pair_column, row = y->pair_row;
    const double *l = y->pair_l;
    for (int64_t k = 0; k < y->pairs; k++) {
        double t = x[column[k]];
        x[row[2 * k]] -= l[2 * k] * t;
        x[row[2 * k + 1]] -= l[2 * k + 1] * t;
    }
}

static void backward(const Sys *y, Number x, double *restrict out) {
    Index column = y->pair_column, row = y->pair_row;
    const double *restrict l = y->pair_l, *restrict d = y->factors;
    for (int64_t k = 0; k < y->n; k++) out[k] = x[k] * d[k];
    for (int64_t k = y->pairs - 1; k >= 0; k--)
        out[column[k]] -= l[2 * k] * out[row[2 * k]] + l[2 * k + 1] * out[row[2 * k + 1]];
}
#else
static void pack(const Sys *y) { (void)y; }

static void forward(const Sys *y, double *x) {
    int64_t n = y->n;
    Index start = y->start, rows = y->rows;
    const double *lower = AT(y->factors, n);
    for (int64_t k = 0; k < n; k++) {
        vec t[NV];
        VEC t[v] = VAT(x, k)[v];
        for (int64_t p = start[k]; p < start[k + 1]; p++) {
            vec *o = VAT(x, rows[p]), *l = VAT(lower, p);
            VEC o[v] -= l[v] * t[v];
        }
    }
}

static void backward(const Sys *y, const double *x, double *out) {
    int64_t n = y->n;
    Index start = y->start, rows = y->rows;
    const double *lower = AT(y->factors, n), *d = y->factors;
    for (int64_t k = n - 1; k >= 0; k--) {
        vec t[NV];
        VEC t[v] = VAT(x, k)[v] * VAT(d, k)[v];
        for (int64_t p = start[k]; p < start[k + 1]; p++) {
            vec *o = VAT(out, rows[p]), *l = VAT(lower, p);
            VEC t[v] -= l[v] * o[v];
        }
        VEC VAT(out, k)[v] = t[v];
    }
}
#endif

/* Z = A^-1 B and the inverse of S = D - C Z, for the border; sinv holds D on entry of a refactorisation in base_d. */
static int border(const Sys *y, double *z, double *sinv, Number d) {
    int64_t n = y->n, m = y->mb;
    for (int64_t col = 0; col < m; col++) {
        double *x = y->b0;
        for (int64_t k = 0; k < n * W; k++) x[k] = 0.0;
        for (int64_t t = 0; t < y->mterm; t++)
            if (y->bcol[t] == col && y->row[y->bplace[t]] < n) LANE x[(int64_t)y->row[y->bplace[t]] * W + w] += y->bvalue[t];
        forward(y, x);
        backward(y, x, AT(z, col * n));
    }
    double *a = y->bwork;
    LANE {
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < m; j++) a[i * 2 * m + j] = d[i * m + j];
            for (int64_t j = 0; j < m; j++) a[i * 2 * m + m + j] = i == j;
        }
        for (int64_t t = 0; t < y->mrow; t++) {
            int64_t r = y->row[y->cplace[t]];
            if (r < n)
                for (int64_t j = 0; j < m; j++) a[y->crow[t] * 2 * m + j] -= y->cvalue[t] * z[((j * n) + r) * W + w];
        }
        for (int64_t i = 0; i < m; i++) {
            int64_t best = i;
            for (int64_t r = i + 1; r < m; r++)
                if (fabs(a[r * 2 * m + i]) > fabs(a[best * 2 * m + i])) best = r;
            if (!(fabs(a[best * 2 * m + i]) > 0.0)) return 1;
            for (int64_t j = 0; j < 2 * m; j++) {
                double t = a[i * 2 * m + j];
                a[i * 2 * m + j] = a[best * 2 * m + j];
                a[best * 2 * m + j] = t;
            }
            double inv = 1.0 / a[i * 2 * m + i];
            for (int64_t j = 0; j < 2 * m; j++) a[i * 2 * m + j] *= inv;
            for (int64_t r = 0; r < m; r++)
                if (r != i) {
                    double u = a[r * 2 * m + i];
                    for (int64_t j = 0; j < 2 * m; j++) a[r * 2 * m + j] -= u * a[i * 2 * m + j];
                }
        }
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < m; j++) sinv[(i * m + j) * W + w] = a[i * 2 * m + m + j];
    }
    return 0;
}

/* What the past of the nodes is: q for one derivative, qc for two. Newest phases at hist[head]. */
static void past(const Sys *y, const double *f0, const double *f1, const double *f2, const double *f3) {
    Out q = y->q;
    int64_t m = y->places * W;
    for (int64_t k = 0; k < m; k++) q[k] = (4.0 / 3.0) * f0[k] - (1.0 / 3.0) * f1[k];
    if (y->mc) {
        Out qc = y->qc;
        for (int64_t k = 0; k < m; k++)
            qc[k] = (8.0 / 3.0) * f0[k] - (22.0 / 9.0) * f1[k] + (8.0 / 9.0) * f2[k] - (1.0 / 9.0) * f3[k];
    }
}

/* w0 past, w1 predicted voltage, w2 phi0 - PHI. Returns whether a corner broke the guard; those are in tripped. */
static int predict(const Sys *y, int guard) {
    const double c = 2.0 * y->h / (3.0 * SIGMA), limit = guard ? y->guard : INFINITY;
    int64_t m = y->mj * W;
    for (int64_t k = 0; k < y->mj; k++) {
        vec *a = VAT(y->q, y->ja[k]), *b = VAT(y->q, y->jb[k]), *out = VAT(y->w0, k);
        VEC out[v] = a[v] - b[v];
    }
    Number v1 = y->v[0], v2 = y->v[1], v3 = y->v[2], jp = y->jp, phi = y->phi, w0 = y->w0;
    double *restrict w1 = y->w1, *restrict w2 = y->w2;
    int64_t broken = 0;
    for (int64_t k = 0; k < m; k++) {
        double v0 = 2.5 * v1[k] - 2.0 * v2[k] + 0.5 * v3[k], phi0 = w0[k] + c * v0;
        w1[k] = v0;
        w2[k] = phi0 - phi[k];
        broken |= fabs(phi0 - jp[k]) > limit;
    }
    if (broken)
        for (int64_t k = 0; k < m; k++)
            if (fabs(w2[k] + phi[k] - jp[k]) > limit) y->tripped[k % W] = 1;
    return broken != 0;
}

static void regions(const Sys *y) {
    int64_t m = y->mj * W, live = 0;
    const double *v = y->w1;
    Number low = y->v_low;
    double *it = y->w4;
    for (int64_t k = 0; k < m; k++) live |= fabs(v[k]) >= low[k];
    if (!live && !*y->head) return; /* head[0]: whether any corner was above the gap the step before */
    int64_t above = 0;
    for (int64_t k = 0; k < m; k++) {
        int64_t j = k / W, region = 0;
        double u = fabs(v[k]);
        it[k] = 0.0;
        if (u >= low[k]) {
            region = u < y->v_high[j] ? 1 : 2;
            if (region == 1) it[k] = v[k] < 0 ? -y->jit[k] : y->jit[k];
        }
        if (region != y->region[k]) {
            y->region[k] = region;
            *y->stale = 1;
        }
        above |= region;
    }
    *y->head = above;
}

static void scatter(Index ia, Index ib, int64_t m, const double *g, const double *q, double *b) {
    for (int64_t k = 0; k < m; k++) {
        vec *qa = VAT(q, ia[k]), *qb = VAT(q, ib[k]), *gk = VAT(g, k), *ba = VAT(b, ia[k]), *bb = VAT(b, ib[k]), i[NV];
        VEC i[v] = gk[v] * (qa[v] - qb[v]);
        VEC ba[v] += i[v];
        VEC bb[v] -= i[v];
    }
}

#if W > 1
/* predict, supercurrent and the junctions' part of gather in one pass, for sines below the gap. Returns 0 where that
   is not so, or where a corner breaks the guard: then the passes apart do the step. */
static int junctions(const Sys *y, int guard) {
    const double c = 2.0 * y->h / (3.0 * SIGMA);
    double *b = y->b;
    vec limit[NV];
    LANE((double *)limit)[w] = guard && !y->tripped[w] ? y->guard : INFINITY;
    mask odd = {0};
    for (int64_t k = 0; k < y->mj; k++) {
        vec *qa = VAT(y->q, y->ja[k]), *qb = VAT(y->q, y->jb[k]), *ba = VAT(b, y->ja[k]), *bb = VAT(b, y->jb[k]), i[NV];
        vec *v1 = VAT(y->v[0], k), *v2 = VAT(y->v[1], k), *v3 = VAT(y->v[2], k), *jp = VAT(y->jp, k), *g = VAT(y->jg, k);
        vec *amp = VAT(y->jamp, k), *c1 = VAT(y->c_2h, k), *c2 = VAT(y->c_h2, k);
        const double phi = y->phi[k * W], low = y->v_low[k * W];
        VEC {
            vec old = qa[v] - qb[v], v0 = 2.5 * v1[v] - 2.0 * v2[v] + 0.5 * v3[v], phi0 = old + c * v0, d = phi0 - jp[v];
            odd |= (d > limit[v]) | (d < -limit[v]) | (v0 >= low) | (v0 <= -low);
            i[v] = g[v] * old - (amp[v] * sine(phi0 - phi) - c1[v] * v1[v] + c2[v] * v2[v]);
        }
        VEC ba[v] += i[v];
        VEC bb[v] -= i[v];
    }
    return !any(odd);
}
#else
static int junctions(const Sys *y, int guard) {
    (void)y;
    return guard & 0;
}
#endif

/* Node currents of the past of every branch and of the current sources; of junctions unless that is done. */
static void gather(const Sys *y, const double *drive, int64_t steps, int64_t i, const double *own, int64_t count, int done) {
    double *b = y->b;
    int64_t mw = y->mj * W;
    if (!done) {
        Number v1 = y->v[0], v2 = y->v[1], c1 = y->c_2h, c2 = y->c_h2, w4 = y->w4;
        double *restrict w3 = y->w3;
        for (int64_t k = 0; k < mw; k++) w3[k] += w4[k] - c1[k] * v1[k] + c2[k] * v2[k];
    }
    for (int64_t k = 0; k < (done ? 0 : y->mj); k++) {
        vec i[NV], *ba = VAT(b, y->ja[k]), *bb = VAT(b, y->jb[k]), *w3 = VAT(y->w3, k), *w0 = VAT(y->w0, k);
        if (!*y->head) {
            vec *g = VAT(y->jg, k);
            VEC i[v] = g[v] * w0[v] - w3[v];
        } else
            LANE((double *)i)[w] = y->jg[(y->region[k * W + w] * y->mj + k) * W + w] * y->w0[k * W + w] - y->w3[k * W + w];
        VEC ba[v] += i[v];
        VEC bb[v] -= i[v];
    }
    scatter(y->ra, y->rb, y->mr, y->rg, y->q, b);
    if (y->mc) scatter(y->ca, y->cb, y->mc, y->cg, y->qc, b);
    for (int64_t k = 0; k < y->mf; k++) {
        vec now[NV], *ba = VAT(b, y->fa[k]), *bb = VAT(b, y->fb[k]), *scale = VAT(y->fscale, k);
        double value = drive[y->fwave[k] * steps + i];
        VEC now[v] = scale[v] * value;
        if (y->fa[k] != y->places - 1) VEC ba[v] -= now[v];
        if (y->fb[k] != y->places - 1) VEC bb[v] += now[v];
    }
    for (int64_t k = 0; k < y->mo; k++) {
        vec *ba = VAT(b, y->oa[k]), *bb = VAT(b, y->ob[k]), *value = VAT(own, i * count + k);
        VEC ba[v] -= value[v];
        VEC bb[v] += value[v];
    }
}

/* Transmission lines: the wave that left the other end td ago. tline is E1, E2 of each line. */
static void lines_in(const Sys *y, int64_t i) {
    double *b = y->b;
    scatter(y->ta, y->tb, 2 * y->mt, y->tg, y->q, b);
    const double c = 2.0 * y->h / (3.0 * SIGMA);
    for (int64_t k = 0; k < 2 * y->mt; k++) {
        int64_t other = k ^ 1, at = i - y->t_steps[k >> 1];
        double part = y->t_frac[k >> 1];
        const double *w1 = AT(y->tw, (((at % y->depth) + y->depth) % y->depth) * 2 * y->mt + other);
        const double *w2 = AT(y->tw, ((((at - 1) % y->depth) + y->depth) % y->depth) * 2 * y->mt + other);
        double now[W], *e = AT(y->tline, k), *ba = AT(b, y->ta[k]), *bb = AT(b, y->tb[k]);
        LANE e[w] = (1.0 - part) * w1[w] + part * w2[w];
        LANE now[w] = y->tg[k * W + w] * c * e[w];
        LANE ba[w] += now[w];
        LANE bb[w] -= now[w];
    }
}

static void lines_out(const Sys *y, int64_t i, const double *f) {
    const double c = 2.0 * y->h / (3.0 * SIGMA);
    for (int64_t k = 0; k < 2 * y->mt; k++) {
        double *out = AT(y->tw, (((i % y->depth) + y->depth) % y->depth) * 2 * y->mt + k), *e = AT(y->tline, k);
        const double *fa = AT(f, y->ta[k]), *fb = AT(f, y->tb[k]), *qa = AT(y->q, y->ta[k]), *qb = AT(y->q, y->tb[k]);
        LANE {
            double v = (fa[w] - fb[w] - (qa[w] - qb[w])) / c;
            out[w] = 2.0 * v - e[w];               /* V + Z I,  I = (V - E)/Z */
            e[w] = (v - e[w]) * y->tg[k * W + w] * c; /* now the current */
        }
    }
}

static void solve(const Sys *y, const double *drive, int64_t steps, int64_t i, const double *own, int64_t count, double *f) {
    const double c = 2.0 * y->h / (3.0 * SIGMA);
    int64_t n = y->n;
    double *b = y->b, *s = y->s;
    for (int64_t k = 0; k < y->me; k++) {
        double *value = AT(y->sv, k), *sc = AT(s, y->ec[k]), *sp = AT(s, y->ep[k]);
        double *p0 = AT(y->source, k), *p1 = AT(y->source, y->me + k);
        LANE {
            double given = y->ewave[k] >= 0 ? drive[y->ewave[k] * steps + i] : own[(i * count - 1 - y->ewave[k]) * W + w];
            given *= y->escale[k * W + w];
            value[w] = y->ephase[k] ? given : c * given + (4.0 / 3.0) * p0[w] - (1.0 / 3.0) * p1[w];
            sc[w] = sp[w] + y->esign[k] * value[w];
        }
    }
    for (int64_t k = n; k < y->places - 1; k++)
        if (y->row[k] < n) LANE b[(int64_t)y->row[k] * W + w] += b[k * W + w];
    for (int64_t k = 0; k < y->mfold; k++)
        LANE b[(int64_t)y->fold_row[k] * W + w] -= y->fold_value[k * W + w] * s[(int64_t)y->fold_j[k] * W + w];
    for (int64_t t = 0; t < y->mtouch; t++) {
        int64_t k = y->touch[t], ra = y->row[y->ja[k]], rb = y->row[y->jb[k]];
        LANE {
            double g = y->jg[(y->region[k * W + w] * y->mj + k) * W + w];
            double current = g * (s[(int64_t)y->ja[k] * W + w] - s[(int64_t)y->jb[k] * W + w]);
            if (ra < n) b[ra * W + w] -= current;
            if (rb < n) b[rb * W + w] += current;
        }
    }
    forward(y, b);
    backward(y, b, f);
    int64_t m = y->mb;
    if (m) LANE {
        double *e = y->bwork;
        for (int64_t r = 0; r < m; r++) e[r] = 0.0;
        for (int64_t t = 0; t < y->mrow; t++) {
            int64_t place = y->cplace[t], r = y->row[place];
            double value = (r < n ? f[r * W + w] : 0.0) + s[place * W + w];
            if (y->row_past[t]) value -= y->q[place * W + w];
            e[y->crow[t]] -= y->cvalue[t] * value;
        }
        for (int64_t r = 0; r < m; r++) {
            double sum = 0.0;
            for (int64_t j = 0; j < m; j++) sum += y->sinv[(r * m + j) * W + w] * e[j];
            y->y[r * W + w] = sum;
        }
        for (int64_t r = 0; r < m; r++)
            for (int64_t k = 0; k < n; k++) f[k * W + w] -= y->z[(r * n + k) * W + w] * y->y[r * W + w];
    }
    for (int64_t k = n; k < y->places; k++) {
        int64_t r = y->row[k];
        LANE f[k * W + w] = (r < n ? f[r * W + w] : 0.0) + s[k * W + w];
    }
}

/* need of a child: the current its source gives it, sources further out included. */
static void source_currents(const Sys *y, const double *f) {
    double *need = y->need;
    int64_t n = y->n;
    for (int64_t k = n * W; k < y->places * W; k++) need[k] = -y->b[k];
    for (int64_t k = 0; k < y->mneed; k++)
        LANE need[(int64_t)y->need_i[k] * W + w] += y->need_value[k * W + w] * f[(int64_t)y->need_j[k] * W + w];
    for (int64_t t = 0; t < y->mterm; t++)
        if (y->bplace[t] >= n) LANE need[(int64_t)y->bplace[t] * W + w] += y->bvalue[t] * y->y[y->bcol[t] * W + w];
    for (int64_t t = 0; t < y->mtouch; t++) {
        int64_t k = y->touch[t], a = y->ja[k], b = y->jb[k];
        LANE {
            double current = y->jg[(y->region[k * W + w] * y->mj + k) * W + w] * (f[a * W + w] - f[b * W + w]);
            if (a >= n) need[a * W + w] += current;
            if (b >= n) need[b * W + w] -= current;
        }
    }
    for (int64_t k = y->me - 1; k >= 0; k--) LANE need[(int64_t)y->ep[k] * W + w] += need[(int64_t)y->ec[k] * W + w];
}

/* Work of the sources and heat since the step before; work is [4][W]: currents, V and P sources, R and T, junctions. */
static void account(const Sys *y, const double *drive, int64_t steps, int64_t col, const double *own, int64_t count,
                    int64_t i, const double *f) {
    const double c = 2.0 * y->h / (3.0 * SIGMA);
    LANE {
        double given = 0.0, fed = 0.0, heat = 0.0, quasi = 0.0;
        for (int64_t k = 0; k < y->mf; k++) {
            double phase = f[(int64_t)y->fb[k] * W + w] - f[(int64_t)y->fa[k] * W + w];
            double current = y->fscale[k * W + w] * drive[y->fwave[k] * steps + col];
            fed += 0.5 * (current + y->last_fi[k * W + w]) * (phase - y->last_fp[k * W + w]);
            y->last_fp[k * W + w] = phase;
            y->last_fi[k * W + w] = current;
        }
        for (int64_t k = 0; k < y->mo; k++) {
            int64_t at = y->mf + k;
            double phase = f[(int64_t)y->ob[k] * W + w] - f[(int64_t)y->oa[k] * W + w];
            double current = own[(col * count + k) * W + w];
            fed += 0.5 * (current + y->last_fi[at * W + w]) * (phase - y->last_fp[at * W + w]);
            y->last_fp[at * W + w] = phase;
            y->last_fi[at * W + w] = current;
        }
        for (int64_t k = 0; k < y->me; k++) {
            double current = y->need[(int64_t)y->ec[k] * W + w];
            given += 0.5 * (current + y->last_si[k * W + w]) * y->esign[k] * (y->sv[k * W + w] - y->source[k * W + w]);
            y->last_si[k * W + w] = current;
        }
        double part[4] = {0.0, 0.0, 0.0, 0.0}; /* four sums, so that none waits for itself */
        for (int64_t k = 0; k < y->mr; k++) {
            int64_t a = (int64_t)y->ra[k] * W + w, b = (int64_t)y->rb[k] * W + w;
            double moved = f[a] - f[b] - y->q[a] + y->q[b];
            part[k & 3] += y->rg[k * W + w] * moved * moved;
        }
        heat = (part[0] + part[1] + part[2] + part[3]) / c;
        for (int64_t k = 0; k < y->mj; k++) {
            double v = y->v[0][k * W + w];
            quasi += v * (y->jcond[(y->region[k * W + w] * y->mj + k) * W + w] * v + y->w4[k * W + w]);
        }
        if (i > 0) {
            y->work[w] += SIGMA * fed;
            y->work[W + w] += SIGMA * given;
            y->work[2 * W + w] += heat * y->h;
            y->work[3 * W + w] += quasi * y->h;
        }
    }
}

static void slip(const Sys *y, Events *ev, int64_t k, int w, int64_t i, double x, double before) {
    double turns = floor(x * 0.15915494309189533577 + 0.5), old = y->turns[k * W + w];
    if (turns == old) return;
    if (i >= 0) {
        double edge = (2.0 * (turns > old ? turns : old) - 1.0) * 3.14159265358979323846;
        int64_t at = ev->filled++;
        ev->jj[at] = (int32_t)k;
        ev->lane[at] = w;
        ev->turns[at] = (int32_t)(turns - old);
        ev->time[at] = ((double)(i - 1) + (edge - before) / (x - before)) * y->h;
        y->slips[k * W + w] += (int64_t)fabs(turns - old);
    }
    y->turns[k * W + w] = turns;
}

/* Voltages of the junctions, slips; one step older. */
static void shift(Sys *y, int64_t i, const double *f, Events *ev) {
    const double rate = i >= 0 ? 3.0 * SIGMA / (2.0 * y->h) : 0.0, pi2 = 6.28318530717958647693, pi = 3.14159265358979323846;
    double *fresh = y->jp_next, *old = y->v[2];
    y->v[2] = y->v[1];
    y->v[1] = y->v[0];
    y->v[0] = old;
    for (int64_t k = 0; k < y->mj; k++) {
        vec *a = VAT(f, y->ja[k]), *b = VAT(f, y->jb[k]), *qa = VAT(y->q, y->ja[k]), *qb = VAT(y->q, y->jb[k]);
        vec *out = VAT(fresh, k), *t = VAT(y->turns, k), *v1 = VAT(old, k);
        const double phi = y->phi[k * W];
        mask far = {0};
        VEC {
            vec p = a[v] - b[v], d = p - phi - pi2 * t[v];
            out[v] = p;
            v1[v] = (p - (qa[v] - qb[v])) * rate;
            far |= (d > pi) | (d < -pi);
        }
        if (any(far)) LANE slip(y, ev, k, w, i, fresh[k * W + w] - phi, y->jp[k * W + w] - phi);
    }
    y->jp_next = y->jp;
    y->jp = fresh;
}

static void record(const Sys *y, const double *f, double *out) {
    const double c = 2.0 * y->h / (3.0 * SIGMA);
    for (int64_t k = 0; k < y->width_nodes; k++, out += W) LANE out[w] = f[(int64_t)y->watch_nodes[k] * W + w];
    for (int64_t k = 0; k < y->width_jj; k++, out += W) {
        int64_t j = y->watch_jj[k];
        LANE out[w] = y->jg[(y->region[j * W + w] * y->mj + j) * W + w] * c * y->v[0][j * W + w] + y->w3[j * W + w];
    }
    for (int64_t k = 0; k < y->width_edges; k++, out += W)
        LANE out[w] = y->need[(int64_t)y->ec[y->watch_edges[k]] * W + w];
    for (int64_t k = 0; k < y->mb * W; k++) *out++ = y->y[k];
    for (int64_t k = 0; k < 2 * y->mt * W; k++) *out++ = y->tline[k];
}

/* Buffers at, each of the rows of base, back into the order that they have in at. */
static void order(double **at, double *base, int64_t count, int64_t size) {
    for (int64_t k = 0; k < count; k++) {
        double *want = base + k * size, *have = at[k];
        if (have == want) continue;
        for (int64_t j = 0; j < size; j++) {
            double t = want[j];
            want[j] = have[j];
            have[j] = t;
        }
        for (int64_t j = k + 1; j < count; j++)
            if (at[j] == want) at[j] = have;
        at[k] = want;
    }
}

/* Steps first .. first + steps - 1; drive is [waves][steps], own [steps][count][W], out [steps][width][W].
   Returns how many were done; status says why it stopped. */
int64_t kernel_run(Sys *y, Events *ev, int64_t first, int64_t steps, double guard_from, const double *drive, const double *own,
            int64_t count, double *out, int64_t width, double *z, double *sinv, const double *d, int64_t *status) {
    int64_t size = y->places * W, keep = W == 1 || y->mc ? 4 : 2; /* one corner may halve its step: it keeps more */
    *status = DONE;
    double *hist[4];
    for (int64_t k = 0; k < keep; k++) hist[k] = y->f + k * size;
    int64_t step = 0, mw = y->mj * W;
    double *jp = y->jp;
    y->jp_next = y->w5 + mw;
    const int simple = W > 1 && y->plain && !y->corrector && !y->width_jj;
    for (int64_t k = 0; k < 3; k++) y->v[k] = y->jv + k * mw;
    for (; step < steps; step++) {
        int64_t i = first + step;
        if (ev->filled + y->mj * W > ev->capacity) break;
        past(y, hist[0], hist[1], hist[keep - 2], hist[keep - 1]);
        int guard = (double)i > guard_from, fused = simple && !*y->head && !*y->stale;
        for (int64_t k = 0; k < size; k++) y->b[k] = 0.0;
        if (fused && !junctions(y, guard)) {
            fused = 0;
            for (int64_t k = 0; k < size; k++) y->b[k] = 0.0;
        }
        if (!fused) {
            if (predict(y, guard) && W == 1) {
                *status = STEP_TOO_LARGE;
                break;
            }
            regions(y);
        }
        if (*y->stale) {
            if (factor(y) || (pack(y), y->mb && border(y, z, sinv, d))) {
                *status = NOT_SPD;
                break;
            }
            *y->stale = 0;
        }
        if (!fused) supercurrent(y, y->w2, y->w3);
        if (y->corrector)
            for (int64_t k = 0; k < y->mj * W; k++) y->w5[k] = y->w3[k];
        gather(y, drive, steps, step, own, count, fused);
        if (y->mt) lines_in(y, i);
        double *f = hist[keep - 1];
        for (int64_t again = 0; again < y->corrector; again++) {
            for (int64_t k = 0; k < size; k++) y->b0[k] = y->b[k];
            solve(y, drive, steps, step, own, count, f);
            for (int64_t k = 0; k < y->mj; k++)
                LANE y->w2[k * W + w] = f[(int64_t)y->ja[k] * W + w] - f[(int64_t)y->jb[k] * W + w] - y->phi[k * W + w];
            supercurrent(y, y->w2, y->w1);
            for (int64_t k = 0; k < size; k++) y->b[k] = y->b0[k];
            for (int64_t k = 0; k < y->mj; k++) LANE {
                double change = y->w1[k * W + w] - y->w5[k * W + w];
                y->b[(int64_t)y->ja[k] * W + w] -= change;
                y->b[(int64_t)y->jb[k] * W + w] += change;
                y->w3[k * W + w] += change;
                y->w5[k * W + w] = y->w1[k * W + w];
            }
        }
        solve(y, drive, steps, step, own, count, f);
        if (y->need_edges) source_currents(y, f);
        if (y->mt) lines_out(y, i, f);
        shift(y, i, f, ev);
        if (y->account) account(y, drive, steps, step, own, count, i, f);
        for (int64_t k = 3 * y->me * W - 1; k >= 0; k--) y->source[y->me * W + k] = y->source[k];
        for (int64_t k = 0; k < y->me * W; k++) y->source[k] = y->sv[k];
        if (width) record(y, f, out + step * width * W);
        for (int64_t k = keep - 1; k > 0; k--) hist[k] = hist[k - 1];
        hist[0] = f;
    }
    /* the caller's arrays are newest first again */
    order(hist, y->f, keep, size);
    order(y->v, y->jv, 3, mw);
    if (y->jp != jp) {
        for (int64_t k = 0; k < mw; k++) jp[k] = y->jp[k];
        y->jp = jp;
    }
    return step;
}

/* Philox 4x32-10 (Salmon et al., SC11) and Box-Muller; out is [4 blocks][elements][ids]. See noise.py. */
void kernel_normals(uint64_t seed, const int64_t *ids, int64_t mi, const int64_t *elements, int64_t me, int64_t low,
                    int64_t blocks, double *out) {
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t e = 0; e < me; e++)
            for (int64_t j = 0; j < mi; j++) {
                uint64_t at = (uint64_t)(low + block);
                uint32_t c0 = (uint32_t)at, c1 = (uint32_t)(at >> 32), c2 = (uint32_t)elements[e], c3 = (uint32_t)(seed >> 32);
                uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)ids[j];
                for (int r = 0; r < 10; r++) {
                    uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u;
                    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
                    c0 = n0;
                    c1 = (uint32_t)p1;
                    c2 = n2;
                    c3 = (uint32_t)p0;
                    k0 += 0x9E3779B9u;
                    k1 += 0xBB67AE85u;
                }
                uint32_t word[4] = {c0, c1, c2, c3};
                for (int k = 0; k < 4; k += 2) {
                    double u = ((double)word[k] + 0.5) * 0x1p-32, v = ((double)word[k + 1] + 0.5) * 0x1p-32;
                    double radius = sqrt(-2.0 * log(u)), angle = 6.28318530717958647693 * v;
                    out[((block * 4 + k) * me + e) * mi + j] = radius * cos(angle);
                    out[((block * 4 + k + 1) * me + e) * mi + j] = radius * sin(angle);
                }
            }
}
