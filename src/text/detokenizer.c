/*
 * detokenizer.c - token ids to text, one id at a time, never half a character.
 *
 * Control tokens print nothing and do not break a character in two.
 */
#include "text/internal.h"

enum status detokenizer_add(struct detokenizer *detok, const struct tokenizer *tokenizer,
                            int32_t id, struct buf *text)
{
    const struct text_span token = tokenizer_token_bytes(tokenizer, id, false);
    enum status st = ST_OK;

    for (size_t i = 0; i < token.n_bytes; i++)
        TRY(utf8_push(detok, (uint8_t)token.data[i], true, text), done);
done:
    return st;
}

enum status detokenizer_end(struct detokenizer *detok, struct buf *text)
{
    return utf8_finish(detok, text);
}
