/* TEST */
/*
 * unit_pattern.c - compiled patterns match what a backtracking matcher finds first, on random
 * patterns and texts; what is not understood is refused with a reason.
 */
#include "test.h"
#include "text/pattern.h"
#include "text_test.h"

/* ---- an oracle: the tree of a pattern, matched by backtracking -------------------------------- */

struct oracle {
    const struct pattern_tree *tree;
    const char *text;
    size_t n_bytes;
    long budget;
};

/* What remains to be matched after a node: another node, or another turn of a repeat. */
struct rest {
    int node;      /* -1: a turn of `repeat` */
    int repeat, n; /* n: turns made */
    size_t begun;  /* where the last turn began: an empty one is not repeated */
    const struct rest *next;
};

static bool in_set(const struct char_set *set, uint32_t code)
{
    for (int i = 0; i < set->n_ranges; i++)
        if (set->ranges[i].first <= code && code <= set->ranges[i].last)
            return true;
    return false;
}

static bool go(struct oracle *o, size_t at, const struct rest *rest, size_t *out_end);

static bool turn(struct oracle *o, size_t at, const struct rest *rest, size_t *out_end)
{
    const struct pattern_node *node = &o->tree->nodes[rest->repeat];
    const bool may = (node->max < 0 || rest->n < node->max) && (rest->n == 0 || at > rest->begun);
    const struct rest again = {-1, rest->repeat, rest->n + 1, at, rest->next};
    const struct rest body = {node->a, 0, 0, 0, &again};

    if (rest->n < node->min)
        return go(o, at, &body, out_end);
    if (node->lazy)
        return go(o, at, rest->next, out_end) || (may && go(o, at, &body, out_end));
    return (may && go(o, at, &body, out_end)) || go(o, at, rest->next, out_end);
}

static bool go(struct oracle *o, size_t at, const struct rest *rest, size_t *out_end)
{
    size_t n = 0;

    if (rest == NULL) {
        *out_end = at;
        return true;
    }
    if (--o->budget < 0)
        return false;
    if (rest->node < 0)
        return turn(o, at, rest, out_end);
    const struct pattern_node *node = &o->tree->nodes[rest->node];
    const bool end = at >= o->n_bytes;
    const uint32_t code = end ? 0 : utf8_decode(o->text + at, &n);
    const struct rest b = {node->b, 0, 0, 0, rest->next}, a = {node->a, 0, 0, 0, rest->next};
    const struct rest a_b = {node->a, 0, 0, 0, &b};
    const struct rest first = {-1, rest->node, 0, 0, rest->next};

    switch (node->kind) {
    case NODE_EMPTY:
        return go(o, at, rest->next, out_end);
    case NODE_SET:
        return !end && in_set(&o->tree->sets[node->a], code) && go(o, at + n, rest->next, out_end);
    case NODE_LOOK:
        return (end ? node->b != 0 : in_set(&o->tree->sets[node->a], code)) &&
               go(o, at, rest->next, out_end);
    case NODE_CAT:
        return go(o, at, &a_b, out_end);
    case NODE_ALT:
        return go(o, at, &a, out_end) || go(o, at, &b, out_end);
    case NODE_REPEAT:
        return turn(o, at, &first, out_end);
    }
    return false;
}

/* ---- random patterns ------------------------------------------------------------------------- */

static uint64_t state = 20260303;

static uint32_t draw(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % n);
}

static void put_pattern(struct buf *out, int depth);

static void put_item(struct buf *out, int depth)
{
    static const char *const atoms[] = {
        "a", "b",   "c",      "\xc3\xa9", " ",   "[ab]",         "[^a]", "[b-d\\s]",
        ".", "\\s", "\\p{L}", "\\P{L}",   "\\n", "[^\\s\\p{N}]", "1"};
    static const char *const repeats[] = {"",    "",      "",     "?",  "*",  "+",
                                          "{2}", "{1,3}", "{2,}", "??", "*?", "+?"};
    static const char *const looks[] = {"(?!\\S)", "(?=a)", "$", "(?![ab])"};

    if (draw(12) == 0) {
        buf_puts(out, looks[draw(4)]);
        return;
    }
    if (depth > 0 && draw(4) == 0) {
        buf_puts(out, draw(2) ? "(?:" : "(");
        put_pattern(out, depth - 1);
        buf_puts(out, ")");
    } else {
        buf_puts(out, atoms[draw(15)]);
    }
    buf_puts(out, repeats[draw(12)]);
}

static void put_pattern(struct buf *out, int depth)
{
    for (uint32_t n = 1 + draw(3); n > 0; n--) {
        for (uint32_t m = 1 + draw(4); m > 0; m--)
            put_item(out, depth);
        if (n > 1)
            buf_puts(out, "|");
    }
}

static void put_text(struct buf *out)
{
    static const char *const parts[] = {"a", "b", "c", "d", " ", "\n", "1", "\xc3\xa9", "aa", "  "};

    for (uint32_t n = draw(14); n > 0; n--)
        buf_puts(out, parts[draw(10)]);
}

/* A search finds the first place from which there is a match, also in long runs, where it remembers
 * where it has failed. */
static void check_search(const struct pattern *pattern)
{
    struct pattern_trail trail = {0};
    size_t at = 0, n = 0, want = 0, from = 0, step = 0;
    struct buf text = {0};

    for (uint32_t parts = 1 + draw(4); parts > 0; parts--) {
        const size_t begin = text.n_bytes;

        put_text(&text);
        const size_t n_part = text.n_bytes - begin;
        for (uint32_t times = n_part <= 3 ? draw(150) : 0; times > 0; times--) {
            CHECK(buf_reserve(&text, text.n_bytes + n_part) == ST_OK);
            buf_put(&text, text.data + begin, n_part);
        }
    }
    const char *data = text.data != NULL ? (const char *)text.data : "";
    while (from < text.n_bytes) {
        CHECK(pattern_search(pattern, data, text.n_bytes, from, false, &trail, &at, &n) == ST_OK);
        for (want = 0; from < text.n_bytes; from += step) {
            want = pattern_match(pattern, data + from, text.n_bytes - from, false);
            if (want > 0)
                break;
            utf8_decode(data + from, &step);
        }
        CHECK(at == from && n == want);
        from = at + n;
    }
    host_free(trail.states);
    buf_free(&text);
}

static bool check_pattern(const struct buf *text)
{
    struct pattern_tree *tree = calloc(1, sizeof *tree);
    struct pattern *pattern = NULL;
    char why[PATTERN_WHY_CAP] = "";
    const enum status st =
        pattern_create((const char *)text->data, text->n_bytes, false, &pattern, why);

    CHECK(st == ST_OK || (st == ST_UNSUPPORTED && why[0] != '\0'));
    if (st != ST_OK && strstr(why, "empty") == NULL && strstr(why, "large") == NULL) {
        fprintf(stderr, "  pattern %.*s: %s\n", (int)text->n_bytes, (const char *)text->data, why);
        CHECK(false);
    }
    CHECK(st != ST_OK ||
          pattern_parse((const char *)text->data, text->n_bytes, false, tree, why) == ST_OK);
    for (int i = 0; st == ST_OK && i < 12; i++) {
        const struct rest whole = {tree->root, 0, 0, 0, NULL};
        struct buf subject = {0};
        size_t end = 0;

        put_text(&subject);
        struct oracle o = {tree, subject.data != NULL ? (const char *)subject.data : "",
                           subject.n_bytes, 100000};
        const bool found = go(&o, 0, &whole, &end);
        const size_t got = pattern_match(pattern, o.text, o.n_bytes, false);

        CHECK(o.budget < 0 || got == (found ? end : 0));
        if (o.budget >= 0 && got != (found ? end : 0))
            fprintf(stderr, "  pattern %.*s on \"%.*s\": %zu, not %zu\n", (int)text->n_bytes,
                    (const char *)text->data, (int)subject.n_bytes, o.text, got, end);
        check_search(pattern);
        buf_free(&subject);
    }
    pattern_destroy(pattern);
    pattern_tree_free(tree);
    free(tree);
    return st == ST_OK;
}

static void random_patterns_match_as_by_backtracking(void)
{
    int n_compiled = 0;

    for (int i = 0; i < 3000; i++) {
        struct buf text = {0};

        put_pattern(&text, 2);
        n_compiled += check_pattern(&text);
        buf_free(&text);
    }
    CHECK(n_compiled > 1000);
}

/* ---- by hand --------------------------------------------------------------------------------- */

static void patterns_match(void)
{
    static const struct {
        const char *pattern, *text;
        size_t n;
    } cases[] = {
        {"\\s+(?!\\S)|\\s+", "   x", 2},
        {"\\s+(?!\\S)|\\s+", "   ", 3},
        {"\\s+(?!\\S)|\\s+", " x", 1},
        {"a|ab", "ab", 1},
        {"(?i:'s|'ll)", "'S", 2},
        {"(?i:'s|'ll)", "'\xc5\xbf", 3}, /* the long s */
        {"(?i:'s|'ll)", "'lL", 3},
        {"(?i:[sdmt])", "T", 1},
        {"[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+", "-ab", 3},
        {" ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*", " !!\n", 4},
        {"\\x{1f600}\\u00e9\\x41",
         "\xf0\x9f\x98\x80\xc3\xa9"
         "A",
         7},
        {"\\s+$", "  \nx", 2}, /* $ is the end of a line; greedy first takes the feed, then gives */
        {"\\d{2,3}", "1234", 3},
        {"x{0}y", "y", 1},
        {"a\\.\\[\\\\", "a.[\\", 4},
        {"[]", "]", 0},
    };

    for (size_t i = 0; i + 1 < sizeof cases / sizeof cases[0]; i++) {
        struct pattern *pattern = NULL;
        char why[PATTERN_WHY_CAP];

        CHECK(pattern_create(cases[i].pattern, strlen(cases[i].pattern), false, &pattern, why) ==
              ST_OK);
        if (pattern == NULL)
            continue;
        CHECK_INT(pattern_match(pattern, cases[i].text, strlen(cases[i].text), false), cases[i].n);
        pattern_destroy(pattern);
    }
}

static void others_are_refused(void)
{
    static const struct {
        const char *pattern, *why;
    } cases[] = {
        {"a*", "empty text"},
        {"", "empty text"},
        {"(?<=a)b", "kind of group is not supported at byte 1"},
        {"(?=ab)a", "further than one character"},
        {"(?:ab)++a", "possessive"},
        {"a++a", "possessive"},
        {"\\bx", "this escape"},
        {"\\p{Greek}", "\\p{..}"},
        {"\\p{_DIGIT}", "\\p{..}"},
        {"[a[bc]]", "class inside a class"},
        {"[ab", "class without ]"},
        {"[b-a]", "a range in a class"},
        {"[]", "empty class"},
        {"^a", "^ is not"},
        {"(a", "group without )"},
        {"a)", ") without ("},
        {"a{2", "write \\{"},
        {"a{3,2}", "count of repeats"},
        {"a**", "repeat of a repeat"},
        {"*a", "nothing to repeat"},
        {"(?i:\xc3\xa9)", "beyond ASCII"},
        {"(?i:\\p{Lu})", "in (?i:..)"},
        {"a\\", "ends with a backslash"},
        {"\xff", "not UTF-8"},
        {"(a{1000}){1000}", "too large"},
        {"(){1000}", "what can be empty"},
        {"(a?)+b", "what can be empty"},
        {"((((((a{0,1}b){1000}){1000}){1000}){1000}){1000}){1000}", "too large"},
        {"(a|b)*a(a|b){14}", "too large"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pattern *pattern = NULL;
        char why[PATTERN_WHY_CAP];

        CHECK_INT(pattern_create(cases[i].pattern, strlen(cases[i].pattern), false, &pattern, why),
                  ST_UNSUPPORTED);
        CHECK_HAS(why, cases[i].why);
        pattern_destroy(pattern);
    }
}

int main(void)
{
    patterns_match();
    others_are_refused();
    random_patterns_match_as_by_backtracking();
    TEST_END();
}
