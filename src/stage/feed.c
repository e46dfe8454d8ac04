/*
 * feed.c - the thread that makes patches of images, so that the loop never reads a file and the
 * engine finds the next images ready.
 *
 *   want ─► wanted ─► thread: read, decode, resize, cut ─► ready ─► next
 *
 * Two bounded queues: at most max_images and, beyond the first, max_bytes of patches are under way
 * or not freed yet.
 */
#include <pthread.h>

#include "stage/stage.h"

/* Patches stand behind their size, by which they are counted until they are freed. */
struct patches {
    size_t n_bytes;
    _Alignas(64) float values[];
};

struct job_of_feed {
    int32_t ticket;
    uint64_t image;
    struct vision_plan plan;
    struct fed_image fed;
    size_t n_bytes;
    struct job_of_feed *next;
};

struct list {
    struct job_of_feed *first, **last;
};

struct feed {
    struct image_feed base;
    struct image_feed_args args;
    struct background *thread; /* NULL = not started */

    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wanted_or_ended;
    struct list wanted, ready;
    int n_images;   /* wanted, at work, ready, or not freed yet */
    size_t n_bytes; /* of their patches */
    bool ended;
    enum status st; /* not ST_OK: reading has ended */
};

static struct feed *self_of(struct image_feed *feed)
{
    return (struct feed *)feed;
}

static void append(struct list *list, struct job_of_feed *job)
{
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
}

static struct job_of_feed *pop(struct list *list)
{
    struct job_of_feed *job = list->first;

    if (job == NULL)
        return NULL;
    list->first = job->next;
    if (list->first == NULL)
        list->last = &list->first;
    return job;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* From the file to patches.  Returns ST_OK, also for an image that cannot be used. */
static enum status make(struct feed *self, struct job_of_feed *job)
{
    enum status st;
    struct picture picture = {0};
    struct fed_image *fed = &job->fed;

    fed->ticket = job->ticket;
    st = prompts_read_image(self->args.prompts, job->image, &picture, &fed->error);
    if (st == ST_OK && (picture.width != job->plan.width || picture.height != job->plan.height))
        st = row_error_set(&fed->error, "it has %d x %d pixels, but its header says %d x %d",
                           picture.width, picture.height, job->plan.width, job->plan.height);
    fed->failed = st == ST_ROW;
    if (st != ST_OK)
        goto done;
    struct patches *patches = host_alloc(sizeof *patches + job->n_bytes);
    st = ST_NOMEM;
    if (patches == NULL)
        goto done;
    patches->n_bytes = job->n_bytes;
    fed->patches = patches->values;
    st = vision_patches(self->args.vision, &job->plan, picture.rgb, fed->patches);
done:
    host_free(picture.rgb);
    return fed->failed ? ST_OK : st;
}

static enum status run(void *arg)
{
    struct feed *self = arg;
    enum status st = ST_OK;

    pthread_mutex_lock(&self->lock);
    while (!self->ended && st == ST_OK) {
        struct job_of_feed *job = pop(&self->wanted);

        if (job == NULL) {
            pthread_cond_wait(&self->wanted_or_ended, &self->lock);
            continue;
        }
        pthread_mutex_unlock(&self->lock);
        st = make(self, job);
        pthread_mutex_lock(&self->lock);
        append(&self->ready, job);
        self->st = st;
    }
    pthread_mutex_unlock(&self->lock);
    return st;
}

/* ---- the loop's side ------------------------------------------------------------------------- */

static enum status want(struct image_feed *base, int32_t ticket, uint64_t image,
                        const struct vision_plan *plan)
{
    struct feed *self = self_of(base);
    const size_t n_bytes =
        (size_t)plan->n_patches * (size_t)vision_patch_elems(self->args.vision) * sizeof(float);
    enum status st = ST_AGAIN;

    pthread_mutex_lock(&self->lock);
    if (self->n_images == 0 || (self->n_images < self->args.max_images &&
                                self->n_bytes + n_bytes <= self->args.max_bytes)) {
        struct job_of_feed *job = host_zalloc(sizeof *job);

        st = ST_NOMEM;
        if (job != NULL) {
            st = ST_OK;
            job->ticket = ticket;
            job->image = image;
            job->plan = *plan;
            job->n_bytes = n_bytes;
            append(&self->wanted, job);
            self->n_images++;
            self->n_bytes += n_bytes;
            pthread_cond_signal(&self->wanted_or_ended);
        }
    }
    pthread_mutex_unlock(&self->lock);
    return st;
}

static enum status next(struct image_feed *base, struct fed_image *out)
{
    struct feed *self = self_of(base);

    pthread_mutex_lock(&self->lock);
    const enum status st = self->st != ST_OK ? self->st : ST_AGAIN;
    struct job_of_feed *job = st == ST_AGAIN ? pop(&self->ready) : NULL;
    if (job != NULL && job->fed.failed) {
        self->n_images--;
        self->n_bytes -= job->n_bytes;
    }
    pthread_mutex_unlock(&self->lock);
    if (job == NULL)
        return st;
    *out = job->fed;
    host_free(job);
    return ST_OK;
}

static void free_memory(float *values)
{
    if (values != NULL)
        host_free((uint8_t *)values - offsetof(struct patches, values));
}

static void free_patches(struct image_feed *base, float *values)
{
    struct feed *self = self_of(base);
    const struct patches *patches =
        (const void *)((const uint8_t *)values - offsetof(struct patches, values));

    pthread_mutex_lock(&self->lock);
    self->n_images--;
    self->n_bytes -= patches->n_bytes;
    pthread_mutex_unlock(&self->lock);
    free_memory(values);
}

static void destroy(struct image_feed *base)
{
    struct feed *self = self_of(base);
    struct list *lists[] = {&self->wanted, &self->ready};

    pthread_mutex_lock(&self->lock);
    self->ended = true;
    pthread_cond_signal(&self->wanted_or_ended);
    pthread_mutex_unlock(&self->lock);
    if (self->thread != NULL)
        (void)background_join(self->thread); /* next has said what it returned */
    for (int i = 0; i < 2; i++) {
        struct job_of_feed *job;

        while ((job = pop(lists[i])) != NULL) {
            free_memory(job->fed.patches);
            host_free(job);
        }
    }
    pthread_cond_destroy(&self->wanted_or_ended);
    pthread_mutex_destroy(&self->lock);
    host_free(self);
}

static const struct image_feed_ops feed_ops = {want, next, free_patches, destroy};

enum status image_feed_create(const struct image_feed_args *args, struct image_feed **out_feed)
{
    struct feed *self = host_zalloc(sizeof *self);

    if (self == NULL)
        return ST_NOMEM;
    self->base.ops = &feed_ops;
    self->args = *args;
    self->wanted.last = &self->wanted.first;
    self->ready.last = &self->ready.first;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->wanted_or_ended, NULL);
    const enum status st = background_start(run, self, &self->thread);
    if (st != ST_OK) {
        destroy(&self->base);
        return st;
    }
    *out_feed = &self->base;
    return ST_OK;
}

void image_feed_destroy(struct image_feed *feed)
{
    if (feed != NULL)
        feed->ops->destroy(feed);
}
