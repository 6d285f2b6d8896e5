/* A client sends lines and gets one line of JSON for each: the figures, {"ok": true} or
 * {"error": "..."}. Answers are written at once; a client that does not read them is hung up on, as is one
 * that sends a line longer than LINE_MAX_BYTES. */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "figures.h"

#define CLIENTS        16
#define LINE_MAX_BYTES 512

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

/* --- commands ---------------------------------------------------------------------------------- */

static bool is_change(const char *line)
{
    static const char *const words[] = {"set", "down", "up"};
    size_t len = strcspn(line, " \t");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (len == strlen(words[i]) && strncmp(line, words[i], len) == 0) {
            return true;
        }
    }
    return false;
}

static void answer(struct control *control, const char *line, FILE *out)
{
    struct emulator *emulator = control->emulator;
    char error[PARAMS_ERROR_MAX] = "a command is stats, histogram, set, down, up, zero or quit";
    if (strcmp(line, "stats") == 0 || strcmp(line, "histogram") == 0) {
        figures_json(emulator, line[0] == 'h', out);
        return;
    }
    if (strcmp(line, "zero") == 0) {
        for (int i = 0; i < WANEM_DIRECTIONS; i++) {
            pump_zero(emulator->pumps[i]);
        }
    } else if (strcmp(line, "quit") == 0) {
        control->quit = true;
    } else if (!is_change(line) || emulator_change(emulator, line, error) < 0) {
        fputs("{\"error\": ", out);
        figures_json_string(error, out);
        fputs("}\n", out);
        return;
    }
    fputs("{\"ok\": true}\n", out);
}

/* Answers one line. False if the client is to be hung up on. */
static bool answer_line(struct control *control, int fd, char *line)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out) {
        return false;
    }
    for (size_t end = strlen(line); end > 0 && strchr(" \t\r", line[end - 1]); end--) {
        line[end - 1] = '\0';
    }
    answer(control, line, out);
    bool sent = fclose(out) == 0 && send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
    free(text);
    return sent;
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
        if (!answer_line(control, client->fd, client->line)) {
            client_close(client);
            return;
        }
        memmove(client->line, client->line + used, client->len - used);
        client->len -= used;
    }
    if (client->len == sizeof client->line) {
        client_close(client);
    }
}

/* poll until a moment. */
static int poll_until(struct pollfd *fds, nfds_t count, uint64_t until_ns)
{
    struct timespec timeout, *limit = NULL;
    if (until_ns != EMULATOR_NEVER) {
        uint64_t now_ns = emulator_now_ns();
        uint64_t wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
        timeout.tv_sec = (time_t)(wait_ns / UINT64_C(1000000000));
        timeout.tv_nsec = (long)(wait_ns % UINT64_C(1000000000));
        limit = &timeout;
    }
    int ready = ppoll(fds, count, limit, NULL);
    return ready < 0 ? -errno : ready;
}

int control_run(struct control *control, int stop_fd, uint64_t until_ns)
{
    struct pollfd fds[2 + CLIENTS] = {{.fd = stop_fd, .events = POLLIN}};
    while (!control || !control->quit) {
        fds[1] = (struct pollfd){.fd = control ? control->listen_fd : -1, .events = POLLIN};
        for (int i = 0; i < CLIENTS; i++) {
            fds[2 + i] = (struct pollfd){.fd = control ? control->clients[i].fd : -1, .events = POLLIN};
        }
        int ready = poll_until(fds, 2 + CLIENTS, until_ns);
        if (ready == -EINTR) {
            continue;
        }
        if (ready < 0) {
            return ready;
        }
        if (fds[0].revents) {
            return CONTROL_ENDED;
        }
        for (int i = 0; i < CLIENTS; i++) {
            if (fds[2 + i].revents) {
                serve_client(control, &control->clients[i]);
            }
        }
        if (fds[1].revents) {
            accept_client(control);
        }
        if (emulator_now_ns() >= until_ns && !(control && control->quit)) {
            return CONTROL_TIME;
        }
    }
    return CONTROL_ENDED;
}
