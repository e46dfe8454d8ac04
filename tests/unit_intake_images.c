/* TEST */
/*
 * unit_intake_images.c - from images of a row to their places in its prompt: words that stand for
 * them, parts of conversations, counts that do not match, tokens that have been placed already.
 */
#include "stage/stage.h"
#include "text_test.h"

enum { GRID = 2, ROWS = GRID * GRID, EDGE = 16 };

static const char MARKER[] = "<|im_end|>";
static const char parts_template[] =
    "{% for m in messages %}[{{ m['role'] }}]"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<|im_end|>"
    "{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% endfor %}>";

static const struct vision_config config = {
    .layout = VISION_LLAVA,
    .prep = {.resize = true,
             .crop = true,
             .shortest_edge = EDGE,
             .crop_height = EDGE,
             .crop_width = EDGE},
    .L = 1,
    .D = 16,
    .F = 16,
    .H = 1,
    .E = 16,
    .patch = EDGE / GRID,
    .patch_frames = 1,
    .grid = GRID,
    .merge = 1,
    .class_token = true,
    .D_out = 16,
};

/* ---- a file of images that there is not ------------------------------------------------------- */

static enum status facts(const void *arg, uint64_t image, struct image_facts *out_facts,
                         struct row_error *err)
{
    (void)arg;
    if (image == 9)
        return row_error_set(err, "image 9 is not a picture");
    *out_facts = (struct image_facts){image % 4, EDGE, EDGE + (int)image}; /* 4 is 0 again */
    return ST_OK;
}

static uint64_t next_use(const void *arg, uint64_t image, uint64_t row)
{
    (void)arg, (void)image;
    return row + 1;
}

struct house {
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct vision_prompt *prompt;
    struct intake intake;
    struct arena *arena;
    struct intake_row row;
    int32_t id; /* that stands for an image */
};

static void house_begin(struct house *house)
{
    *house = (struct house){.tokenizer = load_small()};
    house->id = tokenizer_find(house->tokenizer, MARKER);
    CHECK(house->id >= 0);
    const struct model_config decoder = {.image_id = house->id};
    const struct chat_spec spec = {.name = "auto", .source = parts_template};

    CHECK(vision_prompt_create(&config, &decoder, house->tokenizer, &house->prompt) == ST_OK);
    CHECK(chat_template_create(&spec, house->tokenizer, &house->chat) == ST_OK);
    CHECK(arena_create(4096, &house->arena) == ST_OK);
    house->intake = (struct intake){
        .tokenizer = house->tokenizer,
        .chat = house->chat,
        .context = 64,
        .max_tokens = 4,
        .sampling = {.n_top = -1},
        .vision = {.config = &config,
                   .prompt = house->prompt,
                   .image_id = house->id,
                   .book = {NULL, facts, next_use}},
    };
}

static void house_end(struct house *house)
{
    intake_row_free(&house->row);
    arena_destroy(house->arena);
    chat_template_destroy(house->chat);
    vision_prompt_destroy(house->prompt);
    tokenizer_destroy(house->tokenizer);
}

static enum status make(struct house *house, const struct prompt_row *prompt, struct row_error *why)
{
    *why = (struct row_error){""};
    arena_reset(house->arena);
    return intake_row_make(&house->intake, prompt, house->arena, &house->row, why);
}

static struct prompt_row with_text(const char *text, const uint64_t *refs, int n_refs)
{
    return (struct prompt_row){.row = 5,
                               .prompt = text,
                               .prompt_bytes = strlen(text),
                               .image_refs = refs,
                               .n_image_refs = n_refs};
}

static struct prompt_row with_messages(const char *json, const uint64_t *refs, int n_refs)
{
    return (struct prompt_row){.row = 5,
                               .messages = json,
                               .messages_bytes = strlen(json),
                               .image_refs = refs,
                               .n_image_refs = n_refs};
}

/* The prompt's tokens are `text` with each '@' as one image. */
static void check_tokens(struct house *house, const char *text)
{
    struct token_list want = {0};
    struct row_error why = {""};
    const struct intake_row *row = &house->row;
    int n_images = 0;

    for (const char *at = text; *at != '\0';) {
        const size_t n = strcspn(at, "@");

        if (n > 0)
            CHECK(tokenizer_encode(house->tokenizer, at, n, 0, &want, &why) == ST_OK);
        at += n;
        if (*at != '@')
            break;
        CHECK(n_images < row->n_images && row->images[n_images].first == want.n_ids);
        for (int i = 0; i < ROWS; i++)
            CHECK(token_list_append(&want, &house->id, 1) == ST_OK);
        n_images++;
        at++;
    }
    CHECK_INT(row->n_images, n_images);
    CHECK_INT(row->n_embeds, n_images * ROWS);
    CHECK_INT(row->tokens.n_ids, want.n_ids);
    CHECK(row->tokens.n_ids == want.n_ids &&
          memcmp(row->tokens.ids, want.ids, (size_t)want.n_ids * sizeof *want.ids) == 0);
    token_list_free(&want);
}

/* ---- prompts --------------------------------------------------------------------------------- */

static void words_become_images(void)
{
    static const uint64_t refs[] = {2, 4, 7};
    struct house house;
    struct row_error why;
    struct prompt_row prompt = with_text("one <image> and <|im_end|>, done", refs, 2);

    house_begin(&house);
    CHECK(make(&house, &prompt, &why) == ST_OK);
    check_tokens(&house, "one @ and @, done");
    CHECK(house.row.image_facts[0].image == 2 && house.row.image_facts[0].height == EDGE + 2);
    CHECK(house.row.image_facts[1].image == 0); /* the same as 4 */

    prompt = with_text("<image><image><image>", refs, 3);
    CHECK(make(&house, &prompt, &why) == ST_OK);
    check_tokens(&house, "@@@");

    prompt = with_text("nothing to see: <imag e> <|im_start|>", NULL, 0);
    CHECK(make(&house, &prompt, &why) == ST_OK);
    check_tokens(&house, "nothing to see: <imag e> <|im_start|>"); /* no control token either */

    house.intake.vision = (struct intake_vision){.config = NULL};
    prompt = with_text("a <image> of words", NULL, 0); /* a model that sees nothing */
    CHECK(make(&house, &prompt, &why) == ST_OK);
    check_tokens(&house, "a <image> of words");
    house_end(&house);
}

static void counts_that_do_not_match(void)
{
    static const uint64_t refs[] = {2, 4, 9};
    struct house house;
    struct row_error why;
    struct prompt_row prompt = with_text("one <image>", refs, 2);

    house_begin(&house);
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "1 place for images");
    CHECK_HAS(why.text, "the row has 2 images");
    prompt = with_text("one <image> <image>", refs, 1);
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "2 places for images");
    CHECK_HAS(why.text, "the row has 1 image");
    prompt = with_text("one <image>", refs, 0);
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "1 place for images");
    prompt = with_text("none", refs, 1);
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "0 places for images");
    prompt = with_text("<image>", refs + 2, 1);
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "image 9 is not a picture");
    house.intake.context = ROWS + 1;
    prompt = with_text("a<image>", refs, 1);
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "the prompt has 5 tokens");
    house_end(&house);
}

/* Ids that another program made: a place each, or all places. */
static void tokens_that_are_placed(void)
{
    static const uint64_t refs[] = {1, 3};
    struct house house;
    struct row_error why;

    house_begin(&house);
    const int32_t I = house.id;
    const int32_t brief[] = {5, I, 6, I};
    const int32_t whole[] = {5, I, I, I, I, 6, I, I, I, I};
    struct prompt_row prompt = {
        .tokens = brief, .n_tokens = 4, .image_refs = refs, .n_image_refs = 2};

    CHECK(make(&house, &prompt, &why) == ST_OK);
    CHECK(house.row.tokens.n_ids == 10 && memcmp(house.row.tokens.ids, whole, sizeof whole) == 0);
    CHECK(house.row.images[0].first == 1 && house.row.images[1].first == 6);
    prompt.tokens = whole;
    prompt.n_tokens = 10;
    CHECK(make(&house, &prompt, &why) == ST_OK);
    CHECK(house.row.tokens.n_ids == 10 && memcmp(house.row.tokens.ids, whole, sizeof whole) == 0);
    CHECK(house.row.images[0].first == 1 && house.row.images[1].first == 6);
    prompt.n_tokens = 9;
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "7 places for images");
    house_end(&house);
}

/* ---- conversations --------------------------------------------------------------------------- */

static void parts_become_images(void)
{
    static const uint64_t refs[] = {1, 2, 3};
    struct house house;
    struct row_error why;
    struct prompt_row prompt = with_messages(
        "[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}, {\"type\": \"text\", \"text\": "
        "\"a <image> b\"}, {\"type\": \"image\", \"index\": 2}, {\"type\": \"image\", \"index\": "
        "1}]}]",
        refs, 3);

    house_begin(&house);
    CHECK(make(&house, &prompt, &why) == ST_OK);
    check_tokens(&house, "[user]@a <image> b@@>"); /* a word of the user is no image */
    CHECK(house.row.image_facts[0].image == 1 && house.row.image_facts[1].image == 3 &&
          house.row.image_facts[2].image == 2);

    prompt = with_messages(
        "[{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"index\": 3}]}]", refs, 3);
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "names image 3, and the row has 3");
    prompt = with_messages(
        "[{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"index\": \"x\"}]}]", refs, 3);
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "message 0, part 0: index must be");
    prompt = with_messages("[{\"role\": \"user\", \"content\": \"hello\"}]", refs, 1);
    CHECK(make(&house, &prompt, &why) == ST_ROW);
    CHECK_HAS(why.text, "0 places for images");

    house.intake.chat_prompts = true; /* `prompt` is a user's message */
    prompt = with_text("see <image> and <image>!", refs, 2);
    CHECK(make(&house, &prompt, &why) == ST_OK);
    check_tokens(&house, "[user]see @ and @!>");
    house_end(&house);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    words_become_images();
    counts_that_do_not_match();
    tokens_that_are_placed();
    parts_become_images();
    TEST_END();
}
