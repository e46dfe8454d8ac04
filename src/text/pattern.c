/*
 * pattern.c - a tree of pattern_parse.c into one table, and matching by it.
 *
 *   tree -> program (SET, SPLIT in order of preference, LOOK, JUMP, MATCH)
 *        -> states, each an ordered list of places in the program that could go on
 *        -> table [state][class of the next character] -> next state, and whether a match ends here
 *
 * Code points that no set of the pattern tells apart are one class; the end of the text is a class
 * of its own.  A state's list is in order of preference and is cut where a match ends: so the last
 * match seen is the one that a backtracking matcher would have found first.
 *
 * The table is made when the pattern is: matching writes nothing, so threads may share a pattern.
 */
#include <stdio.h>
#include <stdlib.h>

#include "text/pattern.h"

enum { MAX_PROGRAM = 6000, MAX_EMITTED = 100000, MAX_STATES = 4096 };
enum { MAX_TABLE = 1 << 20, MAX_WORK = 1 << 26, PAGE = 256, N_PAGES = 0x1100 };

enum op { OP_SET, OP_SPLIT, OP_LOOK, OP_JUMP, OP_MATCH };

struct instruction {
    enum op op;
    int x, y; /* SET, LOOK: x the set; LOOK: y whether the end counts; SPLIT, JUMP: where to */
};

struct pattern {
    uint16_t page_of[N_PAGES]; /* index into pages of the code points from PAGE * i on */
    uint8_t *pages;            /* owned; [n_pages * PAGE] class of each code point */
    int n_pages, n_classes;    /* with the last one, the end */
    uint8_t byte_class[256];   /* of a byte as the alphabet spells it */
    uint16_t *next;            /* owned; [n_states * n_classes] state << 1 | match */
};

/* ---- classes -------------------------------------------------------------------------------- */

static int by_code(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

/* Where the class of code points can change: *out_n ascending places, 0 first and the end last. */
static enum status find_edges(const struct pattern_tree *tree, uint32_t **out_edges, int *out_n)
{
    size_t n = 2;
    int kept = 0;

    for (int i = 0; i < tree->n_sets; i++)
        n += 2 * (size_t)tree->sets[i].n_ranges;
    uint32_t *edges = host_alloc(n * sizeof *edges);
    if (edges == NULL)
        return ST_NOMEM;
    n = 0;
    edges[n++] = 0;
    edges[n++] = N_PAGES * PAGE;
    for (int i = 0; i < tree->n_sets; i++)
        for (int j = 0; j < tree->sets[i].n_ranges; j++) {
            edges[n++] = tree->sets[i].ranges[j].first;
            edges[n++] = tree->sets[i].ranges[j].last + 1;
        }
    qsort(edges, n, sizeof *edges, by_code);
    for (size_t i = 1; i < n; i++)
        if (edges[i] != edges[kept])
            edges[++kept] = edges[i];
    *out_edges = edges;
    *out_n = kept + 1;
    return ST_OK;
}

/* Give the code points [first, last) a class.  Pages of one class only are shared. */
static enum status fill_class(struct pattern *p, int16_t *uniform, uint32_t first, uint32_t last,
                              uint8_t class)
{
    while (first < last) {
        const uint32_t page = first / PAGE, end = (page + 1) * PAGE;
        const bool whole = first == page * PAGE && last >= end;

        if (whole ? uniform[class] < 0 : p->page_of[page] == UINT16_MAX) {
            uint8_t *moved = host_realloc(p->pages, ((size_t)p->n_pages + 1) * PAGE);

            if (moved == NULL)
                return ST_NOMEM;
            p->pages = moved;
            memset(moved + (size_t)p->n_pages * PAGE, class, PAGE);
            if (whole)
                uniform[class] = (int16_t)p->n_pages;
            else
                p->page_of[page] = (uint16_t)p->n_pages;
            p->n_pages++;
        }
        if (whole)
            p->page_of[page] = (uint16_t)uniform[class];
        const uint32_t stop = last < end ? last : end;
        if (!whole)
            memset(p->pages + (size_t)p->page_of[page] * PAGE + first % PAGE, class, stop - first);
        first = stop;
    }
    return ST_OK;
}

static uint8_t class_of(const struct pattern *p, uint32_t code)
{
    return p->pages[(size_t)p->page_of[code / PAGE] * PAGE + code % PAGE];
}

/* Classes and which sets hold each: out_members [256], a bit a set. */
static enum status make_classes(struct pattern *p, const struct pattern_tree *tree,
                                uint64_t *out_members, char *why)
{
    int at[PATTERN_MAX_SETS] = {0}, n_edges = 0;
    int16_t uniform[256];
    uint32_t *edges = NULL;
    enum status st = ST_OK;

    memset(uniform, 0xff, sizeof uniform);
    memset(p->page_of, 0xff, sizeof p->page_of);
    TRY(find_edges(tree, &edges, &n_edges), done);
    for (int e = 0; e + 1 < n_edges; e++) {
        uint64_t members = 0;
        int class = 0;

        for (int i = 0; i < tree->n_sets; i++) {
            const struct char_set *set = &tree->sets[i];

            while (at[i] < set->n_ranges && set->ranges[at[i]].last < edges[e])
                at[i]++;
            if (at[i] < set->n_ranges && set->ranges[at[i]].first <= edges[e])
                members |= (uint64_t)1 << i;
        }
        while (class < p->n_classes && out_members[class] != members)
            class ++;
        if (class == p->n_classes && ++p->n_classes == 255) {
            snprintf(why, PATTERN_WHY_CAP, "it tells too many kinds of characters apart");
            st = ST_UNSUPPORTED;
            goto done;
        }
        out_members[class] = members;
        TRY(fill_class(p, uniform, edges[e], edges[e + 1], (uint8_t) class), done);
    }
    out_members[p->n_classes++] = 0; /* the end is in no set */
    for (int byte = 0; byte < 256; byte++)
        p->byte_class[byte] = class_of(p, alphabet_code((uint8_t)byte));
done:
    host_free(edges);
    return st;
}

/* ---- the program ---------------------------------------------------------------------------- */

struct program {
    struct instruction *code; /* owned; [MAX_PROGRAM] */
    int n, n_nodes;           /* n_nodes: emitted so far, which repeats of nothing multiply */
    const struct pattern_tree *tree;
};

/* Returns its place; MAX_PROGRAM and more: the program is too long. */
static int emit(struct program *g, enum op op, int x, int y)
{
    if (g->n < MAX_PROGRAM)
        g->code[g->n] = (struct instruction){op, x, y};
    else
        g->n = MAX_PROGRAM;
    return g->n++;
}

static void set_targets(struct program *g, int at, bool swap, int first, int second)
{
    if (at >= MAX_PROGRAM)
        return;
    g->code[at].x = swap ? second : first;
    g->code[at].y = swap ? first : second;
}

static void emit_node(struct program *g, int index);

static void emit_repeat(struct program *g, const struct pattern_node *node)
{
    int first_split = -1;

    for (int i = 0; i < node->min && g->n < MAX_PROGRAM; i++)
        emit_node(g, node->a);
    if (node->max < 0) {
        const int split = emit(g, OP_SPLIT, 0, 0);

        emit_node(g, node->a);
        emit(g, OP_JUMP, split, 0);
        set_targets(g, split, node->lazy, split + 1, g->n);
        return;
    }
    const int begin = g->n;
    for (int i = node->min; i < node->max && g->n < MAX_PROGRAM; i++) {
        const int split = emit(g, OP_SPLIT, 0, 0);

        /* y is kept as a list of the splits that leave to the end. */
        if (split < MAX_PROGRAM)
            g->code[split].y = first_split;
        first_split = split;
        emit_node(g, node->a);
    }
    if (g->n >= MAX_PROGRAM || g->n == begin)
        return;
    for (int split = first_split; split >= 0;) {
        const int before = g->code[split].y;

        set_targets(g, split, node->lazy, split + 1, g->n);
        split = before;
    }
}

static void emit_node(struct program *g, int index)
{
    const struct pattern_node *node = &g->tree->nodes[index];
    int split, jump;

    if (g->n_nodes++ == MAX_EMITTED)
        g->n = MAX_PROGRAM + 1;
    if (g->n > MAX_PROGRAM)
        return;
    switch (node->kind) {
    case NODE_EMPTY:
        break;
    case NODE_SET:
        emit(g, OP_SET, node->a, 0);
        break;
    case NODE_LOOK:
        emit(g, OP_LOOK, node->a, node->b);
        break;
    case NODE_CAT:
        emit_node(g, node->a);
        emit_node(g, node->b);
        break;
    case NODE_ALT:
        split = emit(g, OP_SPLIT, 0, 0);
        emit_node(g, node->a);
        jump = emit(g, OP_JUMP, 0, 0);
        set_targets(g, split, false, split + 1, g->n);
        emit_node(g, node->b);
        if (jump < MAX_PROGRAM)
            g->code[jump].x = g->n;
        break;
    case NODE_REPEAT:
        emit_repeat(g, node);
        break;
    }
}

/* ---- the table ------------------------------------------------------------------------------ */

struct maker {
    struct pattern *pattern;
    struct program program;
    const uint64_t *members;
    struct buf lists;               /* int16_t places of all states, one after another */
    struct buf table;               /* as pattern.next */
    size_t offsets[MAX_STATES + 1]; /* into lists, in places */
    int n_states;
    int16_t slots[2 * MAX_STATES];      /* hash table of states by their lists; -1 = free */
    int64_t work;                       /* instructions followed */
    uint32_t seen[MAX_PROGRAM];         /* == round: been there */
    uint32_t targeted[MAX_PROGRAM + 1]; /* the same for the list under way */
    uint32_t round;
    int16_t stack[2 * MAX_PROGRAM + 2], list[MAX_PROGRAM];
    int n_list;
};

/* The state of m->list, new or known; -1: too many, -2: no memory. */
static int state_of(struct maker *m)
{
    const int16_t *places = (const int16_t *)(const void *)m->lists.data;
    const size_t n_bytes = (size_t)m->n_list * sizeof *m->list;

    size_t slot = (size_t)hash_bytes(m->list, n_bytes, 0) % (2 * MAX_STATES);

    for (; m->slots[slot] >= 0; slot = (slot + 1) % (2 * MAX_STATES)) {
        const int s = m->slots[slot];

        if (m->offsets[s + 1] - m->offsets[s] == (size_t)m->n_list &&
            (m->n_list == 0 || memcmp(places + m->offsets[s], m->list, n_bytes) == 0))
            return s;
    }
    if (m->n_states == MAX_STATES)
        return -1;
    if (buf_put(&m->lists, m->list, n_bytes) != ST_OK)
        return -2;
    m->offsets[m->n_states + 1] = m->offsets[m->n_states] + (size_t)m->n_list;
    m->slots[slot] = (int16_t)m->n_states;
    return m->n_states++;
}

/* Follow the program from `place` without taking a character, the next of which is of `class`;
 * where it would be taken, the list grows.  True: a match ends here, what is less preferred goes.
 */
static bool follow(struct maker *m, int place, int class)
{
    const bool end = class == m->pattern->n_classes - 1;
    int n_stack = 0;

    m->stack[n_stack++] = (int16_t)place;
    while (n_stack > 0) {
        const int at = m->stack[--n_stack];
        const struct instruction *i = &m->program.code[at];

        if (m->seen[at] == m->round)
            continue;
        m->seen[at] = m->round;
        m->work++;
        switch (i->op) {
        case OP_MATCH:
            return true;
        case OP_JUMP:
            m->stack[n_stack++] = (int16_t)i->x;
            break;
        case OP_SPLIT:
            m->stack[n_stack++] = (int16_t)i->y;
            m->stack[n_stack++] = (int16_t)i->x;
            break;
        case OP_LOOK:
            if (end ? i->y != 0 : (m->members[class] >> i->x & 1) != 0)
                m->stack[n_stack++] = (int16_t)(at + 1);
            break;
        case OP_SET:
            if (!end && (m->members[class] >> i->x & 1) != 0 && m->targeted[at + 1] != m->round) {
                m->targeted[at + 1] = m->round;
                m->list[m->n_list++] = (int16_t)(at + 1);
            }
            break;
        }
    }
    return false;
}

/* The row of the table of one state. */
static enum status make_row(struct maker *m, int state, char *why)
{
    enum status st = ST_OK;

    for (int class = 0; class < m->pattern->n_classes; class ++) {
        bool match = false;

        m->round++;
        m->n_list = 0;
        for (size_t i = m->offsets[state]; !match && i < m->offsets[state + 1]; i++)
            match = follow(m, ((const int16_t *)(const void *)m->lists.data)[i], class);
        const int next = state_of(m);
        if (next == -2)
            return ST_NOMEM;
        if (next < 0 || m->table.n_bytes > MAX_TABLE * sizeof(uint16_t) || m->work > MAX_WORK) {
            snprintf(why, PATTERN_WHY_CAP, "it is too large");
            return ST_UNSUPPORTED;
        }
        if (match && state == 1) {
            snprintf(why, PATTERN_WHY_CAP, "it can match the empty text");
            return ST_UNSUPPORTED;
        }
        const uint16_t entry = (uint16_t)(next << 1 | match);
        TRY(buf_put(&m->table, &entry, sizeof entry), done);
    }
done:
    return st;
}

static enum status make_table(struct maker *m, char *why)
{
    enum status st = ST_OK;

    m->n_list = 0;
    memset(m->slots, 0xff, sizeof m->slots);
    state_of(m); /* 0: nothing can match any more */
    m->list[m->n_list++] = 0;
    if (state_of(m) < 0)
        return ST_NOMEM;
    for (int s = 0; s < m->n_states; s++)
        TRY(make_row(m, s, why), done);
    m->pattern->next = host_alloc(m->table.n_bytes);
    if (m->pattern->next == NULL)
        return ST_NOMEM;
    memcpy(m->pattern->next, m->table.data, m->table.n_bytes);
done:
    return st;
}

static enum status make(struct pattern *pattern, const struct pattern_tree *tree, char *why)
{
    uint64_t members[256] = {0};
    struct maker *m = host_zalloc(sizeof *m);
    enum status st = ST_NOMEM;

    if (m == NULL)
        return ST_NOMEM;
    m->pattern = pattern;
    m->members = members;
    m->program = (struct program){host_alloc(MAX_PROGRAM * sizeof *m->program.code), 0, 0, tree};
    if (m->program.code == NULL)
        goto done;
    TRY(make_classes(pattern, tree, members, why), done);
    emit_node(&m->program, tree->root);
    emit(&m->program, OP_MATCH, 0, 0);
    if (m->program.n > MAX_PROGRAM) {
        snprintf(why, PATTERN_WHY_CAP, "it is too large");
        st = ST_UNSUPPORTED;
        goto done;
    }
    st = make_table(m, why);
done:
    host_free(m->program.code);
    buf_free(&m->lists);
    buf_free(&m->table);
    host_free(m);
    return st;
}

enum status pattern_create(const char *text, size_t n_bytes, bool own, struct pattern **out_pattern,
                           char *out_why)
{
    struct pattern_tree *tree = host_zalloc(sizeof *tree);
    struct pattern *pattern = host_zalloc(sizeof *pattern);
    enum status st = ST_NOMEM;

    out_why[0] = '\0';
    if (tree == NULL || pattern == NULL)
        goto done;
    TRY(pattern_parse(text, n_bytes, own, tree, out_why), done);
    TRY(make(pattern, tree, out_why), done);
    *out_pattern = pattern;
    pattern = NULL;
done:
    if (tree != NULL)
        pattern_tree_free(tree);
    host_free(tree);
    pattern_destroy(pattern);
    return st;
}

void pattern_destroy(struct pattern *pattern)
{
    if (pattern == NULL)
        return;
    host_free(pattern->pages);
    host_free(pattern->next);
    host_free(pattern);
}

/* ---- matching ------------------------------------------------------------------------------- */

/* The class of what stands at text[at], and its length; the end's where nothing does. */
static inline unsigned class_at(const struct pattern *p, const char *text, size_t n_bytes,
                                size_t at, bool spelled, size_t *out_n)
{
    *out_n = 1;
    if (at >= n_bytes)
        return (unsigned)p->n_classes - 1;
    if (spelled)
        return p->byte_class[(uint8_t)text[at]];
    if ((uint8_t)text[at] < 0x80)
        return p->pages[(size_t)p->page_of[0] * PAGE + (uint8_t)text[at]];
    return class_of(p, utf8_decode(text + at, out_n));
}

size_t pattern_match(const struct pattern *p, const char *text, size_t n_bytes, bool spelled)
{
    const unsigned n_classes = (unsigned)p->n_classes;
    size_t at = 0, n = 0, found = 0;
    unsigned state = 1;

    do {
        const unsigned entry =
            p->next[state * n_classes + class_at(p, text, n_bytes, at, spelled, &n)];

        if (entry & 1)
            found = at;
        state = entry >> 1;
        at += n;
    } while (state != 0 && at <= n_bytes);
    return found;
}

/* Where a search has failed from one place, its states on the way.  A search from a later place
 * that comes into one of them at the same place fails, too: so a run of spaces that `\s+$` does not
 * want is not walked again from each of its spaces. */
static bool failed_here(const struct pattern_trail *trail, size_t at, unsigned state)
{
    return at >= trail->begin && at - trail->begin < trail->n_states &&
           trail->states[at - trail->begin] == state;
}

enum { TRAIL_MIN = 64 };

static enum status leave_trail(const struct pattern *p, const char *text, size_t n_bytes,
                               size_t begin, size_t end, bool spelled, struct pattern_trail *trail)
{
    unsigned state = 1;
    size_t n = 0;

    if (end - begin > trail->cap_states) {
        uint16_t *moved = host_realloc(trail->states, (end - begin) * sizeof *moved);

        if (moved == NULL)
            return ST_NOMEM;
        trail->states = moved;
        trail->cap_states = end - begin;
    }
    memset(trail->states, 0, (end - begin) * sizeof *trail->states); /* no state is 0 on the way */
    for (size_t at = begin; at < end && state != 0; at += n) {
        trail->states[at - begin] = (uint16_t)state;
        state =
            p->next[state * (unsigned)p->n_classes + class_at(p, text, n_bytes, at, spelled, &n)] >>
            1;
    }
    trail->begin = begin;
    trail->n_states = end - begin;
    return ST_OK;
}

enum status pattern_search(const struct pattern *p, const char *text, size_t n_bytes, size_t from,
                           bool spelled, struct pattern_trail *trail, size_t *out_at,
                           size_t *out_n_bytes)
{
    const unsigned n_classes = (unsigned)p->n_classes;
    enum status st = ST_OK;
    size_t step = 0;

    for (size_t begin = from; begin < n_bytes; begin += step) {
        size_t at = begin, n = 0, found = 0;
        bool known = false;
        unsigned state = 1;

        class_at(p, text, n_bytes, begin, spelled, &step);
        do {
            const unsigned entry =
                p->next[state * n_classes + class_at(p, text, n_bytes, at, spelled, &n)];

            if (entry & 1)
                found = at;
            state = entry >> 1;
            at += n;
            known = found == 0 && failed_here(trail, at, state);
        } while (state != 0 && at <= n_bytes && !known);
        if (found > 0) {
            *out_at = begin;
            *out_n_bytes = found - begin;
            return ST_OK;
        }
        if (at - begin > TRAIL_MIN && !known)
            TRY(leave_trail(p, text, n_bytes, begin, at < n_bytes ? at : n_bytes, spelled, trail),
                done);
    }
    *out_at = n_bytes;
    *out_n_bytes = 0;
done:
    return st;
}
