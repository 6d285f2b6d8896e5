/* test_control_server.c - what hawserctl meets: whole and broken requests, reports, clients that leave, an
 * end in between. */
#include "hawser/control_server.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hawser/clock.h"
#include "hawser/control.h"
#include "hawser/log.h"

enum { HANG_US = 30000000 };

static struct node *node;
static struct landscape *land;
static struct control_server *server;
static char path[64];
static _Atomic bool held;

static void set_up(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    log_set_level(LOG_LEVEL_ERROR);
    signal(SIGPIPE, SIG_IGN); /* as the keeper does for both processes */
    snprintf(path, sizeof(path), "/tmp/hawser-control-%d", (int)getpid());
    strcpy(sa.sun_path, path);
    node = calloc(1, sizeof(*node));
    land = calloc(1, sizeof(*land));
    land->config = calloc(1, sizeof(*land->config));
    land->config->memory_bytes = 64 << 20;
    atomic_init(&land->refs, 1000);
    node->landscape = land;
    strcpy(node->name, "branch");
    node->started_us = clock_now_us();
    pthread_mutex_init(&node->peers_lock, NULL);
    TAILQ_INIT(&node->peers);
    ck_assert_int_eq(loop_new(&node->loop), 0);
    unlink(path);
    node->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(node->control_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(listen(node->control_fd, 128), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(worker_start(node, true), 0);
    ck_assert_int_eq(control_server_new(&server, node), 0);
    atomic_store(&held, false);
}

static void tear_down(void)
{
    control_server_free(server);
    atomic_store(&held, false);
    workers_stop(node);
    loop_free(node->loop);
    close(node->control_fd);
    unlink(path);
    pthread_mutex_destroy(&node->peers_lock);
    free(land->config);
    free(land);
    free(node);
}

static int client(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    strcpy(sa.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void say(int fd, const char *text, size_t len)
{
    ck_assert_int_eq(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void turns(int count)
{
    for (int i = 0; i < count; i++)
        event_base_loop(loop_base(node->loop), EVLOOP_NONBLOCK);
}

/* The answer, up to the server's close; closes fd. NULL: closed without one. */
static json_t *answer(int fd)
{
    static char text[1 << 16];
    size_t len = 0;
    uint64_t began_us = clock_now_us();
    for (;;) {
        turns(1);
        ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
        if (n > 0)
            len += (size_t)n;
        if (n == 0 || (n < 0 && errno != EAGAIN))
            break;
        ck_assert_msg(clock_now_us() - began_us < HANG_US, "no answer and no close");
    }
    close(fd);
    text[len] = '\0';
    if (len == 0)
        return NULL;
    json_error_t error;
    json_t *document = json_loads(text, 0, &error);
    ck_assert_msg(document != NULL, "'%s' is no JSON: %s", text, error.text);
    ck_assert_int_eq(text[len - 1], '\n');
    return document;
}

static json_t *ask(const char *request)
{
    int fd = client();
    say(fd, request, strlen(request));
    return answer(fd);
}

static void expect_error(json_t *document, const char *part)
{
    const char *text = json_string_value(json_object_get(document, "error"));
    ck_assert_msg(text != NULL && strstr(text, part) != NULL, "'%s' has no '%s'",
                  text != NULL ? text : "no error", part);
    json_decref(document);
}

START_TEST(status_says_who_we_are)
{
    json_t *d = ask("status\n");
    ck_assert_str_eq(json_string_value(json_object_get(d, "node")), "branch");
    ck_assert_str_eq(json_string_value(json_object_get(d, "version")), HAWSER_VERSION);
    ck_assert_uint_eq(json_array_size(json_object_get(d, "workers")), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(d, "memory_cap_bytes")), 64 << 20);
    ck_assert(json_is_boolean(json_object_get(d, "accepting")));
    json_decref(d);
}
END_TEST

static const char *const lists[] = {"peers\n", "lanes\n", "sessions\n", "classes\n"};

START_TEST(a_list_visits_the_workers_and_comes_back)
{
    json_t *d = ask(lists[_i]);
    ck_assert(json_is_array(d));
    ck_assert_uint_eq(json_array_size(d), 0);
    json_decref(d);
}
END_TEST

START_TEST(every_bypass_reason_is_told)
{
    bypass_note(&node->bypass, BYPASS_PEER_DOWN, "a test");
    json_t *d = ask("bypass\n");
    ck_assert_uint_eq(json_array_size(d), BYPASS_COUNT);
    for (size_t i = 0; i < BYPASS_COUNT; i++) {
        json_t *e = json_array_get(d, i);
        bool noted = json_integer_value(json_object_get(e, "number")) == 1;
        ck_assert_int_eq(json_integer_value(json_object_get(e, "count")), noted);
        ck_assert(json_is_null(json_object_get(e, "last_s_ago")) == !noted);
    }
    json_decref(d);
}
END_TEST

/* Every line of the exposition format is a comment or a name, labels and a number. */
START_TEST(metrics_are_lines_of_the_format)
{
    json_t *d = ask("metrics\n");
    const char *at = json_string_value(json_object_get(d, "text"));
    ck_assert_ptr_nonnull(at);
    int lines = 0;
    for (const char *end; (end = strchr(at, '\n')) != NULL; at = end + 1, lines++) {
        if (*at == '#') {
            ck_assert(strncmp(at, "# HELP ", 7) == 0 || strncmp(at, "# TYPE ", 7) == 0);
            continue;
        }
        ck_assert_int_eq(strncmp(at, "hawser_", 7), 0);
        const char *value = end;
        while (value > at && value[-1] != ' ')
            value--;
        char *rest;
        strtod(value, &rest);
        ck_assert(rest == end && rest > value);
    }
    ck_assert_int_eq(*at, '\0');
    ck_assert_int_gt(lines, BYPASS_COUNT);
    json_decref(d);
}
END_TEST

START_TEST(a_request_may_come_in_pieces)
{
    int fd = client();
    for (const char *c = "status\n"; *c != '\0'; c++) {
        say(fd, c, 1);
        turns(3);
    }
    json_t *d = answer(fd);
    ck_assert_ptr_nonnull(json_object_get(d, "node"));
    json_decref(d);
}
END_TEST

START_TEST(a_client_may_shut_down_its_side_after_the_request)
{
    int fd = client();
    say(fd, "peers\n", 6);
    shutdown(fd, SHUT_WR);
    json_t *d = answer(fd);
    ck_assert(json_is_array(d));
    json_decref(d);
}
END_TEST

START_TEST(what_is_no_verb_is_an_error)
{
    expect_error(ask("nonsense\n"), "verb");
    expect_error(ask("\n"), "verb");
    expect_error(ask("status \n"), "verb");
    expect_error(ask("STATUS\n"), "verb");
}
END_TEST

START_TEST(a_long_request_is_an_error)
{
    char text[2 * CONTROL_REQUEST_MAX];
    memset(text, 'a', sizeof(text));
    int fd = client();
    say(fd, text, CONTROL_REQUEST_MAX);
    expect_error(answer(fd), "long");
    text[CONTROL_REQUEST_MAX - 1] = '\n'; /* the longest that fits, and one more */
    fd = client();
    say(fd, text, CONTROL_REQUEST_MAX);
    expect_error(answer(fd), "verb");
    text[CONTROL_REQUEST_MAX - 1] = 'a';
    text[CONTROL_REQUEST_MAX] = '\n';
    fd = client();
    say(fd, text, CONTROL_REQUEST_MAX + 1);
    expect_error(answer(fd), "long");
}
END_TEST

START_TEST(a_silent_client_is_sent_away)
{
    expect_error(answer(client()), "no request");
}
END_TEST

START_TEST(clients_that_leave_take_nothing_with_them)
{
    for (int i = 0; i < 300; i++) {
        int fd = client();
        if (i % 3 > 0)
            say(fd, i % 3 == 1 ? "stat" : "peers\n", i % 3 == 1 ? 4 : 6);
        if (i % 2 == 0)
            turns(2);
        close(fd);
        turns(1);
    }
    /* reports that nobody waits for any more still hold their clients' places for a moment */
    json_t *d = ask("status\n");
    uint64_t began_us = clock_now_us();
    while (json_object_get(d, "node") == NULL && clock_now_us() - began_us < HANG_US) {
        json_decref(d);
        poll(NULL, 0, 1); /* the workers are to run */
        turns(1);
        d = ask("status\n");
    }
    ck_assert_ptr_nonnull(json_object_get(d, "node"));
    json_decref(d);
}
END_TEST

START_TEST(past_the_most_clients_the_next_is_closed)
{
    int fds[100];
    for (int i = 0; i < 100; i++)
        fds[i] = client();
    turns(300);
    int open = 0;
    for (int i = 0; i < 100; i++) {
        char c;
        open += recv(fds[i], &c, 1, 0) < 0 && errno == EAGAIN;
    }
    ck_assert_int_eq(open, 64);
    for (int i = 0; i < 100; i++)
        close(fds[i]);
    turns(10);
    json_t *d = ask("status\n");
    ck_assert_ptr_nonnull(json_object_get(d, "node"));
    json_decref(d);
}
END_TEST

static void hold(struct worker *w, void *arg)
{
    (void)w;
    (void)arg;
    while (atomic_load(&held))
        sched_yield();
}

/* The engine stops while a report is with a worker: what comes back finds no server. */
START_TEST(the_server_ends_while_a_report_is_under_way)
{
    atomic_store(&held, true);
    ck_assert_int_eq(worker_call(node->workers[_i], hold, NULL), 0);
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = client();
        say(fds[i], "sessions\n", 9);
    }
    close(fds[0]);
    turns(100);
    control_server_free(server);
    server = NULL;
    atomic_store(&held, false);
    workers_stop(node);
    turns(100);
    close(fds[1]);
    close(fds[2]);
}
END_TEST

/* A worker is busy for longer than a request may take to come: the answer still comes. */
START_TEST(a_slow_report_is_answered)
{
    atomic_store(&held, true);
    ck_assert_int_eq(worker_call(node->workers[0], hold, NULL), 0);
    int fd = client();
    say(fd, "peers\n", 6);
    uint64_t until_us =
        clock_now_us() +
        (CONTROL_REQUEST_MS + 1000) * 1000ull; /* not a wait for something: the patience is what is tried */
    while (clock_now_us() < until_us) {
        turns(1);
        poll(NULL, 0, 10);
    }
    atomic_store(&held, false);
    json_t *d = answer(fd);
    ck_assert_msg(json_is_array(d), "the client was sent away without an answer");
    json_decref(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("control server");
    TCase *t = tcase_create("control server");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, status_says_who_we_are);
    tcase_add_loop_test(t, a_list_visits_the_workers_and_comes_back, 0, 4);
    tcase_add_test(t, every_bypass_reason_is_told);
    tcase_add_test(t, metrics_are_lines_of_the_format);
    tcase_add_test(t, a_request_may_come_in_pieces);
    tcase_add_test(t, a_client_may_shut_down_its_side_after_the_request);
    tcase_add_test(t, what_is_no_verb_is_an_error);
    tcase_add_test(t, a_long_request_is_an_error);
    tcase_add_test(t, a_silent_client_is_sent_away);
    tcase_add_test(t, clients_that_leave_take_nothing_with_them);
    tcase_add_test(t, past_the_most_clients_the_next_is_closed);
    tcase_add_loop_test(t, the_server_ends_while_a_report_is_under_way, 0, 2);
    tcase_add_test(t, a_slow_report_is_answered);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
