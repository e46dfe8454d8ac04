/* TEST */
/*
 * unit_answers.c - which answers are right, counts by class, the rows that are drawn, texts as one
 * line.
 */
#include "data/answers.h"
#include "data/oneline.h"
#include "test.h"

static struct answer_text text_of(const char *text)
{
    return (struct answer_text){text, strlen(text)};
}

static void answers_are_judged(void)
{
    static const struct {
        const char *got, *known;
        enum verdict want;
    } cases[] = {
        {"red", "red", VERDICT_RIGHT},
        {" Red\n", "\trED ", VERDICT_RIGHT},
        {"red", "blue", VERDICT_WRONG},
        {"red circle", "red", VERDICT_WRONG},
        {"", "red", VERDICT_WRONG},
        {"red", "", VERDICT_NONE},
        {"red", " \n", VERDICT_NONE},
        {"", "", VERDICT_NONE},
        {"a  b", "a b", VERDICT_WRONG},
        {"\xc3\x84", "\xc3\xa4", VERDICT_WRONG},
        {"\xc3\x84", "\xc3\x84", VERDICT_RIGHT},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_INT(answer_judge(FINISH_STOP, text_of(cases[i].got), text_of(cases[i].known)),
                  cases[i].want);
    CHECK_INT(answer_judge(FINISH_LENGTH, text_of("two"), text_of("two")), VERDICT_RIGHT);
    CHECK_INT(answer_judge(FINISH_ERROR, text_of(""), text_of("two")), VERDICT_ERROR);
    CHECK_INT(answer_judge(FINISH_ERROR, text_of(""), text_of("")), VERDICT_ERROR);
    CHECK_INT(answer_judge(FINISH_STOP, (struct answer_text){NULL, 0}, text_of("two")),
              VERDICT_WRONG);
}

static int add(struct tally *tally, const char *class_name, const char *got, const char *known,
               enum finish_reason reason)
{
    int class = -1;

    CHECK_INT(tally_add(tally, text_of(class_name), text_of(known),
                        answer_judge(reason, text_of(got), text_of(known)), &class),
              ST_OK);
    return class;
}

static void classes_are_counted(void)
{
    struct tally *tally = NULL;
    struct tally_counts counts;
    struct buf text = {0};
    int order[TALLY_CLASSES];

    CHECK_INT(tally_create(&tally), ST_OK);
    CHECK_INT(add(tally, "count", "2", "2", FINISH_STOP), 0);
    CHECK_INT(add(tally, "colour", "red", "Red", FINISH_STOP), 1);
    CHECK_INT(add(tally, "count", "3", "2", FINISH_LENGTH), 0);
    CHECK_INT(add(tally, "count", "3", "3", FINISH_STOP), 0);
    CHECK_INT(add(tally, "count", "", "3", FINISH_ERROR), 0);
    CHECK_INT(add(tally, "count", "2", " 2", FINISH_STOP), 0);
    CHECK_INT(add(tally, "colour", "red", "", FINISH_STOP), 1);
    CHECK_INT(add(tally, "broken", "", "", FINISH_ERROR), 2);

    CHECK_INT(tally_n_classes(tally), 3);
    tally_counts(tally, 0, &counts);
    CHECK_INT(counts.n_rows[VERDICT_RIGHT], 3);
    CHECK_INT(counts.n_rows[VERDICT_WRONG], 1);
    CHECK_INT(counts.n_rows[VERDICT_ERROR], 1);
    CHECK_INT(counts.n_known, 5);
    CHECK_INT(counts.n_most, 3); /* 2, 2 and " 2" */
    tally_counts(tally, 1, &counts);
    CHECK_INT(counts.n_rows[VERDICT_NONE], 1);
    CHECK_INT(counts.n_known, 1);
    tally_counts(tally, -1, &counts);
    CHECK_INT(counts.n_rows[VERDICT_RIGHT], 4);
    CHECK_INT(counts.n_rows[VERDICT_ERROR], 2);
    CHECK_INT(counts.n_most, 4);
    tally_order(tally, order);
    CHECK_INT(order[0], 2);
    CHECK_INT(order[1], 1);
    CHECK_INT(order[2], 0);

    CHECK_INT(tally_put(tally, true, &text), ST_OK);
    CHECK_INT(buf_put(&text, "", 1), ST_OK);
    CHECK_STR((const char *)text.data,
              "class       rows    errors    judged     right   accuracy   majority\n"
              "broken         1         1         1         0      0.0 %          -\n"
              "colour         2         0         1         1    100.0 %    100.0 %\n"
              "count          5         1         5         3     60.0 %     60.0 %\n"
              "all            8         2         7         4     57.1 %     66.7 %\n");
    buf_reset(&text);
    CHECK_INT(tally_put(tally, false, &text), ST_OK);
    CHECK_INT(buf_put(&text, "", 1), ST_OK);
    CHECK_HAS((const char *)text.data, "all            8         2\n");
    buf_free(&text);
    tally_destroy(tally);
}

/* No rows, too many classes, too many answers: the memory is the same. */
static void counts_are_bounded(void)
{
    struct tally *tally = NULL;
    struct tally_counts counts;
    struct buf text = {0};
    char name[32];

    CHECK_INT(tally_create(&tally), ST_OK);
    CHECK_INT(tally_put(tally, true, &text), ST_OK);
    CHECK_INT(buf_put(&text, "", 1), ST_OK);
    CHECK_HAS((const char *)text.data, "all           0         0         0         0          -");
    for (int i = 0; i < 3 * TALLY_CLASSES; i++) {
        snprintf(name, sizeof name, "class %d", i);
        CHECK_INT(add(tally, name, "x", "x", FINISH_STOP),
                  i < TALLY_CLASSES ? i : TALLY_CLASSES - 1);
    }
    CHECK_INT(tally_n_classes(tally), TALLY_CLASSES);
    CHECK_STR(tally_class_name(tally, TALLY_CLASSES - 1), "(other classes)");
    tally_counts(tally, TALLY_CLASSES - 1, &counts);
    CHECK_INT(counts.n_rows[VERDICT_RIGHT], 2 * TALLY_CLASSES + 1);
    for (int i = 0; i < TALLY_ANSWERS + 9; i++) {
        snprintf(name, sizeof name, "answer %d", i);
        add(tally, "class 0", name, name, FINISH_STOP);
    }
    tally_counts(tally, 0, &counts);
    CHECK_INT(counts.n_rows[VERDICT_RIGHT], TALLY_ANSWERS + 10);
    buf_reset(&text);
    CHECK_INT(tally_put(tally, true, &text), ST_OK);
    CHECK_INT(buf_put(&text, "", 1), ST_OK);
    CHECK_HAS((const char *)text.data, "no majority is given");
    buf_free(&text);
    tally_destroy(tally);
}

/* Of n rows, row i of class i % n_classes, showing picture i / 2. */
static int draw(int n_want, uint64_t n, int n_classes, struct sample_row *out)
{
    struct sample *sample = NULL;
    int order[TALLY_CLASSES];

    CHECK_INT(sample_create(n_want, &sample), ST_OK);
    for (uint64_t i = 0; i < n; i++)
        CHECK_INT(
            sample_offer(sample, &(struct sample_row){.row = i,
                                                      .picture = i / 2,
                                                      .class = (int)(i % (uint64_t)n_classes)}),
            ST_OK);
    for (int c = 0; c < n_classes; c++)
        order[c] = n_classes - 1 - c;
    const int got = sample_take(sample, order, n_classes, out);
    sample_destroy(sample);
    return got;
}

static void samples_show_every_class(void)
{
    struct sample_row rows[24], again[24];

    CHECK_INT(draw(24, 5000, 7, rows), 24);
    CHECK_INT(draw(24, 5000, 7, again), 24);
    int n_of[7] = {0}, n_late = 0;
    for (int i = 0; i < 24; i++) {
        CHECK_INT(again[i].row, rows[i].row);
        n_of[rows[i].class]++;
        n_late += rows[i].row >= 2500;
        CHECK_INT(rows[i].class, (int)(rows[i].row % 7));
        if (i > 0)
            CHECK(rows[i].class < rows[i - 1].class ||
                  (rows[i].class == rows[i - 1].class && rows[i].row > rows[i - 1].row));
        for (int k = 0; k < i; k++)
            CHECK(rows[k].picture != rows[i].picture);
    }
    for (int c = 0; c < 7; c++)
        CHECK(n_of[c] == 3 || n_of[c] == 4);
    CHECK(n_late > 5 && n_late < 19); /* from everywhere in the file */

    CHECK_INT(draw(24, 5, 2, rows), 5); /* fewer than wanted: all of them, pictures twice */
    CHECK_INT(draw(3, 5, 5, rows), 3);
    CHECK_INT(draw(3, 0, 5, rows), 0);
}

static const char *line(const char *text, int most)
{
    static struct buf out;

    buf_reset(&out);
    CHECK_INT(oneline_put(text, strlen(text), most, &out), ST_OK);
    CHECK_INT(buf_put(&out, "", 1), ST_OK);
    return (const char *)out.data;
}

static const char *question(const char *prompt, const char *messages)
{
    static struct buf out;
    const struct prompt_row row = {.prompt = prompt,
                                   .prompt_bytes = prompt != NULL ? strlen(prompt) : 0,
                                   .messages = messages,
                                   .messages_bytes = messages != NULL ? strlen(messages) : 0,
                                   .n_tokens = 3};

    buf_reset(&out);
    CHECK_INT(oneline_question(&row, 60, &out), ST_OK);
    CHECK_INT(buf_put(&out, "", 1), ST_OK);
    return (const char *)out.data;
}

static void texts_become_one_line(void)
{
    CHECK_STR(line("", 9), "");
    CHECK_STR(line(" \n a\t\tb\r\n", 9), "a b");
    CHECK_STR(line("exactly 9", 9), "exactly 9");
    CHECK_STR(line("exactly 10", 9), "exactl...");
    CHECK_STR(line("to the blank", 9), "to the...");
    CHECK_STR(line("\xc3\xa4\xc3\xb6\xc3\xbc\xe2\x82\xac!", 5),
              "\xc3\xa4\xc3\xb6\xc3\xbc\xe2\x82\xac!");
    CHECK_STR(line("\xc3\xa4\xc3\xb6\xc3\xbc\xe2\x82\xac!", 4), "\xc3\xa4...");
    CHECK_STR(line("a\x1b[31m\xc2\x9b\x7fz\xff", 20), "a [31m z?");

    CHECK_STR(question("USER: <image>\nHow many? ASSISTANT:", NULL), "How many?");
    CHECK_STR(question("A chat. USER: <image>\nHi ASSISTANT: Ho USER: And now? ASSISTANT: ", NULL),
              "And now?");
    CHECK_STR(question("USER: this stays", NULL), "USER: this stays");
    CHECK_STR(question("<|im_start|>a < b <| c|><image> <b>", NULL), "a < b <| c|> <b>");
    CHECK_STR(question(NULL,
                       "[{\"role\": \"user\", \"content\": \"one\"}, {\"role\": \"assistant\","
                       " \"content\": \"x\"}, {\"role\": \"user\", \"content\": [{\"type\":"
                       " \"image\"}, {\"type\": \"text\", \"text\": \"two\\nlines\"}]}]"),
              "two lines");
    CHECK_STR(question(NULL, "{\"messages\": [{\"role\": \"user\", \"content\": \"one\"}]}"),
              "one");
    CHECK_STR(question(NULL, "no JSON"), "no JSON");
    CHECK_STR(question(NULL, NULL), "(3 token ids)");
}

int main(void)
{
    answers_are_judged();
    classes_are_counted();
    counts_are_bounded();
    samples_show_every_class();
    texts_become_one_line();
    TEST_END();
}
