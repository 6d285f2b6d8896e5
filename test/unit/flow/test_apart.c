/* test_apart.c - which sessions stay out of the store: by their class, and by what their first bytes say. */
#include "flow/rig.h"

enum { BYTES = 300000, WORDS_MAX = 64 };

enum class { PLAIN, NODEDUP, ALONE };
#define CLASSES "[class plain]\n[class nodedup]\ndedup = no\n[class alone]\nshare = no\n"

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

struct taken {
    struct rig_node *node;
    uint64_t bytes;
};

static void read_taken(void *arg)
{
    struct taken *t = arg;
    struct store_counters c;
    store_read_counters(t->node->home.store, &c);
    t->bytes = c.taken_bytes;
}

/* What the node's hosts sent through its store so far. */
static uint64_t taken_by(int number)
{
    struct taken t = {.node = &rig.nodes[number]};
    rig_on(t.node->home.loop, read_taken, &t);
    return t.bytes;
}

static void say(int from, int to, const char *words)
{
    ssize_t len = (ssize_t)strlen(words);
    char heard[WORDS_MAX];
    ck_assert_int_eq(send(from, words, (size_t)len, MSG_NOSIGNAL), len);
    rig_until(recv(to, heard, (size_t)len, MSG_PEEK) == len);
    ck_assert_int_eq(recv(to, heard, (size_t)len, 0), len);
    ck_assert_int_eq(memcmp(heard, words, (size_t)len), 0);
}

enum speaker { NOBODY, CLIENT, SERVER };

/* A session of that class carries BYTES each way, after the words of whoever speaks first have arrived. */
static void carry(enum class class, enum speaker first, const char *words)
{
    struct rig_host hosts[2];
    int client = rig_connect_class(&rig, 0, port, (int)class), server = rig_accept(listener);
    if (first == CLIENT)
        say(client, server, words);
    else if (first == SERVER)
        say(server, client, words);
    rig_hosts(hosts, client, server, BYTES, BYTES);
    rig_transfer(hosts, 2);
    ck_assert(hosts[0].err == 0 && hosts[1].err == 0);
    close(client);
    close(server);
    rig_until(rig_sessions(&rig) == 0);
}

START_TEST(other_sessions_go_through_it)
{
    carry(PLAIN, NOBODY, NULL);
    ck_assert_uint_ge(taken_by(0), BYTES / 2); /* the shortest reads go by it */
    ck_assert_uint_ge(taken_by(1), BYTES / 2);
}
END_TEST

START_TEST(dedup_no_keeps_both_directions_out)
{
    carry(NODEDUP, NOBODY, NULL);
    ck_assert_uint_eq(taken_by(0), 0);
    ck_assert_uint_eq(taken_by(1), 0);
}
END_TEST

START_TEST(share_no_keeps_both_directions_out)
{
    carry(ALONE, NOBODY, NULL);
    ck_assert_uint_eq(taken_by(0), 0);
    ck_assert_uint_eq(taken_by(1), 0);
}
END_TEST

static const struct {
    enum speaker first;
    const char *words;
    bool encrypted;
} beginnings[] = {
    {CLIENT, "SSH-2.0-OpenSSH_9.2\r\n", true},     {SERVER, "SSH-2.0-OpenSSH_9.2\r\n", true},
    {CLIENT, "\x16\x03\x01\x02\x01\x01", true},    {CLIENT, "GET / HTTP/1.1\r\n\r\n", false},
    {SERVER, "220 mail.example ESMTP\r\n", false},
};

START_TEST(encrypted_sessions_stay_out_whoever_speaks_first)
{
    carry(PLAIN, beginnings[_i].first, beginnings[_i].words);
    for (int node = 0; node < 2; node++)
        ck_assert_msg((taken_by(node) == 0) == beginnings[_i].encrypted, "node %d took %llu", node,
                      (unsigned long long)taken_by(node));
}
END_TEST

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, other_sessions_go_through_it);
    tcase_add_test(t, dedup_no_keeps_both_directions_out);
    tcase_add_test(t, share_no_keeps_both_directions_out);
    tcase_add_loop_test(t, encrypted_sessions_stay_out_whoever_speaks_first, 0,
                        sizeof(beginnings) / sizeof(beginnings[0]));
}

int main(void)
{
    return rig_main("apart", add);
}
