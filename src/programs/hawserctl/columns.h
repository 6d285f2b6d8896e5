/* columns.h - an array of JSON objects as aligned columns (floor 8). One thread. */
#ifndef HAWSERCTL_COLUMNS_H
#define HAWSERCTL_COLUMNS_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

/* How a field is shown. Text is aligned left, all others right. */
enum column_kind {
    COLUMN_TEXT,
    COLUMN_COUNT,    /* 1234 */
    COLUMN_DECIMAL,  /* 12.3 */
    COLUMN_BYTES,    /* 1.5M, powers of 1024 */
    COLUMN_DURATION, /* 3d4h, from seconds */
    COLUMN_UP,       /* of an array of objects: how many have state "up", of how many */
};

struct column {
    const char *heading, *field;
    enum column_kind kind;
};

/* Longest text of a field that is no string, with its NUL. */
#define COLUMN_TEXT_MAX 48

/* One field as text; "-" when it is null, missing or of another type. For a string that is the string itself,
 * else it is written to buffer. */
const char *column_text(const json_t *value, enum column_kind kind, char buffer[static COLUMN_TEXT_MAX]);

/* Write text with its control characters as '?': names and reasons may come from a peer, and must not steer a
 * terminal. Returns how many characters (UTF-8 sequences) that was. */
size_t column_write_text(FILE *to, const char *text);

/* Write heading and rows; elements of rows that are no objects are shown as rows of '-'. */
void columns_write(FILE *to, const struct column *columns, size_t count, const json_t *rows);

#endif
