/* A client sends lines and gets one line of JSON for each: the figures, {"ok": true} or
 * {"error": "..."}. Answers are short and written at once; a client that does not read them is hung
 * up on, as is one that sends a line longer than LINE_MAX_BYTES. */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS        16
#define LINE_MAX_BYTES 512
#define WORDS_MAX      16

struct client {
    int fd; /* -1: free */
    size_t len;
    char line[LINE_MAX_BYTES];
};

struct control {
    struct emulator *emulator;
    int listen_fd;
    bool quit;
    struct sockaddr_un address;
    struct client clients[CLIENTS];
};

/* --- the emulator ------------------------------------------------------------------------------ */

uint64_t emulator_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t queue_limit(const struct emulator *emulator, int direction)
{
    uint64_t rtt_ns = emulator->params[WANEM_A_TO_B].delay_ns + emulator->params[WANEM_B_TO_A].delay_ns;
    return params_queue_bytes(&emulator->params[direction], rtt_ns, emulator->queue_max_ms);
}

void emulator_apply(struct emulator *emulator)
{
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        pump_set(emulator->pumps[i], &emulator->params[i], queue_limit(emulator, i));
    }
}

int emulator_check(const struct emulator *emulator, char *error, size_t error_len)
{
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        uint64_t limit = queue_limit(emulator, i);
        if (limit > 0 && limit < emulator->mtu) {
            snprintf(error, error_len, "queue: %llu bytes %s is less than one packet of the MTU, %u",
                     (unsigned long long)limit, direction_name((enum wanem_direction)i), emulator->mtu);
            return -EINVAL;
        }
    }
    return 0;
}

size_t emulator_describe(const struct emulator *emulator, char *out, size_t out_len)
{
    int len = snprintf(out, out_len, "{\"profile\": \"%s\", \"mtu\": %u, \"seed\": %llu, \"uptime_ms\": %llu",
                       emulator->profile, emulator->mtu, (unsigned long long)emulator->seed,
                       (unsigned long long)(emulator_now_ms() - emulator->started_ms));
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        len +=
            snprintf(out + len, out_len - (size_t)len, ", \"%s\": ", direction_name((enum wanem_direction)i));
        len += (int)pump_describe(emulator->pumps[i], out + len, out_len - (size_t)len);
    }
    len += snprintf(out + len, out_len - (size_t)len, "}\n");
    return (size_t)len;
}

/* --- commands ---------------------------------------------------------------------------------- */

/* The directions that a word names as bits; 0 if it names none. */
static unsigned directions_of(const char *word)
{
    unsigned both = 1u << WANEM_A_TO_B | 1u << WANEM_B_TO_A;
    if (!word || strcmp(word, "both") == 0) {
        return both;
    }
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        if (strcmp(word, direction_name((enum wanem_direction)i)) == 0) {
            return 1u << i;
        }
    }
    return 0;
}

/* words[0..count): pairs of parameter and value. All are set, or none. */
static int set_parameters(struct emulator *emulator, const char *where, char **words, int count, char *error,
                          size_t error_len)
{
    struct emulator changed = *emulator;
    unsigned directions = directions_of(where);
    if (directions == 0) {
        snprintf(error, error_len, "'%s' is no direction (a-to-b, b-to-a, both)", where);
        return -EINVAL;
    }
    if (count == 0 || count % 2 != 0) {
        snprintf(error, error_len, "set takes a direction and pairs of parameter and value");
        return -EINVAL;
    }
    for (int word = 0; word < count; word += 2) {
        for (int i = 0; i < WANEM_DIRECTIONS; i++) {
            if ((directions & 1u << i) &&
                params_set(&changed.params[i], words[word], words[word + 1], error, error_len) < 0) {
                return -EINVAL;
            }
        }
    }
    if (emulator_check(&changed, error, error_len) < 0) {
        return -EINVAL;
    }
    memcpy(emulator->params, changed.params, sizeof emulator->params);
    emulator_apply(emulator);
    return 0;
}

static int command_run(struct control *control, char **words, int count, char *error, size_t error_len)
{
    struct emulator *emulator = control->emulator;
    if (strcmp(words[0], "set") == 0) {
        return set_parameters(emulator, count > 1 ? words[1] : "", words + 2, count > 2 ? count - 2 : 0,
                              error, error_len);
    }
    if ((strcmp(words[0], "down") == 0 || strcmp(words[0], "up") == 0) && count <= 2) {
        char link[] = "link";
        char *pair[] = {link, words[0]};
        return set_parameters(emulator, count > 1 ? words[1] : "both", pair, 2, error, error_len);
    }
    if (strcmp(words[0], "zero") == 0 && count == 1) {
        for (int i = 0; i < WANEM_DIRECTIONS; i++) {
            pump_zero(emulator->pumps[i]);
        }
        return 0;
    }
    if (strcmp(words[0], "quit") == 0 && count == 1) {
        control->quit = true;
        return 0;
    }
    snprintf(error, error_len, "a command is stats, set, down, up, zero or quit");
    return -EINVAL;
}

/* Text as the inside of a JSON string, cut if need be. */
static void json_escape(const char *text, char *out, size_t out_len)
{
    size_t at = 0;
    for (; *text && at + 7 < out_len; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') {
            out[at++] = '\\';
            out[at++] = (char)byte;
        } else if (byte < 0x20 || byte >= 0x7f) {
            at += (size_t)snprintf(out + at, out_len - at, "\\u%04x", byte);
        } else {
            out[at++] = (char)byte;
        }
    }
    out[at] = '\0';
}

static size_t command_answer(struct control *control, char *line, char *out, size_t out_len)
{
    char *words[WORDS_MAX], *rest = NULL;
    char error[LINE_MAX_BYTES + 256], escaped[2 * sizeof error];
    int count = 0;
    for (char *word = strtok_r(line, " \t\r", &rest); word; word = strtok_r(NULL, " \t\r", &rest)) {
        if (count == WORDS_MAX) {
            return (size_t)snprintf(out, out_len, "{\"error\": \"too many words\"}\n");
        }
        words[count++] = word;
    }
    if (count == 0) {
        return (size_t)snprintf(out, out_len, "{\"error\": \"an empty line\"}\n");
    }
    if (strcmp(words[0], "stats") == 0 && count == 1) {
        return emulator_describe(control->emulator, out, out_len);
    }
    if (command_run(control, words, count, error, sizeof error) < 0) {
        json_escape(error, escaped, sizeof escaped);
        return (size_t)snprintf(out, out_len, "{\"error\": \"%s\"}\n", escaped);
    }
    return (size_t)snprintf(out, out_len, "{\"ok\": true}\n");
}

/* --- the socket -------------------------------------------------------------------------------- */

/* A left-over socket file may be replaced, one that a program listens at, or any other file, may not. */
static int replace_leftover(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return -EEXIST;
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0) {
        return -errno;
    }
    int connected = connect(probe, (const struct sockaddr *)address, sizeof *address);
    close(probe);
    if (connected == 0) {
        return -EADDRINUSE;
    }
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

int control_open(const char *path, struct emulator *emulator, struct control **out)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int err = replace_leftover(&address);
    if (err < 0) {
        return err;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    struct control *control = calloc(1, sizeof *control);
    mode_t mask = umask(077); /* it can take the link down: for its owner only */
    err = 0;
    if (!control) {
        err = -ENOMEM;
    } else if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 || listen(fd, CLIENTS) < 0) {
        err = -errno;
    }
    umask(mask);
    if (err < 0) {
        close(fd);
        free(control);
        return err;
    }
    control->emulator = emulator;
    control->listen_fd = fd;
    control->address = address;
    for (int i = 0; i < CLIENTS; i++) {
        control->clients[i].fd = -1;
    }
    *out = control;
    return 0;
}

static void client_close(struct client *client)
{
    close(client->fd);
    client->fd = -1;
    client->len = 0;
}

void control_free(struct control *control)
{
    if (!control) {
        return;
    }
    for (int i = 0; i < CLIENTS; i++) {
        if (control->clients[i].fd >= 0) {
            client_close(&control->clients[i]);
        }
    }
    close(control->listen_fd);
    unlink(control->address.sun_path);
    free(control);
}

static void accept_client(struct control *control)
{
    int fd = accept4(control->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    for (int i = 0; fd >= 0 && i < CLIENTS; i++) {
        if (control->clients[i].fd < 0) {
            control->clients[i].fd = fd;
            return;
        }
    }
    if (fd >= 0) {
        close(fd); /* all places are taken */
    }
}

/* Reads what came and answers each whole line. */
static void serve_client(struct control *control, struct client *client)
{
    char answer[DESCRIPTION_MAX];
    ssize_t got = read(client->fd, client->line + client->len, sizeof client->line - client->len);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        client_close(client);
        return;
    }
    client->len += (size_t)got;
    char *end;
    while ((end = memchr(client->line, '\n', client->len)) != NULL) {
        size_t used = (size_t)(end - client->line) + 1;
        *end = '\0';
        size_t len = command_answer(control, client->line, answer, sizeof answer);
        memmove(client->line, client->line + used, client->len - used);
        client->len -= used;
        if (send(client->fd, answer, len, MSG_NOSIGNAL) != (ssize_t)len) {
            client_close(client);
            return;
        }
    }
    if (client->len == sizeof client->line) {
        client_close(client);
    }
}

int control_run(struct control *control, int stop_fd)
{
    struct pollfd fds[2 + CLIENTS] = {{.fd = stop_fd, .events = POLLIN}};
    while (!control || !control->quit) {
        fds[1] = (struct pollfd){.fd = control ? control->listen_fd : -1, .events = POLLIN};
        for (int i = 0; i < CLIENTS; i++) {
            fds[2 + i] = (struct pollfd){.fd = control ? control->clients[i].fd : -1, .events = POLLIN};
        }
        if (poll(fds, 2 + CLIENTS, -1) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (fds[0].revents) {
            return 0;
        }
        for (int i = 0; i < CLIENTS; i++) {
            if (fds[2 + i].revents) {
                serve_client(control, &control->clients[i]);
            }
        }
        if (fds[1].revents) {
            accept_client(control);
        }
    }
    return 0;
}
