/* test_config_refused.c - the INI file: what is refused, in which line, and with which words. */
#include "config_case.h"

struct refused {
    const char *text;
    unsigned line;
    const char *words;
};

static const struct refused forms[] = {
    {"", 1, "there is no [node] section"},
    {"; only a comment\n\n", 2, "there is no [node] section"},
    {NODE, 3, "there is no [peer NAME] section"},
    {PEER, 4, "there is no [node] section"},
    {"name = x\n" GOOD, 1, "'name' is in no section"},
    {GOOD "[nodes]\n", 8, "unknown section [nodes]"},
    {GOOD "[]\n", 8, "unknown section []"},
    {GOOD "[admin\n", 8, "no ']'"},
    {GOOD "[admin] http = 1.2.3.4:5\n", 8, "text after ']'"},
    {GOOD "[admin x]\n", 8, "[admin] takes no name"},
    {GOOD "[class]\n", 8, "[class] needs a name; write [class NAME]"},
    {GOOD "[peer]\n", 8, "[peer] needs a name"},
    {GOOD "[peer a b]\n", 8, "letters, digits"},
    {GOOD "[peer -a]\n", 8, "letter or digit first"},
    {GOOD "[peer a/b]\n", 8, "letters, digits"},
    {GOOD "[node]\nuser = x\n", 8, "[node] began in line 1 already"},
    {GOOD "[peer dc]\n", 8, "[peer dc] is in the file already"},
    {GOOD "[class a]\n[class b]\n[class a]\n", 10, "[class a] is in the file already"},
    {NODE "name = again\n" PEER, 4, "[node] has name in line 2 already"},
    {GOOD "lanes = 1\nrate = 1mbit\nlanes = 2\n", 10, "[peer dc] has lanes in line 8 already"},
    {NODE "usr = hawser\n" PEER, 4, "unknown key 'usr' in [node]; it has name, identity, user, workers"},
    {GOOD "connect_timeout = 1s\n", 8, "unknown key 'connect_timeout' in [peer dc]"},
    {GOOD "Lanes = 1\n", 8, "unknown key 'Lanes'"},
    {NODE "user hawser\n" PEER, 4, "'user hawser' has no '='"},
    {NODE "user: hawser\n" PEER, 4, "has no '='"},
    {NODE "user: a = b\n" PEER, 4, "a ':' before '='"},
    {NODE "user ; = hawser\n" PEER, 4, "has no '='"},
    {NODE "= hawser\n" PEER, 4, "no key before '='"},
    {NODE "user =\n" PEER, 4, "[node] user: there is no value"},
    {NODE "user = ; hawser\n" PEER, 4, "[node] user: there is no value"},
    {NODE "  hawser\n" PEER, 4, "identity takes one value in one line"},
    {"[node]\n  hawser\n" PEER, 2, "has no '='"},
    {GOOD "[class a]\nports = 1,,2\n", 9, "nothing before a comma"},
    {GOOD "[class a]\nports = ,\n", 9, "nothing before a comma"},
    {GOOD "[class a]\nports = 1,\n\n  x\n", 11, "[class a] ports: 'x' is not a port"},
    {"[node]\nidentity = /id\n" PEER, 1, "[node] has no name"},
    {"[node]\nname = here\n\n" PEER, 1, "[node] has no identity"},
    {NODE "[peer a]\naddress = 1.2.3.4:5\nnetworks = 10.0.0.0/8\n", 4, "[peer a] has no pin"},
    {NODE "[peer a]\naddress = 1.2.3.4:5\npin = " PIN_A "\n\n[store]\n", 4, "[peer a] has no networks"},
};

START_TEST(a_bad_form_is_an_error_with_its_line)
{
    bad(forms[_i].text, forms[_i].line, forms[_i].words);
}
END_TEST

/* ---- bad values: the section's heading is line 8, the option line 9 ---- */

struct bad_value {
    const char *section, *option, *words;
};

static const struct bad_value bad_values[] = {
    {"intercept", "interface = this-name-is-long", "not the name of an interface"},
    {"intercept", "interface = a/b", "not the name of an interface"},
    {"intercept", "interface = lan0, lan0", "given twice"},
    {"intercept", "port = 0", "from 1 to 65535"},
    {"intercept", "port = 65536", "from 1 to 65535"},
    {"intercept", "port = http", "not a port number"},
    {"intercept", "firewall = yes", "'yes' is none of auto|none"},
    {"intercept", "mark = 0/1", "give a value other than 0"},
    {"intercept", "mark = 0x10/0x1", "can never fit"},
    {"intercept", "mark = 0x100000000", "not a mark"},
    {"intercept", "mark = 0x/1", "not a mark"},
    {"intercept", "mark = 1/", "not a mark"},
    {"intercept", "mark = -1/1", "not a mark"},
    {"intercept", "mark = 0x2/0x2", "mark and lane-mark can be on the same packet"},
    {"intercept", "lane-mark = 0x3", "mark and lane-mark can be on the same packet"},
    {"tunnel", "listen = 4430", "not ADDRESS:PORT"},
    {"tunnel", "listen = gateway.example:4430", "no host name"},
    {"tunnel", "listen = fd00::1:4430", "not ADDRESS:PORT"},
    {"tunnel", "listen = 1.2.3.4:0", "has port 0"},
    {"tunnel", "listen = 1.2.3.4:70000", "not ADDRESS:PORT"},
    {"tunnel", "listen = 0.0.0.0:3129", "has the port of [intercept], 3129"},
    {"store", "size = 1M", "from 64M to 65536G"},
    {"store", "size = 4GB", "not a size"},
    {"store", "path = var/lib/hawser", "absolute path"},
    {"store", "size = 99999999999G", "out of range"},
    {"admin", "control = run/control.sock", "absolute path"},
    {"admin",
     "control = "
     "/000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "000000000000"
     "000000000",
     "longer than the 107 bytes"},
    {"admin", "http = [::]:3129", "has the port of [intercept]"},
    {"class a", "ports = 0", "not a port"},
    {"class a", "ports = 65536", "not a port"},
    {"class a", "ports = 1-65536", "not a port"},
    {"class a", "ports = 20-10", "counts down"},
    {"class a", "ports = 10-", "not a port"},
    {"class a", "ports = 22 80", "not a port"},
    {"class a", "from = 10.1.0.0/33", "not a network"},
    {"class a", "from = 10.1.0.7/24", "'10.1.0.7/24' has bits set past its length; write 10.1.0.0/24"},
    {"class a", "to = fd00:2::1/64", "write fd00:2::/64"},
    {"class a", "to = lan", "not a network"},
    {"class a", "to = 10.1.0.0/24 10.2.0.0/24 10.3.0.0/24 10.4.0.0/24 10.5.0.0/24 10.6.0.0/24",
     "separated by commas"},
    {"class a", "dscp = 64", "not a DSCP"},
    {"class a", "dscp = af44", "not a DSCP"},
    {"class a", "dscp = cs8", "not a DSCP"},
    {"class a", "peer = dcc", "there is no [peer dcc]"},
    {"class a", "iface = lan9", "'lan9' is not among interface in [intercept]"},
    {"class a", "proto = ftp", "'ftp' is none of tls|ssh|http|other"},
    {"class a", "action = drop", "none of accelerate|bypass|deny"},
    {"class a", "dedup = true", "neither yes nor no"},
    {"class a", "share = 0", "neither yes nor no"},
    {"class a", "share = no\ndedup = yes", "[class a] has share = no and dedup = yes"},
    {"class a", "share = no\ncompress = 3", "[class a] has share = no and compress"},
    {"class a", "compress = 0", "from 1 to 19"},
    {"class a", "compress = 20", "from 1 to 19"},
    {"class a", "compress = zstd", "auto, off or a level"},
    {"class a", "weight = 1001", "from 0 to 1000"},
    {"class a", "weight = -1", "not a whole number"},
    {"class a", "limit = 0%", "from 0.1% to 100%"},
    {"class a", "limit = 101%", "from 0.1% to 100%"},
    {"class a", "limit = 10", "not a rate"},
    {"class a", "limit = 1kbit", "from 8kbit to 1000gbit"},
    {"peer b", "address = 0.0.0.0:4430", "cannot be dialled"},
    {"peer b", "address = [ff02::1]:4430", "cannot be dialled"},
    {"peer b", "address = 239.1.1.1:4430", "cannot be dialled"},
    {"peer b", "pin = abc", "not a pin"},
    {"peer b", "pin = AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=", "not a pin"}, /* bits left over */
    {"peer b", "pin = AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "not a pin"}, /* 33 bytes */
    {"peer b", "pin = Ag-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "not a pin"},
    {"peer b", "pin = " PIN_B ", " PIN_B, "given twice"},
    {"peer b", "pin = " PIN_B ", " PIN_A ", " PIN_B, "more than 2 pins"},
    {"peer b", "networks = 10.2.0.1/24", "write 10.2.0.0/24"},
    {"peer b", "networks = 127.0.0.0/8", "loopback"},
    {"peer b", "networks = fe80::/64", "link-local"},
    {"peer b", "networks = ::1", "loopback"},
    {"peer b", "networks = 224.0.0.0/4", "multicast"},
    {"peer b", "source = server", "none of client|self|auto"},
    {"peer b", "serve = none, 10.1.0.0/24", "'none' is not a network"},
    {"peer b", "lanes = 0", "from 1 to 8"},
    {"peer b", "lanes = 9", "from 1 to 8"},
    {"peer b", "congestion = a-name-of-20-letters", "at most 15"},
    {"peer b", "rate = 50", "not a rate"},
    {"peer b", "rate = 50%", "not a rate"},
    {"peer b", "rate = 0kbit", "from 8kbit to 1000gbit"},
    {"peer b", "hold = 60", "not a time"},
    {"peer b", "hold = 25h", "from 0ms to 24h"},
};

START_TEST(a_bad_value_is_an_error_with_its_line)
{
    char text[1024];
    const struct bad_value *v = &bad_values[_i];
    snprintf(text, sizeof(text), GOOD "[%s]\n%s\n", v->section, v->option);
    bad(text, 9, v->words);
}
END_TEST

static const struct bad_value bad_node_values[] = {
    {NULL, "user = a b", "not a name"},
    {NULL, "user = -x", "not a name"},
    {NULL, "user = x123456789012345678901234567890123456789012345678901234567890123", "longer than 63 bytes"},
    {NULL, "workers = 0", "from 1 to 256"},
    {NULL, "workers = 257", "from 1 to 256"},
    {NULL, "workers = 4-2", "counts down"},
    {NULL, "workers = 2-", "auto, a number or MIN-MAX"},
    {NULL, "workers = -2", "auto, a number or MIN-MAX"},
    {NULL, "workers = many", "auto, a number or MIN-MAX"},
    {NULL, "memory = 31M", "from 32M to 1024G"},
    {NULL, "memory = 0%", "from 1% to 90%"},
    {NULL, "memory = 91%", "from 1% to 90%"},
    {NULL, "memory = much", "not a size"},
    {NULL, "memory = %", "not a share"},
    {NULL, "sessions = 0", "from 1 to 4194304"},
    {NULL, "sessions = 1.5", "not a whole number"},
    {NULL, "connect-timeout = 10", "not a time"},
    {NULL, "connect-timeout = 1ms", "from 100ms to 5m"},
    {NULL, "log = verbose", "none of error|warn|info|debug"},
};

START_TEST(a_bad_node_value_is_an_error_with_its_line)
{
    char text[1024];
    snprintf(text, sizeof(text), NODE "%s\n" PEER, bad_node_values[_i].option);
    bad(text, 4, bad_node_values[_i].words);
}
END_TEST

/* ---- options that need one another ---- */

#define CLASS_PROTO(action) GOOD "[class a]\naction = " action "\nports = 443\nproto = tls\n"
#define PEER_B              "[peer b]\naddress = 10.9.0.2:4430\npin = " PIN_B "\n" /* 8 to 10 */

static const struct refused pairs[] = {
    {CLASS_PROTO("bypass"), 11, "[class a] has proto with action bypass or deny"},
    {CLASS_PROTO("deny"), 11, "only after the connection was caught"},
    {NODE "[peer dc]\npin = " PIN_A "\nnetworks = 10.2.0.0/24\n", 4,
     "[peer dc] can neither be dialled nor dial"},
    {GOOD "[peer b]\naddress = 10.9.0.2:4430\nnetworks = 10.3.0.0/24\npin = " PIN_B ", " PIN_A "\n", 11,
     "[peer b] has a pin of [peer dc]"},
    {GOOD PEER_B "networks = 10.3.0.0/24,\n  10.2.0.0/24\n", 12,
     "[peer b] networks: 10.2.0.0/24 is a network of [peer dc] already, in line 7"},
    {GOOD PEER_B "networks = 10.3.0.0/24, 10.3.0.0/24\n", 11, "10.3.0.0/24 is a network of [peer b] already"},
    {GOOD PEER_B "networks = ::ffff:10.2.0.0, 10.2.0.0\n", 11, "10.2.0.0/32 is a network of"},
    {GOOD "serve = none\n  10.0.0.0/8\n", 9, "networks cannot follow none"},
    {GOOD "serve = 10.0.0.0/8\n  none\n", 9, "none cannot follow networks"},
    {GOOD "[tunnel]\nlisten = 127.0.0.1:80\n[admin]\nhttp = 127.0.0.1:80\n", 11,
     "the same as [tunnel] listen"},
    {GOOD "[intercept]\nmark = 0x2/0x3\nport = 1\nlane-mark = 0x2/0x6\n", 11, "can be on the same packet"},
};

START_TEST(options_that_contradict_are_an_error_with_a_line)
{
    bad(pairs[_i].text, pairs[_i].line, pairs[_i].words);
}
END_TEST

START_TEST(what_only_looks_like_a_contradiction_is_fine)
{
    good(GOOD PEER_B "networks = 10.2.0.0/25, 10.0.0.0/8, 0.0.0.0/0, ::/0\n");
    good(NODE "[peer dc]\npin = " PIN_A "\nnetworks = 10.2.0.0/24\n[tunnel]\nlisten = 0.0.0.0:4430\n");
    good(CLASS_PROTO("accelerate"));
    good("[class a]\npeer = dc\niface = lan0\n" GOOD
         "[intercept]\ninterface = lan0\n"); /* named before it is there */
    good(GOOD "[tunnel]\nlisten = 10.0.0.1:3129\n");
    good(GOOD "[intercept]\nmark = 0x10/0xf0\nlane-mark = 0x20/0xff\n");
}
END_TEST

START_TEST(too_many_peers_or_classes)
{
    static char text[128 * CONFIG_PEERS_MAX];
    size_t used = (size_t)snprintf(text, sizeof(text), "%s", GOOD);
    for (unsigned i = 0; i <= CONFIG_CLASSES_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "[class c%u]\n", i);
    bad(text, 8 + CONFIG_CLASSES_MAX, "more than 64 classes");
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    used = (size_t)snprintf(text, sizeof(text), "%s[tunnel]\nlisten = 0.0.0.0:4430\n", NODE);
    for (unsigned i = 0; i <= CONFIG_PEERS_MAX; i++)
        used += (size_t)snprintf(
            text + used, sizeof(text) - used,
            "[peer p%u]\npin=%c%c%cAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nnetworks=10.%u.%u.0/24\n", i,
            digits[i >> 12], digits[i >> 6 & 63], digits[i & 63], i >> 8, i & 255);
    ck_assert_uint_lt(used, sizeof(text));
    bad(text, 6 + 3 * CONFIG_PEERS_MAX, "more than 4096 peers");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_refused");
    TCase *cases = tcase_create("config_refused");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, NULL, take_down);
    tcase_add_loop_test(cases, a_bad_form_is_an_error_with_its_line, 0, COUNT_OF(forms));
    tcase_add_loop_test(cases, a_bad_value_is_an_error_with_its_line, 0, COUNT_OF(bad_values));
    tcase_add_loop_test(cases, a_bad_node_value_is_an_error_with_its_line, 0, COUNT_OF(bad_node_values));
    tcase_add_loop_test(cases, options_that_contradict_are_an_error_with_a_line, 0, COUNT_OF(pairs));
    tcase_add_test(cases, what_only_looks_like_a_contradiction_is_fine);
    tcase_add_test(cases, too_many_peers_or_classes);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
