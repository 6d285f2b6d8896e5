/* The keeper's loop. Invariants:
 *   1. Nothing is caught while no engine runs: keeper_verbs_reset tells the kernel so the moment an engine is
 * seen dead.
 *   2. The keeper never waits for the engine: it only takes what is there, sends without blocking, and reaps
 * what has ended.
 *   3. The machine (control socket, store folder, kernel) is set up for the configuration `started`; another
 * one that differs in what needs a restart is applied together with the next engine, so the two never
 * disagree. All three sources of work (signals, notes, calls) are bounded per turn, so none keeps the others
 * waiting. */
#include "hawser/keeper.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hawser/clock.h"
#include "hawser/err.h"
#include "hawser/keeper_privilege.h"
#include "hawser/keeper_setup.h"
#include "hawser/keeper_verbs.h"
#include "hawser/keeper_watch.h"
#include "hawser/log.h"
#include "hawser/notify.h"

enum { TAKEN_PER_TURN = 64, LOOK_US = 1000000 };

const struct keeper_times keeper_times_default = {
    .silent_us = 10000000,
    .backoff_first_us = 200000,
    .backoff_last_us = 10000000,
    .good_us = 60000000,
    .stop_us = 5000000,
};

struct keeper {
    const char *config_path;
    keeper_engine_main *engine_main;
    const struct keeper_actions *actions;
    const struct keeper_times *times;

    struct config *config;  /* the last good one */
    struct config *started; /* what the machine is set up for */
    struct identity *identity;
    struct keeper_user user;
    struct keeper_control control;
    int store_error;           /* why the engine has to do without its folder, or 0 */
    struct keeper_verbs verbs; /* holds the kernel */

    int signal_fd;
    sigset_t mask_before;
    pid_t engine;         /* 0: none */
    int note_fd, call_fd; /* -1: none */
    struct keeper_watch watch;
    uint64_t restart_at_us; /* while there is no engine */
    uint64_t kill_at_us;    /* while stopping */
    uint64_t watchdog_sent_us, retried_us;
    bool killed_hung, ready, ever_ready, stopping, done;
    int exit_code;
};

/* ---- the machine ---- */

static int store_prepare(struct keeper *k, const char *path, char error[static CONFIG_ERROR_MAX])
{
    int err = keeper_store_make(path, &k->user, error);
    k->store_error = keeper_store_can_wait(err) ? err : 0;
    if (k->store_error == 0)
        return err;
    log_error("%s. It is so until hawserd is started again", error);
    error[0] = '\0';
    return 0;
}

static int machine_prepare(struct keeper *k, char error[static CONFIG_ERROR_MAX])
{
    const struct config *c = k->config;
    int err = keeper_interfaces_check(c, error);
    if (err == 0)
        err = keeper_user_find(c->user, &k->user, error);
    if (err == 0)
        err = keeper_identity_load(&k->identity, c, k->config_path, error);
    /* The socket first: it tells whether another hawserd lives, before anything of that one's is touched. */
    if (err == 0 && c->control != NULL)
        err = keeper_control_open(&k->control, c->control, &k->user, error);
    k->store_error = 0;
    if (err == 0 && c->store_path != NULL)
        err = store_prepare(k, c->store_path, error);
    return err;
}

static int machine_up(struct keeper *k)
{
    char error[CONFIG_ERROR_MAX > KERNEL_ERROR_MAX ? CONFIG_ERROR_MAX : KERNEL_ERROR_MAX] = "";
    int err = machine_prepare(k, error);
    if (err == 0)
        err = k->actions->kernel_new(&k->verbs.kernel, k->config, error);
    if (err < 0) {
        log_error("%s", error[0] != '\0' ? error : err_text(err));
        return err;
    }
    config_unref(k->started);
    k->started = config_ref(k->config);
    return 0;
}

static void machine_down(struct keeper *k)
{
    if (k->verbs.kernel != NULL)
        k->actions->kernel_free(k->verbs.kernel);
    k->verbs.kernel = NULL;
    keeper_control_close(&k->control);
    identity_free(k->identity);
    k->identity = NULL;
}

/* Invariant 3: before a new engine, catch up with what a reload had to leave out. */
static int machine_renew(struct keeper *k)
{
    char keys[CONFIG_KEYS_BYTES];
    if (config_restart_needed(k->started, k->config, keys, sizeof(keys)) <= 0)
        return 0;
    log_info("applying what was waiting for a restart: %s", keys);
    machine_down(k);
    return machine_up(k);
}

/* ---- the engine ---- */

static void engine_become(const struct keeper *k, pid_t parent)
{
    char error[CONFIG_ERROR_MAX] = "";
    size_t files = keeper_privilege_raise_files();
    if (keeper_privilege_drop(&k->user, error) < 0) {
        log_error("%s", error);
        _exit(1);
    }
    /* Only now: becoming another user clears it (prctl(2)). A keeper that died before has left us to another
     * parent. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
        _exit(1);
    log_debug("user %s, %zu descriptors", k->user.name, files);
}

static _Noreturn void engine_child(const struct keeper *k, pid_t parent, int note_fd, int call_fd)
{
    const struct keeper_engine_start start = {
        .config = k->config,
        .identity = k->identity,
        .keeper_fd = note_fd,
        .keeper_call_fd = call_fd,
        .control_fd = k->control.fd,
        .store_error = k->store_error,
        .config_path = k->config_path,
    };
    const int keep[] = {note_fd, call_fd, k->control.fd};
    sigset_t none;
    log_set_tag("engine");
    /* A terminal's ^C and hang-up reach the whole group; what they mean is the keeper's to say. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    keeper_privilege_close_others(keep, sizeof(keep) / sizeof(*keep));
    engine_become(k, parent);
    /* Not exit(3): the keeper's buffers and exit handlers are not the engine's, and a leak checker cannot
     * trace a process that is not dumpable. */
    _exit(k->engine_main(&start));
}

static int engine_fork(struct keeper *k)
{
    int notes[2] = {-1, -1}, calls[2] = {-1, -1};
    pid_t parent = getpid(), child = -1;
    int err = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, notes) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, calls) < 0 || (child = fork()) < 0)
        err = -errno;
    if (child == 0)
        engine_child(k, parent, notes[1], calls[1]);
    if (err < 0) {
        if (notes[0] >= 0)
            close(notes[0]);
        if (calls[0] >= 0)
            close(calls[0]);
    } else {
        k->engine = child;
        k->note_fd = notes[0];
        k->call_fd = calls[0];
    }
    if (notes[1] >= 0)
        close(notes[1]);
    if (calls[1] >= 0)
        close(calls[1]);
    return err;
}

static void finish(struct keeper *k, int exit_code)
{
    k->done = true;
    k->exit_code = exit_code;
}

static void engine_schedule(struct keeper *k)
{
    uint64_t now_us = clock_now_us();
    uint64_t wait_us = keeper_watch_died(&k->watch, k->times, now_us);
    k->restart_at_us = now_us + wait_us;
    log_info("the next engine is started in %" PRIu64 " ms; connections go direct meanwhile", wait_us / 1000);
}

static void engine_start(struct keeper *k)
{
    if (machine_renew(k) < 0) {
        finish(k, 1);
        return;
    }
    k->killed_hung = k->ready = false;
    keeper_watch_started(&k->watch, clock_now_us());
    int err = engine_fork(k);
    if (err < 0) {
        log_error("cannot start the engine: %s", err_text(err));
        engine_schedule(k);
    }
}

static void engine_close(struct keeper *k)
{
    if (k->note_fd >= 0)
        close(k->note_fd);
    if (k->call_fd >= 0)
        close(k->call_fd);
    k->note_fd = k->call_fd = -1;
}

static void kill_engine(const struct keeper *k)
{
    if (kill(k->engine, SIGKILL) < 0)
        log_error("cannot kill the engine: %s", err_text(-errno));
}

static void engine_log_end(const struct keeper *k, int status)
{
    if (k->killed_hung)
        log_error("the engine did not answer for %" PRIu64 " s and was killed",
                  k->times->silent_us / 1000000);
    else if (WIFSIGNALED(status))
        log_error("the engine was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        log_error("the engine ended with exit code %d", WEXITSTATUS(status));
}

static void engine_died(struct keeper *k, int status)
{
    k->engine = 0;
    engine_close(k);
    if (k->stopping) {
        finish(k, 0);
        return;
    }
    keeper_verbs_reset(&k->verbs);
    if (!k->ever_ready && WIFEXITED(status) && WEXITSTATUS(status) == 1) {
        finish(k, 1); /* the engine has said why; nothing we could add */
        return;
    }
    engine_log_end(k, status);
    engine_schedule(k);
}

/* ---- reload ---- */

static int reload_apply(struct keeper *k, struct config *c, char error[static CONFIG_ERROR_MAX])
{
    struct keeper_user user;
    char why[KERNEL_ERROR_MAX] = "";
    int err = keeper_interfaces_check(c, error);
    if (err == 0)
        err = keeper_pins_check(c, k->config_path, k->identity, error);
    if (err == 0 && strcmp(c->user, k->config->user) != 0)
        err = keeper_user_find(c->user, &user, error);
    if (err < 0)
        return err;
    err = k->actions->kernel_reconfigure(k->verbs.kernel, c, why);
    if (err < 0) {
        snprintf(error, CONFIG_ERROR_MAX, "%s", why);
        return err;
    }
    keeper_verbs_reconfigure(&k->verbs, c);
    config_unref(k->config);
    k->config = config_ref(c);
    log_set_level((enum log_level)c->log_level);
    config_log_warnings(c);
    return 0;
}

static void reload_tell(const struct keeper *k, const char *text, size_t len_bytes)
{
    char keys[CONFIG_KEYS_BYTES];
    if (k->note_fd >= 0) {
        int err = keeper_event_send(k->note_fd, KEEPER_EVENT_RELOAD, k->verbs.generation, text, len_bytes);
        if (err < 0) {
            /* Left alone it would go on with the old one, and what it says about peers would mean others. */
            log_error("the engine does not take the new configuration (%s) and is started anew with it",
                      err_text(err));
            kill_engine(k);
        }
    }
    log_info("configuration read again: %zu peers, %zu classes", k->config->peer_count,
             k->config->class_count);
    if (config_restart_needed(k->started, k->config, keys, sizeof(keys)) > 0)
        log_warn("these keys have changed, but need a restart: %s", keys);
}

static int reload(struct keeper *k, char error[static CONFIG_ERROR_MAX])
{
    char *text = NULL;
    size_t len_bytes = 0;
    struct config *c = NULL;
    if (k->ever_ready)
        notify_reloading();
    int err = keeper_text_read(k->config_path, &text, &len_bytes, error);
    if (err == 0)
        err = config_parse(&c, k->config_path, text, len_bytes, error);
    if (err == 0)
        err = reload_apply(k, c, error);
    if (err == 0)
        reload_tell(k, text, len_bytes);
    else
        log_error("not reloaded, the configuration stays as it was: %s", error);
    config_unref(c);
    free(text);
    if (k->ever_ready)
        notify_send("READY=1");
    return err;
}

/* ---- what comes in ---- */

static void stop(struct keeper *k)
{
    if (k->stopping) {
        k->kill_at_us = 0; /* asked twice: no more patience */
        return;
    }
    log_info("stopping");
    notify_send("STOPPING=1");
    k->stopping = true;
    keeper_verbs_reset(&k->verbs);
    k->verbs.frozen = true;
    if (k->engine == 0) {
        finish(k, 0);
        return;
    }
    bool told = k->note_fd >= 0 &&
                keeper_event_send(k->note_fd, KEEPER_EVENT_STOP, k->verbs.generation, NULL, 0) == 0;
    k->kill_at_us = told ? clock_now_us() + k->times->stop_us : 0;
}

static void heard(struct keeper *k, bool ready)
{
    uint64_t now_us = clock_now_us();
    keeper_watch_heard(&k->watch, now_us);
    if (ready && !k->ready) {
        log_info("ready");
        k->ready = k->ever_ready = true;
        notify_send("READY=1\nSTATUS=ready");
    }
    /* A quarter of what the manager waits: its watchdog hears us only while we hear the engine. */
    uint64_t watchdog_us = notify_watchdog_us();
    if (watchdog_us > 0 && now_us - k->watchdog_sent_us >= watchdog_us / 4) {
        k->watchdog_sent_us = now_us;
        notify_send("WATCHDOG=1");
    }
}

static void take(struct keeper *k, int *fd, bool calls, unsigned at_most)
{
    char error[CONFIG_ERROR_MAX];
    for (unsigned i = 0; i < at_most; i++) {
        uint32_t serial = 0;
        switch (keeper_verbs_take(&k->verbs, *fd, calls, &serial)) {
        case KEEPER_TOOK_NOTHING:
            return;
        case KEEPER_TOOK_DONE:
            break;
        case KEEPER_TOOK_READY:
            heard(k, true);
            break;
        case KEEPER_TOOK_ALIVE:
            heard(k, false);
            break;
        case KEEPER_TOOK_RELOAD: {
            error[0] = '\0';
            int err = k->stopping ? -ESHUTDOWN : reload(k, error);
            keeper_verbs_reply(*fd, &(struct keeper_reply){.serial = serial, .result = err}, error);
            break;
        }
        case KEEPER_TOOK_CLOSED:
            /* It is ending, or it has gone mad: then it is silent from now on, and killed for that. */
            close(*fd);
            *fd = -1;
            return;
        }
    }
}

static void reap(struct keeper *k)
{
    int status;
    if (k->engine == 0 || waitpid(k->engine, &status, WNOHANG) != k->engine)
        return;
    /* What it said before it died counts, above all that it was ready. Its socket holds a bounded number of
     * packets and gets no more. */
    if (k->note_fd >= 0)
        take(k, &k->note_fd, false, UINT32_MAX);
    engine_died(k, status);
}

static void take_signals(struct keeper *k)
{
    struct signalfd_siginfo info;
    char error[CONFIG_ERROR_MAX] = "";
    while (!k->done && read(k->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGCHLD:
            reap(k);
            break;
        case SIGHUP:
            if (!k->stopping)
                reload(k, error);
            break;
        case SIGTERM:
        case SIGINT:
            stop(k);
            break;
        default:
            break;
        }
    }
}

/* ---- time ---- */

static void look(struct keeper *k)
{
    uint64_t now_us = clock_now_us();
    if (now_us - k->retried_us >= LOOK_US) {
        k->retried_us = now_us;
        keeper_verbs_retry(&k->verbs);
    }
    if (k->engine == 0) {
        if (!k->stopping && now_us >= k->restart_at_us)
            engine_start(k);
        return;
    }
    if (k->stopping) {
        if (now_us >= k->kill_at_us) {
            log_warn("the engine did not stop by itself and is killed");
            kill_engine(k);
            k->kill_at_us = UINT64_MAX;
        }
        return;
    }
    if (keeper_watch_hung(&k->watch, k->times, now_us) && !k->killed_hung) {
        k->killed_hung = true;
        kill_engine(k);
    }
}

static int wait_ms(const struct keeper *k)
{
    uint64_t now_us = clock_now_us(), at_us = now_us + LOOK_US;
    if (k->engine == 0)
        at_us = k->restart_at_us;
    else if (k->stopping)
        at_us = k->kill_at_us;
    else if (k->times->silent_us / 4 < LOOK_US)
        at_us = now_us + k->times->silent_us / 4;
    if (at_us > now_us + LOOK_US)
        at_us = now_us + LOOK_US;
    return at_us <= now_us ? 0 : (int)((at_us - now_us + 999) / 1000);
}

static void loop(struct keeper *k)
{
    while (!k->done) {
        struct pollfd polled[] = {
            {.fd = k->signal_fd, .events = POLLIN},
            {.fd = k->note_fd, .events = POLLIN},
            {.fd = k->call_fd, .events = POLLIN},
        };
        if (poll(polled, sizeof(polled) / sizeof(*polled), wait_ms(k)) < 0 && errno != EINTR)
            log_error("poll: %s", err_text(-errno));
        take_signals(k);
        if (k->done)
            break;
        if (k->note_fd >= 0)
            take(k, &k->note_fd, false, TAKEN_PER_TURN);
        if (k->call_fd >= 0)
            take(k, &k->call_fd, true, TAKEN_PER_TURN);
        look(k);
    }
}

/* ---- from start to end ---- */

static int signals_open(struct keeper *k)
{
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGHUP);
    sigaddset(&ours, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &ours, &k->mask_before) < 0)
        return -errno;
    /* What a shell or nohup let us inherit as ignored would never reach the signalfd. */
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    k->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    return k->signal_fd < 0 ? -errno : 0;
}

static int config_first(struct keeper *k)
{
    char error[CONFIG_ERROR_MAX] = "";
    char *text = NULL;
    size_t len_bytes = 0;
    int err = keeper_privilege_check(error);
    if (err == 0)
        err = keeper_text_read(k->config_path, &text, &len_bytes, error);
    if (err == 0)
        err = config_parse(&k->config, k->config_path, text, len_bytes, error);
    free(text);
    if (err < 0) {
        log_error("%s", error);
        return err;
    }
    log_set_level((enum log_level)k->config->log_level);
    config_log_warnings(k->config);
    return 0;
}

int keeper_run_with(const char *config_path, keeper_engine_main *engine_main,
                    const struct keeper_actions *actions, const struct keeper_times *times)
{
    struct keeper k = {
        .config_path = config_path,
        .engine_main = engine_main,
        .actions = actions,
        .times = times,
        .control.fd = -1,
        .verbs.actions = actions,
        .signal_fd = -1,
        .note_fd = -1,
        .call_fd = -1,
        .exit_code = 1,
    };
    log_set_tag("keeper");
    prctl(PR_SET_NAME, "hawserd", 0, 0, 0);
    notify_init();
    keeper_watch_init(&k.watch, times);
    if (config_first(&k) < 0)
        return 1;
    int err = signals_open(&k); /* before anything is made, so that no signal leaves it behind */
    if (err < 0)
        log_error("signalfd: %s", err_text(err));
    if (err == 0 && machine_up(&k) == 0) {
        k.verbs.config = k.config;
        engine_start(&k);
        loop(&k);
    }
    machine_down(&k);
    config_unref(k.started);
    config_unref(k.config);
    if (k.signal_fd >= 0)
        close(k.signal_fd);
    sigprocmask(SIG_SETMASK, &k.mask_before, NULL);
    if (k.exit_code == 0)
        log_info("stopped");
    return k.exit_code;
}

int keeper_run(const char *config_path, keeper_engine_main *engine_main)
{
    return keeper_run_with(config_path, engine_main, &keeper_actions_real, &keeper_times_default);
}
