/* test_rules.c - longest prefix against a slow search of the same thing, first fitting class, and what a peer
 * may open. */
#include "hawser/rules.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static struct config *config;
static struct rules *rules;

static void take_down(void)
{
    rules_free(rules);
    config_unref(config);
    rules = NULL;
    config = NULL;
}

static void set_up(const char *text)
{
    char error[CONFIG_ERROR_MAX];
    take_down();
    int err = config_parse(&config, "test", text, strlen(text), error);
    ck_assert_msg(err == 0, "%s", error);
    rules = rules_new(config);
    ck_assert_ptr_nonnull(rules);
}

static struct addr address(const char *text)
{
    struct addr a;
    ck_assert_msg(addr_parse(&a, text) == 0, "%s", text);
    return a;
}

static struct prefix network(const char *text)
{
    struct prefix p;
    ck_assert_msg(prefix_parse(&p, text) == 0, "%s", text);
    return p;
}

static const char *peer_of(const char *text)
{
    struct addr a = address(text);
    int i = rules_peer_for(rules, &a);
    return i == RULES_NONE ? "none" : config->peers[i].name;
}

#define HEAD                                                                                                 \
    "[node]\nname = here\nidentity = /id\n[intercept]\ninterface = lan0, lan1\n[tunnel]\nlisten = "          \
    "0.0.0.0:4430\n"
#define PIN_A "pin = AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
#define PIN_B "pin = AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
#define PIN_C "pin = AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
#define PEERS                                                                                                \
    "[peer wide]\n" PIN_A "networks = 10.0.0.0/8, fd00::/16, 172.16.5.4\n"                                   \
    "[peer inner]\n" PIN_B "networks = 10.2.0.0/16, 10.2.3.128/25\nserve = 192.168.1.0/24\n"                 \
    "[peer deep]\n" PIN_C "networks = 10.2.3.0/24, fd00:0:0:7::/64\nserve = none\n"

START_TEST(the_longest_prefix_wins)
{
    static const char *const want[][2] = {
        {"10.0.0.0", "wide"},      {"10.255.255.255", "wide"}, {"10.1.255.255", "wide"},
        {"10.2.0.0", "inner"},     {"10.2.2.255", "inner"},    {"10.2.3.0", "deep"},
        {"10.2.3.127", "deep"},    {"10.2.3.128", "inner"}, /* inside deep's network again */
        {"10.2.3.255", "inner"},   {"10.2.4.0", "inner"},      {"10.2.255.255", "inner"},
        {"10.3.0.0", "wide"},      {"9.255.255.255", "none"},  {"11.0.0.0", "none"},
        {"172.16.5.4", "wide"},    {"172.16.5.3", "none"},     {"172.16.5.5", "none"},
        {"fd00:0:0:7::1", "deep"}, {"fd00:0:0:8::", "wide"},   {"fd00:0:0:6:ffff::", "wide"},
        {"fd01::", "none"},        {"fcff:ffff::", "none"},    {"::ffff:10.2.3.1", "deep"},
    };
    set_up(HEAD PEERS);
    for (size_t i = 0; i < COUNT_OF(want); i++)
        ck_assert_msg(strcmp(peer_of(want[i][0]), want[i][1]) == 0, "%s goes to %s, not %s", want[i][0],
                      peer_of(want[i][0]), want[i][1]);
    struct addr none = {0};
    ck_assert_int_eq(rules_peer_for(rules, &none), RULES_NONE);
}
END_TEST

START_TEST(a_default_route_takes_what_is_left)
{
    set_up(HEAD "[peer all]\n" PIN_A "networks = 0.0.0.0/0\n[peer some]\n" PIN_B "networks = 10.0.0.0/8\n");
    ck_assert_str_eq(peer_of("8.8.8.8"), "all");
    ck_assert_str_eq(peer_of("0.0.0.0"), "all");
    ck_assert_str_eq(peer_of("255.255.255.255"), "all");
    ck_assert_str_eq(peer_of("10.1.1.1"), "some");
    ck_assert_str_eq(peer_of("fd00::1"), "none");
}
END_TEST

/* ---- the same search done slowly ---- */

static uint64_t seed;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 20) % below;
}

static int slow_peer_for(const struct addr *dst)
{
    int best = RULES_NONE, best_len = -1;
    for (size_t i = 0; i < config->peer_count; i++) {
        for (size_t n = 0; n < config->peers[i].networks.count; n++) {
            const struct prefix *p = &config->peers[i].networks.list[n];
            if (prefix_contains(p, dst) && (int)p->len_bits > best_len) {
                best = (int)i;
                best_len = p->len_bits;
            }
        }
    }
    return best;
}

static char text[1 << 20];

/* Peer i's networks: a /20 of its own, a /24 and a /28 in it and an IPv6 /64; every 16 peers share a /16 and
 * every 256 a /12, which one of them has. */
static size_t write_peer(size_t used, unsigned i)
{
    unsigned a = 32 + (i >> 12 & 15), b = i >> 4 & 255, c = (i & 15) << 4;
    uint8_t pin[3] = {(uint8_t)i, (uint8_t)(i >> 8), 1};
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    used += (size_t)snprintf(text + used, sizeof(text) - used,
                             "[peer p%u]\npin = %c%c%c%cAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
                             "networks = %u.%u.%u.0/20, %u.%u.%u.0/24, %u.%u.%u.16/28, fd00:%x::/64\n",
                             i, digits[pin[0] >> 2], digits[(pin[0] & 3) << 4 | pin[1] >> 4],
                             digits[(pin[1] & 15) << 2 | pin[2] >> 6], digits[pin[2] & 63], a, b, c, a, b,
                             c + 5, a, b, c + 5, i);
    if (i % 16 == 7)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "  %u.%u.0.0/16\n", a, b);
    if (i % 256 == 200)
        used += (size_t)snprintf(text + used, sizeof(text) - used, " %u.%u.0.0/12, fd00:%x::/%u\n", a,
                                 b & 240, i & 0xf00, 24);
    ck_assert_uint_lt(used, sizeof(text));
    return used;
}

START_TEST(agrees_with_a_slow_search_over_4096_peers)
{
    size_t used = (size_t)snprintf(text, sizeof(text), "%s", HEAD);
    for (unsigned i = 0; i < CONFIG_PEERS_MAX; i++)
        used = write_peer(used, i);
    set_up(text);
    ck_assert_uint_eq(config->peer_count, CONFIG_PEERS_MAX);
    seed = 88172645463325252u;
    int found = 0;
    for (int i = 0; i < 5000; i++) {
        /* Near the first or last address of some network, or anywhere in what the networks span. */
        const struct config_peer *p = &config->peers[any(CONFIG_PEERS_MAX)];
        struct addr a = p->networks.list[any((uint32_t)p->networks.count)].addr;
        if (any(3) > 0) {
            a.bytes[3] = (uint8_t)(a.bytes[3] + any(3) * 15);
            a.bytes[2] = (uint8_t)(a.bytes[2] + any(3) - 1);
        } else if (any(2) > 0) {
            a.bytes[1] = (uint8_t)any(256);
        }
        int want = slow_peer_for(&a);
        ck_assert_int_eq(rules_peer_for(rules, &a), want);
        found += want != RULES_NONE;
    }
    ck_assert_int_gt(found, 2500);
    ck_assert_int_lt(found, 5000);
}
END_TEST

/* ---- classes ---- */

static const char classes[] =
    HEAD PEERS "[class first]\nports = 22, 1000-2000\n"
               "[class second]\nports = 22\nfrom = 192.168.1.0/24\n"
               "[class third]\nfrom = 192.168.1.0/24, fd01::/16\nto = 10.0.0.0/8, fd00::/16\n"
               "[class dscp]\ndscp = ef, 10\n"
               "[class peer]\npeer = deep, wide\nports = 80\n"
               "[class iface]\niface = lan1\nports = 81\n"
               "[class proto]\nproto = tls, ssh\nports = 443\n"
               "[class port443]\nports = 443\n";

static const char *class_of(const struct rules_flow *f)
{
    int i = rules_class_for(rules, f);
    return i == RULES_NONE ? "none" : config->classes[i].name;
}

static struct rules_flow flow(const char *client, const char *server, uint16_t port)
{
    return (struct rules_flow){
        .client = {address(client), 40000}, .server = {address(server), port}, .peer = RULES_NONE};
}

START_TEST(the_first_class_that_fits_wins)
{
    set_up(classes);
    struct rules_flow f = flow("192.168.1.9", "8.8.8.8", 22);
    ck_assert_str_eq(class_of(&f), "first"); /* and not second, which fits more closely */
    f = flow("192.168.9.9", "8.8.8.8", 23);
    ck_assert_str_eq(class_of(&f), "none");
}
END_TEST

START_TEST(ports_are_the_servers_and_ranges_include_both_ends)
{
    set_up(classes);
    static const struct {
        uint16_t port;
        const char *name;
    } want[] = {{999, "none"}, {1000, "first"}, {1500, "first"}, {2000, "first"}, {2001, "none"}};
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        struct rules_flow f = flow("192.168.9.9", "8.8.8.8", want[i].port);
        ck_assert_str_eq(class_of(&f), want[i].name);
    }
    struct rules_flow f = flow("192.168.9.9", "8.8.8.8", 1);
    f.client.port = 22;
    ck_assert_str_eq(class_of(&f), "none");
}
END_TEST

START_TEST(every_key_must_fit_and_any_of_its_list)
{
    set_up(classes);
    struct rules_flow f = flow("192.168.1.9", "10.9.9.9", 5);
    ck_assert_str_eq(class_of(&f), "third");
    f = flow("fd01::1", "fd00::1", 5);
    ck_assert_str_eq(class_of(&f), "third");
    f = flow("192.168.1.9", "11.9.9.9", 5);
    ck_assert_str_eq(class_of(&f), "none");
    f = flow("192.168.2.9", "10.9.9.9", 5);
    ck_assert_str_eq(class_of(&f), "none");
}
END_TEST

START_TEST(dscp_peer_and_iface)
{
    set_up(classes);
    struct rules_flow f = flow("192.168.9.9", "8.8.8.8", 5);
    f.dscp = 46;
    ck_assert_str_eq(class_of(&f), "dscp");
    f.dscp = 10;
    ck_assert_str_eq(class_of(&f), "dscp");
    f.dscp = 11;
    ck_assert_str_eq(class_of(&f), "none");

    f = flow("192.168.9.9", "8.8.8.8", 80);
    ck_assert_str_eq(class_of(&f), "none"); /* through no peer */
    f.peer = 0;
    ck_assert_str_eq(class_of(&f), "peer");
    f.peer = 1;
    ck_assert_str_eq(class_of(&f), "none");
    f.peer = 2;
    ck_assert_str_eq(class_of(&f), "peer");
    f.peer = 4000; /* of an older configuration */
    ck_assert_str_eq(class_of(&f), "none");

    f = flow("192.168.9.9", "8.8.8.8", 81);
    ck_assert_str_eq(class_of(&f), "none");
    f.iface = "lan0";
    ck_assert_str_eq(class_of(&f), "none");
    f.iface = "lan1";
    ck_assert_str_eq(class_of(&f), "iface");
}
END_TEST

START_TEST(proto_does_not_fit_while_it_is_unknown)
{
    set_up(classes);
    struct rules_flow f = flow("192.168.9.9", "8.8.8.8", 443);
    ck_assert_str_eq(class_of(&f), "port443");
    f.proto = CONFIG_PROTO_TLS;
    ck_assert_str_eq(class_of(&f), "proto");
    f.proto = CONFIG_PROTO_HTTP;
    ck_assert_str_eq(class_of(&f), "port443");
}
END_TEST

/* ---- what a peer may open ---- */

static enum rules_open may_open(size_t peer, const char *src, const char *dst)
{
    struct prefix local[] = {network("192.168.0.0/16"), network("fd02::/64")};
    struct addr forbidden[] = {address("192.168.0.1"), address("fd02::1")};
    struct addr from = src != NULL ? address(src) : (struct addr){0}, to = address(dst);
    return rules_may_open(rules, peer, src != NULL ? &from : NULL, &to, local, COUNT_OF(local), forbidden,
                          COUNT_OF(forbidden));
}

START_TEST(a_peer_speaks_only_for_its_networks)
{
    set_up(HEAD PEERS);
    ck_assert_int_eq(may_open(0, "10.2.3.4", "192.168.1.5"), RULES_OPEN_OK);
    ck_assert_int_eq(may_open(0, "fd00::9", "fd02::5"), RULES_OPEN_OK);
    ck_assert_int_eq(may_open(0, "172.16.5.5", "192.168.1.5"), RULES_OPEN_SOURCE);
    ck_assert_int_eq(may_open(1, "10.3.0.1", "192.168.1.5"), RULES_OPEN_SOURCE); /* another peer's */
    ck_assert_int_eq(may_open(1, "127.0.0.1", "192.168.1.5"), RULES_OPEN_SOURCE);
    ck_assert_int_eq(may_open(1, NULL, "192.168.1.5"), RULES_OPEN_OK);
    ck_assert_int_eq(may_open(3, "10.2.3.4", "192.168.1.5"), RULES_OPEN_SOURCE); /* no such peer */
    ck_assert_int_eq(may_open(3, NULL, "192.168.1.5"), RULES_OPEN_SOURCE);
}
END_TEST

START_TEST(a_peer_opens_only_what_it_is_served)
{
    set_up(HEAD PEERS);
    ck_assert_int_eq(may_open(0, NULL, "192.169.0.1"),
                     RULES_OPEN_DESTINATION); /* wide: our interfaces' networks */
    ck_assert_int_eq(may_open(0, NULL, "8.8.8.8"), RULES_OPEN_DESTINATION);
    ck_assert_int_eq(may_open(1, NULL, "192.168.1.255"), RULES_OPEN_OK);        /* inner: its serve ... */
    ck_assert_int_eq(may_open(1, NULL, "192.168.2.0"), RULES_OPEN_DESTINATION); /* ... instead of them */
    ck_assert_int_eq(may_open(1, NULL, "fd02::5"), RULES_OPEN_DESTINATION);
    ck_assert_int_eq(may_open(2, NULL, "192.168.1.5"), RULES_OPEN_DESTINATION); /* deep: none */
}
END_TEST

START_TEST(nobody_opens_special_or_our_own_addresses)
{
    static const char *const special[] = {
        "127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1",   "255.255.255.255", "::1",
        "fe80::1",   "ff02::1", "::",          "192.168.0.1", "fd02::1",         "::ffff:127.0.0.1"};
    set_up(HEAD "[peer all]\n" PIN_A "networks = 0.0.0.0/0, ::/0\nserve = 0.0.0.0/0, ::/0\n");
    for (size_t i = 0; i < COUNT_OF(special); i++)
        ck_assert_msg(may_open(0, "10.1.1.1", special[i]) == RULES_OPEN_SPECIAL, "%s", special[i]);
    ck_assert_int_eq(may_open(0, "10.1.1.1", "8.8.8.8"), RULES_OPEN_OK);
    ck_assert_int_eq(may_open(0, "127.0.0.1", "8.8.8.8"), RULES_OPEN_SOURCE);
}
END_TEST

START_TEST(rules_keep_their_configuration)
{
    set_up(HEAD PEERS);
    config_unref(config);
    config = NULL;
    struct addr a = address("10.2.0.1");
    ck_assert_int_eq(rules_peer_for(rules, &a), 1);
    rules_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rules");
    TCase *cases = tcase_create("rules");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, NULL, take_down);
    tcase_add_test(cases, the_longest_prefix_wins);
    tcase_add_test(cases, a_default_route_takes_what_is_left);
    tcase_add_test(cases, agrees_with_a_slow_search_over_4096_peers);
    tcase_add_test(cases, the_first_class_that_fits_wins);
    tcase_add_test(cases, ports_are_the_servers_and_ranges_include_both_ends);
    tcase_add_test(cases, every_key_must_fit_and_any_of_its_list);
    tcase_add_test(cases, dscp_peer_and_iface);
    tcase_add_test(cases, proto_does_not_fit_while_it_is_unknown);
    tcase_add_test(cases, a_peer_speaks_only_for_its_networks);
    tcase_add_test(cases, a_peer_opens_only_what_it_is_served);
    tcase_add_test(cases, nobody_opens_special_or_our_own_addresses);
    tcase_add_test(cases, rules_keep_their_configuration);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
