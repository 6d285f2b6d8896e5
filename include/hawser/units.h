/* units.h - sizes, times, rates and shares as people write them (floor 2, pure).
 * A decimal number, at most six digits after a point, and a unit in either case. Parts of a byte, bit or
 * microsecond are dropped. What a function formats, its parser reads back to the same value. Any thread.
 * Documented in hawser.ini(5), VALUES. */
#ifndef HAWSER_UNITS_H
#define HAWSER_UNITS_H

#include <stdint.h>

#define UNITS_TEXT_MAX 40 /* longest formatted text with its NUL */

/* Each: 0, -EINVAL (no such text) or -ERANGE (does not fit); *out is touched on success only. */

/* Digits alone, no sign: "65536". */
int units_parse_count(const char *text, uint64_t *out);
/* Bytes: "4096", "64K", "1.5G"; powers of 1024. */
int units_parse_bytes(const char *text, uint64_t *out);
/* Microseconds: "250ms", "10s", "5m", "2h"; the unit is required, but for "0". */
int units_parse_time_us(const char *text, uint64_t *out);
/* Bits a second: "512kbit", "50mbit", "1gbit"; powers of 1000, the unit is required. */
int units_parse_bits_per_s(const char *text, uint64_t *out);
/* Thousandths: "10%" is 100, "2.5%" is 25; finer shares are -EINVAL. */
int units_parse_permille(const char *text, uint64_t *out);

/* Value to text, exact, in the largest unit that leaves it whole; returns out. */
char *units_format_bytes(uint64_t bytes, char out[static UNITS_TEXT_MAX]);
char *units_format_time_us(uint64_t us, char out[static UNITS_TEXT_MAX]);
char *units_format_bits_per_s(uint64_t bits_per_s, char out[static UNITS_TEXT_MAX]);
char *units_format_permille(uint64_t permille, char out[static UNITS_TEXT_MAX]);

#endif
