/*
 * loop.c - the only loop of a rank: hand messages out, give every stage a turn, rest when idle.
 *
 *   going on ── a stage, the world or a peer failed, or *stop ──► telling ──► over, with the status
 *       └────── all stages have ended ──► over
 *
 * While it tells, only the watch and the world have turns: what the other stages would do, nobody
 * waits for any more.
 */
#include <stdio.h>

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
    enum status st = ST_OK;
    struct msg *msg;
    bool worked = false;

    while (world_next(world, stage->at, &msg) == ST_OK) {
        TRY(stage->ops->on_message(stage, msg), err);
        *out_worked = true;
    }
    if (!stage->ended)
        TRY(stage->ops->poll(stage, &worked), err);
    *out_worked |= worked;
err:
    return st;
}

/* All stages have ended.  What has not left yet is a beat, for a rank that is done with it; if that
 * rank is lost by now, it never will. */
static bool may_leave(struct loop *loop)
{
    const double now_s = world_now_s(loop->world);

    if (loop->leave_s == 0)
        loop->leave_s = now_s + LOOP_TELL_S;
    return world_flushed(loop->world) || now_s >= loop->leave_s;
}

/* Every stage once, then the world. */
static enum status go_on(struct loop *loop, bool *out_worked)
{
    enum status st;
    bool all_ended = true;

    for (int i = 0; i < loop->n_stages; i++) {
        if (loop->stop != NULL && *loop->stop != 0)
            return ST_STOPPED;
        TRY(turn(loop->world, loop->stages[i], out_worked), err);
        all_ended &= loop->stages[i]->ended;
    }
    TRY(world_progress(loop->world, out_worked), err);
    return all_ended && may_leave(loop) ? ST_END : ST_OK;
err:
    return st;
}

/* The run is over: from now on the others are told. */
static enum status give_up(struct loop *loop, enum status why)
{
    char by_signal[32];
    const char *message = log_last_error(); /* whoever failed has said why */

    if (loop->watch == NULL)
        return why;
    if (why == ST_STOPPED && loop->stop != NULL && *loop->stop != 0) {
        snprintf(by_signal, sizeof by_signal, "stopped by signal %d", *loop->stop);
        message = by_signal;
    }
    loop->st = why;
    loop->leave_s = world_now_s(loop->world) + LOOP_TELL_S;
    return watch_fail(loop->watch, why, message) == ST_OK ? ST_OK : why;
}

static enum status tell(struct loop *loop, bool *out_worked)
{
    enum status st;

    TRY(turn(loop->world, loop->watch, out_worked), err);
    TRY(world_progress(loop->world, out_worked), err);
    if ((watch_told(loop->watch) && world_flushed(loop->world)) ||
        world_now_s(loop->world) >= loop->leave_s)
        return loop->st;
    return ST_OK;
err:
    return loop->st; /* what came first counts */
}

enum status loop_turn(struct loop *loop, bool *out_worked)
{
    *out_worked = false;
    if (loop->st != ST_OK)
        return tell(loop, out_worked);
    const enum status st = go_on(loop, out_worked);
    return st == ST_OK || st == ST_END ? st : give_up(loop, st);
}

enum status loop_run(struct loop *loop)
{
    int rest_us = REST_MIN_US;

    for (;;) {
        bool worked;
        const enum status st = loop_turn(loop, &worked);

        if (st != ST_OK)
            return st == ST_END ? ST_OK : st;
        if (worked) {
            rest_us = REST_MIN_US;
        } else {
            clock_sleep_us(rest_us);
            rest_us = rest_us * 2 < REST_MAX_US ? rest_us * 2 : REST_MAX_US;
        }
    }
}
