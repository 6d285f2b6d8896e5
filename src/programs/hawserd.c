/* hawserd(8): the options, then the keeper (keeper.h), which starts the engine (engine.h). */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "hawser/config.h"
#include "hawser/control_server.h"
#include "hawser/engine.h"
#include "hawser/keeper.h"
#include "hawser/keeper_setup.h"

enum { EXIT_FINE = 0, EXIT_WRONG = 1, EXIT_USAGE = 2 };

static void print_usage(FILE *to)
{
    fputs("usage: hawserd -c FILE [-t]\n"
          "       hawserd -V | -h\n"
          "\n"
          "  -c FILE  the configuration, see hawser.ini(5)\n"
          "  -t       check the configuration and exit: 0 good, 1 wrong (FILE:LINE: reason)\n"
          "  -V       print the version\n"
          "  -h       print this\n",
          to);
}

static int usage_error(const char *why)
{
    fprintf(stderr, "hawserd: %s\n", why);
    print_usage(stderr);
    return EXIT_USAGE;
}

/* What the start would say of the store's folder. 0: it would go on. */
static int check_store(const struct config *c, char error[static CONFIG_ERROR_MAX])
{
    struct keeper_user user;
    if (c->store_path == NULL)
        return 0;
    int err = keeper_user_find(c->user, &user, error);
    if (err == 0)
        err = keeper_store_check(c->store_path, &user, error);
    if (err == -EACCES && geteuid() != 0) {
        fprintf(stderr,
                "[store] path = %s: only root can look at that folder; run this as root to have it checked, "
                "too\n",
                c->store_path);
        return 0;
    }
    if (err < 0)
        fprintf(stderr, "%s\n", error);
    return keeper_store_can_wait(err) ? 0 : err;
}

static int check_file(const char *path)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct config *c = NULL;
    if (config_load(&c, path, error) < 0) {
        fprintf(stderr, "%s\n", error);
        return EXIT_WRONG;
    }
    config_log_warnings(c);
    struct identity *own = NULL;
    int err = keeper_identity_load(&own, c, path, error);
    if (err < 0)
        fprintf(stderr, "%s\n", error);
    else
        err = check_store(c, error);
    if (err == 0)
        printf("%s: good\n", path);
    identity_free(own);
    config_unref(c);
    return err < 0 ? EXIT_WRONG : EXIT_FINE;
}

/* The engine: the node, and who answers about it. */
static int engine_main(const struct keeper_engine_start *start)
{
    struct node *node = NULL;
    struct control_server *control = NULL;
    if (engine_start(&node, start) < 0)
        return EXIT_WRONG;
    int code = EXIT_WRONG;
    if (start->control_fd < 0 || control_server_new(&control, node) == 0)
        code = engine_serve(node);
    control_server_free(control);
    engine_free(node);
    return code;
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    bool check = false;
    int option;
    while ((option = getopt(argc, argv, "+:c:tVh")) != -1) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 't':
            check = true;
            break;
        case 'V':
            puts("hawserd " HAWSER_VERSION);
            return EXIT_FINE;
        case 'h':
            print_usage(stdout);
            return EXIT_FINE;
        case ':':
            return usage_error("an option lacks its value");
        default:
            return usage_error("there is no such option");
        }
    }
    if (optind < argc)
        return usage_error("there is an argument too many");
    if (path == NULL)
        return usage_error("-c FILE is missing");
    return check ? check_file(path) : keeper_run(path, engine_main);
}
