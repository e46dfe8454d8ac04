/*
 * fuzz_pattern.c - any regular expression is compiled or refused with a reason, and one that is
 * compiled finds matches inside any text; a search finds what matching at each place finds.
 *
 * The input is the pattern, a NUL and the text.
 */
#include <stdlib.h>

#include "text/pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void use(const struct pattern *pattern, const char *text, size_t n_bytes, bool spelled)
{
    struct pattern_trail trail = {0};
    size_t at = 0, n = 0, step = 0;

    for (size_t from = 0; from < n_bytes;) {
        if (pattern_search(pattern, text, n_bytes, from, spelled, &trail, &at, &n) != ST_OK)
            abort();
        for (; from < n_bytes; from += step) {
            const size_t found = pattern_match(pattern, text + from, n_bytes - from, spelled);

            if (found > n_bytes - from || (found > 0 && (found != n || from != at)))
                abort();
            if (found > 0)
                break;
            step = 1;
            if (!spelled)
                utf8_decode(text + from, &step);
        }
        if (from != at || at + n > n_bytes || (n == 0 && at < n_bytes))
            abort();
        from = at + n;
    }
    host_free(trail.states);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const uint8_t *nul = n_bytes > 0 ? memchr(data, 0, n_bytes) : NULL;
    const size_t n_pattern = nul != NULL ? (size_t)(nul - data) : n_bytes;
    const size_t n_text = nul != NULL ? n_bytes - n_pattern - 1 : 0;
    const char *text = nul != NULL ? (const char *)nul + 1 : "";
    struct pattern *pattern = NULL;
    char why[PATTERN_WHY_CAP];
    const enum status st =
        pattern_create((const char *)data, n_pattern, n_bytes % 2 == 0, &pattern, why);

    if (st == ST_UNSUPPORTED && why[0] == '\0')
        abort();
    if (st == ST_OK) {
        use(pattern, text, n_text, true);
        if (utf8_valid(text, n_text, NULL))
            use(pattern, text, n_text, false);
    }
    pattern_destroy(pattern);
    return 0;
}
