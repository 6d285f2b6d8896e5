/* test_loop.c - turns: sockets, then mails, then tasks; stopping; mails from other threads. */
#include "hawser/loop.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct loop *loop;
static char trace[256];

struct note {
    struct mail mail;
    const char *text;
    void (*then)(void);
};

static void write_down(const char *text)
{
    ck_assert(loop_is_mine(loop));
    ck_assert_uint_lt(strlen(trace) + strlen(text), sizeof(trace));
    strcat(trace, text);
}

static void take_note(struct mail *m)
{
    struct note n = *(struct note *)(void *)m;
    free(m);
    write_down(n.text);
    if (n.then != NULL)
        n.then();
}

static void post(const char *text, void (*then)(void))
{
    struct note *n = malloc(sizeof(*n));
    ck_assert_ptr_nonnull(n);
    *n = (struct note){.mail.deliver = take_note, .text = text, .then = then};
    loop_post(loop, &n->mail);
}

static struct task tasks[4];

static void task_writes(void *owner)
{
    write_down(owner);
}

static void stop(void)
{
    loop_stop(loop);
}

static void set_up(void)
{
    static char names[4][2] = {"A", "B", "C", "D"};
    ck_assert_int_eq(loop_new(&loop), 0);
    trace[0] = '\0';
    for (int i = 0; i < 4; i++)
        tasks[i] = (struct task){.run = task_writes, .owner = names[i]};
}

static void tear_down(void)
{
    loop_free(loop);
    loop = NULL;
    loop_free(NULL);
}

START_TEST(mails_come_in_the_order_of_posting)
{
    post("1", NULL);
    post("2", NULL);
    post("3", stop);
    ck_assert(!loop_is_mine(loop));
    loop_run(loop);
    ck_assert(!loop_is_mine(loop));
    ck_assert_str_eq(trace, "123");
}
END_TEST

static void post_three(void)
{
    loop_defer(loop, &tasks[0]);
    post("x", NULL);
    loop_defer(loop, &tasks[1]);
    post("y", NULL);
    loop_defer(loop, &tasks[0]); /* once, however often */
    post("z", stop);
}

START_TEST(own_mails_come_before_tasks_and_a_task_runs_once)
{
    post("1", post_three);
    loop_run(loop);
    ck_assert_str_eq(trace, "1xyzAB");
}
END_TEST

static void cancel_some(void)
{
    for (int i = 0; i < 4; i++)
        loop_defer(loop, &tasks[i]);
    loop_cancel(loop, &tasks[3]); /* the last */
    loop_cancel(loop, &tasks[1]); /* between */
    loop_cancel(loop, &tasks[1]); /* again */
    loop_defer(loop, &tasks[1]);  /* now the last */
}

static void write_and_stop(void *owner)
{
    write_down(owner);
    stop();
}

START_TEST(a_cancelled_task_does_not_run)
{
    tasks[1].run = write_and_stop;
    post("", cancel_some);
    loop_run(loop);
    ck_assert_str_eq(trace, "ACB");
    loop_cancel(loop, &tasks[0]); /* waits nowhere */
}
END_TEST

static void run_and_cancel_next(void *owner)
{
    write_down(owner);
    loop_cancel(loop, &tasks[1]);
    loop_cancel(loop, &tasks[3]);
    loop_cancel(loop, &tasks[0]); /* itself */
    stop();
}

static void defer_all(void)
{
    for (int i = 0; i < 4; i++)
        loop_defer(loop, &tasks[i]);
}

START_TEST(a_running_task_cancels_others)
{
    tasks[0].run = run_and_cancel_next;
    post("", defer_all);
    loop_run(loop);
    ck_assert_str_eq(trace, "AC");
}
END_TEST

static void cancel_and_ask_again(void *owner)
{
    write_down(owner);
    loop_cancel(loop, &tasks[1]);
    loop_defer(loop, &tasks[1]); /* in the next turn, after C */
    if (strlen(trace) > 1)
        stop();
}

START_TEST(a_task_moved_by_a_running_one_goes_to_the_next_turn)
{
    tasks[0].run = cancel_and_ask_again;
    tasks[1].run = task_writes;
    tasks[2].run = cancel_and_ask_again;
    post("", defer_all);
    loop_run(loop);
    ck_assert_str_eq(trace, "ACD");
    trace[0] = '\0';
    loop_cancel(loop, &tasks[1]);
}
END_TEST

static int bell;
static struct event bell_event;

static void on_bell(evutil_socket_t fd, short what, void *arg)
{
    uint64_t n;
    (void)what;
    (void)arg;
    ck_assert_int_eq(read(fd, &n, sizeof(n)), sizeof(n));
    write_down("s");
    if (strlen(trace) > 6)
        stop();
}

static void ring_and_ask_again(void *owner)
{
    uint64_t one = 1;
    write_down(owner);
    ck_assert_int_eq(write(bell, &one, sizeof(one)), sizeof(one));
    loop_defer(loop, &tasks[0]);
}

/* A task that asks for itself again and again lets a readable socket in between. */
START_TEST(a_busy_task_does_not_starve_sockets)
{
    bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    event_assign(&bell_event, loop_base(loop), bell, EV_READ | EV_PERSIST, on_bell, NULL);
    event_add(&bell_event, NULL);
    tasks[0].run = ring_and_ask_again;
    post("", defer_all);
    tasks[1].run = tasks[2].run = tasks[3].run = task_writes;
    loop_run(loop);
    const char *twice = strstr(trace, "AA");
    ck_assert_msg(twice == NULL, "%s", trace);
    ck_assert_int_eq(strncmp(trace, "ABCDs", 5), 0);
    event_del(&bell_event);
    close(bell);
}
END_TEST

static void ring(void)
{
    uint64_t one = 1;
    ck_assert_int_eq(write(bell, &one, sizeof(one)), sizeof(one));
}

static void on_bell_defer(evutil_socket_t fd, short what, void *arg)
{
    uint64_t n;
    (void)what;
    ck_assert_int_eq(read(fd, &n, sizeof(n)), sizeof(n));
    write_down(arg);
    loop_defer(loop, &tasks[0]);
    post("m", NULL);
    if (strlen(trace) > 1)
        post("", stop);
}

/* Two sockets readable in one turn: what both asked for is done once, after both. */
START_TEST(tasks_run_after_all_sockets_of_the_turn)
{
    struct event second;
    static char names[2][2] = {"p", "q"};
    bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int other = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    event_assign(&bell_event, loop_base(loop), bell, EV_READ, on_bell_defer, names[0]);
    event_assign(&second, loop_base(loop), other, EV_READ, on_bell_defer, names[1]);
    event_add(&bell_event, NULL);
    event_add(&second, NULL);
    ring();
    loop_run(loop);
    ck_assert_msg(strcmp(trace, "pqmmA") == 0 || strcmp(trace, "qpmmA") == 0, "%s", trace);
    close(bell);
    close(other);
}
END_TEST

static void *stop_from_thread(void *arg)
{
    (void)arg;
    loop_stop(loop);
    return NULL;
}

START_TEST(another_thread_stops_an_idle_loop)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, stop_from_thread, NULL), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    loop_run(loop); /* stopped is stopped */
}
END_TEST

enum { POSTERS = 3, EACH = 5000 };
static unsigned arrived, last_of[POSTERS];

struct numbered {
    struct mail mail;
    unsigned poster, number;
};

static void count(struct mail *m)
{
    struct numbered *n = (struct numbered *)(void *)m;
    ck_assert_uint_eq(n->number, ++last_of[n->poster]);
    free(n);
    if (++arrived == POSTERS * EACH)
        stop();
}

static void *post_many(void *arg)
{
    for (unsigned i = 1; i <= EACH; i++) {
        struct numbered *n = malloc(sizeof(*n));
        *n = (struct numbered){.mail.deliver = count, .poster = (unsigned)(uintptr_t)arg, .number = i};
        loop_post(loop, &n->mail);
    }
    return NULL;
}

START_TEST(threads_post_while_the_loop_runs)
{
    pthread_t threads[POSTERS];
    arrived = 0;
    memset(last_of, 0, sizeof(last_of));
    for (uintptr_t i = 0; i < POSTERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, post_many, (void *)i), 0);
    loop_run(loop);
    ck_assert_uint_eq(arrived, POSTERS * EACH);
    for (int i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

static void post_from_the_last_moment(void)
{
    post("b", NULL);
}

START_TEST(what_waits_is_delivered_before_the_loop_is_freed)
{
    struct loop *mine = loop;
    post("a", post_from_the_last_moment);
    loop_free(mine);
    ck_assert_str_eq(trace, "ab");
    ck_assert_int_eq(loop_new(&loop), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loop");
    TCase *t = tcase_create("loop");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, mails_come_in_the_order_of_posting);
    tcase_add_test(t, own_mails_come_before_tasks_and_a_task_runs_once);
    tcase_add_test(t, a_cancelled_task_does_not_run);
    tcase_add_test(t, a_running_task_cancels_others);
    tcase_add_test(t, a_task_moved_by_a_running_one_goes_to_the_next_turn);
    tcase_add_test(t, a_busy_task_does_not_starve_sockets);
    tcase_add_test(t, tasks_run_after_all_sockets_of_the_turn);
    tcase_add_test(t, another_thread_stops_an_idle_loop);
    tcase_add_test(t, threads_post_while_the_loop_runs);
    tcase_add_test(t, what_waits_is_delivered_before_the_loop_is_freed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
