/*
 * families.c - the rules of byte-level vocabularies by the names that GGUF files give them.
 *
 * The patterns are those of each family's tokenizer.json, not simplified ones.  GGUF files do not
 * say that a family's text is put into normal form C; it is here where its tokenizer.json does.
 */
#include <stdio.h>

#include "text/words.h"

/* ---- patterns ------------------------------------------------------------------------------- */

#define ENDINGS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define WORD_AND_NUMBER(number)                                                                    \
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(ending, number)                                                                      \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER  \
    "*" ending "|" number "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL
#define CHINESE "[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-\\ud7ff]+"
/* Latin, Greek, Cyrillic and other letters that have case. */
#define CASED_LETTERS                                                                              \
    "A-Za-z\\u00b5\\u00c0-\\u00d6\\u00d8-\\u00f6\\u00f8-\\u01ba\\u01bc-\\u01bf\\u01c4-\\u0293"     \
    "\\u0295-\\u02af\\u0370-\\u0373\\u0376\\u0377\\u037b-\\u037d\\u037f\\u0386\\u0388-\\u038a"     \
    "\\u038c\\u038e-\\u03a1\\u03a3-\\u03f5\\u03f7-\\u0481\\u048a-\\u052f\\u0531-\\u0556"           \
    "\\u10a0-\\u10c5\\u13a0-\\u13f5\\u13f8-\\u13fd\\u1c90-\\u1cba\\u1cbd-\\u1cbf\\u1d00-\\u1d2b"   \
    "\\u1d6b-\\u1d77\\u1d79-\\u1d9a\\u1e00-\\u1f15\\u1f18-\\u1f1d\\u1f20-\\u1f45\\u1f48-\\u1f4d"   \
    "\\u1f50-\\u1f57\\u1f59\\u1f5b\\u1f5d\\u1f5f-\\u1f7d\\u1f80-\\u1fb4\\u1fb6-\\u1fbc\\u1fbe"     \
    "\\u1fc2-\\u1fc4\\u1fc6-\\u1fcc\\u1fd0-\\u1fd3\\u1fd6-\\u1fdb\\u1fe0-\\u1fec\\u1ff2-\\u1ff4"   \
    "\\u1ff6-\\u1ffc\\u2102\\u2107\\u210a-\\u2113\\u2115\\u2119-\\u211d\\u2124\\u2126\\u2128"      \
    "\\u212a-\\u212d\\u212f-\\u2134\\u2139\\u213c-\\u213f\\u2145-\\u2149\\u214e\\u2183\\u2184"     \
    "\\u2c00-\\u2c7b\\u2c7e-\\u2ce4\\u2ceb-\\u2cee\\u2cf2\\u2cf3\\ua640-\\ua66d\\ua680-\\ua69b"    \
    "\\ua722-\\ua76f\\ua771-\\ua787\\ua78b-\\ua78e\\uab70-\\uabbf\\ufb00-\\ufb06\\ufb13-\\ufb17"   \
    "\\uff21-\\uff3a\\uff41-\\uff5a\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}"                     \
    "\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}"         \
    "\\x{1e900}-\\x{1e943}"
#define DEEPSEEK_MARKS "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DEEPSEEK_V3                                                                                \
    DEEPSEEK_MARKS "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"       \
                   "[\\r\\n]*" TAIL

/* ---- rules ---------------------------------------------------------------------------------- */

#define ISOLATED(pattern)                                                                          \
    {                                                                                              \
        pattern, CUT_ISOLATED, false, false                                                        \
    }
#define DIGITS                                                                                     \
    {                                                                                              \
        "\\p{_DIGIT}", CUT_ISOLATED, false, true                                                   \
    }

static struct word_rule words_gpt2[] = {ISOLATED(GPT2)};
static struct word_rule words_digits[] = {DIGITS, ISOLATED(GPT2)};
static struct word_rule words_llama3[] = {ISOLATED(WORD_AND_NUMBER("\\p{N}{1,3}"))};
static struct word_rule words_qwen2[] = {ISOLATED(WORD_AND_NUMBER("\\p{N}"))};
static struct word_rule words_qwen35[] = {
    ISOLATED(ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+"
                     "[\\r\\n]*" TAIL)};
static struct word_rule words_falcon[] = {
    {"\\p{_PUNCT}", CUT_CONTIGUOUS, false, true},
    ISOLATED(GPT2),
    /* What follows comes after bytes were spelled in the alphabet, some of which are numbers. */
    {"\\p{_DIGIT}", CUT_CONTIGUOUS, true, true},
    {"[0-9][0-9][0-9]", CUT_ISOLATED, true, false},
};
static struct word_rule words_deepseek_llm[] = {
    ISOLATED("[\\r\\n]"),
    ISOLATED("\\s?[" CASED_LETTERS "]+"),
    ISOLATED("\\s?[!-/:-~\\uff01-\\uff0f\\uff1a-\\uff5e\\u2018-\\u201f\\u3000-\\u3002]+"),
    ISOLATED("\\s+$"),
    ISOLATED(CHINESE),
    DIGITS};
static struct word_rule words_deepseek_coder[] = {ISOLATED("[\\r\\n]"), ISOLATED("\\s?\\p{L}+"),
                                                  ISOLATED("\\s?\\p{P}+"), ISOLATED(CHINESE),
                                                  DIGITS};
static struct word_rule words_deepseek_v3[] = {
    ISOLATED("\\p{N}{1,3}"), ISOLATED("[\\u4e00-\\u9fa5\\u3040-\\u309f\\u30a0-\\u30ff]+"),
    ISOLATED(DEEPSEEK_V3)};
static struct word_rule words_gpt_4o[] = {ISOLATED(CASED(ENDINGS "?", "\\p{N}{1,3}"))};
static struct word_rule words_tekken[] = {ISOLATED(CASED("", "\\p{N}"))};

#define WORDS(array) .words = words_##array, .n_words = sizeof words_##array / sizeof *words_##array
#define NFC .normal = {{NORMAL_NFC, NULL, NULL}}, .n_normal = 1

/* Of rules that are alike, the first gives the name. */
static const struct text_rules families[] = {
    {.name = "smollm", WORDS(digits)},
    {.name = "gpt-2", WORDS(gpt2)},
    {.name = "llama-bpe", WORDS(llama3), .ignore_merges = true, .add_bos = true},
    {.name = "dbrx", WORDS(llama3)},
    {.name = "qwen2", WORDS(qwen2), NFC},
    {.name = "qwen35", WORDS(qwen35), NFC},
    {.name = "stablelm2", WORDS(qwen2)},
    {.name = "olmo", WORDS(gpt2), NFC},
    {.name = "command-r", WORDS(digits), NFC},
    {.name = "falcon", WORDS(falcon)},
    {.name = "deepseek-llm", WORDS(deepseek_llm)},
    {.name = "deepseek-coder", WORDS(deepseek_coder)},
    {.name = "deepseek-v3", WORDS(deepseek_v3)},
    {.name = "gpt-4o", WORDS(gpt_4o)},
    {.name = "tekken", WORDS(tekken), .ignore_merges = true, .add_bos = true},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

static const struct {
    const char *name, *family;
} aliases[] = {
    {"gpt2", "gpt-2"},
    {"phi-2", "gpt-2"},
    {"starcoder", "smollm"},
    {"refact", "smollm"},
    {"codeshell", "smollm"},
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
    {"smaug-bpe", "dbrx"},
    {"mpt", "olmo"},
    {"llama4", "gpt-4o"},
    {"deepseek-r1-qwen", "qwen2"},
};

const struct text_rules *rules_find(const char *name)
{
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
        if (strcmp(name, aliases[i].name) == 0)
            name = aliases[i].family;
    for (int i = 0; i < N_FAMILIES; i++)
        if (strcmp(name, families[i].name) == 0)
            return &families[i];
    return NULL;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_words(const struct text_rules *a, const struct text_rules *b)
{
    bool same = a->n_words == b->n_words;

    for (int i = 0; same && i < a->n_words; i++)
        same = strcmp(a->words[i].pattern, b->words[i].pattern) == 0 &&
               a->words[i].cut == b->words[i].cut && a->words[i].spelled == b->words[i].spelled;
    return same;
}

static bool same_normal(const struct text_rules *a, const struct text_rules *b)
{
    bool same = a->n_normal == b->n_normal && a->n_late == 0 && b->n_late == 0;

    for (int i = 0; same && i < a->n_normal; i++)
        same = a->normal[i].kind == b->normal[i].kind &&
               same_text(a->normal[i].from, b->normal[i].from) &&
               same_text(a->normal[i].to, b->normal[i].to);
    return same;
}

const char *rules_name(const struct text_rules *rules)
{
    for (int i = 0; i < N_FAMILIES; i++)
        if (!rules->chars && families[i].ignore_merges == rules->ignore_merges &&
            same_words(&families[i], rules) && same_normal(&families[i], rules))
            return families[i].name;
    return NULL;
}

const char *rules_names(char *out, size_t cap)
{
    size_t at = 0;

    out[0] = '\0';
    for (int i = 0; i < N_FAMILIES && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i > 0 ? ", " : "", families[i].name);
    return out;
}
