/* test_traffic.c - what is counted of sessions, classes and peers, at both ends. */
#include "flow/rig.h"

enum { BYTES = 2000000, AGAIN = 3 };
enum class { GOLD, APART };
#define CLASSES "[class gold]\n[class apart]\ndedup = no\n"

static struct rig rig;
static int listener;
static uint16_t port;

static void set_up(void)
{
    listener = rig_listen(&port);
    rig_start(&rig, (struct rig_options){.classes = CLASSES, .stores = true});
    rig_wait_up(&rig);
}

static void tear_down(void)
{
    rig_end(&rig);
    close(listener);
}

struct seen {
    struct rig_node *node;
    struct mux_totals totals;
    struct mux_class_report classes[3];
    struct mux_session_report session;
    unsigned sessions;
};

static void see_session(void *arg, const struct mux_session_report *r)
{
    struct seen *seen = arg;
    seen->session = *r;
    seen->sessions++;
}

static void look(void *arg)
{
    struct seen *seen = arg;
    mux_read_totals(seen->node->mux, &seen->totals);
    for (size_t i = 0; i < 3; i++)
        ck_assert(mux_report_class(seen->node->mux, i, &seen->classes[i]));
    ck_assert(!mux_report_class(seen->node->mux, 3, &seen->classes[0]));
    mux_each_session(seen->node->mux, see_session, seen);
}

static struct seen look_at(int number)
{
    struct seen seen = {.node = &rig.nodes[number]};
    rig_on(seen.node->home.loop, look, &seen);
    return seen;
}

/* The server sends the same every time. */
static void download(enum class class)
{
    struct rig_host hosts[2];
    int client = rig_connect_class(&rig, 0, port, (int)class), server = rig_accept(listener);
    rig_hosts(hosts, client, server, 0, BYTES);
    hosts[1].seed_out = hosts[0].seed_in = 42;
    rig_transfer(hosts, 2);
    ck_assert(hosts[0].err == 0 && hosts[1].err == 0);
    close(client);
    close(server);
    rig_until(rig_sessions(&rig) == 0);
}

static void assert_same(const struct mux_traffic *sent, const struct mux_traffic *came)
{
    ck_assert_uint_eq(sent->bytes, came->bytes);
    ck_assert_uint_eq(sent->saved_bytes, came->saved_bytes);
    ck_assert_uint_eq(sent->wire_bytes, came->wire_bytes);
}

START_TEST(both_ends_count_the_same)
{
    for (unsigned i = 0; i < AGAIN; i++)
        download(GOLD);
    download(APART);
    struct seen near = look_at(0), far = look_at(1);
    const struct mux_traffic *gold = &far.classes[GOLD].sent, *apart = &far.classes[APART].sent;
    assert_same(&far.totals.sent, &near.totals.came);
    assert_same(gold, &near.classes[GOLD].came);
    assert_same(apart, &near.classes[APART].came);
    ck_assert_uint_eq(far.totals.sent.bytes, (AGAIN + 1) * BYTES);
    ck_assert_uint_eq(far.totals.in_bytes, far.totals.sent.bytes);
    ck_assert_uint_eq(far.totals.sent.wire_bytes, gold->wire_bytes + apart->wire_bytes);
    ck_assert_uint_eq(far.classes[2].sent.bytes, 0);

    ck_assert_uint_eq(gold->bytes, AGAIN * BYTES);
    ck_assert_uint_gt(gold->saved_bytes, (AGAIN - 1) * BYTES - BYTES / 10);
    ck_assert_uint_le(gold->saved_bytes, (AGAIN - 1) * BYTES);
    ck_assert_uint_ge(gold->wire_bytes, gold->bytes - gold->saved_bytes);
    ck_assert_uint_lt(gold->wire_bytes, gold->bytes - gold->saved_bytes + BYTES / 10);
    ck_assert_uint_eq(apart->saved_bytes, 0);
    ck_assert_uint_gt(apart->wire_bytes, BYTES); /* frames have headers: less than nothing is saved */
}
END_TEST

static void reconfigure(void *arg)
{
    struct rig_node *n = arg;
    struct config *c = rig_config(&rig, n->number, "[class new]\n[class gold]\nweight = 5\n", 2);
    mux_reconfigure(n->mux, c, 0);
    config_unref(c);
}

START_TEST(a_class_goes_on_counting_after_a_reload)
{
    download(GOLD);
    struct mux_traffic before = look_at(1).classes[GOLD].sent;
    ck_assert_uint_eq(before.bytes, BYTES);
    rig_on(rig.nodes[1].home.loop, reconfigure, &rig.nodes[1]);
    struct seen far = look_at(1);
    ck_assert_str_eq(far.classes[1].name, "gold");
    ck_assert_uint_eq(far.classes[1].sent.bytes, before.bytes);
    ck_assert_uint_eq(far.classes[1].sent.wire_bytes, before.wire_bytes);
    ck_assert_uint_eq(far.classes[0].sent.bytes, 0);
    ck_assert_uint_eq(far.totals.sent.bytes, BYTES);
}
END_TEST

static const struct {
    const char *words;
    bool encrypted;
} beginnings[] = {{"SSH-2.0-OpenSSH_9.2\r\n", true}, {"220 mail.example ESMTP\r\n", false}};

START_TEST(a_session_says_whether_it_is_encrypted)
{
    int client = rig_connect_class(&rig, 0, port, GOLD), server = rig_accept(listener);
    const char *words = beginnings[_i].words;
    ssize_t len = (ssize_t)strlen(words);
    char heard[64];
    ck_assert_int_eq(send(server, words, (size_t)len, MSG_NOSIGNAL), len);
    rig_until(recv(client, heard, sizeof(heard), MSG_PEEK) == len);
    for (int i = 0; i < 2; i++) {
        struct seen seen = look_at(i);
        ck_assert_uint_eq(seen.sessions, 1);
        ck_assert(seen.session.encrypted == beginnings[_i].encrypted);
        ck_assert_uint_eq((i == 0 ? seen.session.came : seen.session.sent).bytes, (uint64_t)len);
    }
    close(client);
    close(server);
    rig_until(rig_sessions(&rig) == 0);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, both_ends_count_the_same);
    tcase_add_test(t, a_class_goes_on_counting_after_a_reload);
    tcase_add_loop_test(t, a_session_says_whether_it_is_encrypted, 0, 2);
}

int main(void)
{
    return rig_main("traffic", add);
}
