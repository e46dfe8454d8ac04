/* TEST */
/*
 * unit_sample_kernel.c - kernels/sample.cu, run thread by thread on the CPU (tests/emulator/): the
 * same token as the sampler's for every row, whatever is asked of it.  What the sampler itself
 * picks is tests/unit_sampler.c's.
 */
#include "model/model.h"
#include "tests/kernels_test.h"

enum { MAX_ROWS = 8 };

/* Logits of several kinds; ties within and across chunks in most of them. */
static void fill_row(float *row, int V, int kind)
{
    for (int id = 0; id < V; id++) {
        const float x = test_normal();

        switch (kind) {
        case 0: /* as a model's */
            row[id] = 4.0f * x;
            break;
        case 1: /* many equal */
            row[id] = roundf(2.0f * x) * 0.5f;
            break;
        case 2: /* one far above, some impossible */
            row[id] = id == V / 2 ? 20.0f : id % 3 == 1 ? -INFINITY : x;
            break;
        case 3: /* all equal, zeros of both signs */
            row[id] = id % 2 ? -0.0f : 0.0f;
            break;
        case 4: /* so wide that most weigh nothing */
            row[id] = 60.0f * x;
            break;
        default: /* far from zero */
            row[id] = x - 1000.0f;
        }
    }
}

static struct k_sample_row random_row(int V)
{
    static const double temperatures[] = {1.0, 0.7, 0.0, 2.5, 1e-310, 0.01, 1.0, 100.0};
    static const double top_ps[] = {1.0, 0.95, 0.5, 1e-9, 1.0, 0.999999, 0.3, 1.0};
    static const double min_ps[] = {0.0, 0.0, 0.05, 1.0};
    const int top_ks[] = {0, 1, 5, 40, V - 1, V, V + 1, 0};

    return (struct k_sample_row){
        .temperature = temperatures[test_between(0, 7)],
        .top_p = top_ps[test_between(0, 7)],
        .min_p = min_ps[test_between(0, 3)],
        .seed = (uint64_t)test_random() << 32 | test_random(),
        .row = (uint64_t)test_random() << (test_between(0, 1) ? 16 : 0),
        .sample = (uint32_t)test_between(0, 3),
        .top_k = top_ks[test_between(0, 7)],
        .position = test_between(0, 100000),
    };
}

/* What the sampler picks; -1 for a row that it refuses. */
static int32_t sampled(struct sampler *sampler, const struct k_sample_row *row, const float *logits,
                       float max)
{
    const struct sampler_params params = {
        .temperature = row->temperature,
        .top_p = row->top_p,
        .min_p = row->min_p,
        .repetition_penalty = 1.0,
        .top_k = row->top_k,
        .seed = row->seed,
        .row = row->row,
        .sample = row->sample,
        .n_top = -1,
    };
    struct sampled out;
    struct row_error err;

    if (sampler_pick(sampler, &params, logits, max, 0.0f, NULL, 0, row->position, &out, &err) !=
        ST_OK)
        return -1;
    return out.token;
}

/* T rows of V logits of all kinds, each with what random_row asks; `bad`: the second is no good. */
static void picks(int T, int V, bool bad)
{
    const size_t n = (size_t)(T * V);
    float *logits = test_floats(n), *work = poisoned((size_t)k_logits_work_floats(T, V));
    uint64_t *words = (uint64_t *)(void *)poisoned(2 * (size_t)k_sample_work_words(T, V));
    float max[MAX_ROWS], logsum[MAX_ROWS];
    int32_t id[MAX_ROWS], out[MAX_ROWS], alone = -2;
    struct k_sample_row rows[MAX_ROWS];
    struct sampler *sampler;

    CHECK(sampler_create(V, &sampler) == ST_OK);
    for (int t = 0; t < T; t++) {
        fill_row(logits + t * V, V, test_between(0, 5));
        rows[t] = random_row(V);
    }
    if (bad)
        logits[V + V / 2] = NAN;
    const struct k_logits_args figures = {logits, max, logsum, id, work, T, V, 0.0f, 0.0f};
    CHECK_INT(k_logits(NULL, &figures), 0);
    struct k_sample_args args = {out, logits, max, id, rows, words, T, V};
    CHECK_INT(k_sample(NULL, &args), 0);
    for (int t = 0; t < T; t++) {
        const int32_t want = sampled(sampler, &rows[t], logits + t * V, max[t]);

        CHECK_INT(out[t], want);
        CHECK_INT(out[t] < 0, bad && t == 1);
        if (out[t] != want)
            fprintf(stderr, "V %d temperature %g top_k %d top_p %g min_p %g\n", V,
                    rows[t].temperature, rows[t].top_k, rows[t].top_p, rows[t].min_p);
    }
    args = (struct k_sample_args){
        &alone, logits + (T - 1) * V, max + T - 1, id + T - 1, rows + T - 1, words, 1, V};
    CHECK_INT(k_sample(NULL, &args), 0);
    CHECK_INT(alone, out[T - 1]);
    sampler_destroy(sampler);
    free(logits), free(work), free(words);
}

static void rows_of_all_kinds(void)
{
    static const int sizes[] = {1, 2, 31, 33, 511, 1000, 1023, 1024, 1025, 2048, 3000};

    for (int i = 0; i < 11; i++)
        for (int round = 0; round < 6; round++)
            picks(test_between(2, 5), sizes[i], round == 5);
    picks(2, 40000, false);
}

/* Equal shares: the tokens of all ids come up, in the order of the random numbers. */
static void draws_are_spread(void)
{
    enum { V = 8, N = 400 };
    const float logits[V] = {0}, max = 0.0f;
    const int32_t id = 0;
    uint64_t words[V] = {0};
    int counts[V] = {0};

    for (int position = 0; position < N; position++) {
        const struct k_sample_row row = {1.0, 1.0, 0.0, 3, 5, 0, 0, position};
        int32_t out = -1;
        const struct k_sample_args args = {&out, logits, &max, &id, &row, words, 1, V};

        CHECK_INT(k_sample(NULL, &args), 0);
        CHECK(out >= 0 && out < V);
        if (out >= 0 && out < V)
            counts[out]++;
    }
    for (int i = 0; i < V; i++) /* 50, of standard deviation 6.6 */
        CHECK(counts[i] > 25 && counts[i] < 75);
}

static void limits(void)
{
    float f[8] = {0};
    int32_t i[8] = {0};
    uint64_t words[8] = {0};
    const struct k_sample_row row = {1.0, 1.0, 0.0, 0, 0, 0, 0, 0};

    CHECK(k_sample(NULL, &(struct k_sample_args){i, f, f, i, &row, words, 0, 8}) != 0);
    CHECK(k_sample(NULL, &(struct k_sample_args){i, f, f, i, &row, words, 65536, 8}) != 0);
    CHECK(k_sample(NULL, &(struct k_sample_args){i, f, f, i, &row, words, 1, 0}) != 0);
    CHECK(k_sample(NULL, &(struct k_sample_args){i, f, f, i, &row, words, 1, (1 << 19) + 1}) != 0);
}

int main(void)
{
    test_seed(1);
    rows_of_all_kinds();
    draws_are_spread();
    limits();
    TEST_END();
}
