/*
 * fuzz_template.c - any chat template is read or refused, and one that is read ends on any
 * variables: with valid UTF-8 and marks in order, or as an error row.
 *
 * The input is a template, then, behind a NUL, an object of JSON with its variables.
 */
#include <stdlib.h>

#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static const char usual[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \" S \"}, {\"role\": \"user\", "
    "\"content\": "
    "\"H\\u00e9 <|x|>\\n\"}, {\"role\": \"assistant\", \"content\": \"<think>a</think>b\", "
    "\"tool_calls\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": "
    "{\"a\": 1, \"b\": [1.5, null, true]}}}]}], \"tools\": null, \"add_generation_prompt\": true, "
    "\"x\": \"text\", \"d\": {\"k\": \"v\", \"items\": [3, 1, 2]}}";

static void check_marks(const struct buf *text, const struct buf *marks)
{
    const struct text_range *ranges = (const struct text_range *)(const void *)marks->data;
    size_t at = 0;

    if (!utf8_valid((const char *)text->data, text->n_bytes, NULL))
        abort();
    for (size_t i = 0; i < marks->n_bytes / sizeof *ranges; i++) {
        if (ranges[i].begin < at || ranges[i].end <= ranges[i].begin ||
            ranges[i].end > text->n_bytes)
            abort();
        at = ranges[i].end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const uint8_t *nul = n_bytes > 0 ? memchr(data, 0, n_bytes) : NULL;
    const size_t n_text = nul != NULL ? (size_t)(nul - data) : n_bytes;
    struct template_variable list[16];
    struct buf text = {0}, marks = {0};
    struct template *t = NULL;
    struct row_error err;
    json_t *json = NULL;
    size_t n = 0;

    if (nul != NULL)
        json = json_loadb((const char *)nul + 1, n_bytes - n_text - 1, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(json)) {
        json_decref(json);
        json = json_loads(usual, 0, NULL);
    }
    for (void *at = json_object_iter(json); at != NULL && n < 15;
         at = json_object_iter_next(json, at))
        list[n++] = (struct template_variable){
            .name = json_object_iter_key(at), .json = json_object_iter_value(at), .roles = true};
    list[n++] = (struct template_variable){.name = "bos_token", .text = "<s>"};
    if (template_create((const char *)data, n_text, "fuzz", &t) == ST_OK) {
        const enum status st = template_render(t, list, n, "2026-01-31", &text, &marks, &err);

        if (st == ST_OK)
            check_marks(&text, &marks);
        else if (st != ST_ROW)
            abort();
    }
    template_destroy(t);
    json_decref(json);
    buf_free(&text);
    buf_free(&marks);
    return 0;
}
