/* ask.c - see ask.h. */
#include "ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "hawser/control.h"
#include "hawser/err.h"

/* An errno may come from connecting or from a daemon that died or hangs in the middle. */
static int explain(const char *path, int err, char error[static ASK_ERROR_MAX])
{
    const char *advice;

    switch (-err) {
    case ENOENT:
    case ECONNREFUSED:
        advice = "is hawserd running? (another socket: -s SOCKET, see [admin] control)";
        break;
    case EACCES:
    case EPERM:
        advice = "be root, or in the group that the socket belongs to";
        break;
    case EAGAIN:
        advice = "hawserd does not answer; its log tells more";
        break;
    case ECONNRESET:
    case EPIPE:
        advice = "hawserd closed the connection; it may be restarting, ask again";
        break;
    case EMSGSIZE:
        advice = "the answer is larger than anything hawserd says; is this its socket?";
        break;
    default:
        advice = "see -s SOCKET and [admin] control";
        break;
    }
    (void)snprintf(error, ASK_ERROR_MAX, "%.150s: %s; %s", path, err == -EAGAIN ? "no answer" : err_text(err),
                   advice);
    return err;
}

static int open_socket(const char *path, int *out)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct timeval silence = {.tv_sec = ASK_SILENCE_S};
    int fd, err;

    if (strlen(path) >= sizeof(to.sun_path))
        return -ENAMETOOLONG;
    memcpy(to.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof(silence)) < 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
        err = -errno;
        (void)close(fd);
        return err;
    }
    *out = fd;
    return 0;
}

static int send_verb(int fd, const char *verb)
{
    char line[CONTROL_REQUEST_MAX + 1];
    int len = snprintf(line, sizeof(line), "%s\n", verb);

    if (len < 0 || len > CONTROL_REQUEST_MAX)
        return -EMSGSIZE;
    /* So few bytes go into an empty socket buffer whole, or not at all. */
    return send(fd, line, (size_t)len, MSG_NOSIGNAL) == len ? 0 : -errno;
}

static int read_answer(int fd, char **answer, size_t *len_bytes)
{
    size_t used = 0, room = 0;
    char *bytes = NULL;

    for (;;) {
        if (room - used < 2) {
            size_t wanted = room == 0 ? 65536 : room * 2;
            char *larger = wanted <= ASK_ANSWER_MAX ? realloc(bytes, wanted) : NULL;

            if (larger == NULL) {
                free(bytes);
                return wanted <= ASK_ANSWER_MAX ? -ENOMEM : -EMSGSIZE;
            }
            bytes = larger;
            room = wanted;
        }
        ssize_t n = recv(fd, bytes + used, room - used - 1, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int err = -errno;

            free(bytes);
            return err;
        }
        if (n == 0)
            break;
        used += (size_t)n;
    }
    bytes[used] = '\0';
    *answer = bytes;
    *len_bytes = used;
    return 0;
}

int ask_daemon(const char *path, const char *verb, char **answer, size_t *len_bytes,
               char error[static ASK_ERROR_MAX])
{
    int fd = -1;
    int err = open_socket(path, &fd);

    if (err == 0) {
        /* A daemon that refuses at once may close before the line is out: its answer is there all the same.
         */
        err = send_verb(fd, verb);
        if (err == 0 || err == -EPIPE) {
            int sent = err;

            err = read_answer(fd, answer, len_bytes);
            if (err == 0 && *len_bytes == 0) {
                free(*answer);
                err = sent != 0 ? sent : -ECONNRESET;
            }
        }
        (void)close(fd);
    }
    return err != 0 ? explain(path, err, error) : 0;
}
