/*
 * encoder.c - makes embeddings of images, once each, and sends them to the rows that use them.
 *
 *   ENCODE ─► known? ─┬─ here ──────────────────────────────────────────────► EMBED ─► prefill
 *                     ├─ on its way ─► waits with it ──────────────────────┐
 *                     └─ new ─► feed (read, decode, patches) ─► step ─► cache ─► EMBED to all
 *                                                                          that wait
 *
 * The cache holds embeddings of images that may be used again.  The whole prompt file is known, so
 * each ENCODE says which row uses the image next, and what is put out to make room is the image
 * whose next use is farthest: no other choice would encode fewer images again.  An image under way
 * to prefill stays.  Nothing waits for room at prefill: the coordinator has set it aside.
 */
#include <assert.h>

#include "stage/stage.h"

enum { N_CHAINS = 1024, MAX_TICKETS = 64 };

enum image_state { IMAGE_WANTED, IMAGE_READING, IMAGE_READ, IMAGE_ENCODING, IMAGE_HERE };

/* A row that waits for an image. */
struct want {
    struct wire_encode encode;
    struct want *next;
};

/* An image that somebody waits for, or whose embeddings are here. */
struct image {
    uint64_t number;
    enum image_state state;
    struct vision_plan plan;
    float *patches;         /* the feed's, from IMAGE_READ to the end of its step */
    int32_t at;             /* of its embeddings in the cache, from IMAGE_ENCODING on */
    int n_moving;           /* transfers from there */
    uint64_t row, next_use; /* the last row that asked, and the next that will */
    double computed_s;
    struct want *wants, **last_want;
    struct image *next_in_chain;
    struct image *prev, *next; /* in its list */
};

struct image_list {
    struct image *first, *last;
};

struct move {
    struct transfer *transfer;
    struct image *image;
};

struct encoder {
    struct stage base;
    struct encoder_args args;
    struct image *chains[N_CHAINS];     /* owned */
    struct image_list pending;          /* before IMAGE_HERE, in the order of their first wants */
    struct image_list here;             /* in the order in which they came */
    struct image *tickets[MAX_TICKETS]; /* that the feed has; NULL = free */
    struct plan_room room;              /* of the cache */
    struct plan_extent *extents;        /* owned: the room's */
    struct move *moves;                 /* owned */
    int n_moves, cap_moves;
    struct vision_item *items; /* [max_images] owned: of the step */
    struct image **stepped;    /* [max_images] owned: whose they are */
    struct step step;
    bool stepping, stopping;
    int n_wants;
    uint8_t *seen; /* owned: a bit an image of the file: it has been encoded */
    struct encode_figures figures;
};

static struct encoder *self_of(struct stage *stage)
{
    return (struct encoder *)stage;
}

/* ---- images that are known ------------------------------------------------------------------- */

static struct image **chain_of(struct encoder *self, uint64_t number)
{
    struct image **at = &self->chains[number % N_CHAINS];

    while (*at != NULL && (*at)->number != number)
        at = &(*at)->next_in_chain;
    return at;
}

static void append(struct image_list *list, struct image *image)
{
    image->prev = list->last;
    image->next = NULL;
    *(list->last != NULL ? &list->last->next : &list->first) = image;
    list->last = image;
}

static void take_out(struct image_list *list, struct image *image)
{
    *(image->prev != NULL ? &image->prev->next : &list->first) = image->next;
    *(image->next != NULL ? &image->next->prev : &list->last) = image->prev;
}

static struct image *add_image(struct encoder *self, struct image **chain,
                               const struct vision_plan *plan, uint64_t number)
{
    struct image *image = host_zalloc(sizeof *image);

    if (image == NULL)
        return NULL;
    image->number = number;
    image->plan = *plan;
    image->at = -1;
    image->last_want = &image->wants;
    append(&self->pending, image);
    *chain = image;
    return image;
}

static void forget(struct encoder *self, struct image *image)
{
    struct image **chain = chain_of(self, image->number);

    assert(*chain == image && image->n_moving == 0);
    *chain = image->next_in_chain;
    take_out(image->state == IMAGE_HERE ? &self->here : &self->pending, image);
    if (image->at >= 0)
        plan_room_give(&self->room, image->at, image->plan.n_rows);
    if (image->patches != NULL)
        self->args.feed->ops->free(self->args.feed, image->patches);
    for (struct want *want = image->wants, *next; want != NULL; want = next) {
        next = want->next;
        host_free(want);
        self->n_wants--;
    }
    host_free(image);
}

/* Places for an image's embeddings, at the cost of images that are needed later, or never again.
 * False: those that are left are under way. */
static bool find_room(struct encoder *self, struct image *image)
{
    for (;;) {
        struct image *victim = NULL;

        image->at = plan_room_take(&self->room, image->plan.n_rows);
        if (image->at >= 0)
            return true;
        for (struct image *other = self->here.first; other != NULL; other = other->next)
            if (other->n_moving == 0 && (victim == NULL || other->next_use > victim->next_use))
                victim = other;
        if (victim == NULL)
            return false;
        forget(self, victim);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static enum status add_move(struct encoder *self, struct image *image, struct transfer *transfer)
{
    if (self->n_moves == self->cap_moves) {
        const int cap = self->cap_moves > 0 ? 2 * self->cap_moves : 16;
        struct move *more = host_realloc(self->moves, (size_t)cap * sizeof *more);

        if (more == NULL)
            return ST_NOMEM;
        self->moves = more;
        self->cap_moves = cap;
    }
    self->moves[self->n_moves++] = (struct move){transfer, image};
    image->n_moving++;
    return ST_OK;
}

static float *rows_of(const struct encoder *self, const struct image *image)
{
    return self->args.cache + (size_t)image->at * (size_t)self->args.vision->D_out;
}

static enum status send(struct encoder *self, struct image *image, const struct wire_encode *encode)
{
    enum status st;
    struct transfer *transfer;
    /* One that was here has kept nobody waiting since it was asked for. */
    const double computed_s =
        image->wants != NULL ? image->computed_s : world_now_s(self->args.world);

    TRY(embed_out_send(self->args.link, encode, rows_of(self, image), computed_s, &transfer), err);
    if (transfer != NULL)
        st = add_move(self, image, transfer);
err:
    return st;
}

/* Its embeddings are here: to all that wait. */
static enum status answer_all(struct encoder *self, struct image *image)
{
    enum status st = ST_OK;

    while (image->wants != NULL) {
        struct want *want = image->wants;

        TRY(send(self, image, &want->encode), err);
        image->wants = want->next;
        host_free(want);
        self->n_wants--;
    }
    image->last_want = &image->wants;
err:
    return st;
}

/* It cannot be read: all rows that wait for it hear why. */
static enum status refuse_all(struct encoder *self, struct image *image,
                              const struct row_error *error)
{
    enum status st = ST_OK;

    for (const struct want *want = image->wants; want != NULL; want = want->next) {
        struct row_error why = {""}; /* the same whichever of equal images was read */

        row_error_set(&why, "image %llu: %.220s", (unsigned long long)want->encode.shown,
                      error->text);
        TRY(embed_out_refuse(self->args.link, &want->encode, &why), err);
    }
    forget(self, image);
err:
    return st;
}

static void poll_moves(struct encoder *self, bool *out_worked)
{
    int kept = 0;

    for (int i = 0; i < self->n_moves; i++) {
        struct move *move = &self->moves[i];

        if (!transfer_done(move->transfer)) {
            self->moves[kept++] = *move;
            continue;
        }
        move->image->n_moving--;
        *out_worked = true;
    }
    self->n_moves = kept;
}

/* ---- messages -------------------------------------------------------------------------------- */

static enum status refuse(const struct wire_encode *encode, const char *why)
{
    log_error("ENCODE of image %llu, %d x %d, for slot %d: %s: the stages do not run one job",
              (unsigned long long)encode->image, encode->width, encode->height, encode->slot, why);
    return ST_COMM;
}

static enum status take_encode(struct encoder *self, const struct msg *msg)
{
    enum status st;
    struct wire_encode encode;
    struct vision_plan plan;
    struct row_error why = {""};

    TRY(wire_encode_unpack(msg->payload, msg->n_bytes, &encode), err);
    if (encode.slot >= self->args.n_slots ||
        encode.prefill >= world_layout(self->args.world)->n_stages[ROLE_PREFILL] ||
        encode.image >= self->args.n_file_images)
        return refuse(&encode, "no such slot, prefill stage or image");
    st = vision_plan_make(self->args.vision, encode.width, encode.height, &plan, &why);
    if (st != ST_OK || plan.n_rows != encode.n_rows || plan.n_rows > self->args.cache_places ||
        plan.n_patches > self->args.engine->max_patches)
        return refuse(&encode, st != ST_OK ? why.text : "it has other embeddings here");

    struct image **chain = chain_of(self, encode.image);
    struct image *image = *chain != NULL ? *chain : add_image(self, chain, &plan, encode.image);
    if (image == NULL)
        return ST_NOMEM;
    self->figures.n_uses++;
    if (encode.row >= image->row) {
        image->row = encode.row;
        image->next_use = encode.next_use;
    }
    if (image->state == IMAGE_HERE)
        return send(self, image, &encode);
    struct want *want = host_alloc(sizeof *want);
    if (want == NULL)
        return ST_NOMEM;
    *want = (struct want){.encode = encode};
    *image->last_want = want;
    image->last_want = &want->next;
    self->n_wants++;
err:
    return st;
}

static enum status take_stop(struct encoder *self)
{
    if (self->n_wants > 0) {
        log_error("STOP for encoder/%d, which %d rows wait for: the coordinator has lost count",
                  self->base.at.index, self->n_wants);
        return ST_COMM;
    }
    self->stopping = true;
    return ST_OK;
}

static enum status on_message(struct stage *stage, struct msg *msg)
{
    struct encoder *self = self_of(stage);
    enum status st;

    if (msg->type == MSG_ENCODE) {
        st = take_encode(self, msg);
    } else {
        assert(msg->type == MSG_STOP);
        st = take_stop(self);
    }
    msg_free(msg);
    return st;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int free_ticket(const struct encoder *self)
{
    for (int i = 0; i < MAX_TICKETS; i++)
        if (self->tickets[i] == NULL)
            return i;
    return -1;
}

/* Images in their order to the feed, as far as it takes them. */
static enum status ask_feed(struct encoder *self, bool *out_worked)
{
    struct image_feed *feed = self->args.feed;

    for (struct image *image = self->pending.first; image != NULL; image = image->next) {
        const int ticket = image->state == IMAGE_WANTED ? free_ticket(self) : 0;

        if (image->state != IMAGE_WANTED)
            continue;
        const enum status st =
            ticket < 0 ? ST_AGAIN : feed->ops->want(feed, ticket, image->number, &image->plan);
        if (st != ST_OK)
            return st == ST_AGAIN ? ST_OK : st;
        self->tickets[ticket] = image;
        image->state = IMAGE_READING;
        *out_worked = true;
    }
    return ST_OK;
}

static enum status take_fed(struct encoder *self, bool *out_worked)
{
    enum status st;
    struct image_feed *feed = self->args.feed;
    struct fed_image fed;

    while ((st = feed->ops->next(feed, &fed)) == ST_OK) {
        struct image *image = self->tickets[fed.ticket];

        self->tickets[fed.ticket] = NULL;
        *out_worked = true;
        if (fed.failed) {
            TRY(refuse_all(self, image, &fed.error), err);
            continue;
        }
        image->patches = fed.patches;
        image->state = IMAGE_READ;
    }
err:
    return st == ST_AGAIN ? ST_OK : st;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* The images that have been read, in their order, as many as a step takes and the cache has room
 * for. */
static void compose(struct encoder *self)
{
    int n = 0, left = self->args.engine->max_patches;

    for (struct image *image = self->pending.first; image != NULL && n < self->args.max_images;
         image = image->next) {
        if (image->state != IMAGE_READ)
            continue;
        if (image->plan.n_patches > left || !find_room(self, image))
            break;
        left -= image->plan.n_patches;
        image->state = IMAGE_ENCODING;
        self->stepped[n] = image;
        self->items[n++] = (struct vision_item){
            .plan = &image->plan, .patches = image->patches, .out = rows_of(self, image)};
    }
    self->step = (struct step){.n_images = n, .images = self->items};
}

static void count(struct encoder *self, const struct image *image)
{
    uint8_t *seen = &self->seen[image->number / 8];
    const uint8_t bit = (uint8_t)(1u << image->number % 8);

    self->figures.n_images++;
    self->figures.n_again += (*seen & bit) != 0;
    *seen |= bit;
    self->figures.flop += vision_flop(self->args.vision, &image->plan);
}

static enum status take_step(struct encoder *self)
{
    enum status st = ST_OK;

    self->stepping = false;
    self->figures.n_steps++;
    for (int i = 0; i < self->step.n_images; i++) {
        struct image *image = self->stepped[i];

        self->args.feed->ops->free(self->args.feed, image->patches);
        image->patches = NULL;
        image->computed_s = world_now_s(self->args.world);
        take_out(&self->pending, image);
        append(&self->here, image);
        image->state = IMAGE_HERE;
        count(self, image);
        TRY(answer_all(self, image), err);
    }
err:
    return st;
}

static enum status poll(struct stage *stage, bool *out_worked)
{
    enum status st;
    struct encoder *self = self_of(stage);

    poll_moves(self, out_worked);
    if (self->stopping) {
        stage->ended = self->n_moves == 0;
        return ST_OK;
    }
    TRY(ask_feed(self, out_worked), err);
    TRY(take_fed(self, out_worked), err);
    if (!self->stepping) {
        if (self->args.engine->running != NULL)
            return ST_OK;
        compose(self);
        if (self->step.n_images == 0)
            return ST_OK;
        TRY(engine_submit(self->args.engine, &self->step), err);
        self->stepping = true;
    }
    enum engine_event event;
    int layer;
    TRY(engine_poll(self->args.engine, &event, &layer), err);
    *out_worked |= event != ENGINE_BUSY;
    if (event == ENGINE_STEP_DONE)
        TRY(take_step(self), err);
err:
    return st;
}

/* ---- create, destroy ------------------------------------------------------------------------- */

static void describe(const struct stage *stage, struct wire_beat *beat)
{
    const struct encoder *self = (const struct encoder *)stage;
    struct encode_figures *sum = &beat->encode;

    sum->n_images += self->figures.n_images;
    sum->n_again += self->figures.n_again;
    sum->n_uses += self->figures.n_uses;
    sum->n_steps += self->figures.n_steps;
    sum->n_bytes += embed_out_bytes(self->args.link);
    sum->busy_s += self->args.engine->stats.encode_busy_s;
    sum->flop += self->figures.flop;
    if (self->stepping)
        beat_say(beat, "encoder/%d: step of %d images, %d rows wait", stage->at.index,
                 self->step.n_images, self->n_wants);
    else
        beat_say(beat, "encoder/%d: %d rows wait, no step", stage->at.index, self->n_wants);
}

/* Bytes that may still be under way are the world's to end. */
static void destroy(struct stage *stage)
{
    struct encoder *self = self_of(stage);

    while (self->pending.first != NULL)
        forget(self, self->pending.first);
    while (self->here.first != NULL) {
        self->here.first->n_moving = 0;
        forget(self, self->here.first);
    }
    host_free(self->extents);
    host_free(self->moves);
    host_free(self->items);
    host_free(self->stepped);
    host_free(self->seen);
    host_free(self);
}

static const struct stage_ops encoder_ops = {on_message, poll, describe, destroy};

enum status encoder_create(const struct encoder_args *args, struct stage **out_stage)
{
    const size_t n_images = (size_t)args->max_images;
    const int cap_extents = args->cache_places + 1;
    struct encoder *self = host_zalloc(sizeof *self);

    assert(args->max_images > 0 && args->cache_places > 0);
    if (self == NULL)
        return ST_NOMEM;
    self->base = (struct stage){.ops = &encoder_ops, .at = {ROLE_ENCODER, args->index}};
    self->args = *args;
    self->extents = host_alloc((size_t)cap_extents * sizeof *self->extents);
    self->items = host_zalloc(n_images * sizeof *self->items);
    self->stepped = host_zalloc(n_images * sizeof(struct image *));
    self->seen = host_zalloc((size_t)(args->n_file_images / 8 + 1));
    if (self->extents == NULL || self->items == NULL || self->stepped == NULL ||
        self->seen == NULL) {
        destroy(&self->base);
        return ST_NOMEM;
    }
    plan_room_init(&self->room, args->cache_places, self->extents, cap_extents);
    *out_stage = &self->base;
    return ST_OK;
}
