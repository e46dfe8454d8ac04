/*
 * internal.h - what the files of text/ share with each other.
 *
 *   tokenizer_encode (encode.c)
 *     text -> special tokens and the stretches between them (special.c)
 *          -> words (pretokenize.c, char_ranges.c)
 *          -> ids (bpe.c)
 */
#ifndef EPIDOTE_TEXT_INTERNAL_H
#define EPIDOTE_TEXT_INTERNAL_H

#include "text/text.h"

/* ---- characters (char_ranges.c, utf8.c) ------------------------------------------------------ */

enum char_class {
    CHAR_OTHER,
    CHAR_LETTER, /* \p{L} */
    CHAR_NUMBER, /* \p{N}, and a digit */
    CHAR_DIGIT,  /* a digit to the Digits rule, whose Unicode is newer, but not in \p{N} */
    CHAR_SPACE   /* \s */
};

struct char_range {
    uint32_t first, last;
    enum char_class class;
};
extern const struct char_range char_ranges[];
extern const int n_char_ranges;

/* utf8_decode - the code point at text, which must be valid UTF-8. */
uint32_t utf8_decode(const char *text, size_t *out_n_bytes);
/* utf8_encode - the bytes of a code point below 0x110000; returns how many. */
size_t utf8_encode(uint32_t code, char out[4]);
/* utf8_push - one byte of a stream: whole characters go to out, each maximal ill-formed part and,
 * with nul_is_bad, each NUL becomes U+FFFD.  utf8_finish - the stream has ended.
 * Return ST_OK, ST_NOMEM. */
enum status utf8_push(struct detokenizer *stream, uint8_t byte, bool nul_is_bad, struct buf *out);
enum status utf8_finish(struct detokenizer *stream, struct buf *out);

/* ---- words (pretokenize.c) ------------------------------------------------------------------- */

enum { CHAR_CLASSES_END = 0x40000 }; /* no letter, number or space from here on */

/* How a text falls into words, within which BPE merges. */
struct pretokenizer {
    const char *name, *alias; /* as GGUF names it; alias may be NULL */
    /* Bytes of the first word of a text that is not empty; classes: [CHAR_CLASSES_END]. */
    size_t (*next)(const uint8_t *classes, const char *text, size_t n_bytes);
};
/* pretokenizer_find - NULL if there is none of this name. */
const struct pretokenizer *pretokenizer_find(const char *name);
/* pretokenizer_names - all names, for messages. */
const char *pretokenizer_names(char *out, size_t cap);
/* char_classes_create - enum char_class of each code point; free with host_free.  NULL: no memory.
 */
uint8_t *char_classes_create(void);

/* ---- merges (bpe.c) -------------------------------------------------------------------------- */

struct bpe_merge {
    uint64_t pair; /* left id << 32 | right id */
    int32_t rank;  /* lowest first */
    int32_t id;    /* of the merged token; -1 marks a free slot */
};

struct bpe {
    struct bpe_merge *slots; /* owned; open addressing, at most half full */
    size_t mask;
    int32_t byte_ids[256]; /* token of each byte, -1 = none: such bytes are dropped */
};

/* Work memory that words share; all zero is a valid start. */
struct bpe_scratch {
    struct bpe_symbol *symbols; /* owned */
    uint64_t *heap;             /* owned */
    size_t cap_symbols, cap_heap;
};
void bpe_scratch_free(struct bpe_scratch *scratch);

enum status bpe_create(struct bpe *bpe, int n_merges);
void bpe_destroy(struct bpe *bpe);
/* bpe_add - a merge; false if the pair has one already. */
bool bpe_add(struct bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id);
/* bpe_encode - append the ids of one word.  Time n log n.  Returns ST_OK, ST_NOMEM. */
enum status bpe_encode(const struct bpe *bpe, const char *word, size_t n_bytes,
                       struct bpe_scratch *scratch, struct token_list *list);
/* token_list_reserve - room for n more. */
enum status token_list_reserve(struct token_list *list, size_t n);

/* ---- special tokens (special.c) -------------------------------------------------------------- */

/* A trie of tokens to be found in text; all zero is a valid empty one. */
struct special_set {
    struct special_node *nodes; /* owned */
    int n_nodes, cap_nodes;
};
enum status special_set_add(struct special_set *set, const char *text, size_t n_bytes, int32_t id);
void special_set_free(struct special_set *set);
/* special_set_find - the leftmost token, of those the longest, in text; -1 if there is none. */
int32_t special_set_find(const struct special_set *set, const char *text, size_t n_bytes,
                         size_t *out_at, size_t *out_n_bytes);

/* ---- the tokeniser (tokenizer.c) ------------------------------------------------------------- */

/* A hash table of token ids by their bytes. */
struct token_table {
    int32_t *slots; /* owned; -1 = free */
    size_t mask;
};

struct tokenizer {
    int n_tokens;
    char *bytes;      /* owned; what the tokens stand for, one after another */
    size_t *offsets;  /* owned; [n_tokens + 1] into bytes */
    uint8_t *kinds;   /* owned; [n_tokens] enum token_kind */
    uint8_t *classes; /* owned; see char_classes_create */
    struct bpe bpe;
    struct token_table words;         /* normal tokens that are the encoding of their own bytes */
    struct special_set control, user; /* tokens found in text: CONTROL, USER_DEFINED */
    const struct pretokenizer *pre;
    int bos_id, eos_id;
    bool add_bos, add_eos;
    uint64_t fingerprint;
};

/* tokenizer_word - the token that is the encoding of exactly these bytes, -1 if there is none. */
int32_t tokenizer_word(const struct tokenizer *tokenizer, const char *word, size_t n_bytes);

/* ---- encoding a text of several origins (encode.c) ------------------------------------------ */

/* Bytes [begin, end) of a text. */
struct text_range {
    size_t begin, end;
};
/*
 * encode_text - append the ids of valid UTF-8 text, with no BOS or EOS; on failure list may have
 * grown.
 *   marks  in  [n_marks] ascending: where control tokens may be recognised, and nowhere else
 * Returns ST_OK, ST_NOMEM.
 */
enum status encode_text(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                        const struct text_range *marks, size_t n_marks, struct token_list *list);
/* encode_check - text as valid UTF-8: itself, or with ENCODE_LOSSY its repaired copy in lossy.
 * Returns ST_OK, ST_ROW, ST_NOMEM. */
enum status encode_check(const char *text, size_t n_bytes, unsigned flags, struct buf *lossy,
                         struct text_span *out_text, struct row_error *err);

#endif
