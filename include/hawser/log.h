/* log.h - one line an event, to stderr (floor 0).
 * Lines carry a <N> priority prefix when the journal reads us (JOURNAL_STREAM), else a time and a level
 * word. A line is written by one write(2), so threads do not mix. Any thread. */
#ifndef HAWSER_LOG_H
#define HAWSER_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Set once, before threads start. */
void log_set_level(enum log_level level);
/* A short tag before every line of this process ("keeper", "engine"); borrowed, must outlive logging. */
void log_set_tag(const char *tag);
/* The level a name ("error", "warn", "info", "debug") stands for, or -EINVAL. */
int log_level_parse(const char *name);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
