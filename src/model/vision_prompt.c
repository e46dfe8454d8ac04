/*
 * vision_prompt.c - what stands for an image in a prompt, as the processors of transformers write
 * it, and the positions of tokens around and in images.
 *
 *   llava     IMAGE x n
 *   qwen2vl   IMAGE x n                        (START and END are in the prompt itself)
 *   idefics3  FAKE GLOBAL IMAGE x n FAKE       one picture
 *             (FAKE ROW_COL IMAGE x n) x columns "\n", for each row of tiles, then
 *             "\n" FAKE GLOBAL IMAGE x n FAKE
 *
 * Each piece is encoded here once, between control tokens as it stands in a prompt, so that none
 * of it can merge with what a user writes.
 */
#include <assert.h>
#include <stdio.h>

#include "model/vision.h"

enum {
    MAX_PIECE = 64,      /* ids */
    TOKEN_TEXT_MAX = 256 /* bytes */
};

struct piece {
    int n_ids;
    int32_t ids[MAX_PIECE];
};

struct vision_prompt {
    enum vision_layout layout;
    int32_t image_id;
    char *marker, *wrapped; /* owned */
    /* idefics3 only */
    int max_tiles;
    struct piece fake, global, line, lines; /* FAKE, GLOBAL, "\n", "\n\n" */
    struct piece *tiles;                    /* [max_tiles, max_tiles] owned: ROW_COL */
};

static const char FAKE[] = "<fake_token_around_image>";

/* ---- what stands there ---------------------------------------------------------------------- */

static enum status need_token(const struct tokenizer *tokenizer, const char *text)
{
    if (tokenizer_find(tokenizer, text) >= 0)
        return ST_OK;
    log_error("the tokeniser has no token %s, which stands by images in prompts of this model; get "
              "model and tokeniser from one place",
              text);
    return ST_FORMAT;
}

/* The ids of a text between two FAKEs. */
static enum status encode_piece(const struct tokenizer *tokenizer, const char *text,
                                struct piece *out)
{
    struct token_list list = {0};
    struct row_error err;
    char whole[256];
    enum status st;

    const int n = snprintf(whole, sizeof whole, "%s%s%s", FAKE, text, FAKE);
    TRY(tokenizer_encode(tokenizer, whole, (size_t)n, ENCODE_PARSE_SPECIAL, &list, &err), done);
    const int32_t fake = tokenizer_find(tokenizer, FAKE);
    if (list.n_ids < 2 || list.n_ids > MAX_PIECE || list.ids[0] != fake ||
        list.ids[list.n_ids - 1] != fake) {
        log_error("the tokeniser does not read %s as a control token; get model and tokeniser from "
                  "one place",
                  FAKE);
        st = ST_FORMAT;
        goto done;
    }
    out->n_ids = (int)list.n_ids - 2;
    memcpy(out->ids, list.ids + 1, (size_t)out->n_ids * sizeof *out->ids);
done:
    token_list_free(&list);
    return st;
}

static enum status encode_tiles(struct vision_prompt *prompt, const struct vision_prep *prep,
                                const struct tokenizer *tokenizer)
{
    const int edge = prep->tile_edge > 0 ? prep->tile_edge : 1;
    const int sizes[] = {prep->longest_edge, prep->height, prep->width};
    int longest = 0;
    enum status st;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        longest = sizes[i] > longest ? sizes[i] : longest;
    longest += longest % 2; /* the shorter edge of a square picture is made even */
    const int n = !prep->split ? 1 : !prep->resize ? VISION_MAX_TILES : (longest + edge - 1) / edge;
    TRY(need_token(tokenizer, FAKE), err);
    prompt->fake = (struct piece){.n_ids = 1, .ids = {tokenizer_find(tokenizer, FAKE)}};
    prompt->max_tiles = n < 1 ? 1 : n;
    if (n > VISION_MAX_TILES) {
        log_error("images of %d pixels cut into tiles of %d are not supported; this version has at "
                  "most %d tiles along an edge",
                  longest, edge, VISION_MAX_TILES);
        return ST_UNSUPPORTED;
    }
    prompt->tiles =
        host_zalloc((size_t)(prompt->max_tiles * prompt->max_tiles) * sizeof *prompt->tiles);
    if (prompt->tiles == NULL)
        return ST_NOMEM;
    TRY(encode_piece(tokenizer, "<global-img>", &prompt->global), err);
    TRY(encode_piece(tokenizer, "\n", &prompt->line), err);
    TRY(encode_piece(tokenizer, "\n\n", &prompt->lines), err);
    for (int y = 0; y < prompt->max_tiles; y++) {
        for (int x = 0; x < prompt->max_tiles; x++) {
            char text[64];

            snprintf(text, sizeof text, "<row_%d_col_%d>", y + 1, x + 1);
            TRY(encode_piece(tokenizer, text, &prompt->tiles[y * prompt->max_tiles + x]), err);
        }
    }
err:
    return st;
}

/* ---- create, destroy ------------------------------------------------------------------------ */

static enum status name_marker(struct vision_prompt *prompt, const struct tokenizer *tokenizer)
{
    char text[TOKEN_TEXT_MAX * 3];
    enum status st = ST_NOMEM;

    if (prompt->image_id >= tokenizer_n_tokens(tokenizer)) {
        log_error("the tokeniser has %d tokens and not %d, which stands for images; get model and "
                  "tokeniser from one place",
                  tokenizer_n_tokens(tokenizer), prompt->image_id);
        return ST_FORMAT;
    }
    const struct text_span span = tokenizer_token_bytes(tokenizer, prompt->image_id, true);
    if (span.n_bytes == 0 || span.n_bytes >= TOKEN_TEXT_MAX) {
        log_error(
            "token %d, which stands for images, has no text of usual length in the tokeniser; "
            "get model and tokeniser from one place",
            prompt->image_id);
        return ST_FORMAT;
    }
    snprintf(text, sizeof text, "%.*s", (int)span.n_bytes, span.data);
    prompt->marker = host_strdup(text);
    if (prompt->layout == VISION_QWEN2VL) {
        TRY(need_token(tokenizer, "<|vision_start|>"), err);
        TRY(need_token(tokenizer, "<|vision_end|>"), err);
        snprintf(text, sizeof text, "<|vision_start|>%s<|vision_end|>", prompt->marker);
    }
    prompt->wrapped = host_strdup(text);
    st = prompt->marker != NULL && prompt->wrapped != NULL ? ST_OK : ST_NOMEM;
err:
    return st;
}

enum status vision_prompt_create(const struct vision_config *config,
                                 const struct model_config *decoder,
                                 const struct tokenizer *tokenizer,
                                 struct vision_prompt **out_prompt)
{
    struct vision_prompt *prompt = host_zalloc(sizeof *prompt);
    enum status st = ST_NOMEM;

    if (prompt == NULL)
        return ST_NOMEM;
    prompt->layout = config->layout;
    prompt->image_id = decoder->image_id;
    TRY(name_marker(prompt, tokenizer), err);
    if (config->layout == VISION_IDEFICS3)
        TRY(encode_tiles(prompt, &config->prep, tokenizer), err);
    *out_prompt = prompt;
    return ST_OK;
err:
    vision_prompt_destroy(prompt);
    return st;
}

void vision_prompt_destroy(struct vision_prompt *prompt)
{
    if (prompt == NULL)
        return;
    host_free(prompt->marker);
    host_free(prompt->wrapped);
    host_free(prompt->tiles);
    host_free(prompt);
}

const char *vision_prompt_marker(const struct vision_prompt *prompt)
{
    return prompt->marker;
}

const char *vision_prompt_wrapped(const struct vision_prompt *prompt)
{
    return prompt->wrapped;
}

/* ---- put ------------------------------------------------------------------------------------ */

static enum status put_piece(const struct piece *piece, struct token_list *list)
{
    return token_list_append(list, piece->ids, piece->n_ids);
}

static enum status put_images(const struct vision_prompt *prompt, int n, struct token_list *list)
{
    enum status st = ST_OK;

    for (int i = 0; i < n; i++)
        TRY(token_list_append(list, &prompt->image_id, 1), err);
err:
    return st;
}

static enum status put_picture(const struct vision_prompt *prompt, const struct piece *which, int n,
                               struct token_list *list)
{
    enum status st;

    TRY(put_piece(&prompt->fake, list), err);
    TRY(put_piece(which, list), err);
    TRY(put_images(prompt, n, list), err);
err:
    return st;
}

static enum status put_tiles(const struct vision_prompt *prompt, const struct vision_plan *plan,
                             struct token_list *list)
{
    const int n = plan->n_rows / plan->n_pictures;
    enum status st = ST_OK;

    assert(plan->tiles_y <= prompt->max_tiles && plan->tiles_x <= prompt->max_tiles);
    for (int y = 0; y < plan->tiles_y; y++) {
        for (int x = 0; x < plan->tiles_x; x++)
            TRY(put_picture(prompt, &prompt->tiles[y * prompt->max_tiles + x], n, list), err);
        TRY(put_piece(y + 1 < plan->tiles_y ? &prompt->line : &prompt->lines, list), err);
    }
    TRY(put_picture(prompt, &prompt->global, n, list), err);
    TRY(put_piece(&prompt->fake, list), err);
err:
    return st;
}

enum status vision_prompt_put(const struct vision_prompt *prompt, const struct vision_plan *plan,
                              struct token_list *list)
{
    if (prompt->layout == VISION_IDEFICS3)
        return put_tiles(prompt, plan, list);
    return put_images(prompt, plan->n_rows, list);
}

/* ---- positions ------------------------------------------------------------------------------ */

void mrope_positions(const struct seq_image *images, int n_images, int n_tok,
                     int32_t *out_positions, int *out_shift)
{
    int pos = 0, t = 0;

    for (int i = 0; i <= n_images; i++) {
        const int end = i < n_images ? images[i].first : n_tok;

        assert(end >= t && end <= n_tok);
        for (; t < end; t++, pos++)
            for (int k = 0; k < 3; k++)
                out_positions[3 * t + k] = pos;
        if (i == n_images)
            break;
        const int h = images[i].rows_h, w = images[i].rows_w;
        assert(h * w == images[i].n_rows && images[i].n_rows <= n_tok - t);
        for (int r = 0; r < h * w; r++, t++) {
            out_positions[3 * t] = pos;
            out_positions[3 * t + 1] = pos + r / w;
            out_positions[3 * t + 2] = pos + r % w;
        }
        pos += h > w ? h : w;
    }
    *out_shift = pos - n_tok;
}
