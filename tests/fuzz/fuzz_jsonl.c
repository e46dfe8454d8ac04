/*
 * fuzz_jsonl.c - lines of any content as import reads them.  The first byte chooses JSONL or plain
 * lines and whether fields are named.
 */
#include <assert.h>
#include <stdio.h>

#include "data/jsonl.h"

/* Whatever is accepted has to be what prompts.c and HDF5 expect: UTF-8 without a NUL. */
static void check_text(const char *text, size_t n_bytes)
{
    assert(text == NULL || (utf8_valid(text, n_bytes, NULL) && memchr(text, 0, n_bytes) == NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    if (n_bytes < 2)
        return 0;
    const struct import_args args = {
        .lines = data[0] % 4 == 1,
        .field_prompt = data[0] % 4 == 2 ? "p" : NULL,
        .field_messages = data[0] % 4 == 3 ? "m" : NULL,
        .field_id = data[0] % 4 == 3 ? "i" : NULL,
    };
    FILE *in = fmemopen((void *)(uintptr_t)(data + 1), n_bytes - 1, "rb");
    struct jsonl_lines lines;
    const char *line;
    size_t n_line;

    jsonl_lines_begin(&lines, in, "input");
    while (jsonl_lines_next(&lines, &line, &n_line) == ST_OK) {
        struct jsonl_row row;
        struct row_error error = {.text = ""};
        const enum status st = jsonl_row_parse(&args, line, n_line, &row, &error);

        assert((st == ST_OK) == (error.text[0] == '\0'));
        if (st == ST_OK) {
            check_text(row.prompt, row.prompt_bytes);
            check_text(row.messages, row.messages_bytes);
            check_text(row.id, row.id_bytes);
            check_text(row.stop, row.stop_bytes);
        }
        jsonl_row_free(&row);
    }
    jsonl_lines_end(&lines);
    fclose(in);
    return 0;
}
