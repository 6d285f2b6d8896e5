/* The keeper as a process: it forks engines that this file defines, as root and with a kernel that only takes
 * notes (one test, in a network namespace of its own, uses the real one). Engines speak to the test through
 * their standard output, a pipe, one line an event; what the fake kernel saw is in shared memory. Everything
 * waits for a line, an end of file or an exit. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hawser/identity.h"
#include "hawser/keeper.h"
#include "hawser/keeper_verbs.h"

/* ---- the fake kernel, in memory that keeper, engines and test share ---- */

static struct shared {
    atomic_int lives; /* engines so far */
    atomic_int kernels, frees, reconfigures, set_peers, lane_sockets;
    atomic_bool up, refuse_reconfigure;
} * shared;

static int fake_new(struct kernel **out, const struct config *c, char error[static KERNEL_ERROR_MAX])
{
    (void)c;
    (void)error;
    atomic_fetch_add(&shared->kernels, 1);
    *out = (struct kernel *)shared;
    return 0;
}

static int fake_reconfigure(struct kernel *k, const struct config *c, char error[static KERNEL_ERROR_MAX])
{
    (void)k;
    (void)c;
    atomic_fetch_add(&shared->reconfigures, 1);
    if (!atomic_load(&shared->refuse_reconfigure))
        return 0;
    strcpy(error, "the kernel refuses");
    return -EBUSY;
}

static void fake_free(struct kernel *k)
{
    (void)k;
    atomic_fetch_add(&shared->frees, 1);
}

static int fake_set_peers(struct kernel *k, const struct config *c, const bool *up,
                          char error[static KERNEL_ERROR_MAX])
{
    (void)k;
    (void)error;
    atomic_fetch_add(&shared->set_peers, 1);
    atomic_store(&shared->up, c->peer_count > 0 && up[0]);
    return 0;
}

static int fake_refused(struct kernel *k, const struct endpoint *server, uint32_t timeout_s,
                        char error[static KERNEL_ERROR_MAX])
{
    (void)k;
    (void)server;
    (void)timeout_s;
    (void)error;
    return 0;
}

static int fake_route(struct kernel *k, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd,
                      char error[static KERNEL_ERROR_MAX])
{
    (void)k;
    (void)peer;
    (void)initcwnd;
    (void)initrwnd;
    (void)error;
    return 0;
}

static int fake_socket(int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes, const char *congestion)
{
    (void)fd;
    (void)rcvbuf_bytes;
    (void)sndbuf_bytes;
    (void)congestion;
    atomic_fetch_add(&shared->lane_sockets, 1);
    return 0;
}

static const struct keeper_actions fake = {
    .kernel_new = fake_new,
    .kernel_reconfigure = fake_reconfigure,
    .kernel_free = fake_free,
    .kernel_set_peers = fake_set_peers,
    .kernel_add_refused = fake_refused,
    .kernel_lane_route = fake_route,
    .kernel_lane_socket = fake_socket,
};

/* Patient about silence, since a busy machine may stop us for long; impatient between restarts. */
static const struct keeper_times patient = {.silent_us = 60000000,
                                            .backoff_first_us = 1000,
                                            .backoff_last_us = 10000,
                                            .good_us = 60000000,
                                            .stop_us = 60000000};

/* ---- engines ---- */

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof(line) - 1, fmt, args);
    va_end(args);
    line[n++] = '\n';
    ssize_t written = write(STDOUT_FILENO, line, (size_t)n);
    (void)written;
}

static int serve(const struct keeper_engine_start *start)
{
    struct keeper_link *l = keeper_link_new(start->keeper_fd, start->keeper_call_fd);
    struct config *current = start->config;
    const bool up[CONFIG_PEERS_MAX] = {true};
    keeper_set_peers(l, up, current->peer_count);
    keeper_tell_ready(l);
    say("ready %s", current->name);
    for (;;) {
        struct pollfd p = {.fd = keeper_link_fd(l), .events = POLLIN};
        poll(&p, 1, 50);
        keeper_tell_alive(l);
        struct config *next = NULL;
        switch (keeper_link_read(l, &next)) {
        case KEEPER_EVENT_NONE:
            break;
        case KEEPER_EVENT_RELOAD:
            current = next; /* kept until the end of this process */
            say("reload %s", current->name);
            break;
        case KEEPER_EVENT_STOP:
            say("stop");
            keeper_link_free(l);
            return 0;
        case KEEPER_EVENT_GONE:
            say("gone");
            return 3;
        }
    }
}

static int engine_fine(const struct keeper_engine_start *start)
{
    atomic_fetch_add(&shared->lives, 1);
    return serve(start);
}

/* What a test of isolation wants to know, from inside. */
static int engine_inspects(const struct keeper_engine_start *start)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    unsigned others = 0;
    while ((entry = readdir(dir)) != NULL) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && fd > 2 && fd != dirfd(dir) && fd != start->keeper_fd &&
            fd != start->keeper_call_fd && fd != start->control_fd)
            others++;
    }
    closedir(dir);
    say("others %u", others);
    char comm[17] = "";
    prctl(PR_GET_NAME, comm, 0, 0, 0);
    int death = 0;
    prctl(PR_GET_PDEATHSIG, &death, 0, 0, 0);
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    say("comm %s death %d root %d blocked %d", comm, death, geteuid() == 0, sigismember(&blocked, SIGTERM));
    struct sockaddr_un at;
    socklen_t len = sizeof(at);
    getsockname(start->control_fd, (struct sockaddr *)&at, &len);
    say("control %s identity %d", at.sun_path, start->identity != NULL);
    return serve(start);
}

static int engine_crashes_once(const struct keeper_engine_start *start)
{
    if (atomic_fetch_add(&shared->lives, 1) > 0)
        return serve(start);
    struct keeper_link *l = keeper_link_new(start->keeper_fd, start->keeper_call_fd);
    const bool up[CONFIG_PEERS_MAX] = {true};
    keeper_set_peers(l, up, start->config->peer_count);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    keeper_lane_socket(l, fd, 0, 0,
                       "bbr"); /* answered after the note before it was read, or not: both are fine */
    kill(getpid(), SIGKILL);
    return 0;
}

static int engine_hangs_once(const struct keeper_engine_start *start)
{
    if (atomic_fetch_add(&shared->lives, 1) > 0)
        return serve(start);
    say("hanging");
    for (;;)
        pause();
}

static int engine_refuses(const struct keeper_engine_start *start)
{
    (void)start;
    atomic_fetch_add(&shared->lives, 1);
    say("port in use");
    return 1;
}

/* Ready, then exit code 1 at once: the keeper must not take that for an engine that was never ready. */
static int engine_ready_then_refuses_once(const struct keeper_engine_start *start)
{
    if (atomic_fetch_add(&shared->lives, 1) > 0)
        return serve(start);
    keeper_tell_ready(keeper_link_new(start->keeper_fd, start->keeper_call_fd));
    return 1;
}

static int engine_ignores_stop(const struct keeper_engine_start *start)
{
    struct keeper_link *l = keeper_link_new(start->keeper_fd, start->keeper_call_fd);
    keeper_tell_ready(l);
    say("ready");
    while (pause() < 0)
        ;
    return 0;
}

static int engine_asks_reload(const struct keeper_engine_start *start)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct keeper_link *l = keeper_link_new(start->keeper_fd, start->keeper_call_fd);
    keeper_tell_ready(l);
    int err = keeper_ask_reload(l, error);
    say("asked %d %s", err, error);
    struct config *next = NULL;
    say("event %d", keeper_link_read(l, &next));
    return serve(start);
}

/* What the real kernel does for a lane that no engine could do for itself: a buffer past rmem_max. */
static int engine_wants_a_large_buffer(const struct keeper_engine_start *start)
{
    struct keeper_link *l = keeper_link_new(start->keeper_fd, start->keeper_call_fd);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), bytes = 0;
    int err = keeper_lane_socket(l, fd, 64 << 20, 64 << 20, "reno");
    char congestion[16] = "";
    socklen_t len = sizeof(bytes), name_len = sizeof(congestion) - 1;
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &len);
    getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, &name_len);
    say("socket %d %d %s", err, bytes >= 64 << 20, congestion);
    return serve(start);
}

/* ---- a keeper for each test ---- */

static char folder[64], ini[96], control[96];
static int out_fd, err_fd;
static pid_t keeper;

static void write_ini_to(const char *to, const char *name, const char *node, const char *rest)
{
    FILE *f = fopen(to, "we");
    ck_assert_ptr_nonnull(f);
    fprintf(f,
            "[node]\nname = %s\nidentity = %s/id\n%s\n"
            "[store]\npath = %s/store\n"
            "[admin]\ncontrol = %s\n"
            "[peer one]\naddress = 10.9.0.1:4430\npin = "
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nnetworks = 10.2.0.0/24\n%s\n",
            name, folder, node, folder, control, rest);
    ck_assert_int_eq(fclose(f), 0);
}

static void write_ini(const char *name, const char *node, const char *rest)
{
    write_ini_to(ini, name, node, rest);
}

static void setup(void)
{
    char error[IDENTITY_ERROR_MAX] = "", id[80];
    strcpy(folder, "/tmp/hawser-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chmod(folder, 0755), 0);
    snprintf(ini, sizeof(ini), "%s/hawser.ini", folder);
    snprintf(control, sizeof(control), "%s/run/control.sock", folder);
    snprintf(id, sizeof(id), "%s/id", folder);
    ck_assert_msg(identity_generate(id, "test", error) == 0, "%s", error);
    write_ini("first", "user = nobody", "");
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(shared != MAP_FAILED);
    keeper = 0;
}

static void teardown(void)
{
    char command[128];
    if (keeper > 0) {
        kill(keeper, SIGKILL);
        waitpid(keeper, NULL, 0);
    }
    snprintf(command, sizeof(command), "rm -rf -- '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

struct run {
    const char *ini;
    keeper_engine_main *engine;
    const struct keeper_actions *actions;
    const struct keeper_times *times;
    const char *notify;
    bool namespace;
};

static _Noreturn void run_child(const struct run *r, const int out[2], const int err[2])
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    close(out[0]);
    close(out[1]);
    close(err[0]);
    close(err[1]);
    if (r->notify != NULL)
        setenv("NOTIFY_SOCKET", r->notify, 1);
    if (r->namespace && (unshare(CLONE_NEWNET) < 0 || system("ip link set lo up") != 0))
        _exit(99);
    _exit(keeper_run_with(r->ini, r->engine, r->actions, r->times));
}

static void run(struct run r)
{
    int out[2], err[2];
    if (r.ini == NULL)
        r.ini = ini;
    if (r.actions == NULL)
        r.actions = &fake;
    if (r.times == NULL)
        r.times = &patient;
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(err, O_CLOEXEC), 0);
    keeper = fork();
    ck_assert_int_ge(keeper, 0);
    if (keeper == 0)
        run_child(&r, out, err);
    close(out[1]);
    close(err[1]);
    out_fd = out[0];
    err_fd = err[0];
}

/* The next line, or "" at the end of file. */
static const char *line_from(int fd)
{
    static char line[1200];
    size_t len = 0;
    while (len < sizeof(line) - 1 && read(fd, line + len, 1) == 1 && line[len] != '\n')
        len++;
    line[len] = '\0';
    return line;
}

static void expect(const char *want)
{
    const char *got = line_from(out_fd);
    if (strcmp(got, want) == 0)
        return;
    char all[1200];
    snprintf(all, sizeof(all), "%s", got);
    ck_abort_msg("wanted '%s', got '%s'; the keeper's log: %s", want, all, line_from(err_fd));
}

/* Until a log line holds this text; the end of file is a failure. */
static void expect_log(const char *want)
{
    for (;;) {
        const char *line = line_from(err_fd);
        ck_assert_msg(line[0] != '\0', "the log ended without '%s'", want);
        if (strstr(line, want) != NULL)
            return;
    }
}

static int ended(void)
{
    int status = 0;
    ck_assert_int_eq(waitpid(keeper, &status, 0), keeper);
    keeper = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int stopped(void)
{
    ck_assert_int_eq(kill(keeper, SIGTERM), 0);
    return ended();
}

/* ---- life ---- */

START_TEST(serves_until_told_to_stop_and_leaves_nothing)
{
    struct stat is;
    run((struct run){.engine = engine_fine});
    expect("ready first");
    ck_assert_int_eq(stat(control, &is), 0);
    ck_assert_uint_eq(is.st_gid, getpwnam("nobody")->pw_gid);
    ck_assert_int_eq(kill(keeper, SIGTERM), 0);
    expect("stop");
    expect("");
    ck_assert_int_eq(ended(), 0);
    ck_assert_int_lt(stat(control, &is), 0);
    ck_assert_int_eq(atomic_load(&shared->kernels), 1);
    ck_assert_int_eq(atomic_load(&shared->frees), 1);
    ck_assert(!atomic_load(&shared->up));
    ck_assert_int_eq(atomic_load(&shared->lives), 1);
}
END_TEST

START_TEST(sigint_stops_too)
{
    run((struct run){.engine = engine_fine});
    expect("ready first");
    kill(keeper, SIGINT);
    expect("stop");
    ck_assert_int_eq(ended(), 0);
}
END_TEST

START_TEST(engine_gets_what_is_meant_and_nothing_else)
{
    char want[256];
    run((struct run){.engine = engine_inspects});
    expect("others 0");
    expect("comm hawserd death 9 root 0 blocked 0");
    snprintf(want, sizeof(want), "control %s identity 1", control);
    expect(want);
    expect("ready first");
    ck_assert_int_eq(stopped(), 0);
}
END_TEST

START_TEST(engine_that_ignores_the_stop_is_killed)
{
    static const struct keeper_times times = {.silent_us = 60000000,
                                              .backoff_first_us = 1000,
                                              .backoff_last_us = 1000,
                                              .good_us = 1,
                                              .stop_us = 1000};
    run((struct run){.engine = engine_ignores_stop, .times = &times});
    expect("ready");
    ck_assert_int_eq(stopped(), 0);
    expect("");
    ck_assert_int_eq(atomic_load(&shared->frees), 1);
}
END_TEST

START_TEST(asked_twice_it_does_not_wait)
{
    run((struct run){.engine = engine_ignores_stop});
    expect("ready");
    kill(keeper, SIGTERM);
    expect_log("stopping");
    ck_assert_int_eq(stopped(), 0);
}
END_TEST

START_TEST(engine_dies_with_a_killed_keeper)
{
    run((struct run){.engine = engine_ignores_stop});
    expect("ready");
    kill(keeper, SIGKILL);
    expect(""); /* the engine, which does not look for our end, held the pipe's other one */
    ck_assert_int_eq(ended(), 1000 + SIGKILL);
}
END_TEST

/* ---- death ---- */

START_TEST(engine_that_crashes_is_replaced_and_nothing_is_caught_meanwhile)
{
    run((struct run){.engine = engine_crashes_once});
    expect_log("signal 9");
    expect("ready first");
    ck_assert_int_eq(stopped(), 0);
    ck_assert_int_eq(atomic_load(&shared->lives), 2);
    ck_assert_int_eq(atomic_load(&shared->kernels), 1);
    ck_assert_int_ge(atomic_load(&shared->set_peers), 3); /* [up,] all down, up, all down */
}
END_TEST

START_TEST(engine_that_hangs_is_killed_and_replaced)
{
    static const struct keeper_times times = {.silent_us = 2000000,
                                              .backoff_first_us = 1000,
                                              .backoff_last_us = 1000,
                                              .good_us = 60000000,
                                              .stop_us = 60000000};
    run((struct run){.engine = engine_hangs_once, .times = &times});
    expect("hanging");
    expect_log("did not answer");
    expect("ready first");
    ck_assert_int_eq(stopped(), 0);
}
END_TEST

START_TEST(engine_that_cannot_begin_ends_the_keeper)
{
    struct stat is;
    run((struct run){.engine = engine_refuses});
    expect("port in use");
    expect("");
    ck_assert_int_eq(ended(), 1);
    const char *line;
    while ((line = line_from(err_fd))[0] != '\0')
        ck_assert_msg(strstr(line, " error ") == NULL, "the engine has said why; the keeper adds '%s'", line);
    ck_assert_int_eq(atomic_load(&shared->lives), 1);
    ck_assert_int_eq(atomic_load(&shared->frees), 1);
    ck_assert_int_lt(stat(control, &is), 0);
}
END_TEST

START_TEST(engine_that_was_ready_is_given_another_chance)
{
    run((struct run){.engine = engine_ready_then_refuses_once});
    expect_log("exit code 1");
    expect("ready first");
    ck_assert_int_eq(stopped(), 0);
}
END_TEST

/* ---- reload ---- */

START_TEST(sighup_brings_the_new_configuration)
{
    run((struct run){.engine = engine_fine});
    expect("ready first");
    write_ini("second", "user = nobody",
              "[peer two]\naddress = 10.9.0.2:4430\npin = "
              "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nnetworks = 10.3.0.0/24");
    kill(keeper, SIGHUP);
    expect("reload second");
    expect_log("2 peers");
    ck_assert_int_eq(atomic_load(&shared->reconfigures), 1);
    ck_assert_int_eq(stopped(), 0);
}
END_TEST

START_TEST(bad_file_changes_nothing)
{
    run((struct run){.engine = engine_fine});
    expect("ready first");
    write_ini("second", "broken = yes", "");
    kill(keeper, SIGHUP);
    expect_log("not reloaded");
    ck_assert_int_eq(atomic_load(&shared->reconfigures), 0);
    write_ini("third", "user = nobody", "[intercept]\ninterface = hwx-none0");
    kill(keeper, SIGHUP);
    expect_log("hwx-none0");
    ck_assert_int_eq(atomic_load(&shared->reconfigures), 0);
    write_ini("fourth", "user = nobody", "");
    atomic_store(&shared->refuse_reconfigure, true);
    kill(keeper, SIGHUP);
    expect_log("the kernel refuses");
    atomic_store(&shared->refuse_reconfigure, false);
    kill(keeper, SIGHUP);
    expect("reload fourth"); /* and none of the others */
    ck_assert_int_eq(stopped(), 0);
}
END_TEST

START_TEST(engine_asks_for_a_reload)
{
    run((struct run){.engine = engine_asks_reload});
    expect("asked 0 ");
    char want[16];
    snprintf(want, sizeof(want), "event %d", KEEPER_EVENT_RELOAD);
    expect(want);
    expect("ready first");
    ck_assert_int_eq(stopped(), 0);
}
END_TEST

START_TEST(what_needs_a_restart_is_said_and_done_with_the_next_engine)
{
    run((struct run){.engine = engine_hangs_once,
                     .times = &(struct keeper_times){.silent_us = 3000000,
                                                     .backoff_first_us = 1000,
                                                     .backoff_last_us = 1000,
                                                     .good_us = 1,
                                                     .stop_us = 60000000}});
    expect("hanging");
    write_ini("second", "user = nobody", "[intercept]\nport = 3200");
    kill(keeper, SIGHUP);
    expect_log("need a restart");
    expect_log("did not answer");
    expect("ready second");
    ck_assert_int_eq(atomic_load(&shared->kernels), 2);
    ck_assert_int_eq(stopped(), 0);
    ck_assert_int_eq(atomic_load(&shared->frees), 2);
}
END_TEST

/* ---- what is wrong at the start ---- */

static void refuses(const char *node, const char *rest, const char *reason)
{
    write_ini("first", node, rest);
    run((struct run){.engine = engine_fine});
    expect_log(reason);
    ck_assert_int_eq(ended(), 1);
    ck_assert_int_eq(atomic_load(&shared->lives), 0);
    ck_assert_int_eq(atomic_load(&shared->kernels), atomic_load(&shared->frees));
    struct stat is;
    ck_assert_int_lt(stat(control, &is), 0);
}

START_TEST(wrong_at_the_start_is_said)
{
    refuses("user = hawser-none-such", "", "no such user");
    refuses("user = root", "", "does not run as root");
    refuses("user = nobody", "[intercept]\ninterface = hwx-none0", "hwx-none0");
    refuses("broken = yes", "", "hawser.ini:");
}
END_TEST

START_TEST(own_pin_as_a_peers_is_refused_with_its_line)
{
    char path[80], why[IDENTITY_ERROR_MAX], text[CONFIG_PIN_TEXT_MAX], rest[256], want[160];
    uint8_t pin[CONFIG_PIN_BYTES];
    snprintf(path, sizeof(path), "%s/id/node.crt", folder);
    ck_assert_int_eq(identity_pin_of_file(path, pin, why), 0);
    identity_pin_format(pin, text);
    /* The peer before it ends in line 12. */
    snprintf(rest, sizeof(rest), "[peer two]\naddress = 10.9.0.2:4430\nnetworks = 10.3.0.0/24\npin = %s",
             text);
    snprintf(want, sizeof(want), "%s:16: [peer two] pin: this is the pin of this node itself", ini);
    refuses("user = nobody", rest, want);
    write_ini("first", "user = nobody", "");
    run((struct run){.engine = engine_fine});
    expect("ready first");
    write_ini("second", "user = nobody", rest);
    kill(keeper, SIGHUP);
    expect_log(want);
    ck_assert_int_eq(stopped(), 0);
}
END_TEST

START_TEST(identity_that_is_missing_is_said)
{
    char key[128];
    snprintf(key, sizeof(key), "%s/id/node.key", folder);
    ck_assert_int_eq(unlink(key), 0);
    refuses("user = nobody", "", "node.key");
}
END_TEST

START_TEST(file_that_is_missing_is_said)
{
    ck_assert_int_eq(unlink(ini), 0);
    run((struct run){.engine = engine_fine});
    expect_log("hawser.ini: ");
    ck_assert_int_eq(ended(), 1);
}
END_TEST

START_TEST(second_hawserd_on_the_same_socket_is_refused)
{
    run((struct run){.engine = engine_fine});
    expect("ready first");
    pid_t first = keeper;
    int first_out = out_fd;
    run((struct run){.engine = engine_fine});
    expect_log("another hawserd");
    ck_assert_int_eq(ended(), 1);
    keeper = first;
    out_fd = first_out;
    kill(keeper, SIGTERM);
    expect("stop");
    ck_assert_int_eq(ended(), 0);
}
END_TEST

/* ---- the service manager ---- */

START_TEST(manager_hears_of_ready_reload_and_stop)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char text[256];
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/notify", folder);
    int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(manager, (struct sockaddr *)&at, sizeof(at)), 0);
    run((struct run){.engine = engine_fine, .notify = at.sun_path});
    ssize_t n = recv(manager, text, sizeof(text) - 1, 0);
    text[n] = '\0';
    ck_assert_str_eq(text, "READY=1\nSTATUS=ready");
    kill(keeper, SIGHUP);
    n = recv(manager, text, sizeof(text) - 1, 0);
    ck_assert(n > 12 && strncmp(text, "RELOADING=1\n", 12) == 0);
    n = recv(manager, text, sizeof(text) - 1, 0);
    ck_assert(n == 7 && strncmp(text, "READY=1", 7) == 0);
    kill(keeper, SIGTERM);
    n = recv(manager, text, sizeof(text) - 1, 0);
    ck_assert(n == 10 && strncmp(text, "STOPPING=1", 10) == 0);
    ck_assert_int_eq(ended(), 0);
}
END_TEST

/* ---- the real kernel, in a network namespace of the test's own ---- */

/* Whether a command in that namespace prints this. */
static bool prints(int namespace, const char *command, const char *want)
{
    char whole[200], out[4096];
    snprintf(whole, sizeof(whole), "nsenter --net=/proc/%d/fd/%d %s", (int)getpid(), namespace, command);
    FILE *f = popen(whole, "re");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(out, 1, sizeof(out) - 1, f);
    out[n] = '\0';
    ck_assert_int_eq(pclose(f), 0);
    return strstr(out, want) != NULL;
}

static int start_in_namespace(void)
{
    char path[64];
    write_ini("first", "user = nobody", "[intercept]\ninterface = lo");
    run((struct run){
        .engine = engine_wants_a_large_buffer, .actions = &keeper_actions_real, .namespace = true});
    expect("socket 0 1 reno");
    expect("ready first");
    expect_log("ready"); /* after the note about the peers, on the same socket */
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)keeper);
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(namespace, 0);
    ck_assert(prints(namespace, "nft list table inet hawser", "10.2.0.0/24"));
    ck_assert(prints(namespace, "ip rule", "fwmark"));
    return namespace;
}

START_TEST(real_kernel_is_set_up_and_left_clean)
{
    int namespace = start_in_namespace();
    ck_assert_int_eq(stopped(), 0);
    ck_assert(!prints(namespace, "nft list tables", "hawser"));
    ck_assert(!prints(namespace, "ip rule", "fwmark"));
    ck_assert(!prints(namespace, "ip -6 rule", "fwmark"));
    close(namespace);
}
END_TEST

START_TEST(real_kernel_catches_nothing_after_a_kill)
{
    int namespace = start_in_namespace();
    kill(keeper, SIGKILL);
    while (line_from(out_fd)[0] != '\0')
        ; /* it may have seen its end come; at the end of file it is gone */
    ck_assert_int_eq(ended(), 1000 + SIGKILL);
    ck_assert(!prints(namespace, "nft list tables", "hawser"));
    close(namespace);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, serves_until_told_to_stop_and_leaves_nothing);
    tcase_add_test(tc, sigint_stops_too);
    tcase_add_test(tc, engine_gets_what_is_meant_and_nothing_else);
    tcase_add_test(tc, engine_that_ignores_the_stop_is_killed);
    tcase_add_test(tc, asked_twice_it_does_not_wait);
    tcase_add_test(tc, engine_dies_with_a_killed_keeper);
    tcase_add_test(tc, engine_that_crashes_is_replaced_and_nothing_is_caught_meanwhile);
    tcase_add_test(tc, engine_that_hangs_is_killed_and_replaced);
    tcase_add_test(tc, engine_that_cannot_begin_ends_the_keeper);
    tcase_add_test(tc, engine_that_was_ready_is_given_another_chance);
    tcase_add_test(tc, sighup_brings_the_new_configuration);
    tcase_add_test(tc, bad_file_changes_nothing);
    tcase_add_test(tc, engine_asks_for_a_reload);
    tcase_add_test(tc, what_needs_a_restart_is_said_and_done_with_the_next_engine);
    tcase_add_test(tc, wrong_at_the_start_is_said);
    tcase_add_test(tc, own_pin_as_a_peers_is_refused_with_its_line);
    tcase_add_test(tc, identity_that_is_missing_is_said);
    tcase_add_test(tc, file_that_is_missing_is_said);
    tcase_add_test(tc, second_hawserd_on_the_same_socket_is_refused);
    tcase_add_test(tc, manager_hears_of_ready_reload_and_stop);
    tcase_add_test(tc, real_kernel_is_set_up_and_left_clean);
    tcase_add_test(tc, real_kernel_catches_nothing_after_a_kill);
}

int main(void)
{
    if (geteuid() != 0) {
        fputs("not root: the keeper is not tested as a process\n", stderr);
        return 0;
    }
    Suite *suite = suite_create("keeper");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    add_tests(tc);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
