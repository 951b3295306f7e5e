/* The neuron law over K steps, forward and backward, with what stands before and behind it in a network that trains:
 * batch normalisation (y = a x + b by channel and step) and mean pooling of the spikes.
 *
 * Values lie as (K, R, C): R rows (samples, or samples x height x width, channels last), C values a row. The law is that
 * of neuro/neuron.py, operation for operation (no contraction), so forward has its bits. The backward pass:
 *
 *     gh[t] = (gs[t] + attached gv[t] r[t]) slope(h[t]) + gv[t] q[t]         r = v_reset - h, q = 1 - s   (reset to v_reset)
 *                                                                            r = -V,          q = 1       (subtract)
 *     gi[t] = gh[t] + a gi[t+1];  gx[t] = k gi[t];  gv[t-1] = b gh[t]        (a, b, k): canonical form of the charge
 *
 * A state that is passed on without history (detached) leaves out gv and gi. Sums over rows are taken in blocks of a fixed
 * size and added in their order: the result does not depend on the number of threads.
 * This file includes itself, once for float and once for double. */
#ifndef REAL
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { NO_LEAK, TAU_IN, TAU, RATE_IN, RATE, LEAKY, DECAY };
enum { ATAN, SIGMOID, TRIANGLE, RECTANGULAR };

typedef struct {
    int64_t steps, rows, channels;      /* K, R, C */
    int64_t width, pool;                /* W of an image row and the window's side; pool 0: none */
    int64_t charge, subtract, strict;   /* fires: > (strict) or >= */
    int64_t surrogate, attached, normalised, threads;  /* normalised: the slope is over h / V - 1 */
    double tau, rest, current, threshold, v_reset;   /* tau: tau, rate or beta of the charge, voltage of DECAY */
    double a, b, k;                     /* canonical form */
    double alpha, gain, scale;          /* slope = gain f(over / scale; alpha) / scale */
} Core;

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define BLOCK 2048
#define ROWS 256                        /* rows of a block of sums */

static inline int64_t block_rows(const Core *c) {
    if (c->pool) return c->pool * c->width;
    int64_t r = BLOCK / c->channels;
    return r < 1 ? 1 : r;
}
int64_t core_blocks(const Core *c) { int64_t b = block_rows(c); return (c->rows + b - 1) / b; }
int64_t core_sum_blocks(const Core *c) { return (c->rows + ROWS - 1) / ROWS; }
int64_t core_size(void) { return sizeof(Core); }

static inline float exp_f32(float x) {  /* Cephes' expf: 2^n p(r), about 1 ulp; a loop over it becomes vector code */
    x = x < -87.0f ? -87.0f : x > 87.0f ? 87.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f; p = p * r + 8.3334519073e-3f; p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f; p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union { int32_t i; float f; } u = { ((int32_t)n + 127) << 23 };
    return p * u.f;
}
static inline double exp_f64(double x) { return exp(x); }

#define REAL float
#define F(name) JOIN(name, _f32)
#define ABS(x) __builtin_fabsf(x)
#include "fused.c"
#undef REAL
#undef F
#undef ABS
#define REAL double
#define F(name) JOIN(name, _f64)
#define ABS(x) __builtin_fabs(x)
#include "fused.c"

#else

static inline __attribute__((always_inline)) REAL F(charge)(int kind, REAL v, REAL x, REAL p, REAL rest) {
    switch (kind) {
    case NO_LEAK: return v + x;
    case TAU_IN: return v + (x - (v - rest)) / p;
    case TAU: return v - (v - rest) / p + x;
    case RATE_IN: return v + (x - (v - rest)) * p;
    case RATE: return v - (v - rest) * p + x;
    default: return v * p + x;          /* LEAKY; DECAY with x the current */
    }
}

static inline __attribute__((always_inline)) REAL F(slope)(int kind, REAL over, REAL alpha) {
    switch (kind) {
    case ATAN: { REAL z = (REAL)1.5707963267948966 * alpha * over; return alpha / 2 / (1 + z * z); }
    case SIGMOID: { REAL p = 1 / (1 + F(exp)(-alpha * over)); return alpha * p * (1 - p); }
    case TRIANGLE: { REAL z = 1 - ABS(over) / alpha; return (z > 0 ? z : 0) / alpha; }
    default: return ABS(over) < alpha / 2 ? 1 / alpha : 0;
    }
}

/* One block of n values of one step: x to spikes, v and i to those after it; h is kept where it is asked for. */
static inline __attribute__((always_inline)) void F(step)(
    int kind, int subtract, int64_t n, const Core *c, const REAL *restrict x, const REAL *v, const REAL *i, REAL *v_out,
    REAL *i_out, REAL *restrict h_out, REAL *restrict s_out) {
    const REAL p = (REAL)c->tau, rest = (REAL)c->rest, current = (REAL)c->current, thr = (REAL)c->threshold;
    const REAL vr = (REAL)c->v_reset, tie = c->strict ? 0 : 1;
    for (int64_t j = 0; j < n; j++) {
        REAL in = x[j];
        if (kind == DECAY) { in = i[j] * current + in; i_out[j] = in; }
        REAL h = F(charge)(kind, v[j], in, p, rest);
        REAL over = h - thr;
        REAL s = over > 0 ? (REAL)1 : over == 0 ? tie : (REAL)0;
        v_out[j] = subtract ? h - s * thr : (s != 0 ? vr : h);
        if (h_out) h_out[j] = h;
        s_out[j] = s;
    }
}

static void F(step_any)(int64_t n, const Core *c, const REAL *x, const REAL *v, const REAL *i, REAL *w, REAL *u, REAL *h,
                        REAL *s) {
#define ONE(k)                                                        \
    if (c->charge == k) {                                             \
        if (c->subtract && h) F(step)(k, 1, n, c, x, v, i, w, u, h, s);     \
        else if (c->subtract) F(step)(k, 1, n, c, x, v, i, w, u, 0, s);     \
        else if (h) F(step)(k, 0, n, c, x, v, i, w, u, h, s);               \
        else F(step)(k, 0, n, c, x, v, i, w, u, 0, s);                      \
        return;                                                       \
    }
    ONE(NO_LEAK) ONE(TAU_IN) ONE(TAU) ONE(RATE_IN) ONE(RATE) ONE(LEAKY) ONE(DECAY)
#undef ONE
}

/* The sum of the spikes of pool x pool windows of `pool` image rows, over the window's size. */
static inline void F(pooled)(const Core *c, const REAL *restrict s, REAL *restrict out) {
    const int64_t w = c->width, k = c->pool, n = c->channels;
    const REAL area = (REAL)(k * k);
    for (int64_t o = 0; o < w / k; o++) {
        REAL *restrict to = out + o * n;
        for (int64_t j = 0; j < n; j++) to[j] = 0;
        for (int64_t y = 0; y < k; y++)
            for (int64_t q = 0; q < k; q++) {
                const REAL *restrict from = s + ((y * w) + o * k + q) * n;
                for (int64_t j = 0; j < n; j++) to[j] += from[j];
            }
        for (int64_t j = 0; j < n; j++) to[j] /= area;
    }
}

/* x (K,R,C), scale and shift (K,C) or 0, v and i (R,C) or 0 where all v are v_reset and i 0, v_out and i_out (R,C) those
 * after, h (K,R,C) or 0; s (K,R,C), or with a pool its means. */
void F(core_forward)(const Core *c, const REAL *x, const REAL *scale, const REAL *shift, const REAL *v, const REAL *i,
                     REAL *v_out, REAL *i_out, REAL *h, REAL *s) {
    const int64_t rows = block_rows(c), n_all = c->rows * c->channels, blocks = core_blocks(c), ch = c->channels;
    const int64_t pooled = c->pool ? n_all / (c->pool * c->pool) : n_all;
    const int64_t area = c->pool ? c->pool * c->pool : 1;
#pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * rows, count = first + rows > c->rows ? c->rows - first : rows;
        const int64_t n = count * ch, at = first * ch;
        REAL *y = scale ? malloc(sizeof(REAL) * n) : 0, *own = c->pool ? malloc(sizeof(REAL) * n) : 0;
        REAL *start = v ? 0 : malloc(sizeof(REAL) * n), *zero = v || !i_out ? 0 : calloc(n, sizeof(REAL));
        for (int64_t j = 0; start && j < n; j++) start[j] = (REAL)c->v_reset;
        for (int64_t t = 0; t < c->steps; t++) {
            const REAL *in = x + t * n_all + at;
            if (scale) {
                const REAL *restrict a = scale + t * ch, *restrict b = shift + t * ch;
                for (int64_t r = 0; r < count; r++)
                    for (int64_t j = 0; j < ch; j++) y[r * ch + j] = in[r * ch + j] * a[j] + b[j];
                in = y;
            }
            REAL *out = own ? own : s + t * n_all + at;
            const REAL *v_in = t ? v_out + at : v ? v + at : start, *i_in = t ? i_out + at : i ? i + at : zero;
            F(step_any)(n, c, in, v_in, i_in, v_out + at, i_out + at, h ? h + t * n_all + at : 0, out);
            if (own) F(pooled)(c, own, s + t * pooled + at / area);
        }
        free(y); free(own); free(start); free(zero);
    }
}

/* Mean and sum of squared deviations by channel of x (K,R,C): mean (K,C), m2 (K,C). part: 2 K blocks C values. */
void F(core_moments)(const Core *c, const REAL *x, REAL *mean, REAL *m2, REAL *part) {
    const int64_t ch = c->channels, blocks = core_sum_blocks(c), n_all = c->rows * ch;
#pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t k = 0; k < c->steps * blocks; k++) {
        const int64_t t = k / blocks, first = (k % blocks) * ROWS;
        const int64_t count = first + ROWS > c->rows ? c->rows - first : ROWS;
        const REAL *in = x + t * n_all + first * ch;
        REAL *restrict m = part + 2 * k * ch, *restrict q = m + ch;
        for (int64_t j = 0; j < ch; j++) m[j] = q[j] = 0;
        for (int64_t r = 0; r < count; r++)
            for (int64_t j = 0; j < ch; j++) m[j] += in[r * ch + j];
        for (int64_t j = 0; j < ch; j++) m[j] /= (REAL)count;
        for (int64_t r = 0; r < count; r++)
            for (int64_t j = 0; j < ch; j++) { REAL d = in[r * ch + j] - m[j]; q[j] += d * d; }
    }
    for (int64_t t = 0; t < c->steps; t++) {  /* Chan, Golub, LeVeque 1983: joining two sets of moments */
        REAL *restrict m = mean + t * ch, *restrict q = m2 + t * ch;
        for (int64_t j = 0; j < ch; j++) m[j] = q[j] = 0;
        REAL seen = 0;
        for (int64_t b = 0; b < blocks; b++) {
            const REAL *restrict pm = part + 2 * (t * blocks + b) * ch, *restrict pq = pm + ch;
            const REAL count = (REAL)(b * ROWS + ROWS > c->rows ? c->rows - b * ROWS : ROWS), all = seen + count;
            for (int64_t j = 0; j < ch; j++) {
                REAL d = pm[j] - m[j];
                m[j] += d * (count / all);
                q[j] += pq[j] + d * d * (seen * (count / all));
            }
            seen = all;
        }
    }
}

/* One block of n values of one step, backwards: gx out, gv and gi in place; returns nothing, adds to the two sums. */
static inline __attribute__((always_inline)) void F(back)(
    int kind, int subtract, int64_t n, const Core *c, const REAL *restrict h, const REAL *restrict gs,
    REAL *restrict gv, REAL *restrict gi, REAL *restrict gx) {
    const REAL thr = (REAL)c->threshold, vr = (REAL)c->v_reset, tie = c->strict ? 0 : 1, alpha = (REAL)c->alpha;
    const REAL gain = (REAL)(c->gain / c->scale), per = (REAL)(1 / c->scale), att = c->attached ? 1 : 0;
    const REAL a = (REAL)c->a, b = (REAL)c->b, k = (REAL)c->k;
    for (int64_t j = 0; j < n; j++) {
        REAL over = h[j] - thr;
        REAL s = over > 0 ? (REAL)1 : over == 0 ? tie : (REAL)0;
        REAL g = gain * F(slope)(kind, over * per, alpha);
        REAL r = subtract ? -thr : vr - h[j], q = subtract ? (REAL)1 : 1 - s;
        REAL gh = (gs[j] + att * gv[j] * r) * g + gv[j] * q;
        gv[j] = b * gh;
        gh += gi[j];
        gi[j] = a * gh;
        gx[j] = k * gh;
    }
}

/* Detached: nothing comes from the step after. */
static inline __attribute__((always_inline)) void F(back_now)(
    int kind, int64_t n, const Core *c, const REAL *restrict h, const REAL *restrict gs, REAL *restrict gx) {
    const REAL thr = (REAL)c->threshold, alpha = (REAL)c->alpha, per = (REAL)(1 / c->scale);
    const REAL gain = (REAL)(c->gain / c->scale * c->k);
    for (int64_t j = 0; j < n; j++) gx[j] = gs[j] * (gain * F(slope)(kind, (h[j] - thr) * per, alpha));
}

static void F(back_any)(int64_t n, const Core *c, const REAL *h, const REAL *gs, REAL *gv, REAL *gi, REAL *gx) {
#define ONE(k)                                                        \
    if (c->surrogate == k) {                                          \
        if (!gv) { F(back_now)(k, n, c, h, gs, gx); return; }         \
        if (c->subtract) { F(back)(k, 1, n, c, h, gs, gv, gi, gx); return; } \
        F(back)(k, 0, n, c, h, gs, gv, gi, gx);                       \
        return;                                                       \
    }
    ONE(ATAN) ONE(SIGMOID) ONE(TRIANGLE) ONE(RECTANGULAR)
#undef ONE
}

/* Sums for a trainable charge and threshold, one step: to[0] += dL/dp, to[1] += dL/dV. v: before the step. */
static void F(trained)(int64_t n, const Core *c, const REAL *h, const REAL *v, const REAL *gs, const REAL *gv,
                       const REAL *gx, double *to) {
    const REAL thr = (REAL)c->threshold, vr = (REAL)c->v_reset, rest = (REAL)c->rest, alpha = (REAL)c->alpha;
    const REAL gain = (REAL)(c->gain / c->scale), per = (REAL)(1 / c->scale), inv = (REAL)(1 / c->k);
    double decay = 0, threshold = 0;
    for (int64_t j = 0; j < n; j++) {
        REAL gh = gx[j] * inv, over = h[j] - thr;
        int s = c->strict ? over > 0 : over >= 0;
        if (c->charge == RATE_IN) decay += (double)(gh * (h[j] - v[j]) / (REAL)c->tau);
        else if (c->charge == RATE) decay -= (double)(gh * (v[j] - rest));
        else decay += (double)(gh * v[j]);
        REAL r = c->subtract ? -thr : vr - h[j];
        REAL g = (gs[j] + (gv && c->attached ? gv[j] * r : 0)) * gain * F(slope)(c->surrogate, over * per, alpha);
        threshold -= (double)(c->normalised ? g * h[j] * per : g);
        if (gv && c->subtract && s) threshold -= (double)gv[j];
    }
    to[0] += decay;
    to[1] += threshold;
}

/* gs (K,R,C), or (K, pooled) with a pool; h (K,R,C); v0 (R,C): state before the first step, for trained only; 0: v_reset.
 * gv and gi (R,C): gradient of the last state, in place that of the first; 0 where detached. gx (K,R,C).
 * normalised input: x, mean, rstd, gamma given: gx is that of x, part (K blocks 2 C) for sums, dgamma and dbeta (C).
 * trained: 2 blocks doubles, or 0. */
void F(core_backward)(const Core *c, const REAL *gs, const REAL *h, const REAL *v0, REAL *gv, REAL *gi, REAL *gx,
                      const REAL *x, const REAL *mean, const REAL *rstd, const REAL *gamma, REAL *part, REAL *dgamma,
                      REAL *dbeta, double *trained) {
    const int64_t rows = block_rows(c), n_all = c->rows * c->channels, blocks = core_blocks(c), ch = c->channels;
    const int64_t k = c->pool ? c->pool : 1, pooled = n_all / (k * k), w = c->width;
    const REAL share = (REAL)1 / (REAL)(k * k);
#pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * rows, count = first + rows > c->rows ? c->rows - first : rows;
        const int64_t n = count * ch, at = first * ch;
        REAL *spread = c->pool ? malloc(sizeof(REAL) * n) : 0, *v = trained ? malloc(sizeof(REAL) * n) : 0;
        REAL *late = trained && gv ? malloc(sizeof(REAL) * n) : 0;
        for (int64_t t = c->steps - 1; t >= 0; t--) {
            const REAL *g = gs + t * n_all + at, *ht = h + t * n_all + at;
            REAL *to = gx + t * n_all + at;
            if (spread) {
                const REAL *from = gs + t * pooled + at / (k * k);
                for (int64_t y = 0; y < k; y++)
                    for (int64_t o = 0; o < w; o++)
                        for (int64_t j = 0; j < ch; j++) spread[(y * w + o) * ch + j] = from[(o / k) * ch + j] * share;
                g = spread;
            }
            if (late) memcpy(late, gv + at, sizeof(REAL) * n);
            F(back_any)(n, c, ht, g, gv ? gv + at : 0, gi ? gi + at : 0, to);
            if (trained) {
                const REAL thr = (REAL)c->threshold, vr = (REAL)c->v_reset, *hp = ht - n_all;
                for (int64_t j = 0; j < n; j++) {
                    if (!t) { v[j] = v0 ? v0[at + j] : vr; continue; }
                    int s = c->strict ? hp[j] - thr > 0 : hp[j] - thr >= 0;
                    v[j] = c->subtract ? hp[j] - (REAL)s * thr : s ? vr : hp[j];
                }
                F(trained)(n, c, ht, v, g, late, to, trained + 2 * block);
            }
            if (x) {
                const REAL *xt = x + t * n_all + at, *restrict m = mean + t * ch, *restrict q = rstd + t * ch;
                REAL *restrict sum = part + (t * blocks + block) * 2 * ch, *restrict dot = sum + ch;
                for (int64_t j = 0; j < ch; j++) sum[j] = dot[j] = 0;
                for (int64_t r = 0; r < count; r++)
                    for (int64_t j = 0; j < ch; j++) {
                        REAL u = to[r * ch + j];
                        sum[j] += u;
                        dot[j] += u * (xt[r * ch + j] - m[j]) * q[j];
                    }
            }
        }
        free(spread); free(v); free(late);
    }
    if (!x) return;
    REAL *sums = calloc((size_t)(2 * c->steps * ch), sizeof(REAL));
    for (int64_t j = 0; j < ch; j++) dgamma[j] = dbeta[j] = 0;
    for (int64_t t = 0; t < c->steps; t++) {
        REAL *restrict sum = sums + 2 * t * ch, *restrict dot = sum + ch;
        for (int64_t b = 0; b < blocks; b++) {
            const REAL *restrict p = part + (t * blocks + b) * 2 * ch;
            for (int64_t j = 0; j < ch; j++) { sum[j] += p[j]; dot[j] += p[ch + j]; }
        }
        for (int64_t j = 0; j < ch; j++) {
            dbeta[j] += sum[j]; dgamma[j] += dot[j];
            sum[j] /= (REAL)c->rows; dot[j] /= (REAL)c->rows;
        }
    }
#pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * rows, count = first + rows > c->rows ? c->rows - first : rows;
        for (int64_t t = 0; t < c->steps; t++) {
            const REAL *restrict m = mean + t * ch, *restrict q = rstd + t * ch, *restrict sum = sums + 2 * t * ch;
            const REAL *restrict dot = sum + ch;
            const int64_t at = t * n_all + first * ch;
            for (int64_t r = 0; r < count; r++)
                for (int64_t j = 0; j < ch; j++) {
                    const int64_t e = at + r * ch + j;
                    REAL xhat = (x[e] - m[j]) * q[j];
                    gx[e] = gamma[j] * q[j] * (gx[e] - sum[j] - xhat * dot[j]);
                }
        }
    }
    free(sums);
}
#endif
