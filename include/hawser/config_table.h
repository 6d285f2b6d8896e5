/* config_table.h - the table of options: one row each, and everything about an option is in its row (floor 2,
 * pure). The reader, the checker, the reload's comparison and the manual hawser.ini(5) walk this table;
 * nothing about an option is written down a second time. Never reads files and never compares one option with
 * another: config.h's reader does. Constant; any thread. */
#ifndef HAWSER_CONFIG_TABLE_H
#define HAWSER_CONFIG_TABLE_H

#include "hawser/config.h"

enum config_section {
    CONFIG_SECTION_NODE,
    CONFIG_SECTION_INTERCEPT,
    CONFIG_SECTION_TUNNEL,
    CONFIG_SECTION_PEER,
    CONFIG_SECTION_STORE,
    CONFIG_SECTION_CLASS,
    CONFIG_SECTION_ADMIN,
    CONFIG_SECTIONS,
};

struct config_section_row {
    const char *word;
    bool named;       /* "[peer NAME]", any number of them; else the section may be given once */
    const char *help; /* for the manual */
};
extern const struct config_section_row config_sections[CONFIG_SECTIONS];

/* How an option's text becomes a value, and in which field's type it is kept. */
enum config_type {
    CONFIG_TYPE_NAME,       /* char[CONFIG_NAME_MAX] */
    CONFIG_TYPE_PATH,       /* char *, owned */
    CONFIG_TYPE_SOCKET,     /* the same, short enough for sun_path */
    CONFIG_TYPE_WORKERS,    /* struct config: workers_min, workers_max */
    CONFIG_TYPE_MEMORY,     /* uint64_t bytes; a share is one of the machine's memory */
    CONFIG_TYPE_BYTES,      /* uint64_t */
    CONFIG_TYPE_TIME,       /* uint64_t microseconds */
    CONFIG_TYPE_BITRATE,    /* uint64_t bits a second */
    CONFIG_TYPE_LIMIT,      /* struct config_rate */
    CONFIG_TYPE_COUNT,      /* uint32_t */
    CONFIG_TYPE_PORT,       /* uint16_t */
    CONFIG_TYPE_YESNO,      /* bool */
    CONFIG_TYPE_CHOICE,     /* int or enum: the position in choices */
    CONFIG_TYPE_COMPRESS,   /* int: -1 auto, 0 off, else the level */
    CONFIG_TYPE_WORD,       /* char[16] */
    CONFIG_TYPE_MARK,       /* struct config_mark */
    CONFIG_TYPE_ENDPOINT,   /* struct endpoint to listen on */
    CONFIG_TYPE_ADDRESS,    /* struct endpoint to connect to */
    CONFIG_TYPE_INTERFACES, /* struct config: interfaces, interface_count */
    CONFIG_TYPE_PINS,       /* struct config_peer: pins, pin_count */
    CONFIG_TYPE_PREFIXES,   /* struct config_prefixes */
    CONFIG_TYPE_SERVE,      /* struct config_peer: serve, serve_set */
    CONFIG_TYPE_PORTS,      /* struct config_class: ports, port_count */
    CONFIG_TYPE_DSCPS,      /* struct config_class: dscp_mask */
    CONFIG_TYPE_PEERS,      /* struct config_class: peers, peer_count */
    CONFIG_TYPE_IFACES,     /* struct config_class: ifaces, iface_count */
    CONFIG_TYPE_PROTOS,     /* uint32_t: bits by the position in choices */
};

enum {
    CONFIG_REQUIRED = 1, /* the section is wrong without it */
    CONFIG_RESTART = 2,  /* a reload cannot apply it */
    CONFIG_LIST = 4,     /* comma separated, may go on in indented lines */
};

struct config_option {
    enum config_section section;
    const char *key;
    enum config_type type;
    unsigned flags;
    size_t offset;        /* of the field in struct config, config_peer or config_class, by section */
    uint64_t min, max;    /* in the field's unit, both included; max 0: no range */
    const char *choices;  /* "one|two", or NULL */
    const char *fallback; /* the default as text, read by the same parser; NULL: none */
    const char *absent;   /* for the manual: what its absence means where fallback does not say it; or NULL */
    const char
        *unbuilt;       /* for a warning and the manual: what this version does not do with it yet; or NULL */
    const char *syntax; /* for the manual and error messages: the shape of a value */
    const char *help;   /* for the manual: sentences */
};

enum { CONFIG_OPTIONS_MAX = 64 }; /* rows fit in the bits of a uint64_t */
extern const struct config_option config_options[];
extern const size_t config_option_count;

/* NULL when there is none. */
const struct config_option *config_option_find(enum config_section section, const char *key);

/* Read text (NUL-terminated) into base's field, base being the section's struct; for a list, add to what is
 * there. 0, or -ERR_CONFIG with the reason and what to do in why, or -ENOMEM. A list may have grown before a
 * failure. */
int config_value_parse(const struct config_option *o, void *base, const char *text,
                       char why[static CONFIG_ERROR_MAX]);
/* Whether a field is the same in both; for options with CONFIG_RESTART only. */
bool config_value_equal(const struct config_option *o, const void *a, const void *b);
/* A value of a range, as the option's own parser would read it; returns out. */
char *config_value_format(const struct config_option *o, uint64_t value, char out[static CONFIG_NAME_MAX]);

#endif
