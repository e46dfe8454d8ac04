/*
 * normal.h - shared by normal.c and nfc.c.
 */
#ifndef EPIDOTE_TEXT_NORMAL_H
#define EPIDOTE_TEXT_NORMAL_H

#include "text/internal.h"

/* nfc_put - append the normal form C of valid UTF-8.  Time linear.  Returns ST_OK, ST_NOMEM. */
enum status nfc_put(const char *text, size_t n_bytes, struct buf *out);

#endif
