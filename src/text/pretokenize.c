/*
 * pretokenize.c - splits text into the words within which BPE merges.
 *
 * Scanners by hand, one per family of patterns: a regular expression with look-ahead costs a
 * compiled pattern per thread and can back-track over a long run of spaces; these are linear.
 * What the classes hold is in char_ranges.c.
 */
#include <stdio.h>

#include "text/internal.h"

uint8_t *char_classes_create(void)
{
    uint8_t *classes = host_zalloc(CHAR_CLASSES_END);

    if (classes == NULL)
        return NULL;
    for (int i = 0; i < n_char_ranges; i++)
        memset(classes + char_ranges[i].first, (int)char_ranges[i].class,
               char_ranges[i].last - char_ranges[i].first + 1);
    return classes;
}

/* The class of the character at text, by the rules of \p{L}, \p{N} and \s. */
static enum char_class class_at(const uint8_t *classes, const char *text, size_t *out_n_bytes)
{
    const uint32_t code = utf8_decode(text, out_n_bytes);

    return code < CHAR_CLASSES_END ? (enum char_class)classes[code] : CHAR_OTHER;
}

/* 's 't 're 've 'm 'll 'd at text[0]: its length, else 0. */
static size_t contraction(const char *text, size_t n_bytes)
{
    if (n_bytes < 2 || text[0] != '\'')
        return 0;
    if (strchr("stmd", text[1]) != NULL && text[1] != '\0')
        return 2;
    if (n_bytes >= 3 && (memcmp(text + 1, "re", 2) == 0 || memcmp(text + 1, "ve", 2) == 0 ||
                         memcmp(text + 1, "ll", 2) == 0))
        return 3;
    return 0;
}

/*
 * GPT-2's pattern:  's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * With split_digits every digit is cut out first, and the pattern sees what stands between digits:
 * a text ends before a digit, so spaces there stay together and none joins the digit.
 */
static size_t gpt2_word(const uint8_t *classes, const char *text, size_t n_bytes, bool split_digits)
{
    size_t n = 0; /* bytes of the character at `at` */
    size_t at = 0, last = 0;
    enum char_class class = class_at(classes, text, &n);
    /* A digit of newer Unicode is a number to the digit rule and "other" to the pattern. */
    const enum char_class newer = split_digits ? CHAR_NUMBER : CHAR_OTHER;

    class = class == CHAR_DIGIT ? newer : class;
    if (split_digits && class == CHAR_NUMBER)
        return n;
    if (contraction(text, n_bytes) > 0)
        return contraction(text, n_bytes);
    if (text[0] == ' ' && n_bytes > 1) {
        enum char_class second = class_at(classes, text + 1, &n);

        second = second == CHAR_DIGIT ? newer : second;
        if (second != CHAR_SPACE && !(split_digits && second == CHAR_NUMBER)) {
            at = 1;
            class = second;
        } else {
            n = 1;
        }
    }

    enum char_class next = class;
    for (at += n; at < n_bytes; at += n) {
        next = class_at(classes, text + at, &n);
        next = next == CHAR_DIGIT ? newer : next;
        if (next != class)
            break;
        last = at;
    }
    if (class != CHAR_SPACE || at == n_bytes || (split_digits && next == CHAR_NUMBER))
        return at;
    /* Spaces before a word: all but the last, which the word may want, unless it is the only one.
     */
    return last > 0 ? last : at;
}

static size_t next_gpt2(const uint8_t *classes, const char *text, size_t n_bytes)
{
    return gpt2_word(classes, text, n_bytes, false);
}

static size_t next_smollm(const uint8_t *classes, const char *text, size_t n_bytes)
{
    return gpt2_word(classes, text, n_bytes, true);
}

static const struct pretokenizer pretokenizers[] = {
    {"smollm", NULL, next_smollm},
    {"gpt-2", "gpt2", next_gpt2},
};
enum { N_PRETOKENIZERS = sizeof pretokenizers / sizeof pretokenizers[0] };

const struct pretokenizer *pretokenizer_find(const char *name)
{
    for (int i = 0; i < N_PRETOKENIZERS; i++) {
        const struct pretokenizer *pre = &pretokenizers[i];

        if (strcmp(name, pre->name) == 0 || (pre->alias != NULL && strcmp(name, pre->alias) == 0))
            return pre;
    }
    return NULL;
}

const char *pretokenizer_names(char *out, size_t cap)
{
    size_t at = 0;

    out[0] = '\0';
    for (int i = 0; i < N_PRETOKENIZERS && at < cap; i++)
        at +=
            (size_t)snprintf(out + at, cap - at, "%s%s", i > 0 ? ", " : "", pretokenizers[i].name);
    return out;
}
