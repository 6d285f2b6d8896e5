/* test_kernel_ruleset.c - the text that is loaded into nft; pure. */
#include "hawser/kernel.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/rules.h"

static const char base[] =
    "[node]\nname = n\nidentity = /tmp/x\n[intercept]\ninterface = lan0, lan1\nport = 3130\n"
    "mark = 0x10/0xf0\nlane-mark = 0x2/0x2\n[tunnel]\nlisten = 0.0.0.0:4430\n";
#define PIN(x) "pin = " x "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"

static struct config *config_of(const char *more)
{
    static char text[1 << 18];
    char error[CONFIG_ERROR_MAX] = "";
    struct config *c = NULL;
    int len = snprintf(text, sizeof(text), "%s%s", base, more);
    ck_assert_int_lt(len, (int)sizeof(text));
    ck_assert_msg(config_parse(&c, "test", text, (size_t)len, error) == 0, "%s", error);
    return c;
}

static char *rules_of(const char *more, bool ipv6)
{
    struct config *c = config_of(more);
    char *text = kernel_ruleset(c, ipv6);
    ck_assert_ptr_nonnull(text);
    config_unref(c);
    return text;
}

static void has(const char *text, const char *wanted)
{
    ck_assert_msg(strstr(text, wanted) != NULL, "missing: %s\nin:\n%s", wanted, text);
}

static void has_not(const char *text, const char *unwanted)
{
    ck_assert_msg(strstr(text, unwanted) == NULL, "there is: %s\nin:\n%s", unwanted, text);
}

static const char two_peers[] =
    "[peer hub]\n" PIN("A") "address = 10.9.0.1:4430\nnetworks = 10.0.0.0/8, fd00::/16\n"
                            "[peer branch]\n" PIN("B") "networks = 10.2.0.0/16\n";

START_TEST(frame)
{
    char *text = rules_of(two_peers, true);
    has(text, "table inet hawser {\n    flags owner\n");
    has(text, "iifname { \"lan0\", \"lan1\" } tcp flags & (fin | syn | rst | ack) == syn goto new\n");
    has(text,
        "iifname { \"lan0\", \"lan1\" } ct mark & 0x10000 == 0x10000 ct direction original goto catch\n");
    has(text, "meta mark set meta mark & 0xffffff0f | 0x10 accept\n");
    has(text, "meta mark & 0x2 == 0x2 accept\n");
    has(text, "tproxy ip to 127.0.0.1:3130 ");
    has(text, "tproxy ip6 to [::1]:3130 ");
    has(text, "socket transparent 1 goto divert\n");
    has(text, "elements = { 0.0.0.0-0.255.255.255, 10.9.0.1, 127.0.0.0-127.255.255.255, "
              "169.254.0.0-169.254.255.255, "
              "224.0.0.0-255.255.255.255 }");
    has(text, "elements = { 10.0.0.0-10.255.255.255 }"); /* joined again: all of it is some peer's */
    has(text, "elements = { fd00::-fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff }");
    free(text);
}
END_TEST

START_TEST(nothing_is_caught_at_first)
{
    char *text = rules_of(two_peers, true);
    has(text, "set peers4 {\n        type ipv4_addr\n        flags interval\n    }\n");
    has(text, "set peers6 {\n        type ipv6_addr\n        flags interval\n    }\n");
    free(text);
}
END_TEST

START_TEST(without_ipv6)
{
    char *text = rules_of(two_peers, false);
    has_not(text, "ip6");
    has_not(text, "peers6");
    has(text, "meta nfproto ipv6 accept\n");
    free(text);
}
END_TEST

/* A node that only originates still needs its replies diverted. */
START_TEST(without_interfaces)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct config *c = NULL;
    static const char text[] = "[node]\nname = n\nidentity = /tmp/x\n[tunnel]\nlisten = 0.0.0.0:4430\n"
                               "[peer b]\n" PIN("B") "networks = 10.1.0.0/24\nserve = 10.2.0.0/24\n";
    ck_assert_msg(config_parse(&c, "test", text, sizeof(text) - 1, error) == 0, "%s", error);
    char *rules = kernel_ruleset(c, true);
    has(rules, "socket transparent 1 goto divert\n");
    has_not(rules, "iifname");
    has_not(rules, "goto new");
    free(rules);
    config_unref(c);
}
END_TEST

static char *with_class(const char *class)
{
    static char more[4096];
    snprintf(more, sizeof(more), "%s%s", two_peers, class);
    return rules_of(more, true);
}

START_TEST(class_keys)
{
    char *text = with_class("[class a]\nports = 80, 27000-28000, 27500-29000, 81\naction = bypass\n");
    has(text, "        tcp dport { 80-81, 27000-29000 } accept comment \"class a\"\n");
    free(text);
    text = with_class("[class b]\nports = 65535, 1-65534\niface = lan1\naction = deny\n");
    has(text,
        "        iifname { \"lan1\" } tcp dport { 1-65535 } reject with tcp reset comment \"class b\"\n");
    free(text);
    text = with_class(
        "[class c]\nfrom = 10.1.0.0/24, 10.1.0.128/25, fd01::/64\nto = 10.2.0.0/24\naction = bypass\n");
    has(text, "        ip saddr { 10.1.0.0-10.1.0.255 } ip daddr { 10.2.0.0-10.2.0.255 } accept comment "
              "\"class c\"\n");
    has_not(text, "ip6 saddr");
    free(text);
    text = with_class("[class d]\ndscp = 46, 8\naction = accelerate\n");
    has(text, "        ip dscp { 8, 46 } goto catch comment \"class d\"\n");
    has(text, "        ip6 dscp { 8, 46 } goto catch comment \"class d\"\n");
    free(text);
    text = with_class("[class e]\npeer = hub\naction = deny\n");
    has(text, "        ip daddr { 10.0.0.0-10.1.255.255, 10.3.0.0-10.255.255.255 } reject with tcp reset "
              "comment \"class e\"\n");
    has(text, "        ip6 daddr { fd00::-fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff } reject with tcp reset "
              "comment \"class e\"\n");
    free(text);
    text = with_class("[class f]\npeer = branch\naction = bypass\n");
    has(text, "        ip daddr { 10.2.0.0-10.2.255.255 } accept comment \"class f\"\n");
    has_not(text, "ip6 daddr {");
    free(text);
    text = with_class("[class g]\naction = bypass\n");
    has(text, "        accept comment \"class g\"\n");
    free(text);
}
END_TEST

START_TEST(classes_keep_their_order)
{
    char *text = with_class(
        "[class one]\nports = 22\naction = accelerate\n[class two]\nports = 1-1000\naction = deny\n"
        "[class three]\nports = 443\naction = accelerate\n");
    const char *one = strstr(text, "class one"), *two = strstr(text, "class two"),
               *three = strstr(text, "class three");
    ck_assert(one != NULL && two != NULL && three != NULL && one < two && two < three);
    const char *end = strstr(three, "        goto catch\n    }\n");
    ck_assert_ptr_nonnull(end);
    free(text);
}
END_TEST

/* Only the engine sees first bytes: such a class may not decide here, nor hide what comes after it. */
START_TEST(class_with_proto_is_the_engines)
{
    char *text = with_class("[class web]\nports = 443\nproto = tls\naction = accelerate\n");
    has_not(text, "443");
    free(text);
}
END_TEST

START_TEST(names_that_nft_cannot_take)
{
    static const char *const bad[] = {"a\"b", "lan*", "a\\b"};
    struct config *c = config_of(two_peers);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        strcpy(c->interfaces[0], bad[i]);
        ck_assert_ptr_null(kernel_ruleset(c, true));
    }
    config_unref(c);
}
END_TEST

/* ---- ranges against the longest prefix of rules.h ---- */

enum { PEERS = 40, PROBES = 1000 };

static uint32_t seed;
static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)seed * below) >> 32);
}

static uint32_t ipv4_of(const char *text)
{
    struct addr a;
    ck_assert_int_eq(addr_parse(&a, text), 0);
    return (uint32_t)a.bytes[0] << 24 | (uint32_t)a.bytes[1] << 16 | (uint32_t)a.bytes[2] << 8 | a.bytes[3];
}

/* The peer whose class's rule holds the address, by reading the text. */
static int peer_in_text(const char *text, uint32_t address, int *hits)
{
    int found = RULES_NONE;
    *hits = 0;
    for (const char *line = strstr(text, "        ip daddr {"); line != NULL;
         line = strstr(line + 1, "        ip daddr {")) {
        char copy[8192], *save = NULL;
        int peer;
        size_t len = strcspn(line, "\n");
        ck_assert_uint_lt(len, sizeof(copy));
        memcpy(copy, line, len);
        copy[len] = '\0';
        ck_assert_int_eq(sscanf(strstr(copy, "class c"), "class c%d", &peer), 1);
        *strchr(copy, '}') = '\0';
        for (char *one = strtok_r(strchr(copy, '{') + 1, ", ", &save); one != NULL;
             one = strtok_r(NULL, ", ", &save)) {
            char *dash = strchr(one, '-');
            if (dash != NULL)
                *dash = '\0';
            uint32_t first = ipv4_of(one), last = dash != NULL ? ipv4_of(dash + 1) : first;
            if (address >= first && address <= last) {
                found = peer;
                ++*hits;
            }
        }
    }
    return found;
}

struct drawn {
    uint32_t address, bits;
};

/* Short prefixes over few bits, so that nesting, neighbours and both ends of the space are common. */
static struct drawn draw_network(void)
{
    uint32_t bits = 6 + draw(20);
    uint32_t a =
        draw(3) == 0 ? 0xdf000000u | draw(0x1000000) : (10 + draw(4)) << 24 | draw(4) << 16 | draw(4) << 8;
    return (struct drawn){.address = a >> (32 - bits) << (32 - bits), .bits = bits};
}

static bool is_new(const struct drawn *list, int count)
{
    for (int i = 0; i < count; i++) {
        if (list[i].address == list[count].address && list[i].bits == list[count].bits)
            return false;
    }
    return true;
}

static struct config *random_config(void)
{
    char *text = NULL;
    size_t len;
    struct drawn nets[PEERS] = {{0, 0}}; /* the first peer has everything */
    FILE *to = open_memstream(&text, &len);
    for (int i = 0; i < PEERS; i++) {
        while (i > 0 && (nets[i] = draw_network(), !is_new(nets, i)))
            ;
        uint32_t a = nets[i].address;
        fprintf(
            to,
            "[peer p%d]\npin = %c%cAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nnetworks = %u.%u.%u.%u/%u\n",
            i, 'A' + i / 26, 'A' + i % 26, a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255, nets[i].bits);
        fprintf(to, "[class c%d]\npeer = p%d\naction = bypass\n", i, i);
    }
    fclose(to);
    struct config *c = config_of(text);
    free(text);
    return c;
}

START_TEST(ranges_are_the_longest_prefix)
{
    seed = (uint32_t)_i + 1;
    struct config *c = random_config();
    struct rules *r = rules_new(c);
    char *text = kernel_ruleset(c, false);
    ck_assert_ptr_nonnull(r);
    ck_assert_ptr_nonnull(text);
    for (int i = 0; i < PROBES; i++) {
        uint32_t a = draw(3) == 0 ? 0xdf000000u + draw(0x1000000)
                                  : (10 + draw(4)) << 24 | draw(4) << 16 | draw(0x10000);
        struct addr address = {
            .family = AF_INET,
            .bytes = {(uint8_t)(a >> 24), (uint8_t)(a >> 16), (uint8_t)(a >> 8), (uint8_t)a}};
        int hits;
        if (i < 2)
            memset(address.bytes, i == 0 ? 0 : 0xff, 4);
        a = i == 0 ? 0 : i == 1 ? UINT32_MAX : a;
        int peer = peer_in_text(text, a, &hits);
        ck_assert_int_eq(peer, rules_peer_for(r, &address));
        ck_assert_int_eq(hits, 1);
    }
    free(text);
    rules_free(r);
    config_unref(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel_ruleset");
    TCase *t = tcase_create("text");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, frame);
    tcase_add_test(t, nothing_is_caught_at_first);
    tcase_add_test(t, without_ipv6);
    tcase_add_test(t, without_interfaces);
    tcase_add_test(t, class_keys);
    tcase_add_test(t, classes_keep_their_order);
    tcase_add_test(t, class_with_proto_is_the_engines);
    tcase_add_test(t, names_that_nft_cannot_take);
    tcase_add_loop_test(t, ranges_are_the_longest_prefix, 0, 8);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
