/* test_greeting.c - the greeting: bytes at their places, extremes, what is refused; PROTOCOL.md's example. */
#include "hawser/greeting.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "codec/document.h"
#include "hawser/err.h"
#include "hawser/frame.h"

enum {
    AT_VERSION = 8,
    AT_INSTANCE = 18,
    AT_CREDIT = 34,
    AT_SLOT = 42,
    AT_NAME_LEN = 43,
    AT_NAME = 44
};

static struct greeting sample(void)
{
    struct greeting g = {
        .version = PROTOCOL_VERSION, .opening_credit_bytes = 4 << 20, .slot = 1, .name = "branch"};
    for (uint8_t i = 0; i < GREETING_INSTANCE_BYTES; i++)
        g.instance[i] = (uint8_t)(0xa0 + i);
    return g;
}

/* Owned by the caller: exactly GREETING_BYTES of heap. */
static uint8_t *put(const struct greeting *g)
{
    uint8_t *wire = malloc(GREETING_BYTES);
    ck_assert_ptr_nonnull(wire);
    memset(wire, 0xee, GREETING_BYTES);
    greeting_put(wire, g);
    return wire;
}

static void check_round_trip(const struct greeting *g)
{
    uint8_t *wire = put(g);
    struct greeting got;
    memset(&got, 0xee, sizeof(got));
    ck_assert_int_eq(greeting_check_prefix(wire), 0);
    ck_assert_int_eq(greeting_get(&got, wire), 0);
    ck_assert_uint_eq(got.version, g->version);
    ck_assert_uint_eq(got.features, g->features);
    ck_assert_mem_eq(got.instance, g->instance, GREETING_INSTANCE_BYTES);
    ck_assert_uint_eq(got.opening_credit_bytes, g->opening_credit_bytes);
    ck_assert_uint_eq(got.slot, g->slot);
    ck_assert_str_eq(got.name, g->name);
    free(wire);
}

START_TEST(test_round_trips)
{
    struct greeting g = sample();
    check_round_trip(&g);
    g.features = UINT64_MAX;
    g.opening_credit_bytes = FRAME_OFFSET_MAX;
    g.slot = UINT8_MAX;
    memset(g.name, 'n', GREETING_NAME_MAX);
    check_round_trip(&g);
    memset(g.instance, 0, sizeof(g.instance));
    g.instance[GREETING_INSTANCE_BYTES - 1] = 1;
    g.opening_credit_bytes = 0;
    g.name[0] = '\0';
    check_round_trip(&g);
}
END_TEST

START_TEST(test_document_s_example)
{
    static uint8_t expected[GREETING_BYTES];
    struct greeting g = {.version = PROTOCOL_VERSION,
                         .features = GREETING_FEATURE_ZSTD,
                         .opening_credit_bytes = 4194304,
                         .slot = 0,
                         .name = "branch",
                         .instance = {0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b,
                                      0x1c, 0x1d, 0x1e, 0x1f}};
    memset(expected, 0, sizeof(expected)); /* the padding, which the document does not print */
    size_t len = document_hex("greeting", expected, sizeof(expected));
    ck_assert_uint_eq(len, AT_NAME + 6);
    uint8_t *wire = put(&g);
    ck_assert_mem_eq(wire, expected, GREETING_BYTES);
    free(wire);
}
END_TEST

/* A name that is no text, or fills its field without an end, is made sendable. */
START_TEST(test_any_name_can_be_sent)
{
    struct greeting g = sample(), got;
    memcpy(g.name, "a\xff\nb", 5);
    uint8_t *wire = put(&g);
    ck_assert_int_eq(greeting_get(&got, wire), 0);
    ck_assert_str_eq(got.name, "a??b");
    free(wire);
    memset(g.name, 'n', sizeof(g.name));
    wire = put(&g);
    ck_assert_int_eq(greeting_get(&got, wire), 0);
    ck_assert_uint_eq(strlen(got.name), GREETING_NAME_MAX);
    free(wire);
}
END_TEST

static const struct {
    size_t at;
    uint8_t value;
    int err;
} damages[] = {
    {0, 'h', -ERR_GREETING},
    {7, '\r', -ERR_GREETING},
    {AT_VERSION, 1, -ERR_VERSION},
    {AT_VERSION + 1, 0, -ERR_VERSION},
    {AT_VERSION + 1, 2, -ERR_VERSION},
    {AT_CREDIT, 0x40, -ERR_WIRE_VALUE}, /* 2^62 + 4M */
    {AT_CREDIT, 0x80, -ERR_WIRE_VALUE},
    {AT_NAME_LEN, 64, -ERR_WIRE_LONG},
    {AT_NAME_LEN, 255, -ERR_WIRE_LONG},
    {AT_NAME_LEN, 7, -ERR_WIRE_VALUE}, /* a NUL of the padding becomes part of the name */
    {AT_NAME, '\n', -ERR_WIRE_VALUE},
    {AT_NAME + 5, 0xc3, -ERR_WIRE_VALUE}, /* a character that the name's end cuts */
};

START_TEST(test_damage_is_refused)
{
    struct greeting g = sample(), got;
    uint8_t *wire = put(&g);
    wire[damages[_i].at] = damages[_i].value;
    memset(&got, 0x77, sizeof(got));
    ck_assert_int_eq(greeting_get(&got, wire), damages[_i].err);
    ck_assert_uint_eq(got.slot, 0x77); /* only success touches it */
    ck_assert_uint_eq((uint8_t)got.name[0], 0x77);
    free(wire);
}
END_TEST

START_TEST(test_no_instance_is_refused)
{
    struct greeting g = sample(), got;
    uint8_t *wire = put(&g);
    memset(wire + AT_INSTANCE, 0, GREETING_INSTANCE_BYTES);
    ck_assert_int_eq(greeting_get(&got, wire), -ERR_WIRE_VALUE);
    free(wire);
}
END_TEST

START_TEST(test_prefix_tells_before_the_rest_is_there)
{
    struct greeting g = sample();
    uint8_t *wire = put(&g), *prefix = malloc(GREETING_PREFIX_BYTES);
    ck_assert_ptr_nonnull(prefix);
    memcpy(prefix, wire, GREETING_PREFIX_BYTES);
    ck_assert_int_eq(greeting_check_prefix(prefix), 0);
    prefix[AT_VERSION] = 0x12;
    prefix[AT_VERSION + 1] = 0x34;
    ck_assert_int_eq(greeting_check_prefix(prefix), -ERR_VERSION);
    ck_assert_uint_eq(greeting_prefix_version(prefix), 0x1234);
    memcpy(prefix, "GET / HTTP", GREETING_PREFIX_BYTES);
    ck_assert_int_eq(greeting_check_prefix(prefix), -ERR_GREETING);
    free(prefix);
    free(wire);
}
END_TEST

/* A greeting is of one size, so its short prefixes are a greeting with zeros from there on: each must be
 * refused, or be one whose fields end before. */
START_TEST(test_each_cut)
{
    struct greeting g = sample(), got;
    uint8_t *wire = put(&g);
    for (size_t len = 0; len < AT_NAME + 6; len++) {
        uint8_t *cut = calloc(1, GREETING_BYTES);
        ck_assert_ptr_nonnull(cut);
        memcpy(cut, wire, len);
        int err = greeting_get(&got, cut);
        if (len < 8)
            ck_assert_int_eq(err, -ERR_GREETING);
        else if (len < AT_VERSION + 2)
            ck_assert_int_eq(err, -ERR_VERSION);
        else if (len <= AT_INSTANCE || len >= AT_NAME)
            ck_assert_int_eq(err, -ERR_WIRE_VALUE);
        else
            ck_assert_int_eq(err, 0);
        free(cut);
    }
    free(wire);
}
END_TEST

START_TEST(test_later_versions_fields_are_ignored)
{
    struct greeting g = sample(), got;
    uint8_t *wire = put(&g);
    memset(wire + AT_NAME + 6, 0xff, GREETING_BYTES - AT_NAME - 6);
    ck_assert_int_eq(greeting_get(&got, wire), 0);
    ck_assert_str_eq(got.name, "branch");
    free(wire);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("greeting");
    TCase *greeting = tcase_create("greeting");
    tcase_add_test(greeting, test_round_trips);
    tcase_add_test(greeting, test_document_s_example);
    tcase_add_test(greeting, test_any_name_can_be_sent);
    tcase_add_loop_test(greeting, test_damage_is_refused, 0, (int)(sizeof(damages) / sizeof(damages[0])));
    tcase_add_test(greeting, test_no_instance_is_refused);
    tcase_add_test(greeting, test_prefix_tells_before_the_rest_is_there);
    tcase_add_test(greeting, test_each_cut);
    tcase_add_test(greeting, test_later_versions_fields_are_ignored);
    suite_add_tcase(suite, greeting);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
