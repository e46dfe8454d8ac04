/*
 * detokenizer.c - token ids to text, one id at a time, never half a character.
 *
 * Control tokens print nothing and do not break a character in two.  Of tokenisers that put a space
 * before each text, one space at the beginning is left out, as the reference's one-shot decoder
 * does.
 */
#include "text/internal.h"

struct text_span detokenizer_lead(struct detokenizer *detok, const struct tokenizer *tokenizer,
                                  struct text_span token)
{
    const bool strip =
        !detok->begun && tokenizer->rules.strip_space && token.n_bytes > 0 && token.data[0] == ' ';

    detok->begun = detok->begun || token.n_bytes > 0;
    return strip ? (struct text_span){token.data + 1, token.n_bytes - 1} : token;
}

enum status detokenizer_add(struct detokenizer *detok, const struct tokenizer *tokenizer,
                            int32_t id, struct buf *text)
{
    const struct text_span token =
        detokenizer_lead(detok, tokenizer, tokenizer_token_bytes(tokenizer, id, false));
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
