/*
 * mutations.h - a mistake made on purpose, and how far it moves the logits: for unit_mutations*.c.
 */
#ifndef EPIDOTE_TESTS_MUTATIONS_H
#define EPIDOTE_TESTS_MUTATIONS_H

#include "checkpoint.h"

static const double LIMIT = 1e-11; /* of NMSE in f32; a mistake has to exceed it a hundredfold */

/* NMSE of what the decoder gives when it reads `path` and believes `config` (NULL: the file's). */
static inline double error_of(const char *path, const struct model_config *config,
                              const struct golden *g)
{
    float *logits = host_alloc((size_t)g->T * (size_t)g->V * sizeof *logits);
    struct rig rig;

    RIG_OK(logits != NULL ? ST_OK : ST_NOMEM);
    rig_begin(&rig, (struct rig_args){.path = path, .type = OPS_F32, .config = config});
    rig_logits(&rig, g->tokens, g->T, g->T, logits);
    rig_end(&rig);
    const double error = nmse(logits, g->logits, (size_t)g->T * (size_t)g->V);
    host_free(logits);
    return error;
}

static inline void expect_shown(const char *model, const char *mistake, double error)
{
    fprintf(stderr, "%-15s %-42s nmse %.1e\n", model, mistake, error);
    CHECK(error >= 100 * LIMIT);
}

static inline struct model_config config_of(const char *path)
{
    struct model_source *source;

    RIG_OK(model_open(path, &source));
    const struct model_config config = *model_source_config(source);
    model_close(source);
    return config;
}

#endif
