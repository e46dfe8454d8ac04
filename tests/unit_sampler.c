/* TEST */
/*
 * unit_sampler.c - the sampler against a plain float64 oracle that sorts everything; distribution,
 * ties, edges, and that a pick depends on its arguments only.
 */
#include <math.h>

#include "model/model.h"
#include "test.h"

enum { V_MAX = 3000, SEED = 20240607 };

static const struct sampler_params plain = {
    .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 7, .n_top = -1};

/* Numbers for the tests: philox again, by a counter of its own. */
struct noise {
    uint32_t next;
};

static double noise_uniform(struct noise *noise)
{
    const uint32_t key[2] = {SEED, 0}, counter[4] = {noise->next++, 1, 2, 3};
    uint32_t out[4];

    philox4x32(key, counter, out);
    return out[0] * 0x1p-32;
}

static int noise_below(struct noise *noise, int n)
{
    return (int)(noise_uniform(noise) * n);
}

static void stats(const float *logits, int V, float *max, float *logsum)
{
    double sum = 0;

    *max = -INFINITY;
    for (int i = 0; i < V; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY)
            *max = NAN;
        if (!isnan(*max) && logits[i] > *max)
            *max = logits[i];
    }
    for (int i = 0; i < V; i++)
        sum += exp((double)logits[i] - (double)*max);
    *logsum = (float)log(sum);
}

static enum status pick(struct sampler *sampler, const struct sampler_params *params,
                        const float *logits, int V, const int32_t *history, int n_history,
                        int position, struct sampled *out)
{
    struct row_error err = {""};
    float max, logsum;

    stats(logits, V, &max, &logsum);
    return sampler_pick(sampler, params, logits, max, logsum, history, n_history, position, out,
                        &err);
}

/* ---- the oracle ----------------------------------------------------------------------------- */

struct entry {
    double score, weight;
    int id;
};

static int by_rank(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id - y->id;
}

static int by_id(const void *a, const void *b)
{
    return ((const struct entry *)a)->id - ((const struct entry *)b)->id;
}

/* One step after the other, on a fully sorted list, with libm's exp. */
static int oracle(const struct sampler_params *params, const float *logits, int V,
                  const int32_t *history, int n_history, int position)
{
    static struct entry list[V_MAX];
    int n = V;

    for (int id = 0; id < V; id++) {
        bool seen = false;
        double score = (double)logits[id];

        for (int i = 0; i < n_history; i++)
            seen |= history[i] == id;
        if (seen)
            score =
                score > 0 ? score / params->repetition_penalty : score * params->repetition_penalty;
        list[id] = (struct entry){score, 0, id};
    }
    qsort(list, (size_t)n, sizeof *list, by_rank);
    if (params->temperature == 0)
        return list[0].id;
    const double best = list[0].score;
    for (int i = 0; i < n; i++)
        list[i].score = (list[i].score - best) / params->temperature;
    qsort(list, (size_t)n, sizeof *list, by_rank); /* the division can make new ties */
    if (params->top_k > 0 && params->top_k < n)
        n = params->top_k;
    double all = 0, sum = 0;
    for (int i = 0; i < n; i++) {
        list[i].weight = exp(list[i].score);
        all += list[i].weight;
    }
    if (params->top_p < 1) {
        int n_kept = 0;

        while (n_kept < n && sum < params->top_p * all)
            sum += list[n_kept++].weight;
        n = n_kept;
    }
    while (n > 1 && list[n - 1].weight < params->min_p)
        n--;

    const uint32_t key[2] = {(uint32_t)params->seed, (uint32_t)(params->seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)params->row, (uint32_t)(params->row >> 32),
                                 (uint32_t)params->sample, (uint32_t)position};
    uint32_t random[4];
    philox4x32(key, counter, random);
    const uint64_t bits = (uint64_t)random[0] << 32 | random[1];
    const double u = (double)(bits >> 11) / 9007199254740992.0;

    qsort(list, (size_t)n, sizeof *list, by_id);
    all = sum = 0;
    for (int i = 0; i < n; i++)
        all += list[i].weight;
    for (int i = 0; i < n; i++) {
        sum += list[i].weight;
        if (sum > u * all)
            return list[i].id;
    }
    return -1;
}

/* Random logits, coarse ones (many ties) among them, against the oracle in every combination. */
static void agrees_with_the_oracle(void)
{
    static const double temperatures[] = {0, 0.05, 0.7, 1, 3};
    static const double top_ps[] = {1, 0.999999, 0.95, 0.5, 1e-9};
    static const double min_ps[] = {0, 0.02, 0.5, 1};
    static const double penalties[] = {1, 1.3, 0.8};
    static const int top_ks[] = {0, 1, 2, 40, 1000, 5000};
    static float logits[V_MAX];
    struct noise noise = {0};
    int wrong = 0;

    fprintf(stderr, "seed %d\n", SEED);
    for (int round = 0; round < 3000; round++) {
        const int V = 1 + noise_below(&noise, round % 10 == 0 ? V_MAX : 200);
        const double spread = 0.1 + 8 * noise_uniform(&noise);
        const bool coarse = round % 3 == 0;
        const int position = noise_below(&noise, 1 << 20), n_history = noise_below(&noise, 50);
        struct sampler_params params = {
            .temperature = temperatures[noise_below(&noise, 5)],
            .top_p = top_ps[noise_below(&noise, 5)],
            .min_p = min_ps[noise_below(&noise, 4)],
            .repetition_penalty = penalties[noise_below(&noise, 3)],
            .top_k = top_ks[noise_below(&noise, 6)],
            .seed = (uint64_t)round << 33 | 5,
            .row = (uint64_t)round << 30,
            .sample = (uint64_t)noise_below(&noise, 3),
            .n_top = -1,
        };
        int32_t history[50];
        struct sampler *sampler = NULL;
        struct sampled got;

        for (int i = 0; i < V; i++) {
            const double sum = noise_uniform(&noise) + noise_uniform(&noise) +
                               noise_uniform(&noise) + noise_uniform(&noise) - 2;

            logits[i] = (float)(coarse ? floor(sum * 4) : sum * spread);
        }
        for (int i = 0; i < n_history; i++)
            history[i] = noise_below(&noise, V);
        CHECK(sampler_create(V, &sampler) == ST_OK);
        CHECK(pick(sampler, &params, logits, V, history, n_history, position, &got) == ST_OK);
        wrong += got.token != oracle(&params, logits, V, history, n_history, position);
        sampler_destroy(sampler);
    }
    CHECK_INT(wrong, 0);
}

/* 100,000 draws from 40 known probabilities: chi-square with 39 degrees of freedom exceeds 72.1
 * with probability 0.001; the seed is fixed, so the test is too. */
static void draws_follow_the_distribution(void)
{
    enum { V = 40, DRAWS = 100000 };
    struct sampler_params params = plain;
    struct sampler *sampler = NULL;
    float logits[V];
    double weights[V], all = 0;
    int counts[V] = {0};

    for (int i = 0; i < V; i++) {
        logits[i] = (float)(i * 7 % V) * 0.15f;
        weights[i] = exp((double)logits[i] / 1.5);
        all += weights[i];
    }
    params.temperature = 1.5;
    CHECK(sampler_create(V, &sampler) == ST_OK);
    for (int i = 0; i < DRAWS; i++) {
        struct sampled got;

        params.row = (uint64_t)(i % 100);
        CHECK(pick(sampler, &params, logits, V, NULL, 0, i / 100, &got) == ST_OK);
        counts[got.token]++;
    }
    double chi = 0;
    for (int i = 0; i < V; i++) {
        const double want = DRAWS * weights[i] / all;

        chi += (counts[i] - want) * (counts[i] - want) / want;
    }
    fprintf(stderr, "chi-square of %d draws: %.1f\n", DRAWS, chi);
    CHECK(chi < 72.1);
    CHECK(chi > 15.0); /* too good is wrong as well: 0.001 below 16.3 */
    sampler_destroy(sampler);
}

static int token_of(const struct sampler_params *params, const float *logits, int V,
                    const int32_t *history, int n_history, int position)
{
    struct sampler *sampler = NULL;
    struct sampled got = {.token = -1};

    CHECK(sampler_create(V, &sampler) == ST_OK);
    CHECK(pick(sampler, params, logits, V, history, n_history, position, &got) == ST_OK);
    sampler_destroy(sampler);
    return got.token;
}

static void ties_go_to_the_lowest_id(void)
{
    const float logits[] = {1, 3, 3, 2, 3, -1};
    const int32_t history[] = {1, 1, 1};
    struct sampler_params params = plain;

    params.temperature = 0;
    CHECK_INT(token_of(&params, logits, 6, NULL, 0, 0), 1);
    params.repetition_penalty = 1.0001; /* once per distinct token, whatever the ties */
    CHECK_INT(token_of(&params, logits, 6, history, 3, 0), 2);

    params = plain;
    params.top_k = 2;
    for (int position = 0; position < 200; position++) {
        const int token = token_of(&params, logits, 6, NULL, 0, position);

        CHECK(token == 1 || token == 2);
    }
    params.top_k = 0;
    params.top_p = 0.3; /* the first of three equal ones holds just less than 0.3 of the mass */
    int seen[6] = {0};
    for (int position = 0; position < 200; position++)
        seen[token_of(&params, logits, 6, NULL, 0, position)]++;
    CHECK(seen[1] > 50 && seen[2] > 50);
    CHECK_INT(seen[1] + seen[2], 200);
}

static void penalty_counts_each_token_once(void)
{
    const float logits[] = {4.0f, 3.0f, -1.0f, -1.5f};
    const int32_t twice[] = {0, 0, 2, 2, 2};
    const float low[] = {-1.0f, -1.5f};
    const int32_t first[] = {0, 0, 0};
    struct sampler_params params = plain;

    params.temperature = 0;
    params.repetition_penalty = 1.25; /* 4 / 1.25 = 3.2 stays; twice would be 2.56 */
    CHECK_INT(token_of(&params, logits, 4, twice, 5, 0), 0);
    params.repetition_penalty = 1.4;
    CHECK_INT(token_of(&params, logits, 4, twice, 5, 0), 1);
    CHECK_INT(token_of(&params, low, 2, first, 3, 0), 0); /* -1 * 1.4 = -1.4; twice: -1.96 */
    params.repetition_penalty = 1.6;
    CHECK_INT(token_of(&params, low, 2, first, 3, 0), 1);
}

static void edges(void)
{
    static const double temperatures[] = {0, 1e-320, 1e-300, 1e-6, 0.01};
    const float logits[] = {0.5f, 1.5f, -2.0f, 1.4f}, one[] = {-3.0f};
    const float masked[] = {-INFINITY, -INFINITY, -5.0f, -INFINITY};
    const float bad[][3] = {
        {1, NAN, 0}, {1, INFINITY, 0}, {-INFINITY, -INFINITY, -INFINITY}, {NAN, NAN, NAN}};
    struct sampler_params params = plain;
    struct sampled got;

    for (size_t i = 0; i < sizeof temperatures / sizeof temperatures[0]; i++) {
        params.temperature = temperatures[i];
        for (int position = 0; position < 20; position++) {
            CHECK_INT(token_of(&params, logits, 4, NULL, 0, position), 1);
            CHECK_INT(token_of(&params, masked, 4, NULL, 0, position), 2);
            CHECK_INT(token_of(&params, one, 1, NULL, 0, position), 0);
        }
    }
    params = plain;
    for (int position = 0; position < 100; position++) {
        struct sampler_params other = plain;
        const int token = token_of(&plain, logits, 4, NULL, 0, position);

        CHECK_INT(token_of(&plain, masked, 4, NULL, 0, position), 2);
        other.top_k = 4;
        CHECK_INT(token_of(&other, logits, 4, NULL, 0, position), token);
        other.top_k = 1000000;
        CHECK_INT(token_of(&other, logits, 4, NULL, 0, position), token);
        other.top_k = 1;
        CHECK_INT(token_of(&other, logits, 4, NULL, 0, position), 1);
        other.top_k = 0;
        other.top_p = 1e-300;
        CHECK_INT(token_of(&other, logits, 4, NULL, 0, position), 1);
        other.top_p = 1;
        other.min_p = 1;
        CHECK_INT(token_of(&other, logits, 4, NULL, 0, position), 1);
    }

    struct sampler *sampler = NULL;
    CHECK(sampler_create(3, &sampler) == ST_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct row_error err = {""};
        float max, logsum;

        stats(bad[i], 3, &max, &logsum);
        CHECK(sampler_pick(sampler, &plain, bad[i], max, logsum, NULL, 0, 17, &got, &err) ==
              ST_ROW);
        CHECK_HAS(err.text, "position 17");
        CHECK_HAS(err.text, i == 2 ? "all are -inf" : "NaN");
        CHECK_HAS(err.text, "check the model's weights");
    }
    sampler_destroy(sampler);
    sampler_destroy(NULL);
}

/* With extreme temperatures no float operation may trap or give NaN; denormals flushed or not. */
static void works_with_denormals_flushed(void)
{
    const float logits[] = {0.5f, 1.5f, -2.0f, 1.4f};
    struct sampler_params params = plain;

    threads_set_numeric_mode();
    params.temperature = 1e-310;
    CHECK_INT(token_of(&params, logits, 4, NULL, 0, 1), 1);
    params.temperature = 1e300;
    CHECK(token_of(&params, logits, 4, NULL, 0, 1) >= 0);
}

static void logprobs_are_of_the_unmodified_logits(void)
{
    const float logits[] = {0.0f, 2.0f, 1.0f, 2.0f, -INFINITY, 1.0f};
    const int32_t history[] = {1, 3}, want_ids[] = {1, 3, 2, 5, 0, 4};
    const double all = 1 + 2 * exp(1) + 2 * exp(2);
    struct sampler_params params = plain;
    struct sampler *sampler = NULL;
    struct sampled got = {0};

    params.temperature = 0;
    params.repetition_penalty = 4; /* 1 and 3 fall to 0.5; the answer is 2 */
    params.top_k = 1;
    params.n_top = 8;
    CHECK(sampler_create(6, &sampler) == ST_OK);
    CHECK(pick(sampler, &params, logits, 6, history, 2, 0, &got) == ST_OK);
    CHECK_INT(got.token, 2);
    CHECK(fabs((double)got.logprob - (1 - log(all))) < 1e-6);
    for (int i = 0; i < 6; i++) {
        const double want = (double)logits[want_ids[i]] - log(all);

        CHECK_INT(got.top_ids[i], want_ids[i]);
        CHECK((double)got.top_logprobs[i] == want ||
              fabs((double)got.top_logprobs[i] - want) < 1e-6);
    }
    for (int i = 6; i < 8; i++) { /* past the vocabulary */
        CHECK_INT(got.top_ids[i], -1);
        CHECK(got.top_logprobs[i] == -INFINITY);
    }
    params.n_top = 0;
    got.top_ids[0] = 99;
    CHECK(pick(sampler, &params, logits, 6, history, 2, 0, &got) == ST_OK);
    CHECK_INT(got.top_ids[0], 99);
    sampler_destroy(sampler);
}

/* The top n of many random logits with ties, against a sorted list. */
static void top_n_is_sorted(void)
{
    static float logits[V_MAX];
    static struct entry list[V_MAX];
    struct sampler_params params = plain;
    struct sampler *sampler = NULL;
    struct noise noise = {1u << 30};

    params.temperature = 0;
    CHECK(sampler_create(V_MAX, &sampler) == ST_OK);
    for (int n_top = 1; n_top <= SAMPLER_MAX_TOP; n_top += 9) {
        struct sampled got;

        for (int i = 0; i < V_MAX; i++) {
            logits[i] = (float)noise_below(&noise, 500) * 0.01f;
            list[i] = (struct entry){(double)logits[i], 0, i};
        }
        qsort(list, V_MAX, sizeof *list, by_rank);
        params.n_top = n_top;
        CHECK(pick(sampler, &params, logits, V_MAX, NULL, 0, 0, &got) == ST_OK);
        CHECK_INT(got.token, got.top_ids[0]);
        CHECK(got.logprob == got.top_logprobs[0]);
        for (int i = 0; i < n_top; i++)
            CHECK_INT(got.top_ids[i], list[i].id);
    }
    sampler_destroy(sampler);
}

/* One sampler that has picked for other rows gives what a new one gives; every part of the key
 * matters. */
static void a_pick_depends_on_its_arguments_only(void)
{
    enum { V = 500 };
    float logits[V], other[V];
    struct sampler *used = NULL;
    struct noise noise = {1u << 31};
    struct sampler_params params = plain;
    int n_same[5] = {0};

    params.temperature = 2;
    params.top_p = 0.9;
    params.repetition_penalty = 1.2;
    params.row = 3;
    for (int i = 0; i < V; i++) {
        logits[i] = (float)noise_uniform(&noise);
        other[i] = (float)noise_uniform(&noise) * 30;
    }
    CHECK(sampler_create(V, &used) == ST_OK);
    for (int position = 0; position < 200; position++) {
        const int32_t history[] = {position, V - 1 - position};
        struct sampler_params changed = params;
        struct sampled got;
        const int want = token_of(&params, logits, V, history, 2, position);

        CHECK(pick(used, &plain, other, V, history, 1, position, &got) == ST_OK);
        CHECK(pick(used, &params, logits, V, history, 2, position, &got) == ST_OK);
        CHECK_INT(got.token, want);

        n_same[0] += want == token_of(&params, logits, V, history, 2, position + 1000);
        changed.seed ^= 1;
        n_same[1] += want == token_of(&changed, logits, V, history, 2, position);
        changed = params;
        changed.seed ^= 1ull << 40;
        n_same[2] += want == token_of(&changed, logits, V, history, 2, position);
        changed = params;
        changed.row ^= 1ull << 35;
        n_same[3] += want == token_of(&changed, logits, V, history, 2, position);
        changed = params;
        changed.sample = 1;
        n_same[4] += want == token_of(&changed, logits, V, history, 2, position);
    }
    for (int i = 0; i < 5; i++)
        CHECK(n_same[i] < 20);
    sampler_destroy(used);
}

int main(void)
{
    agrees_with_the_oracle();
    draws_follow_the_distribution();
    ties_go_to_the_lowest_id();
    penalty_counts_each_token_once();
    edges();
    logprobs_are_of_the_unmodified_logits();
    top_n_is_sorted();
    a_pick_depends_on_its_arguments_only();
    works_with_denormals_flushed();
    TEST_END();
}
