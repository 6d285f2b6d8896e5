/* test_packets.c - TCP segments in captured packets: each link type, what is cut, what is none. */
#include "packets.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <pcap/dlt.h>

enum { PACKET_MAX = 256, PAYLOAD = 5, TCP_HEADER = 24 }; /* with an option of 4 bytes */

struct packet {
    uint8_t bytes[PACKET_MAX];
    size_t len;
};

static void add(struct packet *p, const void *bytes, size_t len)
{
    ck_assert_uint_le(p->len + len, sizeof(p->bytes));
    memcpy(p->bytes + p->len, bytes, len);
    p->len += len;
}

/* Before the network layer, for IPv4 and IPv6. */
static const struct link_case {
    int type;
    size_t len;
    const char *four, *six;
} link_cases[] = {
    {DLT_EN10MB, 14, "abcdefABCDEF\x08\x00", "abcdefABCDEF\x86\xdd"},
    {DLT_EN10MB, 18, "abcdefABCDEF\x81\x00\x00\x05\x08\x00", "abcdefABCDEF\x81\x00\x00\x05\x86\xdd"},
    {DLT_EN10MB, 22, "abcdefABCDEF\x88\xa8\x00\x01\x81\x00\x00\x05\x08\x00",
     "abcdefABCDEF\x88\xa8\x00\x01\x81\x00\x00\x05\x86\xdd"},
    {DLT_LINUX_SLL, 16, "\0\0\0\1\0\6abcdef\0\0\x08\x00", "\0\0\0\1\0\6abcdef\0\0\x86\xdd"},
    {DLT_LINUX_SLL2, 20, "\x08\x00\0\0\0\0\0\1\0\1\0\6abcdef\0\0", "\x86\xdd\0\0\0\0\0\1\0\1\0\6abcdef\0\0"},
    {DLT_RAW, 0, "", ""},
    {DLT_NULL, 4, "\2\0\0\0", "\x1e\0\0\0"},
    {DLT_LOOP, 4, "\0\0\0\2", "\0\0\0\x1e"},
};
enum { LINK_CASES = sizeof(link_cases) / sizeof(link_cases[0]) };

static void add_tcp(struct packet *p)
{
    add(p,
        "\x9c\x40\x00\x50" /* 40000 -> 80 */ "\xff\xff\xff\xfe"
        "\0\0\0\7"
        "\x60\x11\xff\xff"
        "\0\0\0\0"
        "\1\1\1\1",
        TCP_HEADER);
    add(p, "hello", PAYLOAD);
}

static struct packet make(const struct link_case *l, bool six)
{
    struct packet p = {.len = 0};
    add(&p, six ? l->six : l->four, l->len);
    if (six)
        add(&p,
            "\x60\0\0\0\x00\x1d\x06\x40"
            "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
            "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2",
            40);
    else
        add(&p,
            "\x45\0\x00\x31\0\0\x40\0\x40\x06\0\0"
            "\x0a\1\0\2"
            "\x0a\2\0\2",
            20);
    add_tcp(&p);
    return p;
}

/* As it is read from a heap block of just that size, where an over-read shows. */
static enum packet_kind read_exact(int type, const struct packet *p, size_t captured,
                                   struct segment_seen *seen)
{
    static uint8_t payload[PACKET_MAX];
    uint8_t *bytes = malloc(captured > 0 ? captured : 1);
    ck_assert_ptr_nonnull(bytes);
    memcpy(bytes, p->bytes, captured);
    enum packet_kind kind = packet_read(type, bytes, captured, p->len, seen);
    if (kind == PACKET_TCP) {
        memcpy(payload, seen->bytes, seen->captured);
        seen->bytes = payload;
    }
    free(bytes);
    return kind;
}

/* _i: link type, and the version of IP. */
START_TEST(a_segment_is_read_and_each_short_prefix_is_cut_short)
{
    const struct link_case *l = &link_cases[_i / 2];
    bool six = _i % 2 == 1;
    struct packet p = make(l, six), padded = p;
    struct segment_seen seen;
    char text[ENDPOINT_TEXT_MAX];
    ck_assert(packet_link_is_known(l->type));
    add(&padded, "\0\0\0\0\0\0", 6);
    for (size_t captured = 0; captured <= padded.len; captured++) {
        enum packet_kind kind = read_exact(l->type, &padded, captured, &seen);
        if (captured < p.len - PAYLOAD - 4) { /* an option may be cut, the header may not */
            ck_assert_int_eq(kind, PACKET_CUT_SHORT);
            continue;
        }
        ck_assert_int_eq(kind, PACKET_TCP);
        ck_assert_uint_eq(seen.len, PAYLOAD); /* not the padding */
        size_t there = captured > p.len - PAYLOAD ? captured - (p.len - PAYLOAD) : 0;
        ck_assert_uint_eq(seen.captured, there < PAYLOAD ? there : PAYLOAD);
        ck_assert_int_eq(memcmp(seen.bytes, "hello", seen.captured), 0);
        ck_assert_uint_eq(seen.seq, 0xfffffffe);
        ck_assert(seen.fin && seen.ack && !seen.syn && !seen.rst);
        ck_assert_str_eq(endpoint_format(&seen.from, text), six ? "[fd00::1]:40000" : "10.1.0.2:40000");
        ck_assert_str_eq(endpoint_format(&seen.to, text), six ? "[fd00::2]:80" : "10.2.0.2:80");
    }
}
END_TEST

/* A byte of the IPv4 packet over Ethernet set to something else. */
static const struct {
    size_t at;
    uint8_t to;
    enum packet_kind kind;
} changes[] = {
    {12, 0x12, PACKET_NOT_IP},       {14, 0x55, PACKET_NOT_IP},       {14, 0x44, PACKET_NOT_IP},
    {14 + 9, 17, PACKET_NOT_TCP},    {14 + 6, 0x20, PACKET_FRAGMENT}, {14 + 7, 1, PACKET_FRAGMENT},
    {34 + 12, 0x40, PACKET_NOT_TCP}, {34 + 12, 0xf0, PACKET_NOT_TCP},
};

START_TEST(what_is_no_segment_is_named)
{
    struct packet p = make(&link_cases[0], false);
    struct segment_seen seen;
    ck_assert_int_eq(read_exact(DLT_EN10MB, &p, p.len, &seen), PACKET_TCP);
    p.bytes[changes[_i].at] = changes[_i].to;
    ck_assert_int_eq(read_exact(DLT_EN10MB, &p, p.len, &seen), changes[_i].kind);
}
END_TEST

/* A sender that lets its card cut packets writes no length. */
START_TEST(a_packet_of_no_stated_length_is_as_long_as_it_was)
{
    struct packet p = make(&link_cases[0], false);
    struct segment_seen seen;
    p.bytes[14 + 2] = p.bytes[14 + 3] = 0;
    ck_assert_int_eq(read_exact(DLT_EN10MB, &p, p.len, &seen), PACKET_TCP);
    ck_assert_uint_eq(seen.len, PAYLOAD);
}
END_TEST

START_TEST(other_link_types_are_not_known)
{
    struct packet p = make(&link_cases[0], false);
    struct segment_seen seen;
    ck_assert(!packet_link_is_known(DLT_IEEE802_11));
    ck_assert_int_eq(read_exact(DLT_IEEE802_11, &p, p.len, &seen), PACKET_NOT_IP);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("packets");
    TCase *t = tcase_create("packets");
    tcase_add_loop_test(t, a_segment_is_read_and_each_short_prefix_is_cut_short, 0, 2 * LINK_CASES);
    tcase_add_loop_test(t, what_is_no_segment_is_named, 0, sizeof(changes) / sizeof(changes[0]));
    tcase_add_test(t, a_packet_of_no_stated_length_is_as_long_as_it_was);
    tcase_add_test(t, other_link_types_are_not_known);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
