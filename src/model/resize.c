/*
 * resize.c - pictures of 8-bit RGB made larger or smaller, with the filters that models are trained
 * with.
 *
 * What torchvision does with 8-bit pixels, level by level: along an axis each new pixel is a
 * weighted sum of the pixels under the filter, which is as wide as the step is when a picture
 * shrinks. First rows, then columns; weights of 16 bits, as many of them fractional as the largest
 * weight of the axis leaves room for; 8 bits in between.  Pillow's weights have 22 fractional bits,
 * which is up to two levels away.  Weights are made of additions, multiplications and divisions in
 * double, so they are the same everywhere; the sums are of integers.  Caller: vision_prep.c.
 */
#include <assert.h>
#include <math.h>

#include "model/vision.h"

enum { MAX_BITS = 22, CHANNELS = 3 };

/* ---- filters --------------------------------------------------------------------------------- */

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* sin(pi x) / (pi x) by its power series around the nearest whole number. */
static double sinc(double x)
{
    const double pi = 3.14159265358979323846, whole = rint(x), r = (x - whole) * pi;
    double term = r, sum = r;

    if (x == 0)
        return 1;
    for (int k = 1; k <= 12; k++) {
        term *= -r * r / (2 * k * (2 * k + 1));
        sum += term;
    }
    return (fmod(whole, 2) != 0 ? -sum : sum) / (x * pi);
}

static double lanczos(double x)
{
    return x > -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static const struct {
    double (*at)(double x);
    double support; /* it is 0 from there on */
} filters[] = {
    [RESAMPLE_NEAREST] = {NULL, 0},
    [RESAMPLE_BILINEAR] = {bilinear, 1},
    [RESAMPLE_BICUBIC] = {bicubic, 2},
    [RESAMPLE_LANCZOS] = {lanczos, 3},
};

/* ---- weights --------------------------------------------------------------------------------- */

/* Of an axis: new pixel i is the sum of weights[i * max + k] * old pixel first[i] + k, k < n[i]. */
struct axis {
    int n_out, max;
    int bits;         /* of a weight, behind the point */
    int *first, *n;   /* [n_out] owned */
    int16_t *weights; /* [n_out, max] owned */
};

/* An axis as a whole. */
struct step {
    int n_in, n_all;
    enum resample resample;
    double ratio, scale; /* old pixels to a new one; how much wider that makes the filter */
};

static void axis_free(struct axis *axis)
{
    host_free(axis->first);
    host_free(axis->n);
    host_free(axis->weights);
}

/* Of new pixel i: the first old one and its weight, then the others'; returns how many. */
static int weigh(const struct step *step, int i, int *out_first, double *out)
{
    const double support = filters[step->resample].support * step->scale, inverse = 1 / step->scale;
    const double center = step->ratio * (i + 0.5);
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    double sum = 0;

    if (filters[step->resample].at == NULL) { /* in float, as torch has it */
        const int at = (int)(float)((i + 0.5) * (double)(float)step->ratio);

        *out_first = at < step->n_in ? at : step->n_in - 1;
        out[0] = 1;
        return 1;
    }
    if (first < 0)
        first = 0;
    if (end > step->n_in)
        end = step->n_in;
    for (int k = 0; k < end - first; k++) {
        out[k] = filters[step->resample].at((k + first - center + 0.5) * inverse);
        sum += out[k];
    }
    for (int k = 0; k < end - first; k++)
        out[k] = sum != 0 ? out[k] / sum : out[k];
    *out_first = first;
    return end - first;
}

/* As many as leave the largest weight of the whole axis below 2^15. */
static int bits_of(const struct step *step, double *scratch)
{
    double most = 0;
    int bits = 1, first; /* 14 at least, as weights are below 2 */

    for (int i = 0; i < step->n_all; i++)
        for (int k = weigh(step, i, &first, scratch); k-- > 0;)
            most = scratch[k] > most ? scratch[k] : most;
    while (bits < MAX_BITS && (int)(0.5 + most * (1 << (bits + 1))) < 1 << 15)
        bits++;
    return bits;
}

static void round_weights(struct axis *axis, int i, const double *exact)
{
    int16_t *weights = axis->weights + (size_t)i * (size_t)axis->max;

    for (int k = 0; k < axis->n[i]; k++) {
        const double weight = exact[k] * (1 << axis->bits);

        weights[k] = (int16_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
}

/* Pixels [begin, begin + n_out) of n_all that n_in become. */
static enum status axis_make(int n_in, int n_all, int begin, int n_out, enum resample resample,
                             struct axis *axis)
{
    const double ratio = (double)n_in / n_all, scale = ratio < 1 ? 1 : ratio;
    const struct step step = {n_in, n_all, resample, ratio, scale};
    double *scratch = NULL;

    *axis =
        (struct axis){.n_out = n_out, .max = (int)ceil(filters[resample].support * scale) * 2 + 1};
    axis->first = host_alloc((size_t)n_out * sizeof *axis->first);
    axis->n = host_alloc((size_t)n_out * sizeof *axis->n);
    axis->weights = host_alloc((size_t)n_out * (size_t)axis->max * sizeof *axis->weights);
    scratch = host_alloc((size_t)axis->max * sizeof *scratch);
    const bool ok =
        axis->first != NULL && axis->n != NULL && axis->weights != NULL && scratch != NULL;
    axis->bits = ok ? bits_of(&step, scratch) : 1;
    for (int i = 0; ok && i < n_out; i++) {
        axis->n[i] = weigh(&step, begin + i, &axis->first[i], scratch);
        round_weights(axis, i, scratch);
    }
    host_free(scratch);
    return ok ? ST_OK : ST_NOMEM;
}

/* ---- sums ------------------------------------------------------------------------------------ */

static uint8_t clip(int32_t sum, int bits)
{
    sum >>= bits; /* of negative numbers, too: gcc and clang shift the sign in */
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* One row of the input, [.., 3], to one of n_out pixels. */
static void across(const struct axis *axis, const uint8_t *in, uint8_t *out)
{
    for (int i = 0; i < axis->n_out; i++, out += CHANNELS) {
        const int16_t *weights = axis->weights + (size_t)i * (size_t)axis->max;
        const uint8_t *at = in + (size_t)axis->first[i] * CHANNELS;
        int32_t r = 1 << (axis->bits - 1), g = r, b = r;

        for (int k = 0; k < axis->n[i]; k++, at += CHANNELS) {
            r += at[0] * weights[k];
            g += at[1] * weights[k];
            b += at[2] * weights[k];
        }
        out[0] = clip(r, axis->bits);
        out[1] = clip(g, axis->bits);
        out[2] = clip(b, axis->bits);
    }
}

/* Rows of n bytes under the filter to one row; sums [n] is scratch. */
static void down(const struct axis *axis, int i, const uint8_t *rows, size_t n, int32_t *sums,
                 uint8_t *out)
{
    const int16_t *weights = axis->weights + (size_t)i * (size_t)axis->max;

    for (size_t x = 0; x < n; x++)
        sums[x] = 1 << (axis->bits - 1);
    for (int k = 0; k < axis->n[i]; k++, rows += n) {
        const int16_t weight = weights[k];

        for (size_t x = 0; x < n; x++)
            sums[x] += (int16_t)rows[x] * weight;
    }
    for (size_t x = 0; x < n; x++)
        out[x] = clip(sums[x], axis->bits);
}

enum status resize_rgb(const struct resize_args *args, uint8_t *out)
{
    enum status st = ST_NOMEM;
    const struct resize_window *w = &args->window;
    const size_t in_bytes = (size_t)args->in_width * CHANNELS;
    const size_t row_bytes = (size_t)w->width * CHANNELS;
    struct axis x = {0}, y = {0};
    uint8_t *rows = NULL; /* those of the input that the window needs, as wide as the window */
    int32_t *sums = NULL;

    assert(w->width > 0 && w->height > 0 && w->x >= 0 && w->y >= 0 &&
           w->x <= args->out_width - w->width && w->y <= args->out_height - w->height);
    TRY(axis_make(args->in_width, args->out_width, w->x, w->width, args->resample, &x), err);
    TRY(axis_make(args->in_height, args->out_height, w->y, w->height, args->resample, &y), err);
    const int last = w->height - 1, first = y.first[0], end = y.first[last] + y.n[last];
    rows = host_alloc((size_t)(end - first) * row_bytes);
    sums = host_alloc(row_bytes * sizeof *sums);
    st = ST_NOMEM;
    if (rows == NULL || sums == NULL)
        goto err;
    for (int i = first; i < end; i++)
        across(&x, args->in + (size_t)i * in_bytes, rows + (size_t)(i - first) * row_bytes);
    for (int i = 0; i < w->height; i++)
        down(&y, i, rows + (size_t)(y.first[i] - first) * row_bytes, row_bytes, sums,
             out + (size_t)i * row_bytes);
    st = ST_OK;
err:
    host_free(sums);
    host_free(rows);
    axis_free(&x);
    axis_free(&y);
    return st;
}
