/*
 * intake_images.c - images in the prompt of a row: which, where, and how many tokens they take.
 *
 *   tokens     describe IMG and IMG briefly       a place for each image, one token
 *   image_ref  7 3                                the row's images
 *   ────────►  describe IMG IMG ... and IMG IMG ... briefly
 *
 * Only sizes matter here; no image is looked at but by its header, which the image index has read.
 */
#include "stage/stage.h"

static enum status index_facts(const void *arg, uint64_t image, struct image_facts *out_facts,
                               struct row_error *err)
{
    return image_index_facts(arg, image, out_facts, err);
}

static uint64_t index_next_use(const void *arg, uint64_t image, uint64_t row)
{
    return image_index_next_use(arg, image, row);
}

struct image_book image_book_of(const struct image_index *index)
{
    return (struct image_book){index, index_facts, index_next_use};
}

/* How many tokens of a list stand for an image. */
static int64_t count_places(const struct token_list *tokens, int image_id)
{
    int64_t n = 0;

    for (int64_t i = 0; i < tokens->n_ids; i++)
        n += tokens->ids[i] == image_id;
    return n;
}

/* What each place shows: sizes, and how many embeddings. */
static enum status look_up(const struct intake_vision *vision, const struct prompt_row *prompt,
                           const struct token_list *order, struct vision_plan *plans,
                           struct intake_row *row, struct row_error *err)
{
    enum status st = ST_OK;
    struct row_error why = {""};

    for (int i = 0; i < row->n_images; i++) {
        const int64_t ref = order != NULL ? order->ids[i] : i;
        struct intake_image *image = &row->image_facts[i];
        struct image_facts facts;

        if (ref >= prompt->n_image_refs)
            return row_error_set(err, "the prompt names image %lld, and the row has %lld",
                                 (long long)ref, (long long)prompt->n_image_refs);
        const uint64_t number = prompt->image_refs[ref];
        TRY(vision->book.facts(vision->book.arg, number, &facts, err), err);
        *image = (struct intake_image){facts.same_as, number, facts.width, facts.height};
        st = vision_plan_make(vision->config, facts.width, facts.height, &plans[i], &why);
        if (st != ST_OK)
            return row_error_set(err, "image %llu: %s", (unsigned long long)number, why.text);
        row->n_embeds += plans[i].n_rows;
    }
err:
    return st;
}

/* Each place becomes the tokens of its image. */
static enum status expand(const struct intake_vision *vision, const struct vision_plan *plans,
                          struct intake_row *row)
{
    enum status st = ST_OK;
    int k = 0;

    for (int64_t i = 0; i < row->unplaced.n_ids; i++) {
        const int64_t from = row->tokens.n_ids;

        if (row->unplaced.ids[i] != vision->image_id) {
            TRY(token_list_append(&row->tokens, &row->unplaced.ids[i], 1), err);
            continue;
        }
        TRY(vision_prompt_put(vision->prompt, &plans[k], &row->tokens), err);
        row->images[k].first = (int32_t)from;
        k++;
    }
err:
    return st;
}

/* Tokens in which images have all their places already, as other programs make them. */
static enum status keep(const struct intake_vision *vision, struct intake_row *row)
{
    int64_t at = 0;

    for (int k = 0; k < row->n_images; k++) {
        while (row->unplaced.ids[at] != vision->image_id)
            at++;
        row->images[k].first = (int32_t)at;
        for (int left = row->images[k].n_rows; left > 0; at++)
            left -= row->unplaced.ids[at] == vision->image_id;
    }
    return token_list_append(&row->tokens, row->unplaced.ids, row->unplaced.n_ids);
}

/* Positions of answer tokens, where images take fewer of them than they have places. */
static enum status find_shift(struct arena *arena, struct intake_row *row)
{
    const size_t n_tok = (size_t)row->tokens.n_ids;
    int32_t *positions = arena_alloc(arena, 3 * n_tok * sizeof *positions);

    if (positions == NULL)
        return ST_NOMEM;
    mrope_positions(row->images, row->n_images, (int)n_tok, positions, &row->rope_shift);
    return ST_OK;
}

enum status intake_place_images(const struct intake_vision *vision, const struct prompt_row *prompt,
                                const struct token_list *order, struct arena *arena,
                                struct intake_row *row, struct row_error *err)
{
    enum status st;
    const int64_t n_places = count_places(&row->unplaced, vision->image_id);
    const int64_t n_images = order != NULL ? order->n_ids : prompt->n_image_refs;
    struct vision_plan *plans;

    if ((n_images == 0 && n_places > 0) || n_images > INT32_MAX ||
        (n_images > 0 && n_places < n_images))
        goto err_counts;
    row->n_images = (int)n_images;
    row->images = arena_alloc(arena, (size_t)n_images * sizeof *row->images);
    row->image_facts = arena_alloc(arena, (size_t)n_images * sizeof *row->image_facts);
    plans = arena_alloc(arena, (size_t)n_images * sizeof *plans);
    if (row->images == NULL || row->image_facts == NULL || plans == NULL)
        return ST_NOMEM;
    TRY(look_up(vision, prompt, order, plans, row, err), err);
    for (int i = 0; i < row->n_images; i++)
        row->images[i] = (struct seq_image){
            .n_rows = plans[i].n_rows, .rows_h = plans[i].rows_h, .rows_w = plans[i].rows_w};
    if (n_places == n_images)
        st = expand(vision, plans, row);
    else if (prompt->tokens != NULL && n_places == row->n_embeds)
        st = keep(vision, row);
    else
        goto err_counts;
    if (st == ST_OK && vision->mrope && row->tokens.n_ids <= INT32_MAX)
        st = find_shift(arena, row);
    return st;
err_counts:
    return row_error_set(err,
                         "the prompt has %lld place%s for images (\"%s\"), and the row has %lld "
                         "image%s",
                         (long long)n_places, n_places == 1 ? "" : "s",
                         vision_prompt_marker(vision->prompt), (long long)prompt->n_image_refs,
                         prompt->n_image_refs == 1 ? "" : "s");
err:
    return st;
}
