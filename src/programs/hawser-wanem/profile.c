/* The file is split into keys and values by libinih, which cuts long lines, takes an indented line for more
 * of the value before it, passes over headings without keys and has no line numbers for its caller. So its
 * reader callback is ours: next_line takes the indentation off, refuses what inih would cut, keeps the
 * section and counts. Nothing is read past the first error. */
#include "profile.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES (SCHEDULE_CHANGE_MAX - 2) /* inih's buffer has 200 */

enum section { SECTION_NONE, SECTION_LINK, SECTION_SCHEDULE };

struct reader {
    const char *name;
    const char *text;
    size_t left;
    unsigned line;
    enum section section;
    unsigned directions; /* of SECTION_LINK */
    int err;
    char *error;

    struct link_params link[WANEM_DIRECTIONS];
    struct schedule schedule;
    bool scheduled; /* there was a [schedule] */
};

__attribute__((format(printf, 3, 4))) static int refuse(struct reader *reader, int err, const char *format,
                                                        ...)
{
    va_list arguments;
    int len = snprintf(reader->error, PROFILE_ERROR_MAX, "%.200s:%u: ", reader->name, reader->line);
    va_start(arguments, format);
    vsnprintf(reader->error + len, PROFILE_ERROR_MAX - (size_t)len, format, arguments);
    va_end(arguments);
    reader->err = err;
    return err;
}

/* --- schedules --------------------------------------------------------------------------------- */

void schedule_free(struct schedule *schedule)
{
    free(schedule->events);
    *schedule = (struct schedule){.count = 0};
}

/* Keeps the events in order of time, those of one time in order of the file. */
static int add_event(struct schedule *schedule, uint64_t at_ns, const char *change)
{
    if (schedule->count % 16 == 0) {
        void *events = realloc(schedule->events, (schedule->count + 16) * sizeof schedule->events[0]);
        if (!events) {
            return -ENOMEM;
        }
        schedule->events = events;
    }
    size_t place = schedule->count++;
    for (; place > 0 && schedule->events[place - 1].at_ns > at_ns; place--) {
        schedule->events[place] = schedule->events[place - 1];
    }
    schedule->events[place].at_ns = at_ns;
    snprintf(schedule->events[place].change, SCHEDULE_CHANGE_MAX, "%s", change); /* no line is longer */
    return 0;
}

static int schedule_key(struct reader *reader, const char *key, const char *value)
{
    struct link_params scratch[WANEM_DIRECTIONS];
    char error[PARAMS_ERROR_MAX];
    uint64_t time_ns;
    if (strcmp(key, "repeat") == 0) {
        if (!params_time(value, SCHEDULE_TIME_MAX, &reader->schedule.repeat_ns) ||
            reader->schedule.repeat_ns < SCHEDULE_REPEAT_MIN) {
            return refuse(reader, -EINVAL,
                          "repeat: '%.100s' is wrong, it takes a time from 10ms to a week, such as 60s",
                          value);
        }
        return 0;
    }
    const char *when = key + 2 + strspn(key + (strncmp(key, "at", 2) == 0 ? 2 : 0), " \t");
    if (strncmp(key, "at", 2) != 0 || when == key + 2 || !params_time(when, SCHEDULE_TIME_MAX, &time_ns)) {
        return refuse(
            reader, -EINVAL,
            "'%.60s' is no key of [schedule]; write 'at TIME = CHANGE', such as 'at 30s = down', with a "
            "time up to a week, or 'repeat = TIME'",
            key);
    }
    memcpy(scratch, reader->link, sizeof scratch);
    if (link_change(scratch, value, 0, error) < 0) {
        return refuse(reader, -EINVAL, "%s", error);
    }
    if (reader->schedule.count == SCHEDULE_EVENTS_MAX) {
        return refuse(reader, -EINVAL, "a schedule has at most %u events; let it repeat",
                      SCHEDULE_EVENTS_MAX);
    }
    if (add_event(&reader->schedule, time_ns, value) < 0) {
        return refuse(reader, -ENOMEM, "out of memory");
    }
    return 0;
}

int schedule_check(const struct schedule *schedule, const struct link_params link[WANEM_DIRECTIONS],
                   uint32_t mtu, char error[PROFILE_ERROR_MAX])
{
    struct link_params at[WANEM_DIRECTIONS];
    char why[PARAMS_ERROR_MAX];
    size_t rounds = schedule->repeat_ns > 0 ? 2 : 1; /* the second begins as the first has ended */
    memcpy(at, link, sizeof at);
    for (size_t i = 0; i < rounds * schedule->count; i++) {
        const char *change = schedule->events[i % schedule->count].change;
        if (link_change(at, change, mtu, why) < 0) {
            snprintf(error, PROFILE_ERROR_MAX, "schedule: '%.100s': %s", change, why);
            return -EINVAL;
        }
    }
    return 0;
}

/* --- the file ---------------------------------------------------------------------------------- */

static int heading(struct reader *reader, const char *line)
{
    char word[32];
    size_t len = strcspn(line + 1, "]");
    if (line[1 + len] != ']' || len >= sizeof word) {
        return refuse(reader, -EINVAL,
                      "'%.60s' is no heading; there are [both], [a-to-b], [b-to-a] and [schedule]", line);
    }
    memcpy(word, line + 1, len);
    word[len] = '\0';
    reader->directions = direction_bits(word);
    if (reader->directions != 0) {
        reader->section = SECTION_LINK;
        return 0;
    }
    if (strcmp(word, "schedule") != 0) {
        return refuse(reader, -EINVAL,
                      "[%s] is no section; there are [both], [a-to-b], [b-to-a] and [schedule]", word);
    }
    if (reader->scheduled) {
        return refuse(reader, -EINVAL, "there is a second [schedule]; put its events into the first");
    }
    reader->section = SECTION_SCHEDULE;
    reader->scheduled = true;
    return 0;
}

/* inih's fgets: one line of at most room bytes with '\n' and NUL, or NULL at the end and at an error. */
static char *next_line(char *out, int room, void *stream)
{
    struct reader *reader = stream;
    if (reader->err < 0 || reader->left == 0) {
        return NULL;
    }
    const char *newline = memchr(reader->text, '\n', reader->left);
    size_t whole = newline ? (size_t)(newline - reader->text) : reader->left;
    const char *line = reader->text;
    size_t len = whole;
    reader->line++;
    reader->text += newline ? whole + 1 : whole;
    reader->left -= newline ? whole + 1 : whole;
    while (len > 0 && strchr(" \t\r\v\f", line[0]) && line[0] != '\0') {
        line++;
        len--;
    }
    if (len > LINE_MAX_BYTES || len + 2 > (size_t)room) {
        refuse(reader, -EINVAL, "the line has %zu characters, and %d is the most", len, LINE_MAX_BYTES);
        return NULL;
    }
    if (memchr(line, '\0', len)) {
        refuse(reader, -EINVAL, "there is a NUL byte; is this a text file?");
        return NULL;
    }
    memcpy(out, line, len);
    out[len] = '\0';
    if (out[0] == '[' && heading(reader, out) < 0) {
        return NULL;
    }
    memcpy(out + len, "\n", 2);
    return out;
}

/* inih's handler: 1 fine, 0 an error. The section is the one that next_line has seen, for inih's may be cut.
 */
static int take_key(void *user, const char *section, const char *key, const char *value)
{
    struct reader *reader = user;
    char error[PARAMS_ERROR_MAX];
    (void)section;
    if (reader->err < 0) {
        return 0;
    }
    if (reader->section == SECTION_SCHEDULE) {
        return schedule_key(reader, key, value) == 0;
    }
    if (reader->section == SECTION_NONE) {
        refuse(reader, -EINVAL, "'%.60s' is in no section; put [both], [a-to-b] or [b-to-a] before it", key);
        return 0;
    }
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        if ((reader->directions & 1u << i) && params_set(&reader->link[i], key, value, error) < 0) {
            refuse(reader, -EINVAL, "%s", error);
            return 0;
        }
    }
    return 1;
}

static int check_repeat(struct reader *reader)
{
    const struct schedule *schedule = &reader->schedule;
    if (schedule->repeat_ns == 0) {
        return 0;
    }
    if (schedule->count == 0) {
        return refuse(reader, -EINVAL, "repeat: there is nothing to repeat; add 'at TIME = CHANGE'");
    }
    if (schedule->events[schedule->count - 1].at_ns > schedule->repeat_ns) {
        return refuse(reader, -EINVAL, "repeat: an event comes later than that; make it longer");
    }
    return 0;
}

int profile_parse(const char *name, const char *text, size_t len, struct link_params link[WANEM_DIRECTIONS],
                  struct schedule *schedule, char error[PROFILE_ERROR_MAX])
{
    struct reader reader = {.name = name, .text = text, .left = len, .error = error};
    memcpy(reader.link, link, sizeof reader.link);
    int inih = ini_parse_stream(next_line, &reader, take_key, &reader);
    if (reader.err == 0 && inih > 0) {
        reader.line = (unsigned)inih;
        refuse(&reader, -EINVAL, "the line cannot be read; write KEY = VALUE, or start a comment with ';'");
    }
    if (reader.err == 0 && inih < 0) {
        refuse(&reader, -ENOMEM, "out of memory");
    }
    if (reader.err == 0) {
        check_repeat(&reader);
    }
    if (reader.err < 0) {
        schedule_free(&reader.schedule);
        return reader.err;
    }
    memcpy(link, reader.link, sizeof reader.link);
    if (reader.scheduled) {
        schedule_free(schedule);
        *schedule = reader.schedule;
    }
    return 0;
}

/* The whole file; the caller frees it. NULL with errno. */
static char *read_file(const char *path, size_t *len)
{
    char *text = NULL;
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    errno = EFBIG;
    if (fstat(fd, &status) < 0 || status.st_size >= (off_t)PROFILE_BYTES_MAX) {
        goto done;
    }
    text = malloc(PROFILE_BYTES_MAX);
    *len = 0;
    ssize_t got = 1;
    while (text && got > 0) {
        got = read(fd, text + *len, PROFILE_BYTES_MAX - *len);
        *len += got > 0 ? (size_t)got : 0;
    }
    if (text && (got < 0 || *len == PROFILE_BYTES_MAX)) {
        errno = got < 0 ? errno : EFBIG;
        free(text);
        text = NULL;
    }
done:;
    int err = errno;
    close(fd);
    errno = err;
    return text;
}

int profile_read(const char *profile, struct link_params link[WANEM_DIRECTIONS], struct schedule *schedule,
                 char out_name[PROFILE_NAME_MAX], char error[PROFILE_ERROR_MAX])
{
    char path[4096];
    size_t len;
    bool named = strchr(profile, '/') == NULL;
    int path_len = snprintf(path, sizeof path, "%s%s%s", named ? HAWSER_WANEM_PROFILES "/" : "", profile,
                            named ? ".ini" : "");
    errno = ENAMETOOLONG;
    char *text = path_len < (int)sizeof path ? read_file(path, &len) : NULL;
    if (!text) {
        int err = errno;
        snprintf(error, PROFILE_ERROR_MAX,
                 "profile: %.200s: %s; it takes the path of a file, or a name from %s", path, strerror(err),
                 HAWSER_WANEM_PROFILES);
        return -err;
    }
    int err = profile_parse(path, text, len, link, schedule, error);
    free(text);
    if (err < 0) {
        return err;
    }
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t base_len = strlen(base);
    if (base_len > 4 && strcmp(base + base_len - 4, ".ini") == 0) {
        base_len -= 4;
    }
    snprintf(out_name, PROFILE_NAME_MAX, "%.*s", (int)base_len, base);
    return 0;
}
