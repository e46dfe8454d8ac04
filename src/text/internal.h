/*
 * internal.h - what the files of text/ share with each other.
 *
 *   tokenizer_encode (encode.c)
 *     text -> special tokens and the stretches between them (special.c)
 *          -> normal form (normal.c)
 *          -> words (words.c by the rules of families.c or of tokenizer.json; pattern.c)
 *          -> ids (bpe.c; pieces.c where symbols begin as characters, not as bytes)
 */
#ifndef EPIDOTE_TEXT_INTERNAL_H
#define EPIDOTE_TEXT_INTERNAL_H

#include "text/text.h"

/* ---- characters (char_ranges.c, utf8.c) ------------------------------------------------------ */

/* What a code point can be. */
enum char_prop {
    CHAR_LU = 1 << 0, /* \p{Lu} and so on */
    CHAR_LL = 1 << 1,
    CHAR_LT = 1 << 2,
    CHAR_LM = 1 << 3,
    CHAR_LO = 1 << 4,
    CHAR_M = 1 << 5,
    CHAR_ND = 1 << 6,
    CHAR_NX = 1 << 7, /* \p{N} but not \p{Nd} */
    CHAR_P = 1 << 8,
    CHAR_S = 1 << 9,
    CHAR_SPACE = 1 << 10, /* \s */
    CHAR_HAN = 1 << 11,
    CHAR_DIGIT = 1 << 12, /* to the Digits rule, whose Unicode is newer than that of patterns */
    CHAR_PUNCT = 1 << 13, /* to the Punctuation rule, whose Unicode is older */
    CHAR_WORD = 1 << 14,  /* part of a word beside an added token */
    CHAR_NFC = 1 << 15,   /* normal form C may order, decompose or compose it */
    CHAR_LETTER = CHAR_LU | CHAR_LL | CHAR_LT | CHAR_LM | CHAR_LO,
    CHAR_NUMBER = CHAR_ND | CHAR_NX
};

/* Code points of one class; those in no range are of class 0. */
struct char_range {
    uint32_t first, last;
    uint8_t class;
};
extern const struct char_range char_ranges[];
extern const int n_char_ranges;
extern const uint16_t char_class_props[]; /* [n_char_classes] */
extern const int n_char_classes;

unsigned char_props(uint32_t code);
/* The alphabet in which byte-level vocabularies are spelled: the code point of a byte, and the byte
 * of a code point or -1. */
uint32_t alphabet_code(uint8_t byte);
int alphabet_byte(uint32_t code);
/* utf8_decode - the code point at text, which must be valid UTF-8. */
uint32_t utf8_decode(const char *text, size_t *out_n_bytes);
/* utf8_encode - the bytes of a code point below 0x110000; returns how many. */
size_t utf8_encode(uint32_t code, char out[4]);
/* utf8_push - one byte of a stream: whole characters go to out, each maximal ill-formed part and,
 * with nul_is_bad, each NUL becomes U+FFFD.  utf8_finish - the stream has ended.
 * Return ST_OK, ST_NOMEM. */
enum status utf8_push(struct detokenizer *stream, uint8_t byte, bool nul_is_bad, struct buf *out);
enum status utf8_finish(struct detokenizer *stream, struct buf *out);

/* ---- patterns (pattern.c) -------------------------------------------------------------------- */

struct pattern;
/* pattern_create - compile a regular expression; see pattern.h for what is known.
 *   own      in   also know this program's own \p{_DIGIT} and \p{_PUNCT}
 *   out_why  out  [160] on ST_UNSUPPORTED: the reason
 * Returns ST_OK, ST_UNSUPPORTED, ST_NOMEM. */
enum status pattern_create(const char *text, size_t n_bytes, bool own, struct pattern **out_pattern,
                           char *out_why);
void pattern_destroy(struct pattern *pattern);
/* pattern_match - bytes of the match that begins with the text, 0 if there is none.
 *   spelled  in  text is bytes, to be seen as the byte-level alphabet spells them */
size_t pattern_match(const struct pattern *pattern, const char *text, size_t n_bytes, bool spelled);

/* What a search remembers of its last failure; all zero is a valid start for another text. */
struct pattern_trail {
    uint16_t *states; /* owned by whoever has the trail */
    size_t begin, n_states, cap_states;
};
/* pattern_search - the first match in text that begins at `from` or later; n_bytes and 0 where
 * there is none.  Returns ST_OK, ST_NOMEM. */
enum status pattern_search(const struct pattern *pattern, const char *text, size_t n_bytes,
                           size_t from, bool spelled, struct pattern_trail *trail, size_t *out_at,
                           size_t *out_n_bytes);

/* ---- merges (bpe.c) -------------------------------------------------------------------------- */

struct bpe_merge {
    uint64_t pair; /* left id << 32 | right id */
    int32_t rank;  /* lowest first */
    int32_t id;    /* of the merged token; -1 marks a free slot */
};

struct bpe {
    struct bpe_merge *slots; /* owned; open addressing, at most half full */
    size_t mask;
};

/* The symbols of a word under way, and the memory for them, which words share; all zero is a valid
 * start. */
struct bpe_symbol {
    int32_t id;         /* -1: merged into its left neighbour */
    int32_t prev, next; /* indices, -1 = none */
};
struct bpe_word {
    struct bpe_symbol *symbols; /* owned; the first is 0, then along `next` */
    uint64_t *heap;             /* owned */
    int32_t n_symbols;
    size_t cap_symbols, cap_heap;
};
/* bpe_word_begin - no symbols, and room for n.  Returns ST_OK, ST_NOMEM. */
enum status bpe_word_begin(struct bpe_word *word, size_t n);
void bpe_word_free(struct bpe_word *word);
static inline void bpe_word_add(struct bpe_word *word, int32_t id)
{
    const int32_t n = word->n_symbols++;

    word->symbols[n] = (struct bpe_symbol){.id = id, .prev = n - 1, .next = n + 1};
}

enum status bpe_create(struct bpe *bpe, int n_merges);
void bpe_destroy(struct bpe *bpe);
/* bpe_add - a merge; false if the pair has one already. */
bool bpe_add(struct bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id);
/* bpe_merge - merge the symbols of a word: always the pair of lowest rank, of those the leftmost.
 * Time n log n. */
void bpe_merge(const struct bpe *bpe, struct bpe_word *word);
/* token_list_reserve - room for n more. */
enum status token_list_reserve(struct token_list *list, size_t n);

/* ---- special tokens (special.c) -------------------------------------------------------------- */

/* A trie of tokens to be found in text; all zero is a valid empty one. */
struct special_set {
    struct special_node *nodes; /* owned */
    int n_nodes, cap_nodes;
    int32_t first[256]; /* the node of each byte that begins a token, 0 = none */
};
enum status special_set_add(struct special_set *set, const char *text, size_t n_bytes, int32_t id);
void special_set_free(struct special_set *set);
/* special_set_find - the leftmost token, of those the longest, in text; -1 if there is none. */
int32_t special_set_find(const struct special_set *set, const char *text, size_t n_bytes,
                         size_t *out_at, size_t *out_n_bytes);

/* A walk over the tokens of a set in a text; begin with all zero but the borrowed fields and end.
 */
struct special_finder {
    const struct tokenizer *tokenizer; /* for the flags of tokens */
    const struct special_set *set;
    const char *text;
    size_t n_bytes, end; /* tokens are looked for in [from, end) */
    size_t from;
    size_t begin, at; /* after special_next: the stretch before the token is [begin, at) */
    size_t id_end;    /* and this is where the token ends, with the white space that it takes */
    int32_t id;
};
/* special_next - the next token; false if there is none more: then [begin, ..) is what is left. */
bool special_next(struct special_finder *finder);

/* ---- rules of a family (families.c, tokenizer_json_pipeline.c) -------------------------------- */

/* The sign that stands for a space in vocabularies of characters. */
#define SPACE_SIGN "\xe2\x96\x81"

/* What is done to a stretch between special tokens before it is cut into words. */
struct normal_rule {
    enum normal_kind {
        NORMAL_NFC,
        NORMAL_REPLACE,         /* every `from` becomes `to` */
        NORMAL_PREPEND,         /* `to` goes before a stretch that is not empty */
        NORMAL_PREPEND_MISSING, /* the same, unless it begins with `to` */
        NORMAL_PREPEND_FIRST    /* the same, only at the very beginning of the text */
    } kind;
    const char *from, *to;
};
enum { MAX_NORMAL_RULES = 8 };

struct text_rules {
    const char *name; /* of the family; NULL = from tokenizer.json, like no family known */
    bool chars;       /* symbols begin as characters; else as bytes */
    bool by_score;    /* merges are not listed: any two symbols that are a token, by its score */
    struct normal_rule normal[MAX_NORMAL_RULES]; /* before user-defined tokens `normalized` */
    struct normal_rule late[MAX_NORMAL_RULES];   /* after them */
    int n_normal, n_late;
    struct word_rule *words; /* borrowed */
    int n_words;
    bool ignore_merges; /* a word that is a token is that token */
    bool fuse_unk;      /* unknown characters in a row are one unknown token */
    bool strip_space;   /* a space before all text is left out when decoding */
    bool add_bos;       /* where the file says nothing */
};
/* rules_find - of a GGUF name of a byte-level pre-tokeniser; NULL if it is not known. */
const struct text_rules *rules_find(const char *name);
/* rules_name - the name of the family whose rules are the same; NULL if there is none. */
const char *rules_name(const struct text_rules *rules);
/* rules_names - all names, for messages. */
const char *rules_names(char *out, size_t cap);

/* normal_apply - text in its normal form: itself, or a copy in one of the two buffers.
 *   first  in  text is at the beginning of all text
 * Returns ST_OK, ST_NOMEM. */
enum status normal_apply(const struct normal_rule *rules, int n_rules, bool first,
                         struct text_span text, struct buf buffers[2], struct text_span *out_text);

/* ---- the tokeniser (tokenizer.c) ------------------------------------------------------------- */

/* A hash table of token ids by their bytes. */
struct token_table {
    int32_t *slots; /* owned; -1 = free */
    size_t mask;
};

/* Token texts, one after another. */
struct token_texts {
    char *bytes;     /* owned */
    size_t *offsets; /* owned; [n_tokens + 1] into bytes */
};

/* How characters become symbols; see pieces.c. */
struct pieces {
    struct piece_char *chars; /* owned; hash table of symbols by character */
    size_t chars_mask;
    uint64_t *pairs; /* owned; hash table of characters that stand beside each other in a token */
    size_t pairs_mask;
    uint32_t *extra; /* owned; character of each symbol from first_extra on, which is no token */
    int n_extra, first_extra;
    int32_t byte_ids[256]; /* -1 = none */
    int32_t unk_id;        /* -1 = none: unknown characters are left out */
    bool fuse_unk, splits; /* splits: a text may be cut where no token has both neighbours */
};

struct tokenizer {
    int n_tokens;
    struct token_texts texts; /* what the tokens stand for */
    struct token_texts keys;  /* as merges see them; of byte-level ones without own memory */
    uint8_t *kinds;           /* owned; [n_tokens] enum token_kind */
    uint8_t *flags;           /* owned; [n_tokens] enum token_flags, NULL = none */
    struct bpe bpe;
    int32_t byte_ids[256]; /* byte-level: token of each byte, -1 = none: such bytes are dropped */
    struct pieces pieces;  /* of characters */
    struct token_table known; /* tokens that are the encoding of a word that is their key */
    struct special_set control, user, user_late; /* found in text: CONTROL, USER_DEFINED */
    struct words *words;                         /* owned */
    struct text_rules rules;                     /* its strings are in arena */
    struct arena *arena;                         /* owned */
    int bos_id, eos_id;
    bool add_bos, add_eos;
    char *named[TOKEN_NAME_COUNT]; /* owned; NULL = none (named.c) */
    uint64_t fingerprint;
};

/* named_take - copy what a vocabulary names.  named_hash - add it to a fingerprint. */
enum status named_take(struct tokenizer *t, const struct vocab_spec *spec);
void named_hash(struct hash_state *state, const struct tokenizer *t);
void named_free(struct tokenizer *t);

/* token_span - a token's text. */
static inline struct text_span token_span(const struct token_texts *texts, int32_t id)
{
    return (struct text_span){texts->bytes + texts->offsets[id],
                              texts->offsets[id + 1] - texts->offsets[id]};
}

/* What a token can be looked up by while a tokeniser is made (vocab.c). */
struct spellings {
    const struct vocab_spec *spec;
    struct token_table table;
};
/* spellings_create - index a vocabulary, check every token and that no two are spelled alike.
 * Logs.  Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status spellings_create(struct spellings *spellings, const struct vocab_spec *spec,
                             bool chars);
void spellings_free(struct spellings *spellings);
int32_t spellings_find(const struct spellings *spellings, const char *data, size_t n_bytes);
enum { QUOTE_CAP = 80 };
/* token_quote - a token for a message: quoted, cut, control characters and quotes escaped. */
const char *token_quote(char out[QUOTE_CAP], struct text_span token);
enum token_kind spec_kind(const struct vocab_spec *spec, int id);
/* vocab_copy - fill texts, keys, kinds and flags of t.  Returns ST_OK, ST_FORMAT, ST_NOMEM. */
enum status vocab_copy(struct tokenizer *t, const struct vocab_spec *spec);
enum status token_table_create(struct token_table *table, size_t n_tokens);
void token_table_free(struct token_table *table);

/* pieces_create - what characters begin as, and with rules.by_score the merges.  Logs.
 * Returns ST_OK, ST_FORMAT, ST_NOMEM. */
enum status pieces_create(struct tokenizer *t, const struct spellings *spellings);
void pieces_free(struct pieces *pieces);
/* pieces_encode - append the ids of a stretch of normal text.  Returns ST_OK, ST_NOMEM. */
enum status pieces_encode(const struct tokenizer *t, const char *text, size_t n_bytes,
                          struct bpe_word *word, struct token_list *list);
/* pieces_encode_whole - the same without looking tokens up: merges only. */
enum status pieces_encode_whole(const struct tokenizer *t, const char *text, size_t n_bytes,
                                struct bpe_word *word, struct token_list *list);
/* bytes_encode - the same for the word of a byte-level vocabulary (tokenizer.c). */
enum status bytes_encode(const struct tokenizer *t, const char *text, size_t n_bytes,
                         struct bpe_word *word, struct token_list *list);

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
/* encode_find_swap - the first word to be swapped that stands in text from *at on, of several at
 * one place the longest; *at becomes its place.  NULL: there is none. */
const struct text_swap *encode_find_swap(struct text_span text, const struct text_swap *swaps,
                                         int n_swaps, size_t *at);

#endif
