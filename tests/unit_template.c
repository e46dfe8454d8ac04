/* TEST */
/*
 * unit_template.c - the template engine: small templates against Jinja2's own answers, which bytes
 * count as written by the template, dates, messages, and what a hostile template can use up.
 */
#include "test.h"
#include "text/template.h"

#define GOLDEN "tests/golden/templates/"

/* Render with one JSON object of variables; the text with a NUL behind it. */
static enum status render(const char *text, size_t n_bytes, const json_t *variables,
                          struct buf *out, struct buf *marks, struct row_error *err)
{
    struct template_variable list[16];
    json_t *object = (json_t *)(uintptr_t)variables;
    struct template *t = NULL;
    size_t n = 0;
    enum status st;

    buf_reset(out);
    buf_reset(marks);
    err->text[0] = '\0';
    TRY(template_create(text, n_bytes, "test", &t), done);
    for (void *at = json_object_iter(object); at != NULL && n < 16;
         at = json_object_iter_next(object, at))
        list[n++] = (struct template_variable){
            .name = json_object_iter_key(at), .json = json_object_iter_value(at), .roles = true};
    TRY(template_render(t, list, n, "2026-01-31", out, marks, err), done);
    TRY(buf_put(out, "", 1), done);
    out->n_bytes--;
done:
    template_destroy(t);
    return st;
}

static enum status render_text(const char *text, const char *variables, struct buf *out,
                               struct buf *marks, struct row_error *err)
{
    json_t *json = variables != NULL ? json_loads(variables, 0, NULL) : NULL;
    const enum status st = render(text, strlen(text), json, out, marks, err);

    json_decref(json);
    return st;
}

/* ---- against Jinja2 -------------------------------------------------------------------------- */

static void check_case(const json_t *golden, struct buf *out, struct buf *marks)
{
    const json_t *template = json_object_get(golden, "template");
    const json_t *text = json_object_get(golden, "text");
    const bool refused = json_object_get(golden, "refused") != NULL;
    struct row_error err;
    const enum status st = render(json_string_value(template), json_string_length(template),
                                  json_object_get(golden, "variables"), out, marks, &err);
    const bool right = text == NULL
                           ? st == (refused ? ST_UNSUPPORTED : ST_ROW)
                           : st == ST_OK && out->n_bytes == json_string_length(text) &&
                                 memcmp(out->data, json_string_value(text), out->n_bytes) == 0;

    CHECK(right);
    if (!right)
        fprintf(stderr, "  %s\n    wants %s \"%s\"\n    got   %s \"%s\"\n",
                json_string_value(template),
                text != NULL ? "ok"
                : refused    ? "refused"
                             : "error",
                text != NULL
                    ? json_string_value(text)
                    : json_string_value(json_object_get(golden, refused ? "refused" : "error")),
                status_name(st), st == ST_OK ? (const char *)out->data : err.text);
}

static void small_templates_give_what_jinja_gives(void)
{
    struct buf file = {0}, out = {0}, marks = {0};
    int n = 0;

    CHECK(file_read(GOLDEN "own.jsonl", 1 << 20, &file) == ST_OK);
    CHECK(buf_put(&file, "", 1) == ST_OK);
    for (char *line = (char *)file.data, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        json_t *golden = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);

        CHECK(golden != NULL);
        check_case(golden, &out, &marks);
        json_decref(golden);
        n++;
    }
    CHECK(n > 500);
    buf_free(&file);
    buf_free(&out);
    buf_free(&marks);
}

/* ---- who wrote what -------------------------------------------------------------------------- */

/* The text with the template's bytes in brackets. */
static const char *shown(const struct buf *out, const struct buf *marks, struct buf *text)
{
    const struct text_range *ranges = (const struct text_range *)(const void *)marks->data;
    const size_t n = marks->n_bytes / sizeof *ranges;
    size_t at = 0;

    buf_reset(text);
    for (size_t i = 0; i < n; i++) {
        CHECK(ranges[i].begin >= at && ranges[i].end > ranges[i].begin &&
              ranges[i].end <= out->n_bytes);
        CHECK(buf_put(text, out->data + at, ranges[i].begin - at) == ST_OK);
        CHECK(buf_printf(text, "[%.*s]", (int)(ranges[i].end - ranges[i].begin),
                         (const char *)out->data + ranges[i].begin) == ST_OK);
        at = ranges[i].end;
    }
    CHECK(buf_put(text, out->data + at, out->n_bytes - at) == ST_OK);
    CHECK(buf_put(text, "", 1) == ST_OK);
    return (const char *)text->data;
}

static void marks_follow_the_template_s_bytes(void)
{
    static const struct {
        const char *template, *text;
    } cases[] = {
        {"<s>{{ x }}</s>", "[<s>]<x> y[</s>]"},
        {"{{ '<s>' + x + '</s>' }}", "[<s>]<x> y[</s>]"},
        {"{{ '<s>' ~ x ~ 1 }}", "[<s>]<x> y1"},
        {"{{ ' <s>' ~ x | trim }}", "[ <s>]<x> y"},
        {"{{ (' <s> ' ~ x ~ ' </s> ') | trim }}", "[<s> ]<x> y[ </s>]"},
        {"{{ ('ab' ~ x)[1:4] }}", "[b]<x"},
        {"{{ ('ab' ~ x)[::-1] }}", "y >x<[ba]"},
        {"{{ x | replace('x', '<s>') }}", "<[<s>]> y"},
        {"{{ '<s>' | replace('s', x) }}", "[<]<x> y[>]"},
        {"{{ x | upper }}{{ 'a' | upper }}", "<X> Y[A]"},
        {"{{ ['<s>', x] | join('|') }}", "[<s>|]<x> y"},
        {"{{ '<{}>'.format(x) }}", "[<]<x> y[>]"},
        {"{{ '<%s>' | format(x) if false else (x ~ '|' ~ x).split('|')[1] }}", "<x> y"},
        {"{{ 'a|<s>'.split('|') | last }}", "[<s>]"},
        {"{% set v %}<s>{{ x }}{% endset %}{{ v }}", "[<s>]<x> y"},
        {"{% macro m(a) %}<s>{{ a }}{% endmacro %}{{ m(x) }}{{ m('k') }}", "[<s>]<x> y[<s>k]"},
        {"{% filter upper %}a{{ x }}{% endfilter %}", "[A]<X> Y"},
        {"{{ x | tojson }}{{ '<s>' | tojson }}", "\"<x> y\"\"<s>\""},
        {"{{ [x, '<s>'] }}", "['<x> y', '<s>']"},
        {"{{ {'a': '<s>'}[k] }}", "[<s>]"},
        {"{{ x | indent(2, true) }}", "  <x> y"},
        {"{{ '<s>' * 2 }}{{ x * 2 }}", "[<s><s>]<x> y<x> y"},
        {"{{ k }}{{ m[0].role }}{{ m[1].role }}{{ m[0].name }}", "a[user]imuser"},
        {"{{ '<|' + m[0].role + '|>' }}{{ '<|' + m[1].role + '|>' }}", "[<|user|><|]im[|>]"},
    };
    struct buf out = {0}, marks = {0}, text = {0};
    struct row_error err;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_INT(render_text(cases[i].template,
                              "{\"x\": \"<x> y\", \"k\": \"a\", \"m\": [{\"role\": \"user\", "
                              "\"name\": \"user\"}, {\"role\": \"im\"}]}",
                              &out, &marks, &err),
                  ST_OK);
        CHECK_STR(shown(&out, &marks, &text), cases[i].text);
    }
    buf_free(&out);
    buf_free(&marks);
    buf_free(&text);
}

/* ---- dates ----------------------------------------------------------------------------------- */

static void dates_come_from_the_job(void)
{
    static const struct template_variable none[1];
    static const struct {
        const char *format, *text;
    } cases[] = {
        {"%Y-%m-%d", "2026-01-31"},
        {"%d %b %Y", "31 Jan 2026"},
        {"%B %d, %Y", "January 31, 2026"},
        {"%A %a %j", "Saturday Sat 031"},
        {"%H:%M:%S %I %p", "00:00:00 12 AM"},
        {"%-d.%-m.%y %e %%", "31.1.26 31 %"},
        {"%F %D %T %R", "2026-01-31 01/31/26 00:00:00 00:00"},
    };
    static const char *const good[] = {"2024-02-29", "0001-01-01", "9999-12-31", "2000-02-29"};
    static const char *const bad[] = {"2026-02-29", "1900-02-29", "2026-13-01", "2026-00-10",
                                      "2026-01-00", "2026-1-1",   "26-01-31",   "2026-01-311",
                                      "",           "2026/01/31"};
    struct buf out = {0}, marks = {0};
    struct row_error err;
    struct template *t = NULL;
    char text[64];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, "{{ strftime_now('%s') }}", cases[i].format);
        CHECK_INT(render_text(text, NULL, &out, &marks, &err), ST_OK);
        CHECK_STR((const char *)out.data, cases[i].text);
    }
    CHECK_INT(render_text("{{ strftime_now('%Q') }}", NULL, &out, &marks, &err), ST_ROW);
    CHECK_HAS(err.text, "format is not supported");
    CHECK_INT(render_text("{{ strftime_now('%') }}", NULL, &out, &marks, &err), ST_ROW);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CHECK(date_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!date_valid(bad[i]));
    CHECK_INT(template_create("{{ strftime_now('%Y') }}", 24, "test", &t), ST_OK);
    CHECK(template_uses(t, "strftime_now") && !template_uses(t, "tools"));
    CHECK_INT(template_render(t, none, 0, NULL, &out, &marks, &err), ST_ROW);
    CHECK_HAS(err.text, "line 1 column 4: the chat template asks for today's date");
    CHECK_HAS(err.text, "chat_date");
    template_destroy(t);
    buf_free(&out);
    buf_free(&marks);
}

/* ---- messages -------------------------------------------------------------------------------- */

static void messages_say_where(void)
{
    static const struct {
        const char *template, *message;
        enum status st;
    } cases[] = {
        {"a\n{% if x %}\n{{ é + 1 }}", "line 3 column 4: this character", ST_UNSUPPORTED},
        {"a\n  {% include 'x' %}", "line 2 column 6: expected if", ST_UNSUPPORTED},
        {"{{ 'é' + y|nope }}", "line 1 column 12: no filter named 'nope'", ST_UNSUPPORTED},
        {"\r\n{% for %}", "line 2 column 8: expected an expression, not '%}'", ST_UNSUPPORTED},
        {"{{ 99999999999999999999 }}", "beyond 64 bits", ST_UNSUPPORTED},
        {"{{ '\\ud800' }}", "escape", ST_UNSUPPORTED},
        {"é{{ x.y.z }}", "line 1 column 9: 'str object' has no attribute 'y'", ST_ROW},
        {"\n\n{{ a.b }}", "line 3 column 6: 'a' is undefined", ST_ROW},
        {"{{ raise_exception('sorry') }}", "refuses this conversation: sorry", ST_ROW},
        {"{{ 9223372036854775807 + 1 }}", "beyond 64 bits", ST_ROW},
        {"{{ [1].append(2) }}", "must not use: 'append'", ST_ROW},
        {"{{ x.encode() }}", "method encode is not supported", ST_ROW},
    };
    struct buf out = {0}, marks = {0};
    struct row_error err;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_INT(render_text(cases[i].template, "{\"x\": \"s\"}", &out, &marks, &err),
                  cases[i].st);
        CHECK_HAS(cases[i].st == ST_ROW ? err.text : log_last_error(), cases[i].message);
    }
    buf_free(&out);
    buf_free(&marks);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void hostile_templates_end(void)
{
    static const struct {
        const char *template, *message;
    } cases[] = {
        {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
         "MiB of memory"},
        {"{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "too deeply"},
        {"{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) "
         "}}",
         "MiB of memory"},
        {"{{ 'x' * 1000000000 }}", "steps"},
        {"{{ [0] * 1000000000000000000 }}", "steps"},
        {"{{ [[0] * 1000] * 100000000 }}", "steps"},
        {"{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}"
         "{% set ns.s = ns.s + ns.s %}{% endfor %}",
         "steps"},
        {"{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor "
         "%}"
         "{{ ns.l }}",
         "nested too deeply"},
        {"{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor "
         "%}"
         "{{ ns.l | tojson }}",
         "nested too deeply"},
        {"{% set ns = namespace(l=[], k=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}"
         "{% set ns.k = [ns.k] %}{% endfor %}{{ ns.l == ns.k }}",
         "nested too deeply"},
        {"{% set ns = namespace() %}{% set ns.me = ns %}{{ [ns] }}", "cannot be printed"},
        {"{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}", "too deeply"},
        {"{{ '%s' | replace('', 'x' * 1000) | replace('', 'x' * 1000) | replace('', 'x' * 1000) }}",
         "MiB of memory"},
        {"{{ 2 ** 9223372036854775807 }}", "beyond 64 bits"},
        {"{{ ('a' * 1000000).rfind('a' * 500000 + 'b') }}", "steps"},
        {"{{ ('a' * 1000000).rsplit('b' + 'a' * 500000) }}", "steps"},
    };
    static const char *const nests[] = {"(",     "[",          "{{ [",  "not ",
                                        "- ",    "{% if x %}", "a(",    "{% for a in b %}",
                                        "{'a':", "a[",         "x if ", "a|b("};
    static const char *const chains[] = {"+ 1",   "| abs",        ".a",         "[0]",
                                         "and 1", "is odd and x", "== 1 and 2", "if 1 else 2"};
    struct buf out = {0}, marks = {0}, text = {0};
    struct row_error err;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_INT(render_text(cases[i].template, NULL, &out, &marks, &err), ST_ROW);
        CHECK_HAS(err.text, cases[i].message);
    }
    for (size_t i = 0; i < sizeof nests / sizeof nests[0]; i++) {
        buf_reset(&text);
        CHECK(buf_puts(&text, nests[i][0] == '{' && nests[i][1] != '\'' ? "" : "{{ ") == ST_OK);
        for (int j = 0; j < 20000; j++)
            CHECK(buf_puts(&text, nests[i]) == ST_OK);
        CHECK_INT(render((const char *)text.data, text.n_bytes, NULL, &out, &marks, &err),
                  ST_UNSUPPORTED);
    }
    for (size_t i = 0; i < sizeof chains / sizeof chains[0]; i++) {
        buf_reset(&text);
        CHECK(buf_puts(&text, "{{ 1 ") == ST_OK);
        for (int j = 0; j < 20000; j++)
            CHECK(buf_puts(&text, chains[i]) == ST_OK);
        CHECK(buf_puts(&text, " }}") == ST_OK);
        CHECK_INT(render((const char *)text.data, text.n_bytes, NULL, &out, &marks, &err),
                  ST_UNSUPPORTED);
    }
    buf_reset(&text); /* a name behind many others is far to look for */
    for (int j = 0; j < 1000; j++)
        CHECK(buf_printf(&text, "{%% set a%d = 1 %%}", j) == ST_OK);
    CHECK(buf_puts(&text, "{% for i in range(90000) %}{{ a0 }}{% endfor %}") == ST_OK);
    CHECK_INT(render((const char *)text.data, text.n_bytes, NULL, &out, &marks, &err), ST_ROW);
    CHECK_HAS(err.text, "steps");
    buf_reset(&text);
    for (int j = 0; j < 40000; j++)
        CHECK(buf_printf(&text, "{{a%d}}", j) == ST_OK);
    CHECK_INT(render((const char *)text.data, text.n_bytes, NULL, &out, &marks, &err),
              ST_UNSUPPORTED);
    CHECK_HAS(log_last_error(), "at most");
    CHECK_INT(render((const char *)text.data, 60000, NULL, &out, &marks, &err), ST_UNSUPPORTED);
    CHECK_HAS(log_last_error(), "names");
    CHECK_INT(render("\xff", 1, NULL, &out, &marks, &err), ST_UNSUPPORTED);
    buf_free(&out);
    buf_free(&marks);
    buf_free(&text);
}

/* Long contents are no attack. */
static void long_contents_pass(void)
{
    static const char template[] =
        "{% for m in m %}{{ '<|' + m.role + '|>' + m.content | trim + '\\n' }}"
        "{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}"
        "{% endif %}{{ m.content | tojson }}{{ m.content | replace('a', 'b') }}{% endfor %}";
    const size_t n = 1 << 20;
    json_t *variables = NULL, *message = NULL;
    struct buf out = {0}, marks = {0};
    char *content = host_alloc(n);
    struct row_error err;

    for (size_t i = 0; i < n; i++)
        content[i] = "aé b\n\"x</think>"[i % 15];
    for (size_t i = 0; i < n; i++)
        content[i] = (uint8_t)content[i] >= 0x80 ? 'a' : content[i];
    message = json_pack("{s:s, s:s%}", "role", "user", "content", content, n);
    variables = json_pack("{s:[o]}", "m", message);
    CHECK(variables != NULL);
    CHECK_INT(render(template, sizeof template - 1, variables, &out, &marks, &err), ST_OK);
    CHECK(out.n_bytes > 3 * n);
    json_decref(variables);
    host_free(content);
    buf_free(&out);
    buf_free(&marks);
}

int main(void)
{
    small_templates_give_what_jinja_gives();
    marks_follow_the_template_s_bytes();
    dates_come_from_the_job();
    messages_say_where();
    hostile_templates_end();
    long_contents_pass();
    TEST_END();
}
