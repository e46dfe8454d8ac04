/*
 * text.h - tokeniser, detokeniser, chat templates.
 *
 * Byte-level BPE and SentencePiece-style BPE; other kinds are refused by name.  Knows no model
 * files except tokenizer.json: GGUF vocabularies arrive as a struct vocab_spec filled by model/.
 */
#ifndef EPIDOTE_TEXT_H
#define EPIDOTE_TEXT_H

#include "base/base.h"

enum token_kind {
    TOKEN_NORMAL,
    TOKEN_CONTROL,
    TOKEN_USER_DEFINED,
    TOKEN_UNUSED,
    TOKEN_BYTE,
    TOKEN_KIND_COUNT
};

/* How a special token is found in a text. */
enum token_flags {
    TOKEN_LSTRIP = 1,      /* it takes the white space before it with it */
    TOKEN_RSTRIP = 2,      /* the same after it */
    TOKEN_SINGLE_WORD = 4, /* not inside a word */
    TOKEN_NORMALIZED = 8   /* USER_DEFINED: looked for in the normal form of the text */
};

struct text_span {
    const char *data;
    size_t n_bytes;
};

struct text_rules; /* of text/ alone */

/* Tokens beside BOS and EOS that a model file names, for chat templates (named.c). */
enum token_name {
    TOKEN_NAME_UNK,
    TOKEN_NAME_SEP,
    TOKEN_NAME_PAD,
    TOKEN_NAME_CLS,
    TOKEN_NAME_MASK,
    TOKEN_NAME_COUNT
};
/* token_name_key - "pad_token": the key of tokenizer_config.json, and the template's variable. */
const char *token_name_key(enum token_name name);

/* A vocabulary as a model file holds it.  Everything is borrowed until tokenizer_create returns. */
struct vocab_spec {
    const char *origin;             /* file name for messages */
    const char *model;              /* "bpe": byte-level; "spm": of characters, merged by score;
                                       "char-bpe": of characters, merges listed */
    const char *pre;                /* pre-tokeniser: "smollm", "gpt-2", ... as GGUF names them;
                                       of byte-level ones only */
    const struct text_span *tokens; /* [n_tokens] "bpe": in the byte-to-unicode alphabet of GPT-2;
                                       else UTF-8 with U+2581 for the space */
    const uint8_t *kinds;           /* [n_tokens] enum token_kind, NULL = all normal */
    int n_tokens;
    const struct text_span *merges; /* [n_merges] "left right" */
    int n_merges;
    int bos_id, eos_id;    /* -1 = none */
    bool add_bos, add_eos; /* with the `special` flag of tokenizer_encode */
    const float *scores;   /* [n_tokens] of "spm" */
    const uint8_t *flags;  /* [n_tokens] enum token_flags, NULL = none */
    bool has_unk;          /* of characters: unk_id stands for what has no token and no bytes */
    int unk_id;
    bool space_prefix; /* "spm", "char-bpe": a space is put before each text */
    struct text_span named[TOKEN_NAME_COUNT]; /* texts of tokens; data NULL = not named */
    const struct text_rules *rules; /* instead of `pre` and space_prefix; NULL = by them */
};

/* vocab_default_bos - whether a vocabulary of this model and pre-tokeniser has a BOS token before
 * each text where its file does not say. */
bool vocab_default_bos(const char *model, const char *pre);

struct tokenizer;

/* tokenizer_create - refuses duplicate tokens, merges of unknown tokens, unknown kinds by name.
 * Local.  Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status tokenizer_create(const struct vocab_spec *spec, struct tokenizer **out_tokenizer);
/* tokenizer_load_json - from a tokenizer.json (and, if there, tokenizer_config.json beside it).
 * Returns as tokenizer_create, and ST_IO. */
enum status tokenizer_load_json(const char *path, struct tokenizer **out_tokenizer);
/* tokenizer_trim - forget the tokens from id n_tokens on, for which a model has no weights: no text
 * gives them any more.  On failure the tokeniser can only be destroyed.  Returns ST_OK, ST_FORMAT
 * (not logged: one of them is not only an added token, or is BOS or EOS), ST_NOMEM. */
enum status tokenizer_trim(struct tokenizer *tokenizer, int n_tokens);
void tokenizer_destroy(struct tokenizer *tokenizer);
int tokenizer_n_tokens(const struct tokenizer *tokenizer);
int tokenizer_bos(const struct tokenizer *tokenizer); /* -1 = none */
int tokenizer_eos(const struct tokenizer *tokenizer); /* -1 = none */
/* tokenizer_fingerprint - hash of tokens, kinds, merges, pre-tokeniser and rules. */
uint64_t tokenizer_fingerprint(const struct tokenizer *tokenizer);

struct token_list {
    int32_t *ids; /* owned, host_free */
    int64_t n_ids, cap_ids;
};
/* token_list_append - Returns ST_OK, ST_NOMEM. */
enum status token_list_append(struct token_list *list, const int32_t *ids, int64_t n_ids);
void token_list_free(struct token_list *list);

enum encode_flags {
    ENCODE_SPECIAL = 1,       /* add BOS/EOS as the model asks */
    ENCODE_PARSE_SPECIAL = 2, /* special tokens written in the text are recognised */
    ENCODE_LOSSY = 4          /* invalid UTF-8 becomes U+FFFD instead of a row error */
};
/* tokenizer_encode - append the ids of text; on failure list is as it was.  Time n log n.
 * Control tokens spelled in the text count only with ENCODE_PARSE_SPECIAL, user-defined ones
 * always; leftmost first, then longest.  No text without them gives the id of a control token.
 * Returns ST_OK, ST_ROW (invalid UTF-8: err says at which byte; over 2 GiB), ST_NOMEM. */
enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                             unsigned flags, struct token_list *list, struct row_error *err);

/* A word of a prompt, and what is read in its place. */
struct text_swap {
    struct text_span find, put;
};
/* tokenizer_encode_swapped - the same, but wherever one of the words stands (of several at one
 * place the longest) what is put there counts as the model's own: control tokens in it are
 * recognised whatever the flags. */
enum status tokenizer_encode_swapped(const struct tokenizer *tokenizer, const char *text,
                                     size_t n_bytes, unsigned flags, const struct text_swap *swaps,
                                     int n_swaps, struct token_list *list, struct row_error *err);

/* tokenizer_token_bytes - the bytes a token stands for, without a NUL; special tokens give their
 * own text only with show_special, else nothing.  View.  id must be in range (assert). */
struct text_span tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id,
                                       bool show_special);
/* tokenizer_named - the text of a token that the model names so; NULL if it has none.  View. */
const char *tokenizer_named(const struct tokenizer *tokenizer, enum token_name name);
/* tokenizer_find - id of a token by its text ("<|im_end|>"), -1 if there is none. */
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text);

/* A streaming detokeniser for one row: whole characters go to `text`, NUL and invalid bytes become
 * U+FFFD as the one-shot decoder would make them.  All zero is a valid start. */
struct detokenizer {
    uint8_t pending[4];
    int n_pending;
    bool begun; /* something has been put out: see detokenizer_lead */
};
/* detokenizer_lead - a token's bytes without the space that the tokeniser puts before a text, if
 * they are the first of a text. */
struct text_span detokenizer_lead(struct detokenizer *detok, const struct tokenizer *tokenizer,
                                  struct text_span token);
enum status detokenizer_add(struct detokenizer *detok, const struct tokenizer *tokenizer,
                            int32_t id, struct buf *text);
enum status detokenizer_end(struct detokenizer *detok, struct buf *text);

/* ---- chat templates -------------------------------------------------------------------------- */

/* A template in the subset of Jinja2 that chat templates use, and what it is run with. */
struct chat_template;
/* Texts are borrowed until chat_template_create returns. */
struct chat_spec {
    const char *name; /* "auto": the model's own; the path of a .jinja file; or a known name */
    const char *source, *tool_source; /* the model's, and its own for rows with tools; or NULL */
    const char *kwargs;               /* variables for the template, an object of JSON; or NULL */
    const char *date;                 /* what strftime_now gives, "2026-01-31"; or NULL */
};
/*
 * chat_template_create - read a template.
 *   tokenizer  in  gives bos_token, eos_token and the others it names; must have the special tokens
 * of a template that is chosen by name, or they would be read as plain text Returns ST_OK,
 * ST_UNSUPPORTED (none, or one with something that this version does not know; logged with line and
 * column), ST_CONFIG (unknown name, bad kwargs or date, or the vocabulary lacks a token), ST_IO,
 * ST_NOMEM.
 */
enum status chat_template_create(const struct chat_spec *spec, const struct tokenizer *tokenizer,
                                 struct chat_template **out_template);
void chat_template_destroy(struct chat_template *chat);
/* chat_template_describe - append what of a row and a job a template looks at: "reads tools,
 * enable_thinking, bos_token", or that this version cannot run it (logged).
 * Returns ST_OK, ST_NOMEM. */
enum status chat_template_describe(const char *source, struct buf *out);
/* chat_template_hash - of its text. */
uint64_t chat_template_hash(const struct chat_template *chat);
const char *chat_template_name(const struct chat_template *chat);
/*
 * chat_encode_messages - append the ids of a conversation, with the turn of the assistant opened.
 *   messages       in  JSON text: [{"role": ..., "content": ...}, ...], or an object with
 *                      messages, tools, documents, chat_template_kwargs
 *   system_prompt  in  put first when the messages do not begin with one; NULL = the template's own
 *   flags          in  ENCODE_PARSE_SPECIAL: special tokens spelled in roles and contents count too
 * Without that flag nothing in messages or system_prompt can become a control token: only what the
 * template itself writes does.  (User-defined tokens are found everywhere, as the reference does.)
 * The text is otherwise encoded as one, as there.
 * Returns ST_OK, ST_ROW (bad JSON, role or content; what the template refuses), ST_NOMEM.
 */
enum status chat_encode_messages(const struct chat_template *chat,
                                 const struct tokenizer *tokenizer, const char *messages,
                                 size_t n_bytes, const char *system_prompt, unsigned flags,
                                 struct token_list *list, struct row_error *err);
/* chat_encode_user - the same for one user message that is `text`; ENCODE_LOSSY as for
 * tokenizer_encode. */
enum status chat_encode_user(const struct chat_template *chat, const struct tokenizer *tokenizer,
                             const char *text, size_t n_bytes, const char *system_prompt,
                             unsigned flags, struct token_list *list, struct row_error *err);

/* chat_image_order - append the numbers of the images that a conversation's parts of type image
 * stand for, in their order: what `index` says, or the next after the part before, from 0 on.
 * Returns ST_OK, ST_ROW, ST_NOMEM. */
enum status chat_image_order(const char *messages, size_t n_bytes, struct token_list *list,
                             struct row_error *err);
/* chat_user_messages - append the conversation, as JSON text, of one user message that is `text`:
 * a part of type image for each of the words in it, parts of type text for what stands between.
 * What is put in place of a word is the template's to say.
 * Returns ST_OK, ST_ROW (not UTF-8), ST_NOMEM. */
enum status chat_user_messages(const char *text, size_t n_bytes, const struct text_swap *words,
                               int n_words, struct buf *out_json, struct row_error *err);

/* text_stop_list - a row's `stop` column (JSON: a string or a list of strings, none empty) into
 * arena.  Returns ST_OK, ST_ROW, ST_NOMEM. */
enum status text_stop_list(const char *json, size_t n_bytes, struct arena *arena,
                           struct text_span **out_stops, int *out_n_stops, struct row_error *err);

#endif
