/* test_landscape.c - a landscape is made anew only when the configuration or an address is another. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/node.h"

static const char text[] = "[node]\nname = here\nidentity = /id\n[intercept]\ninterface = lo\n"
                           "[peer dc]\naddress = 192.0.2.1:4430\nnetworks = 10.2.0.0/24\n"
                           "pin = AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

static struct config *parse(void)
{
    char error[CONFIG_ERROR_MAX];
    struct config *c = NULL;
    ck_assert_msg(config_parse(&c, "f.ini", text, strlen(text), error) == 0, "%s", error);
    return c;
}

static bool forbids(const struct landscape *l, const struct addr *a)
{
    for (size_t i = 0; i < l->forbidden_count; i++) {
        if (addr_equal(&l->forbidden[i], a))
            return true;
    }
    return false;
}

START_TEST(nothing_is_made_while_nothing_has_changed)
{
    struct config *config = parse(), *same_text = parse();
    struct landscape *first = NULL, *next = NULL;
    struct addr from, other, peer;
    ck_assert_int_eq(addr_parse(&from, "198.51.100.7"), 0);
    ck_assert_int_eq(addr_parse(&other, "198.51.100.8"), 0);
    ck_assert_int_eq(addr_parse(&peer, "192.0.2.1"), 0);
    ck_assert_int_eq(landscape_new(&first, NULL, config, &from, 1), 0);
    ck_assert_ptr_nonnull(first);
    ck_assert(forbids(first, &from) && forbids(first, &peer) && !forbids(first, &other));
    ck_assert_int_eq(landscape_new(&next, first, config, &from, 1), 0);
    ck_assert_ptr_null(next);
    ck_assert_int_eq(landscape_new(&next, first, config, &other, 1), 0);
    ck_assert_ptr_nonnull(next);
    ck_assert(forbids(next, &other) && !forbids(next, &from));
    ck_assert_int_eq(rules_peer_for(next->rules, &config->peers[0].networks.list[0].addr), 0);
    landscape_unref(next);
    ck_assert_int_eq(landscape_new(&next, first, same_text, &from, 1), 0);
    ck_assert_ptr_nonnull(next); /* a reload may have changed what is no address */
    landscape_unref(next);
    landscape_unref(first);
    config_unref(config);
    config_unref(same_text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("landscape");
    TCase *tc = tcase_create("landscape");
    tcase_add_test(tc, nothing_is_made_while_nothing_has_changed);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
