/* hawser-wanem: a link between two TUN devices that is as slow, long and lossy as asked for. */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "control.h"
#include "figures.h"
#include "hawser/units.h"
#include "tun.h"

#define EXIT_REFUSED 1
#define EXIT_USAGE   2
#define PARAMS_MAX   16
#define NAME_MAX_LEN 32
#define SECOND_NS    UINT64_C(1000000000)

enum option_code {
    OPTION_A = 256,
    OPTION_B,
    OPTION_PROFILE,
    OPTION_MTU,
    OPTION_SEED,
    OPTION_CONTROL,
    OPTION_JSON,
    OPTION_PARAM
};

/* Parameter options come thrice: --rate for both directions, --a-to-b-rate and --b-to-a-rate for one. */
struct param_option {
    char name[NAME_MAX_LEN];
    const char *param;
    unsigned directions; /* bits */
};

struct arguments {
    const char *place[2];
    const char *control_path;
    bool json;
};

static struct param_option param_options[3 * PARAMS_MAX];
static struct option options[16 + 3 * PARAMS_MAX];

static void make_options(void)
{
    static const struct option fixed[] = {
        {"a", required_argument, NULL, OPTION_A},
        {"b", required_argument, NULL, OPTION_B},
        {"profile", required_argument, NULL, OPTION_PROFILE},
        {"mtu", required_argument, NULL, OPTION_MTU},
        {"seed", required_argument, NULL, OPTION_SEED},
        {"control", required_argument, NULL, OPTION_CONTROL},
        {"json", no_argument, NULL, OPTION_JSON},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
    };
    static const char *const prefixes[] = {"", "a-to-b-", "b-to-a-"};
    static const unsigned directions[] = {WANEM_BOTH, 1u << WANEM_A_TO_B, 1u << WANEM_B_TO_A};
    size_t count = sizeof fixed / sizeof fixed[0];
    memcpy(options, fixed, sizeof fixed);
    size_t row = 0;
    const char *param;
    for (size_t i = 0; i < PARAMS_MAX && (param = params_name(i, NULL)) != NULL; i++) {
        for (size_t j = 0; j < 3; j++, row++) {
            struct param_option *made = &param_options[row];
            snprintf(made->name, sizeof made->name, "%s%s", prefixes[j], param);
            made->param = param;
            made->directions = directions[j];
            options[count++] = (struct option){made->name, required_argument, NULL, OPTION_PARAM + (int)row};
        }
    }
}

static void usage(FILE *out)
{
    fputs("usage: hawser-wanem --a IFACE[@NETNS] --b IFACE[@NETNS] [options]\n"
          "  --profile NAME   of " HAWSER_WANEM_PROFILES ", or the path of such a file; may be\n"
          "                   given again: later ones override\n"
          "  --mtu BYTES      of both devices (1500)\n"
          "  --seed N         of the random numbers (1)\n"
          "  --control PATH   unix socket for commands\n"
          "  --json           figures as JSON: a line a second, and the report\n"
          "  -V, --version    print the version\n"
          "  -h, --help       print this\n"
          "and for both directions, or with --a-to-b- or --b-to-a- in front for one:\n",
          out);
    const char *name, *takes;
    for (size_t i = 0; (name = params_name(i, &takes)) != NULL; i++) {
        fprintf(out, "  --%-13s %s\n", name, takes);
    }
}

static int complain(const char *text)
{
    fprintf(stderr, "hawser-wanem: %s\n", text);
    return EXIT_USAGE;
}

/* A whole decimal number from min to max. */
static int parse_number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char error[256];
    uint64_t number;
    if (units_parse_count(text, &number) < 0 || number < min || number > max) {
        snprintf(error, sizeof error, "%s: '%s' is wrong, it takes a number from %llu to %llu", name, text,
                 (unsigned long long)min, (unsigned long long)max);
        return complain(error);
    }
    *out = number;
    return 0;
}

static int set_param(struct emulator *emulator, const struct param_option *option, const char *value)
{
    char error[PARAMS_ERROR_MAX];
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        if ((option->directions & 1u << i) &&
            params_set(&emulator->link[i], option->param, value, error) < 0) {
            /* it begins with the parameter; the direction is named as well */
            int prefix_len = (int)(strlen(option->name) - strlen(option->param));
            fprintf(stderr, "hawser-wanem: --%.*s%s\n", prefix_len, option->name, error);
            return EXIT_USAGE;
        }
    }
    return 0;
}

static int take_option(int code, const char *value, struct arguments *arguments, struct emulator *emulator)
{
    uint64_t number = 0;
    switch (code) {
    case OPTION_A:
    case OPTION_B:
        arguments->place[code == OPTION_B] = value;
        return 0;
    case OPTION_PROFILE:
        return 0; /* were taken before the others */
    case OPTION_MTU:
        if (parse_number("mtu", value, TUN_MTU_MIN, TUN_MTU_MAX, &number) != 0) {
            return EXIT_USAGE;
        }
        emulator->mtu = (uint32_t)number;
        return 0;
    case OPTION_SEED:
        return parse_number("seed", value, 0, UINT64_MAX, &emulator->seed);
    case OPTION_CONTROL:
        arguments->control_path = value;
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    default:
        if (code >= OPTION_PARAM) {
            return set_param(emulator, &param_options[code - OPTION_PARAM], value);
        }
        return complain("see hawser-wanem --help");
    }
}

static int add_profile(struct emulator *emulator, const char *profile)
{
    char name[PROFILE_NAME_MAX], error[PROFILE_ERROR_MAX];
    if (profile_read(profile, emulator->link, &emulator->schedule, name, error) < 0) {
        return complain(error);
    }
    size_t used = strcmp(emulator->profile, "none") == 0 ? 0 : strlen(emulator->profile);
    snprintf(emulator->profile + used, sizeof emulator->profile - used, "%s%s", used > 0 ? "+" : "", name);
    return 0;
}

/* Profiles go first wherever they stand, so that a parameter on the command line overrides them. */
static int take_profiles(int argc, char **argv, struct emulator *emulator)
{
    int code, wrong = 0;
    opterr = 0;
    while (wrong == 0 && (code = getopt_long(argc, argv, "Vh", options, NULL)) != -1) {
        if (code == 'h') {
            usage(stdout);
            exit(EXIT_SUCCESS);
        }
        if (code == 'V') {
            puts("hawser-wanem " HAWSER_VERSION);
            exit(EXIT_SUCCESS);
        }
        if (code == OPTION_PROFILE) {
            wrong = add_profile(emulator, optarg);
        }
    }
    opterr = 1;
    optind = 0;
    return wrong;
}

static int take_arguments(int argc, char **argv, struct arguments *arguments, struct emulator *emulator)
{
    make_options();
    *emulator = (struct emulator){.profile = "none", .mtu = 1500, .seed = 1};
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        params_default(&emulator->link[i]);
    }
    int wrong = take_profiles(argc, argv, emulator);
    int code;
    while (wrong == 0 && (code = getopt_long(argc, argv, "Vh", options, NULL)) != -1) {
        wrong = take_option(code, optarg, arguments, emulator);
    }
    if (wrong != 0) {
        return wrong;
    }
    if (optind < argc) {
        fprintf(stderr, "hawser-wanem: '%s' is no option\n", argv[optind]);
        return EXIT_USAGE;
    }
    if (!arguments->place[0] || !arguments->place[1]) {
        return complain(arguments->place[0] ? "b: is missing (--b IFACE[@NETNS])"
                                            : "a: is missing (--a IFACE[@NETNS])");
    }
    char error[PROFILE_ERROR_MAX];
    if (link_check(emulator->link, emulator->mtu, error) < 0 ||
        schedule_check(&emulator->schedule, emulator->link, emulator->mtu, error) < 0) {
        return complain(error);
    }
    return 0;
}

static int terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* What is shown while it runs, and when the next figures are due. */
struct show {
    bool json, terminal;
    uint64_t next_ns;
    struct figures_live live;
};

/* Whoever reads the output may go away, and a disk may be full. */
static bool output_is_written(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return true;
    }
    fprintf(stderr, "hawser-wanem: write the output: %s; is the reader gone, or the disk full?\n",
            strerror(errno));
    return false;
}

/* Carries out what the schedule has for now. */
static void take_event(struct emulator *emulator, struct show *show)
{
    char error[PARAMS_ERROR_MAX];
    const char *change = emulator_event(emulator, error);
    if (show->terminal) {
        figures_live_clear(&show->live, stdout);
        fflush(stdout);
    }
    if (error[0] != '\0') {
        fprintf(stderr, "hawser-wanem: schedule: '%s': %s\n", change, error);
    } else if (show->terminal) {
        printf("%.1f s: %s\n", (double)(emulator_now_ns() - emulator->started_ns) / 1e9, change);
    }
}

static void show_figures(struct emulator *emulator, struct show *show)
{
    uint64_t now_ns = emulator_now_ns();
    if (show->json) {
        figures_json(emulator, false, stdout);
    } else {
        figures_live_lines(emulator, &show->live, terminal_columns(), stdout);
    }
    show->next_ns += (now_ns - show->next_ns) / SECOND_NS * SECOND_NS + SECOND_NS;
}

/* Commands, events and figures every second until the end, which is an exit status. */
static int serve(struct emulator *emulator, struct control *control, int stop_fd, bool json)
{
    static struct show show;
    show.json = json;
    show.terminal = !json && isatty(STDOUT_FILENO) == 1;
    show.next_ns = json || show.terminal ? emulator->started_ns + SECOND_NS : EMULATOR_NEVER;
    figures_live_start(emulator, &show.live);
    while (output_is_written()) {
        uint64_t event_ns = emulator_event_ns(emulator);
        int end = control_run(control, stop_fd, event_ns < show.next_ns ? event_ns : show.next_ns);
        if (end == CONTROL_TIME) {
            if (emulator_now_ns() >= event_ns) {
                take_event(emulator, &show);
            }
            if (emulator_now_ns() >= show.next_ns) {
                show_figures(emulator, &show);
            }
            continue;
        }
        if (show.terminal) {
            puts("");
        }
        if (end < 0) {
            fprintf(stderr, "hawser-wanem: wait for commands: %s\n", strerror(-end));
        }
        return end < 0 ? EXIT_REFUSED : EXIT_SUCCESS;
    }
    return EXIT_REFUSED;
}

/* Threads, "ready", commands until the end, report. The descriptors are borrowed. */
static int run(struct emulator *emulator, struct control *control, const int tun_fds[2], int stop_fd,
               bool json)
{
    int result = EXIT_REFUSED;
    struct sched_param priority = {.sched_priority = 1};

    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        int from = i == WANEM_A_TO_B ? 0 : 1;
        emulator->pumps[i] = pump_new(tun_fds[from], tun_fds[!from], emulator->mtu,
                                      emulator->seed * WANEM_DIRECTIONS + (unsigned)i);
        if (!emulator->pumps[i]) {
            fputs("hawser-wanem: out of memory\n", stderr);
            goto done;
        }
    }
    sched_setscheduler(0, SCHED_RR,
                       &priority); /* events are for a moment too; refused: as any other thread */
    emulator_start(emulator, emulator_now_ns());
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        int err = pump_start(emulator->pumps[i]);
        if (err < 0) {
            fprintf(stderr, "hawser-wanem: start a thread: %s\n", strerror(-err));
            goto done;
        }
    }
    puts(json ? "{\"ready\": true}" : "ready");
    result = serve(emulator, control, stop_fd, json);
    pump_stop(emulator->pumps[0]);
    pump_stop(emulator->pumps[1]);
    if (json) {
        figures_json(emulator, true, stdout);
    } else {
        figures_report(emulator, stdout);
    }
    if (result == EXIT_SUCCESS && !output_is_written()) {
        result = EXIT_REFUSED;
    }
done:
    pump_free(emulator->pumps[0]);
    pump_free(emulator->pumps[1]);
    return result;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.json = false};
    struct emulator emulator;
    char error[512];
    int tun_fds[2] = {-1, -1}, stop_fd = -1;
    struct control *control = NULL;

    int result = take_arguments(argc, argv, &arguments, &emulator);
    if (result != 0) {
        goto done;
    }
    result = EXIT_REFUSED;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* the control socket is to go with the program: writing fails instead */
    stop_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    if (stop_fd < 0) {
        perror("hawser-wanem: signalfd");
        goto done;
    }
    for (int i = 0; i < 2; i++) {
        tun_fds[i] = tun_open(arguments.place[i], emulator.mtu, error, sizeof error);
        if (tun_fds[i] < 0) {
            fprintf(stderr, "hawser-wanem: %s\n", error);
            goto done;
        }
    }
    if (arguments.control_path) {
        int err = control_open(arguments.control_path, &emulator, &control);
        if (err < 0) {
            fprintf(stderr, "hawser-wanem: control: %s: %s\n", arguments.control_path, strerror(-err));
            goto done;
        }
    }
    result = run(&emulator, control, tun_fds, stop_fd, arguments.json);
done:
    schedule_free(&emulator.schedule);
    control_free(control);
    for (int i = 0; i < 2; i++) {
        if (tun_fds[i] >= 0) {
            close(tun_fds[i]);
        }
    }
    if (stop_fd >= 0) {
        close(stop_fd);
    }
    return result;
}
