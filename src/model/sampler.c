/*
 * sampler.c - one token from one row of logits, and log-probabilities of the unmodified logits.
 *
 *   logits -> repetition penalty -> temperature -> top-k -> top-p -> min-p -> draw
 *
 * Called by engine/ for every sequence whose next token is wanted.  The answer depends on the
 * arguments only, on every machine: arithmetic is in double with one fixed order, exp is our own,
 * the random number is a function of (seed, row, sample, position).
 *
 * What is summed in which order, since that is part of the answer:
 *   - a token's rank is by score, highest first, ties to the lowest id;
 *   - the mass that top_p is a share of, and the draw itself, add weights in id order;
 *   - top-p adds the mass of whole bands of scores, the best band first, then, in the band where
 *     the share is reached, weights in rank order.  So nothing needs all tokens sorted: a heap puts
 *     the tokens of one band in order.
 */
#include <assert.h>
#include <float.h>
#include <math.h>

#include "model/model.h"

/* Scores this far below the best weigh nothing: together 2^18 such tokens have less than the 2^-53
 * that a draw can resolve. */
static const double SCORE_MIN = -50.0;

/* Bands of scores in top-p: BAND_0 is what a score of 0 falls in, SCORE_MIN falls in band 0. */
enum { BANDS_PER_UNIT = 80, BAND_0 = 50 * BANDS_PER_UNIT, N_BANDS = BAND_0 + 1 };

/* An element of a heap whose first is the highest key, ties to the lowest id. */
struct ranked {
    double key;
    int32_t id;
};

struct sampler {
    int V;
    double *scores;      /* [V] owned; by id, from apply_temperature on of candidate i */
    double *weights;     /* [V] owned; of candidate i, exp(its score) */
    int32_t *candidates; /* [V] owned; ids that may still be drawn, ascending */
    struct ranked *heap; /* [V] owned */
    double *bands;       /* [N_BANDS] owned */
    uint8_t *seen;       /* [V] owned; all zero between picks */
};

enum status sampler_create(int V, struct sampler **out_sampler)
{
    struct sampler *s = host_zalloc(sizeof *s);

    assert(V > 0);
    if (s == NULL)
        return ST_NOMEM;
    s->V = V;
    s->scores = host_alloc((size_t)V * sizeof *s->scores);
    s->weights = host_alloc((size_t)V * sizeof *s->weights);
    s->candidates = host_alloc((size_t)V * sizeof *s->candidates);
    s->heap = host_alloc((size_t)V * sizeof *s->heap);
    s->bands = host_alloc(N_BANDS * sizeof *s->bands);
    s->seen = host_zalloc((size_t)V);
    if (s->scores == NULL || s->weights == NULL || s->candidates == NULL || s->heap == NULL ||
        s->bands == NULL || s->seen == NULL) {
        sampler_destroy(s);
        return ST_NOMEM;
    }
    *out_sampler = s;
    return ST_OK;
}

void sampler_destroy(struct sampler *sampler)
{
    if (sampler == NULL)
        return;
    host_free(sampler->scores);
    host_free(sampler->weights);
    host_free(sampler->candidates);
    host_free(sampler->heap);
    host_free(sampler->bands);
    host_free(sampler->seen);
    host_free(sampler);
}

/* ---- a heap of ranks ------------------------------------------------------------------------ */

static bool ranks_before(struct ranked a, struct ranked b)
{
    return a.key > b.key || (a.key == b.key && a.id < b.id);
}

/* Move the element at `at` down until nothing below ranks before it. */
static void heap_sift(struct ranked *heap, int n, int at)
{
    const struct ranked moving = heap[at];

    for (int child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && ranks_before(heap[child + 1], heap[child]))
            child++;
        if (!ranks_before(heap[child], moving))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void heap_build(struct ranked *heap, int n)
{
    for (int at = n / 2 - 1; at >= 0; at--)
        heap_sift(heap, n, at);
}

/* Take the first element out of a heap of *n > 0. */
static struct ranked heap_pop(struct ranked *heap, int *n)
{
    const struct ranked first = heap[0];

    heap[0] = heap[--*n];
    if (*n > 0)
        heap_sift(heap, *n, 0);
    return first;
}

/* The same token in a heap that has the worst rank first, and back. */
static struct ranked reversed(struct ranked a)
{
    return (struct ranked){-a.key, -a.id};
}

/* Let a heap of the n_best best ranks so far, worst first, see one more; *n is how many it has. */
static void best_offer(struct ranked *heap, int n_best, int *n, struct ranked offer)
{
    const struct ranked back = reversed(offer);

    if (*n < n_best) {
        heap[(*n)++] = back;
        if (*n == n_best)
            heap_build(heap, n_best);
    } else if (ranks_before(heap[0], back)) {
        heap[0] = back;
        heap_sift(heap, n_best, 0);
    }
}

/* ---- the steps in order --------------------------------------------------------------------- */

/* Scores become the logits, those of tokens in history moved towards the unlikely, each once:
 * divided by the penalty when positive, else multiplied. */
static void apply_penalty(struct sampler *s, const float *logits, double penalty,
                          const int32_t *history, int n_history)
{
    for (int id = 0; id < s->V; id++)
        s->scores[id] = (double)logits[id];
    if (penalty == 1.0)
        return;
    for (int i = 0; i < n_history; i++) {
        const int32_t id = history[i];

        assert(id >= 0 && id < s->V);
        if (s->seen[id])
            continue;
        s->seen[id] = 1;
        s->scores[id] = s->scores[id] > 0 ? s->scores[id] / penalty : s->scores[id] * penalty;
    }
    for (int i = 0; i < n_history; i++)
        s->seen[history[i]] = 0;
}

/* The id with the highest score, the lowest of several. */
static int32_t best_id(const double *scores, int V)
{
    double best = scores[0];
    int32_t at = 0;

    for (int32_t id = 1; id < V; id++) {
        if (scores[id] > best) {
            best = scores[id];
            at = id;
        }
    }
    return at;
}

/* Scores become differences to the best, divided by temperature: 0 for the best, never NaN.
 * Candidates are those that weigh anything.  Returns how many. */
static int apply_temperature(struct sampler *s, double temperature)
{
    double *scores = s->scores;
    int32_t *candidates = s->candidates;
    const int V = s->V;
    const double best = scores[best_id(scores, V)];
    int n = 0;

    for (int32_t id = 0; id < V; id++) {
        const double score = (scores[id] - best) / temperature;

        scores[n] = score; /* n <= id */
        candidates[n] = id;
        n += score >= SCORE_MIN;
    }
    return n;
}

static struct ranked candidate(const struct sampler *s, int i)
{
    return (struct ranked){s->scores[i], s->candidates[i]};
}

/* Keep the candidates that rank no later than `last`.  Returns how many. */
static int keep_until(struct sampler *s, int n, struct ranked last)
{
    int n_kept = 0;

    for (int i = 0; i < n; i++) {
        const bool kept = !ranks_before(last, candidate(s, i));

        s->scores[n_kept] = s->scores[i];
        s->candidates[n_kept] = s->candidates[i];
        n_kept += kept;
    }
    return n_kept;
}

static int keep_top_k(struct sampler *s, int n, int top_k)
{
    int n_heap = 0;

    if (top_k <= 0 || top_k >= n)
        return n;
    for (int i = 0; i < n; i++)
        best_offer(s->heap, top_k, &n_heap, candidate(s, i));
    return keep_until(s, n, reversed(s->heap[0]));
}

/* weights [n] = exp of scores [n], which do not overlap: compilers make vector code of it. */
static void weigh(double *restrict weights, const double *restrict scores, int n)
{
    for (int i = 0; i < n; i++)
        weights[i] = draw_exp(scores[i]);
}

static double sum_in_id_order(const double *weights, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += weights[i];
    return sum;
}

static int band_of(double score)
{
    return (int)((score - SCORE_MIN) * BANDS_PER_UNIT);
}

/* Keep the fewest best candidates whose weights reach top_p of all candidates'. */
static int keep_top_p(struct sampler *s, int n, double top_p)
{
    const double goal = top_p * sum_in_id_order(s->weights, n);
    struct ranked last = {0, 0};
    double sum = 0;
    int band = BAND_0, n_heap = 0, n_kept;

    if (top_p >= 1.0)
        return n;
    memset(s->bands, 0, N_BANDS * sizeof *s->bands);
    for (int i = 0; i < n; i++)
        s->bands[band_of(s->scores[i])] += s->weights[i];
    while (band >= 0 && sum + s->bands[band] < goal)
        sum += s->bands[band--];
    if (band < 0) /* by rounding, when top_p is within 1e-12 of 1 */
        return n;

    for (int i = 0; i < n; i++)
        if (band_of(s->scores[i]) == band)
            s->heap[n_heap++] = candidate(s, i);
    heap_build(s->heap, n_heap);
    do {
        last = heap_pop(s->heap, &n_heap);
        sum += draw_exp(last.key);
    } while (sum < goal && n_heap > 0);
    n_kept = keep_until(s, n, last);
    weigh(s->weights, s->scores, n_kept);
    return n_kept;
}

/* Keep candidates at least min_p times as likely as the best, whose weight is 1. */
static int keep_min_p(struct sampler *s, int n, double min_p)
{
    int n_kept = 0;

    if (min_p <= 0)
        return n;
    for (int i = 0; i < n; i++) {
        s->candidates[n_kept] = s->candidates[i];
        s->weights[n_kept] = s->weights[i];
        n_kept += s->weights[i] >= min_p;
    }
    return n_kept;
}

/* A number 0 <= u < 1 with 53 random bits that belongs to (seed, row, sample, position). */
static double uniform(const struct sampler_params *params, int position)
{
    const uint32_t key[2] = {(uint32_t)params->seed, (uint32_t)(params->seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)params->row, (uint32_t)(params->row >> 32),
                                 (uint32_t)params->sample, (uint32_t)position};
    uint32_t random[4];

    assert(params->sample <= UINT32_MAX);
    philox4x32(key, counter, random);
    return (double)(((uint64_t)random[0] << 32 | random[1]) >> 11) * 0x1p-53;
}

static int32_t draw(const struct sampler *s, int n, double u)
{
    const double goal = u * sum_in_id_order(s->weights, n);
    double sum = 0;

    for (int i = 0; i < n; i++) {
        sum += s->weights[i];
        if (sum > goal)
            return s->candidates[i];
    }
    return s->candidates[n - 1];
}

static int32_t pick_at_random(struct sampler *s, const struct sampler_params *params, int position)
{
    int n = apply_temperature(s, params->temperature);

    n = keep_top_k(s, n, params->top_k);
    weigh(s->weights, s->scores, n);
    n = keep_top_p(s, n, params->top_p);
    n = keep_min_p(s, n, params->min_p);
    return draw(s, n, uniform(params, position));
}

/* ---- logprobs ------------------------------------------------------------------------------- */

static float logprob(float logit, float max, float logsum)
{
    return (float)((double)logit - (double)max - (double)logsum);
}

/* The n_top most likely tokens of the unmodified logits, best first; -1 and -inf past V. */
static void fill_top(struct sampler *s, const float *logits, float max, float logsum, int n_top,
                     struct sampled *out)
{
    const int n_best = n_top < s->V ? n_top : s->V;
    int n = 0;

    if (n_top == 0)
        return;
    for (int32_t id = 0; id < s->V; id++)
        best_offer(s->heap, n_best, &n, (struct ranked){(double)logits[id], id});
    while (n > 0) {
        const struct ranked worst = reversed(heap_pop(s->heap, &n));

        out->top_ids[n] = worst.id;
        out->top_logprobs[n] = logprob(logits[worst.id], max, logsum);
    }
    for (int i = n_best; i < n_top; i++) {
        out->top_ids[i] = -1;
        out->top_logprobs[i] = -INFINITY;
    }
}

enum status sampler_pick(struct sampler *sampler, const struct sampler_params *params,
                         const float *logits, float max, float logsum, const int32_t *history,
                         int n_history, int position, struct sampled *out, struct row_error *err)
{
    assert(params->repetition_penalty > 0 && params->temperature >= 0 && params->top_p > 0);
    assert(params->min_p >= 0 && params->min_p <= 1 && params->n_top <= SAMPLER_MAX_TOP);

    if (!isfinite(max))
        return row_error_set(err,
                             "the model gave no usable logits at position %d (%s): check the "
                             "model's weights, or try precision = \"f32\"",
                             position, max == -INFINITY ? "all are -inf" : "one is NaN or +inf");

    apply_penalty(sampler, logits, params->repetition_penalty, history, n_history);
    /* Threads flush denormals to zero: a temperature that small is zero. */
    if (params->temperature < DBL_MIN)
        out->token = best_id(sampler->scores, sampler->V);
    else
        out->token = pick_at_random(sampler, params, position);
    if (params->n_top >= 0) {
        out->logprob = logprob(logits[out->token], max, logsum);
        fill_top(sampler, logits, max, logsum, params->n_top, out);
    }
    return ST_OK;
}
