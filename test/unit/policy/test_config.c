/* test_config.c - the INI file: what is read and from which forms of a file, defaults, reload's comparison,
 * the sample files and the manual; test_config_refused.c has what is refused. For test/tree/manual.sh
 * "test_config --manual" prints the manual's OPTIONS part and "test_config --check FILE" reads a file. */
#include "config_case.h"

#include <errno.h>
#include <unistd.h>

#include "hawser/config_table.h"
#include "hawser/log.h"

/* ---- values ---- */

START_TEST(defaults_are_those_of_the_manual)
{
    good(GOOD "[class c]\n");
    const struct config *c = config;
    ck_assert_str_eq(c->name, "here");
    ck_assert_str_eq(c->identity, "/id");
    ck_assert_str_eq(c->user, "");
    ck_assert_uint_ge(c->workers_min, 1);
    ck_assert_uint_eq(c->workers_max, c->workers_min);
    ck_assert_uint_ge(c->memory_bytes, 32u << 20);
    ck_assert_uint_eq(c->sessions_max, 65536);
    ck_assert_uint_eq(c->connect_timeout_us, 10000000);
    ck_assert_int_eq(c->log_level, LOG_LEVEL_INFO);
    ck_assert_uint_eq(c->interface_count, 0);
    ck_assert_uint_eq(c->port, 3129);
    ck_assert_int_eq(c->firewall, CONFIG_FIREWALL_AUTO);
    ck_assert(c->mark.value == 1 && c->mark.mask == 1 && c->lane_mark.value == 2 && c->lane_mark.mask == 2);
    ck_assert_int_eq(c->listen.addr.family, AF_UNSPEC);
    ck_assert_ptr_null(c->store_path);
    ck_assert_uint_eq(c->store_size_bytes, 4ull << 30);
    ck_assert_str_eq(c->control, "/run/hawser/control.sock");
    ck_assert_int_eq(c->http.addr.family, AF_UNSPEC);

    const struct config_peer *p = &c->peers[0];
    ck_assert_uint_eq(c->peer_count, 1);
    ck_assert_str_eq(p->name, "dc");
    ck_assert_uint_eq(p->pin_count, 1);
    ck_assert_uint_eq(p->pins[0][0], 1);
    ck_assert_uint_eq(p->pins[0][31], 0);
    ck_assert(!p->serve_set && p->serve.count == 0);
    ck_assert_int_eq(p->source, CONFIG_SOURCE_CLIENT);
    ck_assert_uint_eq(p->lanes, 2);
    ck_assert_str_eq(p->congestion, "auto");
    ck_assert_uint_eq(p->rate_bits_per_s, 0);
    ck_assert_uint_eq(p->hold_us, 60000000);

    const struct config_class *k = &c->classes[0];
    ck_assert_uint_eq(c->class_count, 1);
    ck_assert_str_eq(k->name, "c");
    ck_assert(k->port_count + k->from.count + k->to.count + k->peer_count + k->iface_count == 0);
    ck_assert(k->dscp_mask == 0 && k->proto_mask == 0);
    ck_assert_int_eq(k->action, CONFIG_ACTION_ACCELERATE);
    ck_assert(k->dedup && k->share);
    ck_assert_int_eq(k->compress, -1);
    ck_assert_uint_eq(k->weight, 1);
    ck_assert(k->limit.bits_per_s == 0 && k->limit.permille == 0);
}
END_TEST

static bool prefixes_are(const struct config_prefixes *prefixes, const char *want)
{
    char all[512] = "", one[PREFIX_TEXT_MAX];
    for (size_t i = 0; i < prefixes->count; i++) {
        strcat(all, i > 0 ? " " : "");
        strcat(all, prefix_format(&prefixes->list[i], one));
    }
    return strcmp(all, want) == 0;
}

static bool endpoint_is(const struct endpoint *e, const char *want)
{
    char text[ENDPOINT_TEXT_MAX];
    return strcmp(endpoint_format(e, text), want) == 0;
}

static const char everything[] =
    "; a comment\n# another\n\n"
    "[ node ]   ; the node\n"
    "name = branch.1_a-b ; who\nidentity = /etc/hawser/a;b\nuser=hawser\nworkers = 2-6\nhomes = 2\nmemory = "
    "512M\n"
    "sessions = 100\nconnect-timeout = 2.5s\nlog = debug\n"
    "[intercept]\ninterface = lan0, eth0.5,\n  br-x\nport = 4000\nfirewall = none\nmark = 0x100/0xf00\n"
    "lane-mark = 512/0xF00\n"
    "[tunnel]\nlisten = [::]:4430\n"
    "[peer one]\npin = " PIN_A ", " PIN_B "\nnetworks = 10.2.0.0/24, fd00:2::/64 ; two\n"
    "\n  ; in between\n  10.3.0.0/16 ; more\n\t10.4.4.4\nsource = auto\nserve = "
    "10.1.0.0/24,10.1.9.0/24\nlanes = 8\n"
    "congestion = cubic\nrate = 1.5mbit\nhold = 0\n"
    "[peer two]\naddress = [fd00::1]:443\npin = //////////////////////////////////////////8=\nnetworks = "
    "10.0.0.0/8\n"
    "source = self\nserve = none\nhold = 1h\n"
    "[store]\npath = /var/lib/hawser store\nsize = 64M\n"
    "[class a]\nports = 873, 27000-28000\nfrom = 10.1.0.0/24\nto = 10.2.0.0/25, ::/0\ndscp = ef, le, 63, "
    "cs1, af31\n"
    "peer = two, one\niface = br-x, lan0\nproto = other, tls\ndedup = no\ncompress = 19\nweight = 0\nlimit = "
    "12.5%\n"
    "[class b]\naction = deny\ncompress = off\nweight = 1000\nlimit = 2gbit\n"
    "[class c]\naction = bypass\ndedup = yes\nshare = yes\n"
    "[class d]\nshare = no\n[class e]\ncompress = off\nshare = no\ndedup = no\n"
    "[admin]\ncontrol = /tmp/c.sock\nhttp = 127.0.0.1:8480\n";

static void check_node_values(const struct config *c)
{
    ck_assert_str_eq(c->name, "branch.1_a-b");
    ck_assert_str_eq(c->identity, "/etc/hawser/a;b"); /* a comment begins after a blank */
    ck_assert_str_eq(c->user, "hawser");
    ck_assert(c->workers_min == 2 && c->workers_max == 6 && c->homes == 2);
    ck_assert_uint_eq(c->memory_bytes, 512u << 20);
    ck_assert_uint_eq(c->sessions_max, 100);
    ck_assert_uint_eq(c->connect_timeout_us, 2500000);
    ck_assert_int_eq(c->log_level, LOG_LEVEL_DEBUG);
    ck_assert_uint_eq(c->interface_count, 3);
    ck_assert_str_eq(c->interfaces[0], "lan0");
    ck_assert_str_eq(c->interfaces[1], "eth0.5");
    ck_assert_str_eq(c->interfaces[2], "br-x");
    ck_assert_uint_eq(c->port, 4000);
    ck_assert_int_eq(c->firewall, CONFIG_FIREWALL_NONE);
    ck_assert(c->mark.value == 0x100 && c->mark.mask == 0xf00);
    ck_assert(c->lane_mark.value == 0x200 && c->lane_mark.mask == 0xf00);
    ck_assert(endpoint_is(&c->listen, "[::]:4430"));
    ck_assert_str_eq(c->store_path, "/var/lib/hawser store");
    ck_assert_uint_eq(c->store_size_bytes, 64u << 20);
    ck_assert_str_eq(c->control, "/tmp/c.sock");
    ck_assert(endpoint_is(&c->http, "127.0.0.1:8480"));
}

static void check_peer_values(const struct config *c)
{
    const struct config_peer *one = &c->peers[0], *two = &c->peers[1];
    ck_assert_uint_eq(c->peer_count, 2);
    ck_assert_int_eq(one->address.addr.family, AF_UNSPEC);
    ck_assert_uint_eq(one->pin_count, 2);
    ck_assert(one->pins[0][0] == 1 && one->pins[1][0] == 2);
    ck_assert(prefixes_are(&one->networks, "10.2.0.0/24 fd00:2::/64 10.3.0.0/16 10.4.4.4/32"));
    ck_assert_int_eq(one->source, CONFIG_SOURCE_AUTO);
    ck_assert(one->serve_set && prefixes_are(&one->serve, "10.1.0.0/24 10.1.9.0/24"));
    ck_assert_uint_eq(one->lanes, 8);
    ck_assert_str_eq(one->congestion, "cubic");
    ck_assert_uint_eq(one->rate_bits_per_s, 1500000);
    ck_assert_uint_eq(one->hold_us, 0);
    ck_assert_str_eq(two->name, "two");
    ck_assert(endpoint_is(&two->address, "[fd00::1]:443"));
    ck_assert_uint_eq(two->pin_count, 1);
    for (size_t i = 0; i < CONFIG_PIN_BYTES; i++)
        ck_assert_uint_eq(two->pins[0][i], 0xff);
    ck_assert_int_eq(two->source, CONFIG_SOURCE_SELF);
    ck_assert(two->serve_set && two->serve.count == 0);
    ck_assert_uint_eq(two->hold_us, 3600000000);
}

static void check_class_values(const struct config *c)
{
    const struct config_class *a = &c->classes[0], *b = &c->classes[1];
    ck_assert_uint_eq(c->class_count, 5);
    ck_assert_uint_eq(a->port_count, 2);
    ck_assert(a->ports[0].first == 873 && a->ports[0].last == 873);
    ck_assert(a->ports[1].first == 27000 && a->ports[1].last == 28000);
    ck_assert(prefixes_are(&a->from, "10.1.0.0/24") && prefixes_are(&a->to, "10.2.0.0/25 ::/0"));
    ck_assert_uint_eq(a->dscp_mask, 1ull << 46 | 1ull << 1 | 1ull << 63 | 1ull << 8 | 1ull << 26);
    ck_assert_uint_eq(a->peer_count, 2);
    ck_assert_str_eq(a->peers[0], "two");
    ck_assert_str_eq(a->peers[1], "one");
    ck_assert_uint_eq(a->iface_count, 2);
    ck_assert_str_eq(a->ifaces[0], "br-x");
    ck_assert_uint_eq(a->proto_mask, CONFIG_PROTO_OTHER | CONFIG_PROTO_TLS);
    ck_assert_int_eq(a->action, CONFIG_ACTION_ACCELERATE);
    ck_assert(!a->dedup);
    ck_assert_int_eq(a->compress, 19);
    ck_assert_uint_eq(a->weight, 0);
    ck_assert(a->limit.permille == 125 && a->limit.bits_per_s == 0);
    ck_assert_int_eq(b->action, CONFIG_ACTION_DENY);
    ck_assert_int_eq(b->compress, 0);
    ck_assert_uint_eq(b->weight, 1000);
    ck_assert(b->limit.permille == 0 && b->limit.bits_per_s == 2000000000);
    ck_assert_int_eq(c->classes[2].action, CONFIG_ACTION_BYPASS);
    ck_assert(c->classes[2].dedup && c->classes[2].share);
    for (size_t i = 3; i < 5; i++)
        ck_assert(!c->classes[i].share && !c->classes[i].dedup && c->classes[i].compress == 0);
}

START_TEST(every_option_reaches_its_field)
{
    good(everything);
    check_node_values(config);
    check_peer_values(config);
    check_class_values(config);
}
END_TEST

/* So that an option that is added cannot be forgotten here. */
START_TEST(everything_has_every_option)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        char heading[80], key[80];
        bool found = false;
        snprintf(heading, sizeof(heading), config_sections[o->section].named ? "\n[%s " : "\n[%s]",
                 config_sections[o->section].word);
        if (o->section == CONFIG_SECTION_NODE)
            snprintf(heading, sizeof(heading), "\n[ node ]");
        for (const char *s = strstr(everything, heading); s != NULL && !found; s = strstr(s + 1, heading)) {
            const char *end = strstr(s + 1, "\n[");
            const char *at;
            snprintf(key, sizeof(key), "\n%s =", o->key);
            at = strstr(s, key);
            if (at == NULL || (end != NULL && at > end)) {
                snprintf(key, sizeof(key), "\n%s=", o->key);
                at = strstr(s, key);
            }
            found = at != NULL && (end == NULL || at < end);
        }
        ck_assert_msg(found, "[%s] %s is not in the text that tests every option",
                      config_sections[o->section].word, o->key);
    }
}
END_TEST

START_TEST(memory_and_workers_depend_on_the_machine)
{
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    good("[node]\nname = a\nidentity = b\nmemory = 50%\nworkers = 3\n" PEER);
    ck_assert_uint_le(config->memory_bytes, machine / 2);
    ck_assert_uint_ge(config->memory_bytes, machine / 2 - 1000);
    ck_assert(config->workers_min == 3 && config->workers_max == 3);
    good("[node]\nname = a\nidentity = b\nworkers = auto\n" PEER);
    ck_assert_uint_eq(config->workers_min, config->workers_max);
    ck_assert_uint_le(config->workers_max, CONFIG_WORKERS_MAX);
}
END_TEST

/* ---- the file's form ---- */

START_TEST(whole_sections_may_be_indented)
{
    good("  [node]\n    name = here\n    identity = /id\n"
         "  [peer dc]\n    address = 10.9.0.1:4430\n    pin = " PIN_B ",\n       " PIN_A
         "\n    networks = 10.2.0.0/24\n");
    ck_assert_str_eq(config->identity, "/id");
    ck_assert_uint_eq(config->peers[0].pin_count, 2); /* a pin ends with '=' and is still no key */
    ck_assert_uint_eq(config->peers[0].pins[1][0], 1);
}
END_TEST

START_TEST(line_ends_and_byte_order_mark)
{
    good("\xEF\xBB\xBF[node]\r\nname = here\r\nidentity = /id\r\n\r\n[peer dc]\r\naddress = "
         "10.9.0.1:4430\r\npin = " PIN_A "\r\nnetworks = 10.2.0.0/24"); /* and no line end at the end */
    ck_assert_str_eq(config->identity, "/id");
    ck_assert(prefixes_are(&config->peers[0].networks, "10.2.0.0/24"));
}
END_TEST

START_TEST(long_names_are_not_cut)
{
    /* libinih keeps 49 bytes of a heading, so these two would be one. */
    static const char name[] = "a123456789b123456789c123456789d123456789e123456789f12345678901";
    char text[1024];
    snprintf(text, sizeof(text),
             NODE "[peer %s1]\naddress = 10.9.0.1:1\npin = " PIN_A "\nnetworks = 10.1.0.0/24\n"
                  "[peer %s2]\naddress = 10.9.0.2:1\npin = " PIN_B "\nnetworks = 10.2.0.0/24\n",
             name, name);
    good(text);
    ck_assert_uint_eq(config->peer_count, 2);
    ck_assert_uint_eq(strlen(config->peers[1].name), CONFIG_NAME_MAX - 1);
    ck_assert_int_eq(config->peers[1].name[CONFIG_NAME_MAX - 2], '2');
    snprintf(text, sizeof(text), NODE "[peer %s12]\n", name);
    bad(text, 4, "at most 63 letters");
}
END_TEST

START_TEST(a_line_may_have_as_many_bytes_as_inih_takes)
{
    char line[CONFIG_LINE_MAX + 2], text[1024];
    snprintf(line, sizeof(line), "identity = /%0*d", CONFIG_LINE_MAX - 12, 0);
    ck_assert_uint_eq(strlen(line), CONFIG_LINE_MAX);
    snprintf(text, sizeof(text), "[node]\nname = here\n%s\r\n" PEER, line);
    good(text);
    ck_assert_uint_eq(strlen(config->identity), CONFIG_LINE_MAX - 11);
    strcat(line, "0");
    snprintf(text, sizeof(text), "[node]\nname = here\n%s\n" PEER, line);
    bad(text, 3, "the line has 199 bytes, and 198 is the most");
    snprintf(text, sizeof(text), NODE PEER "; %0*d\n", CONFIG_LINE_MAX,
             0); /* the rest would not be a comment */
    bad(text, 8, "the line has 200 bytes");
}
END_TEST

START_TEST(a_nul_byte_is_refused)
{
    static const char text[] = NODE "user = haw\0ser\n" PEER;
    bad_bytes(text, sizeof(text) - 1, 4, "NUL");
    static const char last[] = GOOD "\0";
    bad_bytes(last, sizeof(last) - 1, 8, "NUL");
}
END_TEST

START_TEST(messages_hold_no_control_bytes)
{
    bad(NODE "\033[31mx\007 = 1\n", 4, "unknown key '?[31mx?'");
}
END_TEST

/* ---- files, reload, lifetime, manual ---- */

static const char *source_path(const char *path)
{
    static char whole[4096];
    const char *root = getenv("HAWSER_SOURCE");
    ck_assert_msg(root != NULL, "set HAWSER_SOURCE to the source tree, as ctest does");
    snprintf(whole, sizeof(whole), "%s/%s", root, path);
    return whole;
}

START_TEST(the_sample_files_are_right)
{
    int err = config_load(&config, source_path("etc/branch.ini"), error);
    ck_assert_msg(err == 0, "%s", error);
    ck_assert_str_eq(config->name, "branch");
    ck_assert_uint_eq(config->interface_count, 1);
    ck_assert(endpoint_is(&config->peers[0].address, "10.9.0.1:4430"));
    ck_assert_int_eq(config->listen.addr.family, AF_UNSPEC);
    ck_assert_uint_eq(config->class_count, 3);
    ck_assert_str_eq(config->peers[0].name, "dc");
    take_down();
    err = config_load(&config, source_path("etc/datacentre.ini"), error);
    ck_assert_msg(err == 0, "%s", error);
    ck_assert_str_eq(config->name, "dc"); /* each is the other's peer, by its own name */
    ck_assert_str_eq(config->peers[0].name, "branch");
    ck_assert_str_eq(config->interfaces[0], "lan0");
    ck_assert(endpoint_is(&config->listen, "0.0.0.0:4430"));
    ck_assert_uint_eq(config->peer_count, 2);
    ck_assert_uint_eq(config->peers[1].pin_count, 2);
    ck_assert(prefixes_are(&config->peers[1].networks, "10.3.0.0/24 10.3.8.0/22 fd00:3::/64"));
}
END_TEST

/* Every option that this version has no use for yet, and nothing else. */
START_TEST(what_has_no_effect_yet_is_said_once_with_its_line)
{
    size_t lines = 0, unbuilt = 0;
    int err = config_load(&config, source_path("test/fuzz/corpus/config/everything.ini"), error);
    ck_assert_msg(err == 0, "%s", error);
    for (const char *at = config->warnings; at != NULL && *at != '\0'; at = strchr(at, '\n') + 1)
        lines++;
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        if (o->unbuilt == NULL)
            continue;
        unbuilt++;
        ck_assert_msg(config->warnings != NULL && strstr(config->warnings, o->unbuilt) != NULL, "%s", o->key);
    }
    ck_assert_uint_eq(lines, unbuilt);
    good(GOOD "[intercept]\ninterface = lan0\n[class a]\nweight = 2\n");
    ck_assert_ptr_null(config->warnings);
}
END_TEST

START_TEST(a_node_that_serves_nothing_is_warned)
{
    good(GOOD);
    ck_assert_ptr_nonnull(strstr(config->warnings, "f.ini:7: neither [intercept] interface nor"));
    good(GOOD "serve = 10.1.0.0/24\n");
    ck_assert_ptr_null(config->warnings);
}
END_TEST

START_TEST(a_size_of_a_store_without_a_folder_is_warned)
{
    good(GOOD "[intercept]\ninterface = lan0\n[store]\nsize = 1G\n");
    ck_assert_ptr_nonnull(config->warnings);
    ck_assert_ptr_nonnull(strstr(config->warnings, "f.ini:11: [store] size has no effect without path"));
    good(GOOD "[intercept]\ninterface = lan0\n[store]\nsize = 1G\npath = /var/lib/hawser\n");
    ck_assert_ptr_null(config->warnings);
}
END_TEST

START_TEST(a_file_that_cannot_be_read_says_why)
{
    ck_assert_int_eq(config_load(&config, "/nonexistent/hawser.ini", error), -ENOENT);
    ck_assert_ptr_nonnull(strstr(error, "/nonexistent/hawser.ini: cannot be read: No such file"));
    ck_assert_int_eq(config_load(&config, "/", error), -EISDIR);
    ck_assert_int_eq(config_load(&config, "/dev/zero", error), -EFBIG); /* an end without an end */
    ck_assert_ptr_nonnull(strstr(error, "larger than 16 MB"));
    ck_assert_ptr_null(config);
}
END_TEST

START_TEST(a_reload_says_what_needs_a_restart)
{
    char keys[CONFIG_KEYS_BYTES], cut[8];
    good(everything);
    struct config *was = config_ref(config);
    good(everything);
    ck_assert_int_eq(config_restart_needed(was, config, keys, sizeof(keys)), 0);
    ck_assert_str_eq(keys, "");

    /* Peers, classes, budgets and the log level are applied while running. */
    good(GOOD "[class other]\n");
    struct config *other = config_ref(config);
    good(NODE "sessions = 5\nconnect-timeout = 1s\nlog = warn\n" PEER
              "[peer b]\naddress = 10.9.0.2:4430\npin = " PIN_B "\nnetworks = 10.4.0.0/24\n");
    ck_assert_int_eq(config_restart_needed(other, config, keys, sizeof(keys)), 0);
    config_unref(other);

    ck_assert_int_eq(config_restart_needed(was, config, keys, sizeof(keys)), 16);
    ck_assert_str_eq(
        keys, "[node] name, [node] identity, [node] user, [node] workers, [node] homes, [node] memory, "
              "[intercept] interface, [intercept] port, [intercept] firewall, [intercept] mark, "
              "[intercept] lane-mark, [tunnel] listen, [store] path, [store] size, [admin] control, "
              "[admin] http");
    ck_assert_int_eq(config_restart_needed(config, was, cut, sizeof(cut)), 16);
    ck_assert_str_eq(cut, "[node] ");
    config_unref(was);
}
END_TEST

START_TEST(the_last_reference_frees)
{
    good(GOOD);
    ck_assert_ptr_eq(config_ref(config), config);
    config_unref(config);
    ck_assert_str_eq(config->name, "here"); /* still there: the sanitizer would know */
    config_unref(NULL);
}
END_TEST

START_TEST(the_manual_has_every_option)
{
    char *text = NULL, want[128];
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    ck_assert_ptr_nonnull(to);
    config_print_manual(to);
    fclose(to);
    for (size_t i = 0; i < config_option_count; i++) {
        size_t used = (size_t)snprintf(want, sizeof(want), "\n.B ");
        for (const char *c = config_options[i].key; *c != '\0'; c++)
            used += (size_t)snprintf(want + used, sizeof(want) - used, *c == '-' ? "\\%c" : "%c", *c);
        snprintf(want + used, sizeof(want) - used, " = ");
        ck_assert_msg(strstr(text, want) != NULL, "%s is not in the manual", config_options[i].key);
        ck_assert_ptr_nonnull(config_options[i].help);
        ck_assert_msg(config_options[i].flags & CONFIG_REQUIRED || config_options[i].fallback != NULL ||
                          config_options[i].absent != NULL,
                      "the manual does not say what happens without %s", config_options[i].key);
    }
    free(text);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--manual") == 0) {
        config_print_manual(stdout);
        return EXIT_SUCCESS;
    }
    if (argc == 3 && strcmp(argv[1], "--check") == 0) {
        if (config_load(&config, argv[2], error) < 0)
            fprintf(stderr, "%s\n", error);
        int found = config != NULL;
        take_down();
        return found ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    Suite *suite = suite_create("config");
    TCase *cases = tcase_create("config");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, NULL, take_down);
    tcase_add_test(cases, defaults_are_those_of_the_manual);
    tcase_add_test(cases, every_option_reaches_its_field);
    tcase_add_test(cases, everything_has_every_option);
    tcase_add_test(cases, memory_and_workers_depend_on_the_machine);
    tcase_add_test(cases, whole_sections_may_be_indented);
    tcase_add_test(cases, line_ends_and_byte_order_mark);
    tcase_add_test(cases, long_names_are_not_cut);
    tcase_add_test(cases, a_line_may_have_as_many_bytes_as_inih_takes);
    tcase_add_test(cases, a_nul_byte_is_refused);
    tcase_add_test(cases, messages_hold_no_control_bytes);
    tcase_add_test(cases, the_sample_files_are_right);
    tcase_add_test(cases, what_has_no_effect_yet_is_said_once_with_its_line);
    tcase_add_test(cases, a_node_that_serves_nothing_is_warned);
    tcase_add_test(cases, a_size_of_a_store_without_a_folder_is_warned);
    tcase_add_test(cases, a_file_that_cannot_be_read_says_why);
    tcase_add_test(cases, a_reload_says_what_needs_a_restart);
    tcase_add_test(cases, the_last_reference_frees);
    tcase_add_test(cases, the_manual_has_every_option);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
