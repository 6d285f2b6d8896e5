/* columns.c - see columns.h. */
#include "columns.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { GAP = 2, COLUMNS_MAX = 16 };

static void format_bytes(double bytes, char buffer[static COLUMN_TEXT_MAX])
{
    static const char units[] = "KMGTPE";
    size_t unit = 0;

    if (bytes < 1024) {
        (void)snprintf(buffer, COLUMN_TEXT_MAX, "%.0f", bytes);
        return;
    }
    /* 1023.95 would be shown as "1024" of this unit, so it is taken for the next one. */
    for (bytes /= 1024; bytes >= 1023.5 && unit + 2 < sizeof(units); bytes /= 1024)
        unit++;
    (void)snprintf(buffer, COLUMN_TEXT_MAX, bytes < 9.95 ? "%.1f%c" : "%.0f%c", bytes, units[unit]);
}

static void format_duration(double seconds, char buffer[static COLUMN_TEXT_MAX])
{
    uint64_t s = (uint64_t)seconds;

    if (seconds < 10)
        (void)snprintf(buffer, COLUMN_TEXT_MAX, "%.1fs", seconds);
    else if (s < 60)
        (void)snprintf(buffer, COLUMN_TEXT_MAX, "%" PRIu64 "s", s);
    else if (s < 3600)
        (void)snprintf(buffer, COLUMN_TEXT_MAX, "%" PRIu64 "m%" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(buffer, COLUMN_TEXT_MAX, "%" PRIu64 "h%" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        (void)snprintf(buffer, COLUMN_TEXT_MAX, "%" PRIu64 "d%" PRIu64 "h", s / 86400, s / 3600 % 24);
}

static void format_up(const json_t *list, char buffer[static COLUMN_TEXT_MAX])
{
    size_t up = 0, count = json_array_size(list);

    for (size_t i = 0; i < count; i++) {
        const char *state = json_string_value(json_object_get(json_array_get(list, i), "state"));

        up += state != NULL && strcmp(state, "up") == 0;
    }
    (void)snprintf(buffer, COLUMN_TEXT_MAX, "%zu/%zu", up, count);
}

static const char *number_text(double number, enum column_kind kind, char buffer[static COLUMN_TEXT_MAX])
{
    /* Past 10^18 no counter of ours is; it would not fit the formats either. */
    if (!isfinite(number) || fabs(number) > 1e18)
        return "-";
    if (kind == COLUMN_BYTES && number >= 0)
        format_bytes(number, buffer);
    else if (kind == COLUMN_DURATION && number >= 0)
        format_duration(number, buffer);
    else
        (void)snprintf(buffer, COLUMN_TEXT_MAX, kind == COLUMN_DECIMAL ? "%.1f" : "%.0f",
                       fabs(number) < 0.05 ? 0 : number); /* no -0.0 */
    return buffer;
}

const char *column_text(const json_t *value, enum column_kind kind, char buffer[static COLUMN_TEXT_MAX])
{
    if (kind == COLUMN_UP && json_is_array(value)) {
        format_up(value, buffer);
        return buffer;
    }
    if (json_is_string(value))
        return json_string_length(value) > 0 ? json_string_value(value) : "-";
    if (json_is_boolean(value))
        return json_is_true(value) ? "yes" : "no";
    if (json_is_number(value) && kind != COLUMN_UP)
        return number_text(json_number_value(value), kind, buffer);
    return "-";
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* C0 and DEL, and in UTF-8 the C1 range U+0080..U+009F, which some terminals obey too. */
static size_t control_bytes(const char *at)
{
    unsigned char first = (unsigned char)at[0];

    if (first < 0x20 || first == 0x7f)
        return 1;
    return first == 0xc2 && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] <= 0x9f ? 2 : 0;
}

static size_t text_width(const char *text)
{
    size_t width = 0;

    for (; *text != '\0'; text++)
        width += !is_continuation(*text);
    return width;
}

size_t column_write_text(FILE *to, const char *text)
{
    size_t width = text_width(text);

    while (*text != '\0') {
        size_t control = control_bytes(text);

        (void)fputc(control > 0 ? '?' : *text, to);
        text += control > 0 ? control : 1;
    }
    return width;
}

static void write_cell(FILE *to, const struct column *column, const char *text, size_t width, bool last)
{
    size_t blanks = width - text_width(text);

    if (column->kind != COLUMN_TEXT)
        (void)fprintf(to, "%*s", (int)blanks, "");
    (void)column_write_text(to, text);
    if (last)
        (void)fputc('\n', to);
    else
        (void)fprintf(to, "%*s", (int)(GAP + (column->kind == COLUMN_TEXT ? blanks : 0)), "");
}

void columns_write(FILE *to, const struct column *columns, size_t count, const json_t *rows)
{
    size_t widths[COLUMNS_MAX], row_count = json_array_size(rows);
    char buffer[COLUMN_TEXT_MAX];

    if (count > COLUMNS_MAX)
        count = COLUMNS_MAX;
    for (size_t c = 0; c < count; c++) {
        widths[c] = text_width(columns[c].heading);
        for (size_t r = 0; r < row_count; r++) {
            const json_t *value = json_object_get(json_array_get(rows, r), columns[c].field);
            size_t width = text_width(column_text(value, columns[c].kind, buffer));

            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    for (size_t c = 0; c < count; c++)
        write_cell(to, &columns[c], columns[c].heading, widths[c], c + 1 == count);
    for (size_t r = 0; r < row_count; r++) {
        for (size_t c = 0; c < count; c++) {
            const json_t *value = json_object_get(json_array_get(rows, r), columns[c].field);

            write_cell(to, &columns[c], column_text(value, columns[c].kind, buffer), widths[c],
                       c + 1 == count);
        }
    }
}
