/* main.c - hawserctl(1): makes identities, shows pins, and asks a running hawserd. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ask.h"
#include "columns.h"
#include "hawser/config.h"
#include "hawser/control.h"
#include "hawser/identity.h"
#include "view.h"

enum exit_code { EXIT_FINE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };

struct options {
    const char *socket_path;
    bool as_json;
};

struct command {
    const char *name;
    const char *argument; /* what it is called in the usage, NULL when there is none */
    const char *help;
    int (*run)(const struct command *self, const struct options *options, const char *argument);
    enum control_verb verb; /* for those that ask hawserd */
};

/* The text may be hawserd's, which may quote a file. */
static int complain(const char *text)
{
    (void)fputs("hawserctl: ", stderr);
    (void)column_write_text(stderr, text);
    (void)fputc('\n', stderr);
    return EXIT_REFUSED;
}

/* ---- identities ---- */

static int run_pin(const struct command *self, const struct options *options, const char *path)
{
    char error[IDENTITY_ERROR_MAX], text[CONFIG_PIN_TEXT_MAX];
    uint8_t pin[CONFIG_PIN_BYTES];

    (void)self;
    (void)options;
    if (identity_pin_of_file(path, pin, error) != 0)
        return complain(error);
    identity_pin_format(pin, text);
    (void)printf("%s\n", text);
    return EXIT_FINE;
}

/* The certificate's name is for people who look at it with other tools: the folder's, where that is plain. */
static void name_of_folder(const char *dir, char name[static CONFIG_NAME_MAX])
{
    size_t end = strlen(dir), start;
    bool plain;

    while (end > 0 && dir[end - 1] == '/')
        end--;
    for (start = end; start > 0 && dir[start - 1] != '/'; start--)
        ;
    plain = end > start && end - start < CONFIG_NAME_MAX && dir[start] != '.';
    for (size_t i = start; plain && i < end; i++)
        plain = dir[i] > ' ' && dir[i] < 0x7f;
    if (plain)
        (void)snprintf(name, CONFIG_NAME_MAX, "%.*s", (int)(end - start), dir + start);
    else
        (void)snprintf(name, CONFIG_NAME_MAX, "hawser");
}

static int run_keygen(const struct command *self, const struct options *options, const char *dir)
{
    char error[IDENTITY_ERROR_MAX], name[CONFIG_NAME_MAX], path[PATH_MAX];

    name_of_folder(dir, name);
    if (identity_generate(dir, name, error) != 0)
        return complain(error);
    if (snprintf(path, sizeof(path), "%s/node.crt", dir) >= (int)sizeof(path))
        return complain("the folder's path is too long");
    (void)printf("wrote %s/node.key (keep it secret) and %s\n"
                 "the pin of this node, for the [peer] sections of the others:\n",
                 dir, path);
    return run_pin(self, options, path);
}

/* ---- asking hawserd ---- */

static int show(enum control_verb verb, const struct options *options, const char *text, size_t len_bytes)
{
    json_error_t where;
    json_t *answer = json_loadb(text, len_bytes, JSON_ALLOW_NUL, &where);
    const char *error = json_string_value(json_object_get(answer, "error"));
    int code = EXIT_FINE;

    if (answer == NULL) {
        code = complain("hawserd's answer is no JSON, or cut short; it may be restarting, ask again");
    } else if (options->as_json) {
        (void)fwrite(text, 1, len_bytes, stdout);
        if (text[len_bytes - 1] != '\n')
            (void)putchar('\n');
        code = error != NULL ? EXIT_REFUSED : EXIT_FINE;
    } else if (error != NULL) {
        code = complain(error);
    } else if (view_print(verb, answer, stdout) != 0) {
        code = complain(
            "hawserd's answer is not of the form that this hawserctl knows; are both of one version?");
    }
    json_decref(answer);
    return code;
}

static int run_ask(const struct command *self, const struct options *options, const char *unused)
{
    char error[ASK_ERROR_MAX], *answer;
    size_t len_bytes;

    (void)unused;
    if (ask_daemon(options->socket_path, self->name, &answer, &len_bytes, error) != 0)
        return complain(error);
    int code = show(self->verb, options, answer, len_bytes);

    free(answer);
    return code;
}

/* ---- the command line ---- */

static const struct command commands[] = {
#define COMMAND_ASK(verb, text, help) {text, NULL, help, run_ask, CONTROL_VERB_##verb},
    CONTROL_VERB_TABLE(COMMAND_ASK)
#undef COMMAND_ASK
        {"keygen", "DIR", "make DIR/node.key and DIR/node.crt, and print the pin", run_keygen,
         CONTROL_VERB_COUNT},
    {"pin", "FILE", "print the pin of a certificate", run_pin, CONTROL_VERB_COUNT},
};
enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static void print_usage(FILE *to)
{
    (void)fprintf(to, "usage: hawserctl [-s SOCKET] [--json] COMMAND\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(to, "  %-8s %-4s  %s\n", commands[i].name,
                      commands[i].argument != NULL ? commands[i].argument : "", commands[i].help);
    (void)fprintf(to,
                  "\n  -s, --socket SOCKET  hawserd's control socket (default %s)\n"
                  "      --json           the answer as hawserd gave it\n"
                  "  -V, --version        print the version\n"
                  "  -h, --help           print this\n",
                  CONTROL_SOCKET_DEFAULT);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static int run(const struct options *options, int count, char **words)
{
    const struct command *command = count > 0 ? find_command(words[0]) : NULL;

    if (command == NULL || count - 1 != (command->argument != NULL)) {
        if (count > 0 && command == NULL)
            (void)fprintf(stderr, "hawserctl: there is no command '%s'\n", words[0]);
        else if (command != NULL)
            (void)fprintf(stderr, "hawserctl: %s takes %s\n", words[0],
                          command->argument != NULL ? "one argument" : "no arguments");
        print_usage(stderr);
        return EXIT_USAGE;
    }
    return command->run(command, options, count > 1 ? words[1] : NULL);
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"socket", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {.socket_path = CONTROL_SOCKET_DEFAULT};
    int code = -1, letter;

    while (code < 0 && (letter = getopt_long(argc, argv, "s:Vh", long_options, NULL)) != -1) {
        switch (letter) {
        case 's':
            options.socket_path = optarg;
            break;
        case 'j':
            options.as_json = true;
            break;
        case 'V':
            (void)printf("hawserctl %s\n", HAWSER_VERSION);
            code = EXIT_FINE;
            break;
        case 'h':
            print_usage(stdout);
            code = EXIT_FINE;
            break;
        default:
            print_usage(stderr);
            code = EXIT_USAGE;
            break;
        }
    }
    if (code < 0)
        code = run(&options, argc - optind, argv + optind);
    if (fflush(stdout) != 0 || ferror(stdout))
        return complain("cannot write the output");
    return code;
}
