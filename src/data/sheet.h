/*
 * sheet.h - private to src/data: a sheet of pictures with questions and answers under them.
 */
#ifndef EPIDOTE_DATA_SHEET_H
#define EPIDOTE_DATA_SHEET_H

#include "data/answers.h"

/* ---- letters (font.c) ------------------------------------------------------------------------- */

enum { FONT_WIDTH = 5, FONT_HEIGHT = 9 };
/* font_dot - whether dot x, y (from the top left) of a character is black; what is not printable
 * ASCII is a box. */
bool font_dot(unsigned char c, int x, int y);

/* ---- the sheet (sheet.c) ---------------------------------------------------------------------- */

enum {
    SHEET_CELLS = 24,  /* at most */
    SHEET_COLUMNS = 6, /* at most */
    SHEET_BOX = 240    /* a picture's place is SHEET_BOX x SHEET_BOX dots */
};

struct sheet_cell {
    const struct picture *picture; /* NULL = it cannot be shown: a grey field with a cross */
    const char *question, *answer; /* UTF-8; cut where they do not fit */
    enum verdict verdict;          /* a frame in green, red, red, grey, and the answer likewise */
};

struct sheet;
/*
 * sheet_create - an empty sheet with room for n_cells cells, 1 .. SHEET_CELLS.
 *   title  in  one line of UTF-8 above the pictures; cut where it does not fit
 * Returns ST_OK, ST_NOMEM.
 */
enum status sheet_create(int n_cells, const char *title, struct sheet **out_sheet);
void sheet_destroy(struct sheet *sheet);
/*
 * sheet_draw - draw one cell, 0 .. n_cells - 1, from left to right and from top to bottom.
 *   A picture that is smaller than its place is magnified by the largest whole number that fits, a
 * larger one is reduced by averaging.  Integer arithmetic: the same dots on every machine.
 */
void sheet_draw(struct sheet *sheet, int cell, const struct sheet_cell *what);
/* sheet_picture - all dots; a view. */
const struct picture *sheet_picture(const struct sheet *sheet);

#endif
