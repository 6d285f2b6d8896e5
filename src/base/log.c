#include "hawser/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 1024 };

static const struct {
    const char *name;
    int syslog; /* RFC 5424 severity, sd-daemon(3) */
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", 3},
    [LOG_LEVEL_WARN] = {"warn", 4},
    [LOG_LEVEL_INFO] = {"info", 6},
    [LOG_LEVEL_DEBUG] = {"debug", 7},
};

static _Atomic int threshold = LOG_LEVEL_INFO;
static const char *_Atomic process_tag = "";

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

void log_set_tag(const char *tag)
{
    atomic_store(&process_tag, tag);
}

int log_level_parse(const char *name)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(name, levels[i].name) == 0)
            return (int)i;
    }
    return -EINVAL;
}

static size_t put_prefix(char *line, size_t room, enum log_level level)
{
    const char *tag = atomic_load(&process_tag);
    const char *gap = tag[0] != '\0' ? " " : "";
    if (getenv("JOURNAL_STREAM") != NULL)
        return (size_t)snprintf(line, room, "<%d>%s%s", levels[level].syslog, tag,
                                tag[0] != '\0' ? ": " : "");
    struct timespec now;
    struct tm tm;
    char when[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
    return (size_t)snprintf(line, room, "%s.%03ldZ %-5s %s%s", when, now.tv_nsec / 1000000,
                            levels[level].name, tag, tag[0] != '\0' ? ": " : gap);
}

void log_line(enum log_level level, const char *fmt, ...)
{
    if ((int)level > atomic_load_explicit(&threshold, memory_order_relaxed))
        return;
    int saved = errno;
    char line[LOG_LINE_MAX];
    size_t len = put_prefix(line, sizeof(line), level);
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line + len, sizeof(line) - len, fmt, args);
    va_end(args);
    if (n > 0)
        len += (size_t)n;
    if (len > sizeof(line) - 1)
        len = sizeof(line) - 1; /* cut, never split over two lines */
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = ' '; /* a name from outside cannot forge a line */
    }
    line[len++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written; /* nowhere left to complain */
    errno = saved;
}
