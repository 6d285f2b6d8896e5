/* test_addr.c - texts of addresses, endpoints and prefixes both ways, and what is refused. */
#include "hawser/addr.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const struct {
    const char *text, *as; /* as: how it is printed, NULL: the same */
    uint8_t family;
} addrs[] = {
    {"0.0.0.0", NULL, AF_INET},
    {"10.2.0.1", NULL, AF_INET},
    {"255.255.255.255", NULL, AF_INET},
    {"::", NULL, AF_INET6},
    {"::1", NULL, AF_INET6},
    {"fd00:2::15", NULL, AF_INET6},
    {"FD00:0:0:2::A", "fd00:0:0:2::a", AF_INET6},
    {"1111:2222:3333:4444:5555:6666:7777:8888", NULL, AF_INET6},
    {"::ffff:10.2.0.1", "10.2.0.1", AF_INET},
    {"::ffff:a02:1", "10.2.0.1", AF_INET},
    {"::fffe:10.2.0.1", "::fffe:a02:1", AF_INET6},
    {"64:ff9b::10.2.0.1", "64:ff9b::a02:1", AF_INET6},
};

START_TEST(an_address_goes_both_ways)
{
    struct addr a, again;
    char text[ADDR_TEXT_MAX];
    memset(&a, 0xff, sizeof(a));
    ck_assert_int_eq(addr_parse(&a, addrs[_i].text), 0);
    ck_assert_uint_eq(a.family, addrs[_i].family);
    for (size_t i = 4; a.family == AF_INET && i < sizeof(a.bytes); i++)
        ck_assert_uint_eq(a.bytes[i], 0);
    ck_assert_str_eq(addr_format(&a, text), addrs[_i].as != NULL ? addrs[_i].as : addrs[_i].text);
    ck_assert_int_eq(addr_parse(&again, text), 0);
    ck_assert(addr_equal(&a, &again));
}
END_TEST

static const char *const bad_addrs[] = {
    "",           " ",        "1",        "1.2.3",     "1.2.3.4.5",     "256.1.1.1",
    "1.2.3.-4",   "1.2.3.4 ", " 1.2.3.4", "01.2.3.4",  "0x1.2.3.4",     "1.2.3.4/8",
    "1.2.3.4:80", ":",        ":::",      "1::2::3",   "12345::",       "::1%lo",
    "[::1]",      "g::",      "::1.2.3",  "localhost", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
    "1.2.3.4\n",
};

START_TEST(what_is_no_address_touches_nothing)
{
    struct addr a, was;
    memset(&a, 0xa5, sizeof(a));
    memcpy(&was, &a, sizeof(was));
    ck_assert_msg(addr_parse(&a, bad_addrs[_i]) == -EINVAL, "'%s' is taken", bad_addrs[_i]);
    ck_assert_mem_eq(&a, &was, sizeof(a));
}
END_TEST

static const struct {
    const char *text, *as;
    uint16_t port;
} endpoints[] = {
    {"1.2.3.4:80", NULL, 80},
    {"0.0.0.0:65535", NULL, 65535},
    {"10.9.0.1:0", NULL, 0},
    {"[fd00::1]:443", NULL, 443},
    {"[1111:2222:3333:4444:5555:6666:7777:8888]:65535", NULL, 65535},
    {"[::ffff:10.2.0.1]:1", "10.2.0.1:1", 1},
};

START_TEST(an_endpoint_goes_both_ways)
{
    struct endpoint e, again;
    char text[ENDPOINT_TEXT_MAX];
    ck_assert_int_eq(endpoint_parse(&e, endpoints[_i].text), 0);
    ck_assert_uint_eq(e.port, endpoints[_i].port);
    ck_assert_str_eq(endpoint_format(&e, text),
                     endpoints[_i].as != NULL ? endpoints[_i].as : endpoints[_i].text);
    ck_assert_int_eq(endpoint_parse(&again, text), 0);
    ck_assert(endpoint_equal(&e, &again));
    struct sockaddr_storage sa;
    socklen_t len = endpoint_to_sockaddr(&e, &sa);
    ck_assert_uint_eq(len,
                      e.addr.family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    memset(&again, 0, sizeof(again));
    ck_assert_int_eq(endpoint_from_sockaddr(&again, (struct sockaddr *)&sa), 0);
    ck_assert(endpoint_equal(&e, &again));
}
END_TEST

static const char *const bad_endpoints[] = {
    "",
    ":",
    "1.2.3.4",
    "1.2.3.4:",
    ":80",
    "1.2.3.4:65536",
    "1.2.3.4:-1",
    "1.2.3.4:+1",
    "1.2.3.4: 1",
    "1.2.3.4:8 ",
    "1.2.3.4:0x50",
    "1.2.3.4:100000",
    "fd00::1:80",
    "[fd00::1]",
    "[fd00::1]80",
    "[fd00::1:80",
    "fd00::1]:80",
    "[]:80",
    "[:80",
    "[[::1]]:80",
    "host:80",
    "1.2.3.4:80:80",
    "[fd00::1]:http",
    "[1111:2222:3333:4444:5555:6666:7777:88881111:2222:3333]:1",
};

START_TEST(what_is_no_endpoint_touches_nothing)
{
    struct endpoint e, was;
    memset(&e, 0xa5, sizeof(e));
    memcpy(&was, &e, sizeof(was));
    ck_assert_msg(endpoint_parse(&e, bad_endpoints[_i]) == -EINVAL, "'%s' is taken", bad_endpoints[_i]);
    ck_assert_mem_eq(&e, &was, sizeof(e));
}
END_TEST

static const struct {
    const char *text, *as, *in, *out;
} prefixes[] = {
    {"0.0.0.0/0", NULL, "203.0.113.9", "::1"},
    {"10.2.0.0/24", NULL, "10.2.0.255", "10.2.1.0"},
    {"10.2.0.128/25", NULL, "10.2.0.128", "10.2.0.127"},
    {"10.2.0.2/31", NULL, "10.2.0.3", "10.2.0.4"},
    {"10.2.0.1", "10.2.0.1/32", "10.2.0.1", "10.2.0.0"},
    {"::/0", NULL, "fe80::1", "10.2.0.1"},
    {"fd00:2::/64", NULL, "fd00:2::ffff:1:2:3", "fd00:2:0:1::"},
    {"fd00:2::/65", NULL, "fd00:2::7fff:ffff:ffff:ffff", "fd00:2::8000:0:0:0"},
    {"fd00::1", "fd00::1/128", "fd00::1", "fd00::2"},
    {"::ffff:10.2.0.0/24", "10.2.0.0/24", "::ffff:10.2.0.7", "10.2.2.7"},
};

START_TEST(a_prefix_goes_both_ways_and_holds_its_own)
{
    struct prefix p, again;
    struct addr in, out;
    char text[PREFIX_TEXT_MAX];
    ck_assert_int_eq(prefix_parse(&p, prefixes[_i].text), 0);
    ck_assert_str_eq(prefix_format(&p, text), prefixes[_i].as != NULL ? prefixes[_i].as : prefixes[_i].text);
    ck_assert_int_eq(prefix_parse(&again, text), 0);
    ck_assert(addr_equal(&p.addr, &again.addr) && p.len_bits == again.len_bits);
    ck_assert_int_eq(addr_parse(&in, prefixes[_i].in), 0);
    ck_assert_int_eq(addr_parse(&out, prefixes[_i].out), 0);
    ck_assert(prefix_contains(&p, &in));
    ck_assert(!prefix_contains(&p, &out));
}
END_TEST

/* Each bit of an address, as the only difference, is inside exactly when it is past the length. */
START_TEST(every_length_of_a_prefix_is_exact)
{
    static const char *const bases[] = {"170.85.170.85", "aa55:aa55:aa55:aa55:aa55:aa55:aa55:aa55"};
    for (size_t b = 0; b < 2; b++) {
        struct prefix p;
        ck_assert_int_eq(addr_parse(&p.addr, bases[b]), 0);
        unsigned bits = p.addr.family == AF_INET ? 32 : 128;
        for (unsigned len = 0; len <= bits; len++) {
            p.len_bits = (uint8_t)len;
            for (unsigned bit = 0; bit < bits; bit++) {
                struct addr a = p.addr;
                a.bytes[bit / 8] = (uint8_t)(a.bytes[bit / 8] ^ (0x80 >> (bit % 8)));
                ck_assert(prefix_contains(&p, &a) == (bit >= len));
                ck_assert(!addr_equal(&p.addr, &a));
            }
        }
    }
}
END_TEST

static const struct {
    const char *text;
    int err;
} bad_prefixes[] = {
    {"", -EINVAL},
    {"/", -EINVAL},
    {"/8", -EINVAL},
    {"10.0.0.0/", -EINVAL},
    {"10.0.0.0/33", -EINVAL},
    {"fd00::/129", -EINVAL},
    {"10.0.0.0/-1", -EINVAL},
    {"10.0.0.0/8/8", -EINVAL},
    {"10.0.0.0/8 ", -EINVAL},
    {"10.0.0/8", -EINVAL},
    {"lan0", -EINVAL},
    {"10.0.0.0/255.0.0.0", -EINVAL},
    {"10.2.0.1/24", -EDOM},
    {"10.2.0.1/0", -EDOM},
    {"10.2.0.1/31", -EDOM},
    {"fd00::1/64", -EDOM},
    {"::1/127", -EDOM},
    {"::ffff:10.2.0.0/120", -EINVAL},
};

START_TEST(what_is_no_prefix_touches_nothing)
{
    struct prefix p, was;
    memset(&p, 0xa5, sizeof(p));
    memcpy(&was, &p, sizeof(was));
    int err = prefix_parse(&p, bad_prefixes[_i].text);
    ck_assert_msg(err == bad_prefixes[_i].err, "'%s' gives %d", bad_prefixes[_i].text, err);
    ck_assert_mem_eq(&p, &was, sizeof(p));
}
END_TEST

static const struct {
    const char *text;
    bool special;
} specials[] = {
    {"0.0.0.0", true},
    {"0.1.2.3", true},
    {"1.0.0.0", false},
    {"127.0.0.1", true},
    {"127.255.255.255", true},
    {"126.255.255.255", false},
    {"128.0.0.0", false},
    {"169.254.0.1", true},
    {"169.253.255.255", false},
    {"169.255.0.0", false},
    {"223.255.255.255", false},
    {"224.0.0.1", true},
    {"239.255.255.255", true},
    {"240.0.0.1", true},
    {"255.255.255.255", true},
    {"10.0.0.1", false},
    {"192.168.1.1", false},
    {"::", true},
    {"::1", true},
    {"::2", false},
    {"fe80::1", true},
    {"febf::1", true},
    {"fec0::1", false},
    {"fe7f::1", false},
    {"ff02::1", true},
    {"feff::", false},
    {"fd00::1", false},
    {"2001:db8::1", false},
    {"::ffff:127.0.0.1", true},
    {"::ffff:10.0.0.1", false},
};

START_TEST(special_addresses_are_known)
{
    struct addr a;
    ck_assert_int_eq(addr_parse(&a, specials[_i].text), 0);
    ck_assert_msg(addr_is_special(&a) == specials[_i].special, "%s", specials[_i].text);
}
END_TEST

START_TEST(prefixes_overlap_when_one_holds_the_other)
{
    static const struct {
        const char *one, *other;
        bool overlap;
    } pairs[] = {
        {"10.0.0.0/8", "10.1.0.0/24", true},     {"10.1.0.0/24", "10.1.0.0/24", true},
        {"0.0.0.0/0", "192.0.2.1/32", true},     {"10.1.0.0/24", "10.1.1.0/24", false},
        {"10.1.0.0/25", "10.1.0.128/25", false}, {"fd00::/16", "fd00:1::/64", true},
        {"fd00:1::/64", "fd00:2::/64", false},   {"::/0", "10.0.0.0/8", false},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct prefix one, other;
        ck_assert_int_eq(prefix_parse(&one, pairs[i].one), 0);
        ck_assert_int_eq(prefix_parse(&other, pairs[i].other), 0);
        ck_assert_msg(prefix_overlaps(&one, &other) == pairs[i].overlap, "%s", pairs[i].one);
        ck_assert_msg(prefix_overlaps(&other, &one) == pairs[i].overlap, "%s", pairs[i].one);
    }
}
END_TEST

START_TEST(the_hash_sees_every_byte_and_the_port)
{
    struct endpoint e, other;
    ck_assert_int_eq(endpoint_parse(&e, "[fd00:1:2:3:4:5:6:7]:80"), 0);
    other = e;
    ck_assert_uint_eq(endpoint_hash(&other), endpoint_hash(&e));
    other.port++;
    ck_assert_uint_ne(endpoint_hash(&other), endpoint_hash(&e));
    for (size_t i = 0; i < sizeof(e.addr.bytes); i++) {
        other = e;
        other.addr.bytes[i] ^= 1;
        ck_assert_uint_ne(endpoint_hash(&other), endpoint_hash(&e));
    }
}
END_TEST

START_TEST(no_address_is_special_and_prints_as_none)
{
    struct addr a = {0};
    struct endpoint e = {0};
    char text[ADDR_TEXT_MAX], endpoint_text[ENDPOINT_TEXT_MAX];
    ck_assert(addr_is_special(&a));
    ck_assert_str_eq(addr_format(&a, text), "none");
    ck_assert_str_eq(endpoint_format(&e, endpoint_text), "none:0");
}
END_TEST

START_TEST(families_are_never_equal)
{
    struct addr v4 = {.family = AF_INET}, v6 = {.family = AF_INET6};
    ck_assert(!addr_equal(&v4, &v6));
    struct prefix all = {.addr = v4};
    ck_assert(prefix_contains(&all, &v4));
    ck_assert(!prefix_contains(&all, &v6));
    struct endpoint a = {.addr = v4, .port = 1}, b = {.addr = v4, .port = 2};
    ck_assert(!endpoint_equal(&a, &b));
}
END_TEST

START_TEST(a_mapped_socket_address_becomes_ipv4)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    struct endpoint e;
    char text[ENDPOINT_TEXT_MAX];
    in6.sin6_addr.s6_addr[10] = in6.sin6_addr.s6_addr[11] = 0xff;
    in6.sin6_addr.s6_addr[12] = 10;
    in6.sin6_addr.s6_addr[15] = 9;
    ck_assert_int_eq(endpoint_from_sockaddr(&e, (struct sockaddr *)&in6), 0);
    ck_assert_str_eq(endpoint_format(&e, text), "10.0.0.9:80");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct endpoint was = e;
    ck_assert_int_eq(endpoint_from_sockaddr(&e, (struct sockaddr *)&un), -EAFNOSUPPORT);
    ck_assert(endpoint_equal(&e, &was));
}
END_TEST

#define COUNT(list) (int)(sizeof(list) / sizeof((list)[0]))

int main(void)
{
    Suite *s = suite_create("addr");
    TCase *t = tcase_create("addr");
    tcase_add_loop_test(t, an_address_goes_both_ways, 0, COUNT(addrs));
    tcase_add_loop_test(t, what_is_no_address_touches_nothing, 0, COUNT(bad_addrs));
    tcase_add_loop_test(t, an_endpoint_goes_both_ways, 0, COUNT(endpoints));
    tcase_add_loop_test(t, what_is_no_endpoint_touches_nothing, 0, COUNT(bad_endpoints));
    tcase_add_loop_test(t, a_prefix_goes_both_ways_and_holds_its_own, 0, COUNT(prefixes));
    tcase_add_test(t, every_length_of_a_prefix_is_exact);
    tcase_add_loop_test(t, what_is_no_prefix_touches_nothing, 0, COUNT(bad_prefixes));
    tcase_add_loop_test(t, special_addresses_are_known, 0, COUNT(specials));
    tcase_add_test(t, prefixes_overlap_when_one_holds_the_other);
    tcase_add_test(t, the_hash_sees_every_byte_and_the_port);
    tcase_add_test(t, no_address_is_special_and_prints_as_none);
    tcase_add_test(t, families_are_never_equal);
    tcase_add_test(t, a_mapped_socket_address_becomes_ipv4);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
