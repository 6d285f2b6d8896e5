/* load_options.h - the command line of the load generator (part of load.c only): fills in `end`, or exits
 * with 2. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <getopt.h>

#include "load_end.h"

static _Noreturn void __attribute__((format(printf, 1, 2))) usage(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("load: ", stderr);
    vfprintf(stderr, fmt, args);
    fputs("\n", stderr);
    va_end(args);
    exit(2);
}

static uint64_t number_of(const char *text)
{
    char *rest;
    errno = 0;
    uint64_t value = strtoull(text, &rest, 10);
    const char *suffix = strchr("KMG", *rest);
    if (*rest != '\0' && suffix != NULL && rest[1] == '\0')
        value <<= *rest == 'K' ? 10 : *rest == 'M' ? 20 : 30;
    else if (*rest != '\0' || rest == text || errno != 0)
        usage("'%s' is no number", text);
    return value;
}

static void ports_of(char *text)
{
    char *dash = strchr(text, '-');
    if (dash != NULL)
        *dash++ = '\0';
    end.port_first = (unsigned)number_of(text);
    end.port_last = dash != NULL ? (unsigned)number_of(dash) : end.port_first;
    if (end.port_first == 0 || end.port_last > 65535 || end.port_last < end.port_first ||
        end.port_last - end.port_first >= PORTS_MAX)
        usage("ports are FIRST or FIRST-LAST, at most %d", PORTS_MAX);
}

static socklen_t address_of(const char *text, struct sockaddr_storage *sa)
{
    memset(sa, 0, sizeof(*sa));
    if (inet_pton(AF_INET, text, &((struct sockaddr_in *)(void *)sa)->sin_addr) == 1) {
        sa->ss_family = AF_INET;
        return sizeof(struct sockaddr_in);
    }
    if (inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)(void *)sa)->sin6_addr) != 1)
        usage("'%s' is no address", text);
    sa->ss_family = AF_INET6;
    return sizeof(struct sockaddr_in6);
}

static void sources_of(char *text)
{
    for (char *save, *one = strtok_r(text, ",", &save); one != NULL; one = strtok_r(NULL, ",", &save)) {
        if (end.source_count == SOURCES_MAX)
            usage("at most %d sources", SOURCES_MAX);
        address_of(one, &end.sources[end.source_count++]);
    }
}

static void group_key(struct group *g, char *key)
{
    char *value = strchr(key, '=');
    if (value == NULL)
        usage("'%s': KEY=VALUE is wanted", key);
    *value++ = '\0';
    uint64_t n = number_of(value);
    if (strcmp(key, "up") == 0)
        g->up_bytes = n;
    else if (strcmp(key, "down") == 0)
        g->down_bytes = n;
    else if (strcmp(key, "rounds") == 0)
        g->rounds = (uint32_t)n;
    else if (strcmp(key, "duplex") == 0)
        g->duplex = n != 0;
    else if (strcmp(key, "every_ms") == 0)
        g->every_us = n * 1000;
    else if (strcmp(key, "after") == 0)
        g->after = n;
    else if (strcmp(key, "rcvbuf") == 0)
        g->rcvbuf = (int)n;
    else if (strcmp(key, "linger") == 0)
        g->linger = n != 0;
    else
        usage("a group has no '%s'", key);
}

static void group_of(char *text)
{
    static const struct group defaults[KIND_COUNT] = {
        [KIND_SHORT] = {.up_bytes = 200, .down_bytes = 2000, .rounds = 1},
        [KIND_STREAM] = {.up_bytes = 1 << 20, .down_bytes = 1 << 20, .rounds = 1, .duplex = true},
        [KIND_IDLE] = {.up_bytes = 16, .down_bytes = 16, .rounds = 2},
        [KIND_SLOW] = {.up_bytes = 16, .down_bytes = 256 << 10, .rounds = 1, .every_us = 1000000},
        [KIND_ECHO] = {.up_bytes = 64, .down_bytes = 64, .rounds = 1000},
        [KIND_RST] = {.up_bytes = 1000, .down_bytes = 64 << 10, .rounds = 1, .after = 1},
        [KIND_SILENT] = {.up_bytes = 1000, .down_bytes = 64 << 10, .rounds = 1, .after = 1},
    };
    char *save, *name = strtok_r(text, ":", &save), *count = strtok_r(NULL, ",", &save);
    int kind = 0;
    while (name != NULL && kind < KIND_COUNT && strcmp(name, kind_text[kind]) != 0)
        kind++;
    if (count == NULL || kind == KIND_COUNT || end.group_count == GROUPS_MAX)
        usage("a group is KIND:COUNT[,KEY=VALUE...], at most %d of them", GROUPS_MAX);
    struct group *g = &end.groups[end.group_count++];
    *g = defaults[kind];
    g->kind = (enum kind)kind;
    g->count = number_of(count);
    TAILQ_INIT(&g->sleeping);
    for (char *key = strtok_r(NULL, ",", &save); key != NULL; key = strtok_r(NULL, ",", &save))
        group_key(g, key);
    if (g->rounds == 0 || (g->rounds > 1 && (g->up_bytes == 0 || g->down_bytes == 0)))
        usage("rounds need bytes in both directions");
    end.sessions += g->count;
    end.to_hold += is_held_kind(g) ? g->count : 0;
}

static void options(int argc, char **argv, const char **address)
{
    static const struct option known[] = {
        {"address", required_argument, NULL, 'a'},  {"ports", required_argument, NULL, 'p'},
        {"sessions", required_argument, NULL, 'n'}, {"deadline", required_argument, NULL, 'd'},
        {"group", required_argument, NULL, 'g'},    {"at-once", required_argument, NULL, 'o'},
        {"opening", required_argument, NULL, 'O'},  {"rate", required_argument, NULL, 'r'},
        {"source", required_argument, NULL, 's'},   {"seed", required_argument, NULL, 'S'},
        {"hold", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "46", known, NULL)) != -1) {
        switch (c) {
        case '4':
            *address = "0.0.0.0";
            break;
        case '6':
            *address = "::";
            break;
        case 'a':
            *address = optarg;
            break;
        case 'p':
            ports_of(optarg);
            break;
        case 'n':
            end.wanted = number_of(optarg);
            break;
        case 'd':
            end.deadline_us = number_of(optarg) * 1000000;
            break;
        case 'g':
            group_of(optarg);
            break;
        case 'o':
            end.at_once = number_of(optarg);
            break;
        case 'O':
            end.opening_most = number_of(optarg);
            break;
        case 'r':
            end.rate = number_of(optarg);
            break;
        case 's':
            sources_of(optarg);
            break;
        case 'S':
            end.seed = number_of(optarg);
            break;
        case 'h':
            end.wait_for_release = true;
            break;
        default:
            usage("see the head of load.c");
        }
    }
}

#endif
