/* test_cursor.c - wire fields: bounds, the sticky error, one spelling a value, names. */
#include "hawser/cursor.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* A cursor over a heap block of exactly these bytes, so that the address sanitizer sees a read past them. */
static struct cursor exact(const void *bytes, size_t len, uint8_t **block)
{
    *block = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(*block);
    if (len > 0)
        memcpy(*block, bytes, len);
    return cursor_over(*block, len);
}

START_TEST(test_fields_in_order)
{
    static const uint8_t wire[] = {7, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8, 0xac, 0x02, 'a', 'b'};
    struct cursor c = cursor_over(wire, sizeof(wire));
    ck_assert_uint_eq(cursor_u8(&c), 7);
    ck_assert_uint_eq(cursor_u16(&c), 0x1234);
    ck_assert_uint_eq(cursor_be(&c, 8), UINT64_C(0x0102030405060708));
    ck_assert_uint_eq(cursor_varint(&c), 300);
    ck_assert_uint_eq(cursor_left(&c), 2);
    ck_assert_ptr_eq(cursor_bytes(&c, 2), wire + 13);
    ck_assert_uint_eq(cursor_left(&c), 0);
    ck_assert_int_eq(c.err, 0);
}
END_TEST

START_TEST(test_error_is_sticky)
{
    static const uint8_t wire[] = {1, 2, 3};
    struct cursor c = cursor_over(wire, sizeof(wire));
    ck_assert_uint_eq(cursor_be(&c, 4), 0);
    ck_assert_int_eq(c.err, -ERR_WIRE_SHORT);
    ck_assert_uint_eq(cursor_u8(&c), 0);
    ck_assert_uint_eq(cursor_varint(&c), 0);
    ck_assert_ptr_null(cursor_bytes(&c, 0));
    ck_assert_ptr_null(cursor_text(&c, 1));
    ck_assert_uint_eq(cursor_left(&c), 3);
    cursor_refuse(&c, -ERR_WIRE_VALUE);
    ck_assert_int_eq(c.err, -ERR_WIRE_SHORT);
}
END_TEST

START_TEST(test_nothing_over_null)
{
    struct cursor c = cursor_over(NULL, 0);
    ck_assert_uint_eq(cursor_left(&c), 0);
    ck_assert_ptr_nonnull(cursor_bytes(&c, 0));
    ck_assert_int_eq(c.err, 0);
    cursor_u8(&c);
    ck_assert_int_eq(c.err, -ERR_WIRE_SHORT);

    struct cursor_out out = cursor_out_over(NULL, 0);
    cursor_put_bytes(&out, NULL, 0);
    ck_assert_int_eq(out.err, 0);
    cursor_put_be(&out, 1, 1);
    ck_assert_int_eq(out.err, -ERR_WIRE_LONG);
}
END_TEST

/* A length near SIZE_MAX must not wrap around the bounds check. */
START_TEST(test_huge_length)
{
    static const uint8_t wire[] = {1, 2, 3};
    struct cursor c = cursor_over(wire, sizeof(wire));
    cursor_u8(&c);
    ck_assert_ptr_null(cursor_bytes(&c, SIZE_MAX));
    ck_assert_int_eq(c.err, -ERR_WIRE_SHORT);
}
END_TEST

static const struct {
    uint64_t value;
    size_t len;
    uint8_t wire[10];
} varints[] = {
    {0, 1, {0}},
    {1, 1, {1}},
    {127, 1, {0x7f}},
    {128, 2, {0x80, 0x01}},
    {300, 2, {0xac, 0x02}},
    {16383, 2, {0xff, 0x7f}},
    {16384, 3, {0x80, 0x80, 0x01}},
    {UINT64_C(1) << 62, 9, {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40}},
    {INT64_MAX, 9, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}},
    {UINT64_C(1) << 63, 10, {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}},
    {UINT64_MAX, 10, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
};

START_TEST(test_varint_values)
{
    uint8_t out_bytes[10], *block;
    struct cursor_out out = cursor_out_over(out_bytes, sizeof(out_bytes));
    cursor_put_varint(&out, varints[_i].value);
    ck_assert_uint_eq((size_t)(out.at - out_bytes), varints[_i].len);
    ck_assert_mem_eq(out_bytes, varints[_i].wire, varints[_i].len);
    struct cursor c = exact(varints[_i].wire, varints[_i].len, &block);
    ck_assert_uint_eq(cursor_varint(&c), varints[_i].value);
    ck_assert_int_eq(c.err, 0);
    ck_assert_uint_eq(cursor_left(&c), 0);
    free(block);
}
END_TEST

START_TEST(test_varint_cut_short)
{
    for (size_t len = 0; len < varints[_i].len; len++) {
        uint8_t *block, room[10];
        struct cursor c = exact(varints[_i].wire, len, &block);
        ck_assert_uint_eq(cursor_varint(&c), 0);
        ck_assert_int_eq(c.err, -ERR_WIRE_SHORT);
        free(block);
        struct cursor_out out = cursor_out_over(room, len);
        cursor_put_varint(&out, varints[_i].value);
        ck_assert_int_eq(out.err, -ERR_WIRE_LONG);
        ck_assert_ptr_eq(out.at, room);
    }
}
END_TEST

static const struct {
    size_t len;
    uint8_t wire[12];
} bad_varints[] = {
    {2, {0x80, 0x00}},                                                              /* 0 in two bytes */
    {3, {0xff, 0x80, 0x00}},                                                        /* 127 in three */
    {10, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00}},             /* 2^63 - 1 in ten */
    {10, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}},             /* 65 bits */
    {10, {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f}},             /* 70 bits */
    {11, {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}},       /* eleven bytes */
    {12, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, /* endless */
};

START_TEST(test_varint_refused)
{
    uint8_t *block;
    struct cursor c = exact(bad_varints[_i].wire, bad_varints[_i].len, &block);
    ck_assert_uint_eq(cursor_varint(&c), 0);
    ck_assert_int_eq(c.err, -ERR_WIRE_VALUE);
    free(block);
}
END_TEST

START_TEST(test_out_is_sticky_and_whole)
{
    uint8_t room[4] = {0xee, 0xee, 0xee, 0xee};
    struct cursor_out out = cursor_out_over(room, 3);
    cursor_put_be(&out, 0x0102, 2);
    cursor_put_be(&out, 0x0304, 2);
    ck_assert_int_eq(out.err, -ERR_WIRE_LONG);
    cursor_put_be(&out, 5, 1); /* would fit, but what came before is missing */
    ck_assert_int_eq(out.err, -ERR_WIRE_LONG);
    ck_assert_ptr_eq(out.at, room + 2);
    ck_assert_mem_eq(room, ((const uint8_t[]){1, 2, 0xee, 0xee}), 4);
}
END_TEST

static const struct {
    const char *text;
    bool valid;
} texts[] = {
    {"", true},
    {"branch 7", true},
    {"\xc3\xa4", true},         /* U+00E4 */
    {"\xe2\x82\xac", true},     /* U+20AC */
    {"\xed\x9f\xbf", true},     /* U+D7FF, the last before the surrogates */
    {"\xf0\x90\x80\x80", true}, /* U+10000 */
    {"\xf4\x8f\xbf\xbf", true}, /* U+10FFFF */
    {"\xc2\xa0", true},         /* U+00A0, the first after C1 */
    {"a\nb", false},
    {"\x1b[2J", false},
    {"\x7f", false},
    {"\xc2\x9b", false}, /* U+009B, a terminal's CSI */
    {"\x80", false},     /* a continuation alone */
    {"\xc3", false},     /* cut */
    {"\xe2\x82", false},
    {"\xf0\x9f\x98", false},
    {"\xc3\x28", false},
    {"\xc0\xaf", false}, /* overlong '/' */
    {"\xc1\xbf", false},
    {"\xe0\x9f\xbf", false},     /* overlong U+07FF */
    {"\xf0\x8f\xbf\xbf", false}, /* overlong U+FFFF */
    {"\xed\xa0\x80", false},     /* a surrogate */
    {"\xf4\x90\x80\x80", false}, /* U+110000 */
    {"\xf5\x80\x80\x80", false},
    {"\xff", false},
};

START_TEST(test_text)
{
    uint8_t *block;
    size_t len = strlen(texts[_i].text);
    struct cursor c = exact(texts[_i].text, len, &block);
    const char *got = cursor_text(&c, len);
    if (texts[_i].valid) {
        ck_assert_ptr_eq(got, block);
        ck_assert_int_eq(c.err, 0);
    } else {
        ck_assert_ptr_null(got);
        ck_assert_int_eq(c.err, -ERR_WIRE_VALUE);
    }
    free(block);
}
END_TEST

/* Whatever a user named it, the peer takes it. */
START_TEST(test_put_text_is_always_valid)
{
    uint8_t room[16];
    size_t len = strlen(texts[_i].text);
    struct cursor_out out = cursor_out_over(room, sizeof(room));
    cursor_put_text(&out, texts[_i].text, len);
    ck_assert_int_eq(out.err, 0);
    ck_assert_uint_eq((size_t)(out.at - room), len);
    ck_assert(cursor_text_valid(room, len));
    if (texts[_i].valid)
        ck_assert(memcmp(room, texts[_i].text, len) == 0);
}
END_TEST

START_TEST(test_put_text_replaces_only_what_is_not_plain)
{
    uint8_t room[8];
    struct cursor_out out = cursor_out_over(room, sizeof(room));
    cursor_put_text(&out, "a\xff\nz", 4);
    ck_assert_mem_eq(room, "a??z", 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cursor");
    TCase *fields = tcase_create("fields");
    tcase_add_test(fields, test_fields_in_order);
    tcase_add_test(fields, test_error_is_sticky);
    tcase_add_test(fields, test_nothing_over_null);
    tcase_add_test(fields, test_huge_length);
    tcase_add_loop_test(fields, test_varint_values, 0, (int)(sizeof(varints) / sizeof(varints[0])));
    tcase_add_loop_test(fields, test_varint_cut_short, 0, (int)(sizeof(varints) / sizeof(varints[0])));
    tcase_add_loop_test(fields, test_varint_refused, 0, (int)(sizeof(bad_varints) / sizeof(bad_varints[0])));
    tcase_add_test(fields, test_out_is_sticky_and_whole);
    tcase_add_loop_test(fields, test_text, 0, (int)(sizeof(texts) / sizeof(texts[0])));
    tcase_add_loop_test(fields, test_put_text_is_always_valid, 0, (int)(sizeof(texts) / sizeof(texts[0])));
    tcase_add_test(fields, test_put_text_replaces_only_what_is_not_plain);
    suite_add_tcase(suite, fields);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
