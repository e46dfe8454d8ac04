/*
 * loop.c - the only loop of a rank: hand messages out, give every stage a turn, rest when idle.
 */
#include "stage/stage.h"

enum { REST_MIN_US = 50, REST_MAX_US = 2000 };

void stage_destroy(struct stage *stage)
{
    if (stage != NULL)
        stage->ops->destroy(stage);
}

/* One turn of one stage: all its messages, then a piece of work. */
static enum status turn(struct world *world, struct stage *stage, bool *out_worked)
{
    enum status st;
    struct msg *msg;

    *out_worked = false;
    while (world_next(world, stage->at, &msg) == ST_OK) {
        TRY(stage->ops->on_message(stage, msg), err);
        *out_worked = true;
    }
    if (!stage->ended) {
        bool worked = false;

        TRY(stage->ops->poll(stage, &worked), err);
        *out_worked |= worked;
    }
    return ST_OK;
err:
    return st;
}

enum status loop_run(struct world *world, struct stage *const *stages, int n_stages,
                     const volatile int *stop)
{
    enum status st;
    int rest_us = REST_MIN_US;

    for (;;) {
        bool any_worked = false, all_ended = true;

        for (int i = 0; i < n_stages; i++) {
            bool worked;

            if (*stop != 0)
                return ST_STOPPED;
            TRY(turn(world, stages[i], &worked), err);
            any_worked |= worked;
            all_ended &= stages[i]->ended;
        }
        if (all_ended)
            return ST_OK;
        if (any_worked) {
            rest_us = REST_MIN_US;
        } else {
            clock_sleep_us(rest_us);
            rest_us = rest_us * 2 < REST_MAX_US ? rest_us * 2 : REST_MAX_US;
        }
    }
err:
    return st;
}
