/* config_reader.h - a configuration while it is being read (floor 2, private to the configuration).
 * config_reader.c fills it line by line; config_check.c then compares options with one another. One thread.
 */
#ifndef HAWSER_POLICY_CONFIG_READER_H
#define HAWSER_POLICY_CONFIG_READER_H

#include "hawser/config_table.h"

/* One section of the file: where it began and where each of its options stood. */
struct section_place {
    enum config_section section;
    size_t index; /* of the peer or class */
    unsigned heading_line;
    unsigned option_line[CONFIG_OPTIONS_MAX]; /* by row of the table; 0: not given */
};

/* A peer's network and where it stood. */
struct network_place {
    struct prefix prefix;
    size_t peer;
    unsigned line;
};

struct config_reader {
    const char *name; /* of the file, in messages */
    const char *text; /* what is not yet read */
    size_t left;
    unsigned line; /* of the last one read */
    int err;       /* the first error; later ones are not looked at */
    char *error;   /* CONFIG_ERROR_MAX bytes */

    struct config *config;
    struct section_place *places; /* in file order */
    size_t place_count;
    struct network_place *networks;
    size_t network_count;

    const struct config_option *last; /* what an indented line goes on with; NULL: nothing */
    bool continues;                   /* the line that inih holds goes on with last */
    bool expects;                     /* that line has not come back from inih yet */
};

/* Keep the first error: "NAME:LINE: reason". Returns err. */
int reader_fail(struct config_reader *r, int err, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Add a warning of the same form to the configuration. 0 or -ENOMEM, which is then the error. */
int reader_warn(struct config_reader *r, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Where an option of a section stands, else its heading. */
unsigned place_line(const struct section_place *p, const char *key);
bool place_has(const struct section_place *p, const char *key);
/* "[peer dc]", for messages; returns out. */
#define PLACE_TEXT_MAX (CONFIG_NAME_MAX + 16)
char *place_format(const struct config_reader *r, const struct section_place *p,
                   char out[static PLACE_TEXT_MAX]);

/* Fill r->config from r->text. What is wrong with one line is said there. */
int config_read(struct config_reader *r);
/* What one option demands of another; fills the error. */
int config_check(struct config_reader *r);

#endif
