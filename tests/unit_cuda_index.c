/* TEST */
/*
 * unit_cuda_index.c - the index arithmetic of kernels/index.h by itself: everything is taken once
 * and only once, nothing lies on top of something else, what fits has been counted right.
 * unit_kernels.c runs the kernels that use it.
 */
#include "kernels/index.h"
#include "tests/ops_test.h"

enum { LANES = 32 };

static void kv_is_that_of_ops(void)
{
    for (int round = 0; round < 2000; round++) {
        const struct ops_kv kv = {OPS_BF16, test_between(1, 9), 16 << test_between(0, 2),
                                  16 * test_between(1, 16), NULL};
        const int block = test_between(0, 1 << 20), head = test_between(0, kv.K - 1);
        const int p = test_between(0, kv.P - 1), e = test_between(0, kv.E - 1);
        const int64_t key =
            k_kv_head(kv.K, kv.P, kv.E, block, 0, head) + 2 * k_kv_key_word(kv.P, p, e / 2) + e % 2;
        const int64_t value =
            k_kv_head(kv.K, kv.P, kv.E, block, 1, head) + k_kv_value_elem(kv.E, p, e);

        CHECK_INT(key, (int64_t)ops_kv_index(&kv, block, 0, head, p, e));
        CHECK_INT(value, (int64_t)ops_kv_index(&kv, block, 1, head, p, e));
    }
}

/* ---- attention ---------------------------------------------------------------------------------- */

/* The splits of a query see what its window has, each position once. */
static void splits_cover_the_window(void)
{
    for (int round = 0; round < 2000; round++) {
        const int pos = round < 600 ? round : test_between(0, 100000);
        const int window = round % 3 == 0 ? 0 : test_between(1, round % 3 == 1 ? 700 : 70000);
        const int first = window > 0 && pos + 1 > window ? pos + 1 - window : 0;
        int expected = first, from, to;

        for (int split = 0; split < k_splits(pos + 1) + 2; split++) {
            k_split_seen(split, pos, window, &from, &to);
            CHECK(from >= 0 && from <= to && to <= K_SPLIT);
            if (from == to)
                continue;
            CHECK_INT(split * K_SPLIT + from, expected);
            expected = split * K_SPLIT + to;
        }
        CHECK_INT(expected, pos + 1);
    }
}

static void groups_share_the_positions(void)
{
    for (int E = 16; E <= K_ATT_MAX_E; E += 16) {
        const int n = k_att_groups(E);

        CHECK(n > 0 && n * (E / 8) <= K_ATT_THREADS);
        for (int round = 0; round < 40; round++) {
            const int from = test_between(0, K_SPLIT - 1), to = test_between(from + 1, K_SPLIT);
            int taken[K_SPLIT] = {0}, wrong = 0;

            for (int g = 0; g < n; g++)
                for (int j = k_att_group_first(E, g, from); j < to; j += n) {
                    taken[j]++;
                    wrong += j % n != g; /* whose a position is does not depend on the window */
                }
            for (int j = 0; j < K_SPLIT; j++)
                wrong += taken[j] != (j >= from && j < to);
            CHECK_INT(wrong, 0);
        }
        for (int G = 1; G <= 8; G *= 2) {
            const int n_floats = k_att_shared_floats(G, E);

            CHECK(n_floats * 4 <= 48 << 10); /* what a kernel has without asking */
            CHECK(k_att_score(G - 1, K_SPLIT - 1) < k_att_query(G, E, 0, 0));
            CHECK(k_att_query(G, E, G - 1, E - 1) < n_floats);
            CHECK(k_att_group_sum(G, E, n - 1, E - 1) < n_floats);
            CHECK_INT(k_att_query(G, E, 0, 0) % 4, 0); /* read 16 bytes at a time */
        }
    }
    for (int n = 1; n <= K_ATT_MAX_G; n++) {
        const int G = k_att_heads_at_once(n);

        CHECK(G == 1 || G == 2 || G == 4 || G == 8);
        CHECK(G >= n || G == 8);
    }
}

/* ---- the matrix instruction --------------------------------------------------------------------- */

/* Every element of A, B and C is in one register of one lane. */
static void fragments_are_whole(void)
{
    int a[16][16] = {{0}}, b[16][8] = {{0}}, c[16][8] = {{0}}, wrong = 0;

    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 4; i++) {
            a[k_mma_a_row(lane, i)][k_mma_a_k(lane, i)]++;
            a[k_mma_a_row(lane, i)][k_mma_a_k(lane, i) + 1]++;
            c[k_mma_c_row(lane, i)][k_mma_c_col(lane, i)]++;
        }
        for (int i = 0; i < 2; i++) {
            b[k_mma_b_k(lane, i)][k_mma_b_col(lane)]++;
            b[k_mma_b_k(lane, i) + 1][k_mma_b_col(lane)]++;
        }
    }
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            wrong += a[i][j] != 1 || (j < 8 && (b[i][j] != 1 || c[i][j] != 1));
    CHECK_INT(wrong, 0);
}

/* ---- attention of a prompt's tokens --------------------------------------------------------------- */

/* What a query sees is what its window has, in tiles that its tile of queries goes through. */
static void tiles_have_what_is_seen(void)
{
    for (int round = 0; round < 2000; round++) {
        const int pos = round < 600 ? round : test_between(0, 100000);
        const int window = round % 3 == 0 ? 0 : test_between(1, round % 3 == 1 ? 200 : 70000);
        const int row = pos / K_PRE_ROWS * K_PRE_ROWS, from = k_pre_from(pos, window);
        const int warp_row = pos / K_PRE_WARP_ROWS * K_PRE_WARP_ROWS;
        int wrong = 0;

        CHECK_INT(pos + 1 - from, window > 0 ? k_min(window, pos + 1) : pos + 1);
        CHECK(k_pre_first_tile(row, window) * K_PRE_KEYS <= from);
        CHECK_INT(k_pre_last_tile(row), pos / K_PRE_KEYS);
        for (int i = -3; i <= 3; i++) /* around both ends */
            wrong += k_pre_sees(pos, from + i, window) != (i >= 0 && from + i <= pos) ||
                     k_pre_sees(pos, pos + i, window) != (i <= 0 && pos + i >= from);
        for (int tile = k_pre_first_tile(row, window); tile <= pos / K_PRE_KEYS; tile++)
            if (k_pre_sees_tile(warp_row, tile * K_PRE_KEYS, window))
                wrong += !k_pre_sees(pos, tile * K_PRE_KEYS, window) ||
                         !k_pre_sees(pos, tile * K_PRE_KEYS + K_PRE_KEYS - 1, window);
        CHECK_INT(wrong, 0);
    }
    for (int pos0 = 0; pos0 < 200; pos0++)
        for (int n_tok = 1; n_tok < 200; n_tok++)
            CHECK((pos0 / K_PRE_ROWS + k_pre_tiles(n_tok)) * K_PRE_ROWS >= pos0 + n_tok);
}

/* Scores become the left side of the values where they are: each key of a tile is a column of the
 * scores once and a k of the values once, and a lane has both in the same register. */
static void weights_stay_in_place(void)
{
    int columns[K_PRE_KEYS] = {0}, ks[K_PRE_KEYS] = {0}, wrong = 0;

    for (int half = 0; half < 2; half++)
        for (int j = 0; j < 4; j++)
            for (int c = 0; c < 8; c++)
                columns[half * K_PRE_HALF + k_pre_key(j, c)]++;
    for (int s = 0; s < 4; s++)
        for (int k = 0; k < 16; k++)
            ks[k_pre_step_key(s, k)]++;
    for (int key = 0; key < K_PRE_KEYS; key++)
        wrong += columns[key] != 1 || ks[key] != 1;
    for (int lane = 0; lane < LANES; lane++)
        for (int s = 0; s < 4; s++)
            for (int i = 0; i < 4; i++) /* register i of A: float 2 (i % 2) of tile 2 s + i / 2 */
                for (int e = 0; e < 2; e++) {
                    const int at = i % 2 * 2 + e, j = s % 2 * 2 + i / 2;
                    const int column = k_mma_c_col(lane, at), k = k_mma_a_k(lane, i) + e;

                    wrong += k_mma_c_row(lane, at) != k_mma_a_row(lane, i);
                    wrong += s / 2 * K_PRE_HALF + k_pre_key(j, column) != k_pre_step_key(s, k);
                }
    CHECK_INT(wrong, 0);
}

/* Keys, values and queries lie beside each other; lanes that go together touch all banks. */
static void tiles_fit(void)
{
    for (int max_E = 64; max_E <= K_ATT_MAX_E; max_E *= 2) {
        const int n_bytes = k_pre_shared_bytes(max_E);
        uint8_t *used = calloc((size_t)n_bytes / 4, 1);
        int wrong = 0;

        CHECK(n_bytes <= (max_E == 64 ? 48 : 100) << 10); /* of 64 without asking */
        CHECK_INT(k_pre_max_E(max_E), max_E);
        CHECK_INT(k_pre_max_E(max_E - 16), max_E - 16 > max_E / 2 ? max_E : 64);
        for (int pair = 0; pair < max_E / 2; pair++)
            for (int key = 0; key < K_PRE_KEYS; key++)
                wrong += used[k_pre_key_word(pair, key)]++ != 0;
        for (int key = 0; key < K_PRE_KEYS; key++)
            for (int chunk = 0; chunk < max_E / 8; chunk++)
                for (int i = 0; i < 4; i++)
                    wrong += used[k_pre_value_byte(max_E, key, chunk) / 4 + i]++ != 0;
        for (int step = 0; step < max_E / 16; step++)
            for (int thread = 0; thread < K_PRE_THREADS; thread++)
                for (int i = 0; i < 4; i++)
                    wrong += used[k_pre_query_byte(max_E, step, thread) / 4 + i]++ != 0;
        CHECK_INT(k_pre_query_byte(max_E, max_E / 16 - 1, K_PRE_THREADS - 1) + 16, n_bytes);
        for (int first = 0; first < LANES; first += 8) {
            unsigned keys = 0, values = 0; /* sets of 4 banks */

            for (int lane = first; lane < first + 8; lane++) {
                const int key = k_pre_key(0, k_mma_b_col(lane));

                keys |= 1u << k_pre_key_word(k_mma_b_k(lane, 0) / 2, key) / 4 % 8;
                values |=
                    1u << k_pre_value_byte(max_E, k_pre_step_key(0, lane % 16), lane / 16) / 16 % 8;
            }
            wrong += keys != 0xff || values != 0xff;
        }
        for (int s = 0; s < 4; s++)
            for (int k = 0; k < 16; k++)
                for (int chunk = 0; chunk < max_E / 8; chunk++)
                    wrong += k_pre_value_byte(max_E, k_pre_step_key(s, k), chunk) !=
                             k_pre_value_byte(max_E, k_pre_step_key(0, k), chunk) +
                                 k_pre_step_bytes(max_E, s);
        CHECK_INT(wrong, 0);
        free(used);
    }
}

/* ---- matmul ------------------------------------------------------------------------------------- */

/* Both sides of a product have the same input at the same k, each input of a stage comes up once.
 */
static void inputs_meet(void)
{
    int seen[K_MM_STAGE] = {0}, wrong = 0;

    for (int warp_k = 0; warp_k < K_MM_WARPS_K; warp_k++)
        for (int half = 0; half < 2; half++) {
            int of_a[16] = {0}, of_b[16] = {0};

            for (int lane = 0; lane < LANES; lane++) {
                const int first = k_mm_lane_chunk(warp_k, lane) * 8;

                for (int i = 0; i < 4; i++)
                    for (int e = 0; e < 2; e++) {
                        const int input = first + k_mm_word(half, i / 2) * 2 + e;
                        const int k = k_mma_a_k(lane, i) + e;

                        if (lane / 4 == 0 && i % 2 == 0)
                            of_a[k] = input;
                        else /* of the lanes before */
                            wrong += of_a[k] != input;
                    }
                for (int i = 0; i < 2; i++)
                    for (int e = 0; e < 2; e++)
                        of_b[k_mma_b_k(lane, i) + e] = first + k_mm_word(half, i) * 2 + e;
            }
            for (int k = 0; k < 16; k++) {
                wrong += of_a[k] != of_b[k];
                seen[of_a[k]]++;
            }
        }
    for (int k = 0; k < K_MM_STAGE; k++)
        wrong += seen[k] != 1;
    CHECK_INT(wrong, 0);
}

/* Rows of W and of x: each by the lanes of one fragment row or column, and where fetch puts it. */
static void rows_are_those_of_fragments(void)
{
    for (int n_tiles = 1; n_tiles <= 8; n_tiles *= 2) {
        int w[K_MM_ROWS] = {0}, x[K_MM_MAX_T] = {0}, wrong = 0;

        for (int lane = 0; lane < LANES; lane++) {
            for (int m = 0; m < K_MM_WARPS_M; m++)
                for (int tile = 0; tile < 2; tile++)
                    for (int i = 0; i < 2; i++)
                        w[k_mm_lane_w_row(m, tile, lane, i)]++;
            for (int tile = 0; tile < n_tiles; tile++)
                x[k_mm_lane_x_row(tile, lane) - k_mm_x_row(0)]++;
        }
        for (int r = 0; r < K_MM_ROWS; r++)
            wrong += w[r] != 4; /* four lanes, one a chunk */
        for (int t = 0; t < n_tiles * 8; t++)
            wrong += x[t] != 4;
        /* where the sums of an output and a token are looked for is where its fragment is put */
        for (int m = 0; m < K_MM_WARPS_M; m++)
            for (int tile = 0; tile < 2; tile++)
                for (int column = 0; column < n_tiles; column++)
                    for (int lane = 0; lane < LANES; lane++)
                        for (int i = 0; i < 4; i++) {
                            const int n = m * 32 + tile * 16 + k_mma_c_row(lane, i);
                            const int t = column * 8 + k_mma_c_col(lane, i);

                            wrong += k_mm_at(n_tiles, n, t) != (tile * n_tiles + column) * 4 + i;
                            wrong += k_mm_lane(n, t) != lane || n / 32 != m;
                        }
        CHECK_INT(wrong, 0);
    }
}

static void stages_fit(void)
{
    for (int n_tiles = 1; n_tiles <= 8; n_tiles *= 2) {
        const int n_rows = K_MM_ROWS + n_tiles * 8, n_bytes = k_mm_stage_bytes(n_tiles);
        uint8_t *used = calloc((size_t)n_bytes / 16, 1);
        const int n_sums = k_mm_sum_float(n_tiles, K_MM_WARPS_K - 1, K_MM_WARPS_M - 1,
                                          2 * n_tiles * 4 - 1, LANES - 1) +
                           1;
        int wrong = 0;

        CHECK(k_mm_shared_bytes(n_tiles) <= 160 << 10);
        CHECK(k_mm_ring(n_tiles) >= 3);
        CHECK_INT(n_sums, K_MM_WARPS_K * K_MM_ROWS * n_tiles * 8);
        CHECK(n_sums * 4 <= k_mm_shared_bytes(n_tiles));
        for (int r = 0; r < n_rows; r++)
            for (int c = 0; c < K_MM_CHUNKS; c++) {
                const int at = k_mm_chunk_byte(r, c);

                wrong += at % 16 != 0 || at < 0 || at >= n_bytes || used[at / 16]++ != 0;
            }
        /* 8 lanes at a time read 16 bytes each from 8 different sets of 4 banks */
        for (int warp_k = 0; warp_k < K_MM_WARPS_K; warp_k++)
            for (int first = 0; first < LANES; first += 8) {
                unsigned w = 0, x = 0;

                for (int lane = first; lane < first + 8; lane++) {
                    const int c = k_mm_lane_chunk(warp_k, lane);

                    w |= 1u << k_mm_chunk_byte(k_mm_lane_w_row(0, 0, lane, 0), c) / 16 % 8;
                    x |= 1u << k_mm_chunk_byte(k_mm_lane_x_row(0, lane), c) / 16 % 8;
                }
                wrong += w != 0xff || x != 0xff;
            }
        CHECK_INT(wrong, 0);
        free(used);
    }
}

/* The splits have all stages, in order, and each has some; T has no say. */
static void splits_cover_the_inputs(void)
{
    for (int round = 0; round < 3000; round++) {
        const int N = test_between(1, round % 2 ? 300 : 200000);
        const int n_in = 8 * test_between(1, round % 3 ? 600 : 4000);
        const int n_splits = k_mm_splits(N, n_in);

        CHECK_INT(k_max(k_min(n_splits, K_MM_MAX_SPLITS), 1), n_splits);
        CHECK_INT(k_mm_split_stage(n_in, n_splits, 0), 0);
        CHECK_INT(k_mm_split_stage(n_in, n_splits, n_splits), k_mm_stages(n_in));
        for (int s = 0; s < n_splits; s++)
            CHECK(k_mm_split_stage(n_in, n_splits, s) < k_mm_split_stage(n_in, n_splits, s + 1));
        CHECK(k_mm_stages(n_in) * K_MM_STAGE >= n_in);
        CHECK(k_mm_blocks(N) * K_MM_ROWS >= N);
    }
    for (int T = 1; T <= K_MM_MAX_T; T++)
        CHECK(k_mm_tiles(T) * 8 >= T);
}

/* ---- sampling ----------------------------------------------------------------------------------- */

static void keys_rank_floats(void)
{
    static const float edges[] = {3e38f,   1.5f,  1.0f,  1e-30f,   0.0f,
                                  -1e-30f, -1.0f, -1.5f, -INFINITY};

    for (int i = 0; i + 1 < (int)(sizeof edges / sizeof *edges); i++)
        CHECK(k_rank_key(bits_from_f32(edges[i])) < k_rank_key(bits_from_f32(edges[i + 1])));
    for (int round = 0; round < 10000; round++) {
        const float a = test_normal(), b = round % 4 == 0 ? a : test_normal();
        const uint32_t key_a = k_rank_key(bits_from_f32(a)), key_b = k_rank_key(bits_from_f32(b));

        CHECK((key_a < key_b) == (a > b) && (key_a == key_b) == (a == b));
    }
    /* all tokens may be the best, and their sum still fits */
    CHECK((uint64_t)K_SAMPLE_MAX_V << K_SAMPLE_BITS <= UINT64_C(1) << 63);
    CHECK_INT(K_SAMPLE_MAX_CHUNKS, k_logits_chunks(K_SAMPLE_MAX_V));
    CHECK_INT(32 % K_SAMPLE_DIGIT, 0);
}

int main(void)
{
    test_seed(1);
    kv_is_that_of_ops();
    splits_cover_the_window();
    groups_share_the_positions();
    fragments_are_whole();
    tiles_have_what_is_seen();
    weights_stay_in_place();
    tiles_fit();
    inputs_meet();
    rows_are_those_of_fragments();
    stages_fit();
    splits_cover_the_inputs();
    keys_rank_floats();
    TEST_END();
}
