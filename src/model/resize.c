/*
 * resize.c - pictures in other sizes: filters with integer weights, one direction after the other.
 *
 *   rows ── weights of each column ──► rows of the new width ── weights of each row ──► picture
 *
 * Weights are made in double of additions, multiplications and divisions, so that they, and with
 * them all pixels, are the same on every machine.
 */
#include <assert.h>

#include "model/resize.h"

enum { WEIGHT_BITS = 22, CHANNELS = 3 };

/* ---- filters --------------------------------------------------------------------------------- */

static double distance(double x)
{
    return x < 0 ? -x : x;
}

static double triangle(double x)
{
    x = distance(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys' cubic with a = -1/2. */
static double cubic(double x)
{
    const double a = -0.5;

    x = distance(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

/* sin(pi x) / (pi x), |x| <= 3: the series about the nearest whole number. */
static double sinc(double x)
{
    const double pi = 3.14159265358979323846;
    double sum = 0, term;
    int n = 0;

    x = distance(x);
    if (x == 0)
        return 1;
    while (x - n > 0.5)
        n++;
    const double t = pi * (x - n);
    term = t;
    for (int k = 1; k < 24; k += 2) {
        sum += term;
        term *= -t * t / ((k + 1) * (k + 2));
    }
    return (n % 2 == 0 ? sum : -sum) / (pi * x);
}

static double lanczos(double x)
{
    return distance(x) < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static const struct {
    double (*fn)(double x);
    double reach; /* beyond which it is 0 */
} filters[] = {
    [RESAMPLE_BILINEAR] = {triangle, 1},
    [RESAMPLE_BICUBIC] = {cubic, 2},
    [RESAMPLE_LANCZOS] = {lanczos, 3},
};

/* ---- weights --------------------------------------------------------------------------------- */

/* Of each output pixel of a direction: which input pixels it is made of. */
struct weights_of {
    int32_t *first, *n; /* [n_out] */
    int32_t *weights;   /* [n_out, most] */
    int most;
};

static void weights_free(struct weights_of *w)
{
    host_free(w->first);
    host_free(w->n);
    host_free(w->weights);
}

static int clamp(int value, int most)
{
    return value < 0 ? 0 : value > most ? most : value;
}

/* One output pixel; scratch [most]. */
static void make_weights_at(struct weights_of *w, int at, int n_in, double scale, double *scratch,
                            enum resample filter)
{
    const double wide = scale > 1 ? scale : 1, reach = filters[filter].reach * wide;
    const double centre = (at + 0.5) * scale;
    const int first = clamp((int)(centre - reach + 0.5), n_in);
    const int end = clamp((int)(centre + reach + 0.5), n_in);
    double sum = 0;

    assert(end - first <= w->most);
    for (int i = first; i < end; i++)
        sum += scratch[i - first] = filters[filter].fn((i - centre + 0.5) / wide);
    w->first[at] = first;
    w->n[at] = end - first;
    for (int i = 0; i < end - first; i++) {
        const double weight = scratch[i] / sum * (1 << WEIGHT_BITS);

        w->weights[(size_t)at * (size_t)w->most + (size_t)i] =
            (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
}

static enum status make_weights(int n_in, int n_out, enum resample filter, struct weights_of *out)
{
    const double scale = (double)n_in / n_out;
    struct weights_of w = {0};

    if (filter == RESAMPLE_NEAREST)
        w.most = 1;
    else
        w.most = 2 * ((int)(filters[filter].reach * (scale > 1 ? scale : 1)) + 1) + 1;
    w.first = host_alloc((size_t)n_out * sizeof *w.first);
    w.n = host_alloc((size_t)n_out * sizeof *w.n);
    w.weights = host_alloc((size_t)n_out * (size_t)w.most * sizeof *w.weights);
    double *scratch = host_alloc((size_t)w.most * sizeof *scratch);
    if (w.first == NULL || w.n == NULL || w.weights == NULL || scratch == NULL) {
        weights_free(&w);
        host_free(scratch);
        return ST_NOMEM;
    }
    for (int at = 0; at < n_out; at++) {
        if (filter == RESAMPLE_NEAREST) {
            w.first[at] = clamp((int)(at * scale), n_in - 1);
            w.n[at] = 1;
            w.weights[at] = 1 << WEIGHT_BITS;
        } else {
            make_weights_at(&w, at, n_in, scale, scratch, filter);
        }
    }
    host_free(scratch);
    *out = w;
    return ST_OK;
}

/* ---- pixels ---------------------------------------------------------------------------------- */

static uint8_t to_level(int64_t sum)
{
    const int64_t level = sum >> WEIGHT_BITS;

    return (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
}

static void along_row(const struct weights_of *w, const uint8_t *in, int n_out, uint8_t *out)
{
    for (int x = 0; x < n_out; x++) {
        const int32_t *weights = w->weights + (size_t)x * (size_t)w->most;
        const uint8_t *from = in + (size_t)w->first[x] * CHANNELS;
        int64_t sum[CHANNELS] = {1 << (WEIGHT_BITS - 1), 1 << (WEIGHT_BITS - 1),
                                 1 << (WEIGHT_BITS - 1)};

        for (int i = 0; i < w->n[x]; i++, from += CHANNELS)
            for (int c = 0; c < CHANNELS; c++)
                sum[c] += (int64_t)from[c] * weights[i];
        for (int c = 0; c < CHANNELS; c++)
            *out++ = to_level(sum[c]);
    }
}

/* One output row of rows of n_bytes; sums [n_bytes] is scratch. */
static void across_rows(const struct weights_of *w, int y, const uint8_t *in, size_t n_bytes,
                        int64_t *sums, uint8_t *out)
{
    const int32_t *weights = w->weights + (size_t)y * (size_t)w->most;

    for (size_t i = 0; i < n_bytes; i++)
        sums[i] = 1 << (WEIGHT_BITS - 1);
    for (int k = 0; k < w->n[y]; k++) {
        const uint8_t *row = in + (size_t)(w->first[y] + k) * n_bytes;

        for (size_t i = 0; i < n_bytes; i++)
            sums[i] += (int64_t)row[i] * weights[k];
    }
    for (size_t i = 0; i < n_bytes; i++)
        out[i] = to_level(sums[i]);
}

enum status resize_rgb(const uint8_t *in, int width, int height, int out_width, int out_height,
                       enum resample filter, uint8_t *out)
{
    enum status st = ST_OK;
    const size_t in_bytes = (size_t)width * CHANNELS, n_bytes = (size_t)out_width * CHANNELS;
    struct weights_of columns = {0}, rows = {0};
    uint8_t *wide = NULL;
    int64_t *sums = NULL;

    assert(width > 0 && height > 0 && out_width > 0 && out_height > 0);
    if (out_width != width) {
        TRY(make_weights(width, out_width, filter, &columns), done);
        st = ST_NOMEM;
        wide = out_height != height ? host_alloc((size_t)height * n_bytes) : out;
        if (wide == NULL)
            goto done;
        for (int y = 0; y < height; y++)
            along_row(&columns, in + (size_t)y * in_bytes, out_width, wide + (size_t)y * n_bytes);
        in = wide;
        st = ST_OK;
    }
    if (out_height != height) {
        TRY(make_weights(height, out_height, filter, &rows), done);
        sums = host_alloc(n_bytes * sizeof *sums);
        st = sums != NULL ? ST_OK : ST_NOMEM;
        for (int y = 0; sums != NULL && y < out_height; y++)
            across_rows(&rows, y, in, n_bytes, sums, out + (size_t)y * n_bytes);
    } else if (out_width == width) {
        memcpy(out, in, (size_t)height * n_bytes);
    }
done:
    if (wide != out)
        host_free(wide);
    host_free(sums);
    weights_free(&columns);
    weights_free(&rows);
    return st;
}
