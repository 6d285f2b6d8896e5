/* test_probe.c - first bytes of real protocols, whole and byte by byte. */
#include "hawser/probe.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/config.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

/* decided_at: with fewer bytes than this the answer is 0, from then on `proto`. */
static const struct {
    const char *bytes;
    size_t len;
    uint32_t proto;
    size_t decided_at;
} probes[] = {
    {BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), PROBE_TLS, 6},
    {BYTES("\x16\x03\x03\x00\x04\x01\x00\x00\x00"), PROBE_TLS, 6},
    {BYTES("\x16\x03\x01\x40\x00\x01"), PROBE_TLS, 6},
    {BYTES("\x16\x03\x01\x40\x01\x01"), PROBE_OTHER, 5}, /* no record is so long */
    {BYTES("\x16\x03\x01\x00\x03\x01"), PROBE_OTHER, 5}, /* nor a handshake message so short */
    {BYTES("\x16\x03\x05\x02\x00\x01"), PROBE_OTHER, 3},
    {BYTES("\x16\x02\x01\x02\x00\x01"), PROBE_OTHER, 2},
    {BYTES("\x16\x03\x03\x02\x00\x02"), PROBE_OTHER, 6},     /* a ServerHello */
    {BYTES("\x15\x03\x03\x00\x02\x02\x28"), PROBE_OTHER, 1}, /* an alert */
    {BYTES("SSH-2.0-OpenSSH_9.2p1\r\n"), PROBE_SSH, 4},
    {BYTES("SSX-2.0"), PROBE_OTHER, 3},
    {BYTES("GET / HTTP/1.1\r\n"), PROBE_HTTP, 5},
    {BYTES("GET http://a/ HTTP/1.1\r\n"), PROBE_HTTP, 5},
    {BYTES("POST /a HTTP/1.1\r\n"), PROBE_HTTP, 6},
    {BYTES("OPTIONS * HTTP/1.1\r\n"), PROBE_HTTP, 9},
    {BYTES("OPTIONS rtsp://a RTSP/1.0\r\n"), PROBE_OTHER, 9},
    {BYTES("OPTIONS sip:a SIP/2.0\r\n"), PROBE_OTHER, 9},
    {BYTES("CONNECT a:443 HTTP/1.1\r\n"), PROBE_HTTP, 9},
    {BYTES("CONNECT \r\n"), PROBE_OTHER, 9},
    {BYTES("PROPPATCH /x HTTP/1.1\r\n"), PROBE_HTTP, 11},
    {BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), PROBE_HTTP, 5},
    {BYTES("get / HTTP/1.1\r\n"), PROBE_OTHER, 1}, /* methods are case-sensitive */
    {BYTES("GETX"), PROBE_OTHER, 4},
    {BYTES("GET key\r\n"), PROBE_OTHER, 5},
    {BYTES("PROXY TCP4 1.2.3.4"), PROBE_OTHER, 4},
    {BYTES("*1\r\n$4\r\nPING\r\n"), PROBE_OTHER, 1},
    {BYTES("EHLO a\r\n"), PROBE_OTHER, 1},
    {BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), PROBE_OTHER, 1},
};

START_TEST(test_each_prefix)
{
    for (size_t len = 0; len <= probes[_i].len; len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, probes[_i].bytes, len);
        uint32_t expected = len < probes[_i].decided_at ? 0 : probes[_i].proto;
        ck_assert_msg(probe_protocol(exact, len) == expected, "case %d, %zu bytes: %u, not %u", _i, len,
                      probe_protocol(exact, len), expected);
        free(exact);
    }
}
END_TEST

START_TEST(test_bits_are_the_configuration_s)
{
    ck_assert_int_eq((int)PROBE_TLS, (int)CONFIG_PROTO_TLS);
    ck_assert_int_eq((int)PROBE_SSH, (int)CONFIG_PROTO_SSH);
    ck_assert_int_eq((int)PROBE_HTTP, (int)CONFIG_PROTO_HTTP);
    ck_assert_int_eq((int)PROBE_OTHER, (int)CONFIG_PROTO_OTHER);
}
END_TEST

/* A connection is never held back longer than this for the sake of its class. */
START_TEST(test_the_longest_wait)
{
    for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++)
        ck_assert_uint_le(probes[i].decided_at, PROBE_BYTES_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("probe");
    TCase *probe = tcase_create("probe");
    tcase_add_loop_test(probe, test_each_prefix, 0, (int)(sizeof(probes) / sizeof(probes[0])));
    tcase_add_test(probe, test_bits_are_the_configuration_s);
    tcase_add_test(probe, test_the_longest_wait);
    suite_add_tcase(suite, probe);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
