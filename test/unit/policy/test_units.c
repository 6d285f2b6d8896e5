/* test_units.c - sizes, times, rates and shares: text to value, value to text, and back. */
#include "hawser/units.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

typedef int (*parse)(const char *text, uint64_t *out);
typedef char *(*format)(uint64_t value, char out[static UNITS_TEXT_MAX]);

struct good {
    parse parse;
    const char *text;
    uint64_t value;
};

static const struct good goods[] = {
    {units_parse_count, "0", 0},
    {units_parse_count, "65536", 65536},
    {units_parse_count, "18446744073709551615", UINT64_MAX},
    {units_parse_bytes, "0", 0},
    {units_parse_bytes, "4096", 4096},
    {units_parse_bytes, "64K", 65536},
    {units_parse_bytes, "64k", 65536},
    {units_parse_bytes, "4 G", 4ull << 30},
    {units_parse_bytes, "1.5M", 3u << 19},
    {units_parse_bytes, "0.3K", 307},
    {units_parse_bytes, "17179869183G", 17179869183ull << 30},
    {units_parse_time_us, "0", 0},
    {units_parse_time_us, "250ms", 250000},
    {units_parse_time_us, "0.2s", 200000},
    {units_parse_time_us, "10s", 10000000},
    {units_parse_time_us, "5m", 300000000},
    {units_parse_time_us, "2h", 7200000000},
    {units_parse_bits_per_s, "512kbit", 512000},
    {units_parse_bits_per_s, "1.5mbit", 1500000},
    {units_parse_bits_per_s, "50Mbit", 50000000},
    {units_parse_bits_per_s, "1gbit", 1000000000},
    {units_parse_permille, "10%", 100},
    {units_parse_permille, "2.5%", 25},
    {units_parse_permille, "100 %", 1000},
};

START_TEST(reads_what_people_write)
{
    uint64_t value = 1;
    ck_assert_int_eq(goods[_i].parse(goods[_i].text, &value), 0);
    ck_assert_msg(value == goods[_i].value, "'%s' is %llu", goods[_i].text, (unsigned long long)value);
}
END_TEST

struct bad {
    parse parse;
    const char *text;
    int err;
};

static const struct bad bads[] = {
    {units_parse_count, "", -EINVAL},
    {units_parse_count, "-1", -EINVAL},
    {units_parse_count, "+1", -EINVAL},
    {units_parse_count, " 1", -EINVAL},
    {units_parse_count, "1 ", -EINVAL},
    {units_parse_count, "1.0", -EINVAL},
    {units_parse_count, "0x10", -EINVAL},
    {units_parse_count, "18446744073709551616", -ERANGE},
    {units_parse_count, "99999999999999999999999", -ERANGE},
    {units_parse_bytes, "K", -EINVAL},
    {units_parse_bytes, "4KB", -EINVAL},
    {units_parse_bytes, "4T", -EINVAL},
    {units_parse_bytes, "4.G", -EINVAL},
    {units_parse_bytes, ".5G", -EINVAL},
    {units_parse_bytes, "1.1234567G", -EINVAL},
    {units_parse_bytes, "17179869184G", -ERANGE},
    {units_parse_time_us, "10", -EINVAL},
    {units_parse_time_us, "10 sec", -EINVAL},
    {units_parse_time_us, "9999999999999999h", -ERANGE},
    {units_parse_bits_per_s, "50", -EINVAL},
    {units_parse_bits_per_s, "50m", -EINVAL},
    {units_parse_bits_per_s, "0", -EINVAL},
    {units_parse_permille, "10", -EINVAL},
    {units_parse_permille, "2.55%", -EINVAL},
    {units_parse_permille, "%", -EINVAL},
};

START_TEST(refuses_the_rest_and_touches_nothing)
{
    uint64_t value = 4711;
    ck_assert_int_eq(bads[_i].parse(bads[_i].text, &value), bads[_i].err);
    ck_assert_uint_eq(value, 4711);
}
END_TEST

struct formatted {
    format format;
    uint64_t value;
    const char *text;
};

static const struct formatted formatteds[] = {
    {units_format_bytes, 0, "0"},
    {units_format_bytes, 1025, "1025"},
    {units_format_bytes, 65536, "64K"},
    {units_format_bytes, 4ull << 30, "4G"},
    {units_format_bytes, UINT64_MAX, "18446744073709551615"},
    {units_format_time_us, 0, "0ms"},
    {units_format_time_us, 1, "0.001ms"},
    {units_format_time_us, 1500, "1.5ms"},
    {units_format_time_us, 90000000, "90s"},
    {units_format_time_us, 7200000000, "2h"},
    {units_format_bits_per_s, 1, "0.001kbit"},
    {units_format_bits_per_s, 1500000, "1500kbit"},
    {units_format_bits_per_s, 50000000, "50mbit"},
    {units_format_permille, 25, "2.5%"},
    {units_format_permille, 1000, "100%"},
};

START_TEST(writes_the_largest_whole_unit)
{
    char text[UNITS_TEXT_MAX];
    const struct formatted *f = &formatteds[_i];
    ck_assert_ptr_eq(f->format(f->value, text), text);
    ck_assert_str_eq(text, f->text);
}
END_TEST

START_TEST(reads_back_what_it_writes)
{
    static const struct {
        parse parse;
        format format;
    } pairs[] = {{units_parse_bytes, units_format_bytes},
                 {units_parse_time_us, units_format_time_us},
                 {units_parse_bits_per_s, units_format_bits_per_s},
                 {units_parse_permille, units_format_permille}};
    char text[UNITS_TEXT_MAX];
    uint64_t seed = 88172645463325252u; /* xorshift: every run the same values, of all magnitudes */
    for (int i = 0; i < 4000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        uint64_t value = seed >> (seed % 64), back = ~value;
        ck_assert_int_eq(pairs[i % 4].parse(pairs[i % 4].format(value, text), &back), 0);
        ck_assert_msg(back == value, "%llu became %s and that %llu", (unsigned long long)value, text,
                      (unsigned long long)back);
    }
}
END_TEST

#define COUNT_OF(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
    Suite *suite = suite_create("units");
    TCase *cases = tcase_create("units");
    tcase_add_loop_test(cases, reads_what_people_write, 0, COUNT_OF(goods));
    tcase_add_loop_test(cases, refuses_the_rest_and_touches_nothing, 0, COUNT_OF(bads));
    tcase_add_loop_test(cases, writes_the_largest_whole_unit, 0, COUNT_OF(formatteds));
    tcase_add_test(cases, reads_back_what_it_writes);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
