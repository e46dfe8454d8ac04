/*
 * protocol.c - the protocol table of comm.h as data; world_send checks every message against it.
 */
#include "comm/comm.h"

static const struct {
    const char *name;
    enum role from;
    unsigned to; /* bit set of roles */
} table[MSG_COUNT] = {
    [MSG_RESERVE] = {"RESERVE", ROLE_COORDINATOR, 1u << ROLE_DECODE},
    [MSG_ADMIT] = {"ADMIT", ROLE_COORDINATOR, 1u << ROLE_PREFILL},
    [MSG_ENCODE] = {"ENCODE", ROLE_COORDINATOR, 1u << ROLE_ENCODER},
    [MSG_GRANT] = {"GRANT", ROLE_DECODE, 1u << ROLE_PREFILL},
    [MSG_EMBED] = {"EMBED", ROLE_ENCODER, 1u << ROLE_PREFILL},
    [MSG_PIECE] = {"PIECE", ROLE_PREFILL, 1u << ROLE_DECODE},
    [MSG_FIRST] = {"FIRST", ROLE_PREFILL, 1u << ROLE_DECODE},
    [MSG_PREFILLED] = {"PREFILLED", ROLE_PREFILL, 1u << ROLE_COORDINATOR},
    [MSG_DONE] = {"DONE", ROLE_DECODE, 1u << ROLE_COORDINATOR},
    [MSG_STOP] = {"STOP", ROLE_COORDINATOR,
                  1u << ROLE_ENCODER | 1u << ROLE_PREFILL | 1u << ROLE_DECODE},
    [MSG_BEAT] = {"BEAT", ROLE_WATCH, 1u << ROLE_WATCH},
    [MSG_FAIL] = {"FAIL", ROLE_WATCH, 1u << ROLE_WATCH},
    [MSG_REPORT] = {"REPORT", ROLE_WATCH, 1u << ROLE_WATCH},
};

const char *msg_name(enum msg_type type)
{
    return (unsigned)type < MSG_COUNT ? table[type].name : "no message";
}

bool msg_allowed(enum msg_type type, enum role from, enum role to)
{
    return (unsigned)type < MSG_COUNT && table[type].from == from &&
           (table[type].to >> (unsigned)to & 1u) != 0;
}
