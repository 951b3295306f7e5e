/* Learned delays on a CPU: the equations are in neuro/delay_kernels.py, whose torch path every function here is tested
   against. Built twice, with REAL float and double.

   Times of inputs are rows 0..K-1 of x; row e is output time e - first, so first rows are the past. Outputs are times
   0..Ty-1. A tile is `tile` outputs side by side; widths are padded to whole tiles (P), the padding is zero. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif

typedef REAL vec __attribute__((vector_size(64)));
#define LANES ((long)(64 / sizeof(REAL)))
/* operations below which a second thread costs more than it brings */
#define SMALL (1L << 18)

#define ROWS 6
#define COLUMNS 4

static inline long least(long a, long b) { return a < b ? a : b; }
static inline long most(long a, long b) { return a > b ? a : b; }

/* exp(a) for a <= 0; float by 2^n times a polynomial (2 ulp), so that a loop over lanes becomes vector code */
static inline REAL exp_falling(REAL a) {
    if (sizeof(REAL) == 8) return (REAL)exp((double)a);
    float x = a < (REAL)-87 ? -87.0f : (float)a;
    float n = rintf(x * 1.44269504f);
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return (REAL)(p * scale);
}

/* g[d][o] and sum[o] of n <= tile outputs: kind 0 exp(-((d - mu) / size)^2 / 2), kind 1 max(0, size - |d - mu|) */
static void bumps(const REAL *p, long n, long Td, REAL size, int kind, long tile, REAL *g, REAL *sum) {
    const REAL h = (REAL)((Td - 1) / 2), a = (REAL)-0.5 / (size * size);
    for (long o = 0; o < tile; o++) sum[o] = 0;
    for (long d = 0; d < Td; d++) {
        REAL *row = g + d * tile;
        for (long o = n; o < tile; o++) row[o] = 0;
        if (kind == 0) {
            for (long o = 0; o < n; o++) {
                REAL off = (REAL)d - (h - p[o]);
                row[o] = exp_falling(a * off * off);
            }
        } else {
            for (long o = 0; o < n; o++) {
                REAL far = size - (REAL)fabs((double)((REAL)d - (h - p[o])));
                row[o] = far > 0 ? far : 0;
            }
        }
        for (long o = 0; o < n; o++) sum[o] += row[o];
    }
}

/* k (I, Td, P) of w, p (I, O) */
void delay_kernel(const REAL *w, const REAL *p, long I, long O, long Td, double size, int kind, long P, REAL *k) {
    #pragma omp parallel if (I * Td * P > SMALL)
    {
        REAL *g = malloc((size_t)(Td + 1) * 64 * sizeof(REAL)), *sum = g + Td * 64;
        #pragma omp for schedule(static)
        for (long i = 0; i < I; i++)
            for (long from = 0; from < P; from += 64) {
                long n = most(0, least(64, O - from)), width = least(64, P - from);
                bumps(p + i * O + from, n, Td, (REAL)size, kind, width, g, sum);
                for (long o = 0; o < n; o++) sum[o] = w[i * O + from + o] / sum[o];
                for (long d = 0; d < Td; d++) {
                    REAL *out = k + (i * Td + d) * P + from;
                    for (long o = 0; o < width; o++) out[o] = g[d * width + o] * sum[o];
                }
            }
        free(g);
    }
}

/* Inputs that are not 0, sorted by group of samples, input, sample and time. start (G I + 1). Returns how many. */
long delay_count(const REAL *x, long K, long B, long I, long st, long sb, long G, int32_t *start) {
    memset(start, 0, (size_t)(G * I + 1) * sizeof(int32_t));
    #pragma omp parallel for schedule(static) if (K * B * I > SMALL)
    for (long g = 0; g < G; g++)
        for (long b = B * g / G; b < B * (g + 1) / G; b++)
            for (long e = 0; e < K; e++) {
                const REAL *row = x + e * st + b * sb;
                int32_t *count = start + g * I + 1;
                for (long i = 0; i < I; i++) count[i] += row[i] != 0;
            }
    for (long j = 0; j < G * I; j++) start[j + 1] += start[j];
    return start[G * I];
}

/* at: b K + e of each event; next (G I) is scratch */
void delay_events(const REAL *x, long K, long B, long I, long st, long sb, long G, const int32_t *start, int32_t *next,
                  int32_t *at, REAL *value) {
    memcpy(next, start, (size_t)(G * I) * sizeof(int32_t));
    #pragma omp parallel for schedule(static) if (K * B * I > SMALL)
    for (long g = 0; g < G; g++)
        for (long b = B * g / G; b < B * (g + 1) / G; b++)
            for (long e = 0; e < K; e++) {
                const REAL *row = x + e * st + b * sb;
                int32_t *n = next + g * I;
                for (long i = 0; i < I; i++)
                    if (row[i] != 0) {
                        at[n[i]] = (int32_t)(b * K + e);
                        value[n[i]++] = row[i];
                    }
            }
}

static inline void add(REAL *restrict to, const REAL *restrict from, REAL factor, long n) {
    vec *a = (vec *)to;
    const vec *b = (const vec *)from;
    for (long j = 0; j < n / LANES; j++) a[j] += factor * b[j];
}

/* y (Ty, B, O) = sum over events of value times k[i]; scratch (P / tile, B, Ty, tile), 64-byte aligned */
void delay_forward(const int32_t *start, const int32_t *at, const REAL *value, long K, long B, long I, long O, long Td,
                   long first, long Ty, long G, long P, long tile, const REAL *k, REAL *scratch, REAL *y) {
    const long tiles = P / tile;
    #pragma omp parallel if (start[G * I] * Td * P > SMALL)
    {
        REAL *kt = aligned_alloc(64, (size_t)(Td * tile) * sizeof(REAL));
        #pragma omp for collapse(2) schedule(dynamic)
        for (long n = 0; n < tiles; n++)
            for (long g = 0; g < G; g++) {
                REAL *ys = scratch + n * B * Ty * tile;
                long low = B * g / G, high = B * (g + 1) / G;
                memset(ys + low * Ty * tile, 0, (size_t)((high - low) * Ty * tile) * sizeof(REAL));
                for (long i = 0; i < I; i++) {
                    int32_t from = start[g * I + i], to = start[g * I + i + 1];
                    if (from == to) continue;
                    for (long d = 0; d < Td; d++)
                        memcpy(kt + d * tile, k + (i * Td + d) * P + n * tile, (size_t)tile * sizeof(REAL));
                    for (int32_t j = from; j < to; j++) {
                        long b = at[j] / K, t = at[j] % K - first;
                        long d0 = most(0, -t), d1 = least(Td, Ty - t);
                        if (d1 > d0) add(ys + (b * Ty + t + d0) * tile, kt + d0 * tile, value[j], (d1 - d0) * tile);
                    }
                }
            }
        #pragma omp for schedule(static)
        for (long t = 0; t < Ty; t++)
            for (long b = 0; b < B; b++)
                for (long n = 0; n < tiles; n++)
                    memcpy(y + (t * B + b) * O + n * tile, scratch + ((n * B + b) * Ty + t) * tile,
                           (size_t)least(tile, O - n * tile) * sizeof(REAL));
        free(kt);
    }
}

/* dy (Ty, B, O) in tiles: out (P / tile, B, Ty, tile), padding zero */
static void in_tiles(const REAL *dy, long B, long O, long Ty, long tiles, long tile, REAL *out) {
    #pragma omp for schedule(static)
    for (long b = 0; b < B; b++)
        for (long n = 0; n < tiles; n++)
            for (long t = 0; t < Ty; t++) {
                REAL *to = out + ((n * B + b) * Ty + t) * tile;
                long width = least(tile, O - n * tile);
                memcpy(to, dy + (t * B + b) * O + n * tile, (size_t)width * sizeof(REAL));
                for (long o = width; o < tile; o++) to[o] = 0;
            }
}

/* dw, dp (I, O) from dk, which never leaves the cache: ghat = g / sum g,
     dw = sum_d dk ghat;   dp = w sum_d dk (g' - ghat sum g') / sum g,  g' = dg/dp */
void delay_weight_grad(const int32_t *start, const int32_t *at, const REAL *value, long K, long B, long I, long O,
                       long Td, long first, long Ty, long G, long P, long tile, const REAL *w, const REAL *p,
                       double size, int kind, const REAL *dy, REAL *scratch, REAL *dw, REAL *dp) {
    const long tiles = P / tile;
    const REAL h = (REAL)((Td - 1) / 2), s = (REAL)size;
    #pragma omp parallel if (start[G * I] * Td * P > SMALL)
    {
        REAL *dk = aligned_alloc(64, (size_t)((2 * Td + 4) * tile) * sizeof(REAL));
        REAL *g = dk + Td * tile, *sum = g + Td * tile, *a = sum + tile, *c = a + tile, *slope = c + tile;
        in_tiles(dy, B, O, Ty, tiles, tile, scratch);
        #pragma omp for collapse(2) schedule(dynamic, 8)
        for (long n = 0; n < tiles; n++)
            for (long i = 0; i < I; i++) {
                const REAL *dys = scratch + n * B * Ty * tile;
                const long off = i * O + n * tile, width = least(tile, O - n * tile);
                memset(dk, 0, (size_t)(Td * tile) * sizeof(REAL));
                for (long group = 0; group < G; group++)
                    for (int32_t j = start[group * I + i]; j < start[group * I + i + 1]; j++) {
                        long b = at[j] / K, t = at[j] % K - first;
                        long d0 = most(0, -t), d1 = least(Td, Ty - t);
                        if (d1 > d0) add(dk + d0 * tile, dys + (b * Ty + t + d0) * tile, value[j], (d1 - d0) * tile);
                    }
                bumps(p + off, width, Td, s, kind, tile, g, sum);
                for (long o = 0; o < tile; o++) a[o] = c[o] = slope[o] = 0;
                for (long d = 0; d < Td; d++)
                    for (long o = 0; o < width; o++) {
                        REAL gd = g[d * tile + o], out = (REAL)d - (h - p[off + o]);
                        REAL s1 = kind == 0 ? -gd * out : gd > 0 ? (REAL)((out < 0) - (out > 0)) : 0;
                        a[o] += dk[d * tile + o] * gd;
                        c[o] += dk[d * tile + o] * s1;
                        slope[o] += s1;
                    }
                for (long o = 0; o < width; o++) {
                    REAL mean = a[o] / sum[o];
                    dw[off + o] = mean;
                    if (dp) dp[off + o] = w[off + o] * (c[o] - mean * slope[o]) / sum[o] / (kind == 0 ? s * s : 1);
                }
            }
        free(dk);
    }
}

static inline REAL across(vec v) {
    REAL sum = 0;
    for (long j = 0; j < LANES; j++) sum += v[j];
    return sum;
}

/* dots of ROWS rows of a, P apart, with `columns` rows of k, `apart` apart, over q of them in [0, n) */
#define DOTS(name, columns)                                                                                            \
    static inline __attribute__((always_inline)) void name(const REAL *a, const REAL *k, long P, long apart, long n,    \
                                                           REAL *out) {                                                \
        vec sum[ROWS][columns];                                                                                        \
        memset(sum, 0, sizeof sum);                                                                                    \
        for (long q = 0; q < n; q += LANES) {                                                                          \
            vec c[columns];                                                                                            \
            _Pragma("GCC unroll 8") for (int j = 0; j < columns; j++) c[j] = *(const vec *)(k + j * apart + q);         \
            _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) {                                                   \
                vec row = *(const vec *)(a + r * P + q);                                                               \
                _Pragma("GCC unroll 8") for (int j = 0; j < columns; j++) sum[r][j] += row * c[j];                     \
            }                                                                                                          \
        }                                                                                                              \
        for (int r = 0; r < ROWS; r++)                                                                                 \
            for (int j = 0; j < columns; j++) out[r * COLUMNS + j] = across(sum[r][j]);                                \
    }
DOTS(dots_four, COLUMNS)
DOTS(dots_one, 1)

/* dx (K, B, I): dx[e] = sum_d,o dy[e - first + d] k[i, d, o]. One product of matrices whose left one has rows that
   overlap, so nothing is copied but dy once: scratch (B, K + Td + ROWS, P), 64-byte aligned */
void delay_input_grad(const REAL *dy, const REAL *k, long K, long B, long I, long O, long Td, long first, long Ty,
                      long P, REAL *scratch, REAL *dx) {
    const long rows = K + Td + ROWS, blocks = (I + COLUMNS - 1) / COLUMNS;
    #pragma omp parallel if (K * B * I * Td * P > SMALL)
    {
        #pragma omp for schedule(static)
        for (long b = 0; b < B; b++)
            for (long r = 0; r < rows; r++) {
                REAL *to = scratch + (b * rows + r) * P;
                long t = r - first, width = t >= 0 && t < Ty ? O : 0;
                if (width) memcpy(to, dy + (t * B + b) * O, (size_t)O * sizeof(REAL));
                for (long o = width; o < P; o++) to[o] = 0;
            }
        #pragma omp for schedule(dynamic)
        for (long block = 0; block < blocks; block++) {
            long i = block * COLUMNS, columns = least(COLUMNS, I - i);
            for (long b = 0; b < B; b++)
                for (long e = 0; e < K; e += ROWS) {
                    REAL out[ROWS * COLUMNS];
                    const REAL *a = scratch + (b * rows + e) * P, *c = k + i * Td * P;
                    long n = most(0, least(Td, first + Ty - e)) * P;
                    if (columns == COLUMNS)
                        dots_four(a, c, P, Td * P, n, out);
                    else
                        for (long j = 0; j < columns; j++) dots_one(a, c + j * Td * P, P, Td * P, n, out + j);
                    for (long r = 0; r < least(ROWS, K - e); r++)
                        for (long j = 0; j < columns; j++) dx[((e + r) * B + b) * I + i + j] = out[r * COLUMNS + j];
                }
        }
    }
}

/* Whole delays: y (Ty, B, O) by events. until (I, Td + 1): synapses of input i with delay < d, which lie sorted by
   delay from from[i] on; target = d O + o, weight. scratch (B, Ty, O) */
void delay_scatter(const REAL *x, long K, long B, long I, long O, long Td, long st, long sb, long first, long Ty,
                   const int64_t *from, const int32_t *until, const int32_t *target, const REAL *weight, REAL *scratch,
                   REAL *y) {
    #pragma omp parallel for schedule(dynamic) if (K * B * (I + O) > SMALL)
    for (long b = 0; b < B; b++) {
        REAL *ys = scratch + b * Ty * O;
        memset(ys, 0, (size_t)(Ty * O) * sizeof(REAL));
        for (long e = 0; e < K; e++) {
            const REAL *row = x + e * st + b * sb;
            long t = e - first, d0 = least(Td, most(0, -t)), d1 = most(d0, least(Td, Ty - t));
            for (long i = 0; i < I; i++) {
                const REAL value = row[i];
                if (value == 0) continue;
                const int32_t *const to = target + from[i];
                const REAL *const factor = weight + from[i];
                for (long j = until[i * (Td + 1) + d0]; j < until[i * (Td + 1) + d1]; j++) ys[t * O + to[j]] += value * factor[j];
            }
        }
        for (long t = 0; t < Ty; t++) memcpy(y + (t * B + b) * O, ys + t * O, (size_t)O * sizeof(REAL));
    }
}
