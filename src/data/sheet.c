/*
 * sheet.c - draws pictures with questions and answers under them, in cells of one size.
 *
 *   title
 *   +-------+ +-------+
 *   |picture| |picture|   a frame, SHEET_BOX dots square inside
 *   +-------+ +-------+
 *   question  question    at most QUESTION_LINES
 *   answer    answer      what is left of TEXT_LINES
 *
 * Only dots in memory; report.c brings the rows and writes the file.
 */
#include <assert.h>

#include "data/sheet.h"

enum {
    SCALE = 2, /* dots of the sheet for one dot of a letter */
    ADVANCE = (FONT_WIDTH + 1) * SCALE,
    LINE = (FONT_HEIGHT + 2) * SCALE,
    FRAME = 5,
    CELL_WIDTH = SHEET_BOX + 2 * FRAME,
    GAP = 18, /* between cells and around them */
    TEXT_LINES = 5,
    QUESTION_LINES = 3,
    TEXT_GAP = 6, /* between a picture and its text, question and answer */
    CELL_HEIGHT = SHEET_BOX + 2 * FRAME + 2 * TEXT_GAP + TEXT_LINES * LINE,
    TITLE_HEIGHT = LINE + GAP
};

struct colour {
    uint8_t rgb[3];
};
static const struct colour paper = {{246, 246, 243}}, black = {{24, 24, 24}},
                           pale = {{222, 222, 218}};

static const struct colour verdict_colours[VERDICT_COUNT] = {
    [VERDICT_RIGHT] = {{34, 139, 60}},
    [VERDICT_WRONG] = {{206, 38, 38}},
    [VERDICT_ERROR] = {{206, 38, 38}},
    [VERDICT_NONE] = {{140, 140, 140}},
};

struct sheet {
    int n_cells;
    struct picture dots; /* owned */
};

/* ---- dots ------------------------------------------------------------------------------------ */

/* Whatever lies outside of the sheet is not drawn. */
static void fill(struct picture *dots, int left, int top, int width, int height,
                 struct colour colour)
{
    for (int y = top < 0 ? 0 : top; y < top + height && y < dots->height; y++)
        for (int x = left < 0 ? 0 : left; x < left + width && x < dots->width; x++)
            memcpy(dots->rgb + ((size_t)y * (size_t)dots->width + (size_t)x) * 3, colour.rgb, 3);
}

static void draw_char(struct picture *dots, int left, int top, unsigned char c,
                      struct colour colour)
{
    for (int y = 0; y < FONT_HEIGHT; y++)
        for (int x = 0; x < FONT_WIDTH; x++)
            if (font_dot(c, x, y))
                fill(dots, left + x * SCALE, top + y * SCALE, SCALE, SCALE, colour);
}

/* ---- text ------------------------------------------------------------------------------------ */

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* Bytes of the first `most` characters of text, or of all. */
static size_t first_chars(const char *text, int most)
{
    size_t at = 0;

    for (int n = 0; text[at] != '\0'; at++) {
        n += !is_continuation(text[at]);
        if (n > most)
            break;
    }
    return at;
}

/* Bytes of text that go on a line of `most` characters: up to a blank, if there is one. */
static size_t line_bytes(const char *text, int most)
{
    const size_t n = first_chars(text, most);
    size_t at = n;

    if (text[n] == '\0' || text[n] == ' ')
        return n;
    while (at > 0 && text[at - 1] != ' ')
        at--;
    return at > 0 ? at : n;
}

static void draw_line(struct picture *dots, int left, int top, const char *text, size_t n_bytes,
                      struct colour colour)
{
    for (size_t i = 0; i < n_bytes; i++) {
        if (is_continuation(text[i]))
            continue;
        draw_char(dots, left, top, (unsigned char)text[i], colour);
        left += ADVANCE;
    }
}

/* In lines of `most` characters, at most n_lines.  Returns the top of the line behind them. */
static int draw_text(struct picture *dots, int left, int top, const char *text, int most,
                     int n_lines, struct colour colour)
{
    for (int i = 0; i < n_lines; i++) {
        while (*text == ' ')
            text++;
        if (*text == '\0')
            break;
        size_t n = line_bytes(text, most);
        if (i == n_lines - 1 && text[n] != '\0') { /* the last one, and there is more */
            n = first_chars(text, most - 3);
            draw_line(dots, left, top, text, n, colour);
            draw_line(dots, left + (most - 3) * ADVANCE, top, "...", 3, colour);
        } else {
            draw_line(dots, left, top, text, n, colour);
        }
        text += n;
        top += LINE;
    }
    return top;
}

/* ---- pictures -------------------------------------------------------------------------------- */

/* Each dot of the sheet is the average of those dots of the picture that come nearest to it: one if
 * it is magnified. */
static void draw_scaled(struct picture *dots, int left, int top, int width, int height,
                        const struct picture *picture)
{
    const int64_t w = picture->width, h = picture->height;

    for (int y = 0; y < height; y++) {
        const int64_t y0 = y * h / height, y1 = (y + 1) * h / height;

        for (int x = 0; x < width; x++) {
            const int64_t x0 = x * w / width, x1 = (x + 1) * w / width;
            const int64_t y_end = y1 > y0 ? y1 : y0 + 1, x_end = x1 > x0 ? x1 : x0 + 1;
            const uint64_t n = (uint64_t)((y_end - y0) * (x_end - x0));
            uint64_t sum[3] = {0};
            struct colour colour;

            for (int64_t v = y0; v < y_end; v++)
                for (int64_t u = x0; u < x_end; u++)
                    for (int c = 0; c < 3; c++)
                        sum[c] += picture->rgb[(v * w + u) * 3 + c];
            for (int c = 0; c < 3; c++)
                colour.rgb[c] = (uint8_t)((sum[c] + n / 2) / n);
            fill(dots, left + x, top + y, 1, 1, colour);
        }
    }
}

/* In the middle of its place at left, top. */
static void draw_picture(struct picture *dots, int left, int top, const struct picture *picture)
{
    const int w = picture->width, h = picture->height, longest = w > h ? w : h;
    int width = w, height = h;

    if (longest <= SHEET_BOX) {
        width *= SHEET_BOX / longest;
        height *= SHEET_BOX / longest;
    } else {
        width = (int)((int64_t)w * SHEET_BOX / longest);
        height = (int)((int64_t)h * SHEET_BOX / longest);
        width = width > 0 ? width : 1;
        height = height > 0 ? height : 1;
    }
    draw_scaled(dots, left + (SHEET_BOX - width) / 2, top + (SHEET_BOX - height) / 2, width, height,
                picture);
}

static void draw_cross(struct picture *dots, int left, int top)
{
    enum { WIDE = 5, MARGIN = SHEET_BOX / 4 };
    const struct colour grey = verdict_colours[VERDICT_NONE];

    for (int i = MARGIN; i < SHEET_BOX - MARGIN; i++) {
        fill(dots, left + i - WIDE / 2, top + i - WIDE / 2, WIDE, WIDE, grey);
        fill(dots, left + SHEET_BOX - 1 - i - WIDE / 2, top + i - WIDE / 2, WIDE, WIDE, grey);
    }
}

/* ---- the sheet ------------------------------------------------------------------------------- */

static int columns(const struct sheet *sheet)
{
    return sheet->n_cells < SHEET_COLUMNS ? sheet->n_cells : SHEET_COLUMNS;
}

enum status sheet_create(int n_cells, const char *title, struct sheet **out_sheet)
{
    struct sheet *sheet = host_zalloc(sizeof *sheet);

    assert(n_cells >= 1 && n_cells <= SHEET_CELLS);
    if (sheet == NULL)
        return ST_NOMEM;
    sheet->n_cells = n_cells;
    const int n_across = columns(sheet), n_down = (n_cells + n_across - 1) / n_across;
    struct picture *dots = &sheet->dots;
    dots->width = GAP + n_across * (CELL_WIDTH + GAP);
    dots->height = GAP + TITLE_HEIGHT + n_down * (CELL_HEIGHT + GAP);
    dots->rgb = host_alloc((size_t)dots->width * (size_t)dots->height * 3);
    if (dots->rgb == NULL) {
        host_free(sheet);
        return ST_NOMEM;
    }
    fill(dots, 0, 0, dots->width, dots->height, paper);
    draw_text(dots, GAP, GAP, title, (dots->width - 2 * GAP) / ADVANCE, 1, black);
    *out_sheet = sheet;
    return ST_OK;
}

void sheet_destroy(struct sheet *sheet)
{
    if (sheet == NULL)
        return;
    host_free(sheet->dots.rgb);
    host_free(sheet);
}

void sheet_draw(struct sheet *sheet, int cell, const struct sheet_cell *what)
{
    const int n_across = columns(sheet), most = CELL_WIDTH / ADVANCE;
    const int left = GAP + cell % n_across * (CELL_WIDTH + GAP);
    int top = GAP + TITLE_HEIGHT + cell / n_across * (CELL_HEIGHT + GAP);
    const struct colour colour = verdict_colours[what->verdict];

    assert(cell >= 0 && cell < sheet->n_cells);
    fill(&sheet->dots, left, top, CELL_WIDTH, CELL_WIDTH, colour);
    fill(&sheet->dots, left + FRAME, top + FRAME, SHEET_BOX, SHEET_BOX, pale);
    if (what->picture != NULL)
        draw_picture(&sheet->dots, left + FRAME, top + FRAME, what->picture);
    else
        draw_cross(&sheet->dots, left + FRAME, top + FRAME);
    top += CELL_WIDTH + TEXT_GAP;
    const int behind =
        draw_text(&sheet->dots, left, top, what->question, most, QUESTION_LINES, black);
    draw_text(&sheet->dots, left, behind + TEXT_GAP, what->answer, most,
              TEXT_LINES - (behind - top) / LINE, what->verdict == VERDICT_NONE ? black : colour);
}

const struct picture *sheet_picture(const struct sheet *sheet)
{
    return &sheet->dots;
}
