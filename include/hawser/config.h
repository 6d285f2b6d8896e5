/* config.h - the INI file as a value (floor 2).
 * One table row an option (config_table.h): section, key, type, range, default, help; the reader, the checker
 * and the manual hawser.ini(5) all come from it. A loaded configuration is immutable and shared by
 * reference count; a reload makes a new one. Reading: one thread; a loaded value: any thread. */
#ifndef HAWSER_CONFIG_H
#define HAWSER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/addr.h"

enum {
    CONFIG_NAME_MAX = 64, /* bytes of a peer's, class's or node's name, NUL included */
    CONFIG_PEERS_MAX = 4096,
    CONFIG_CLASSES_MAX = 64,
    CONFIG_PINS_MAX = 2,
    CONFIG_INTERFACES_MAX = 32,
    CONFIG_LANES_MAX = 8,
    CONFIG_WORKERS_MAX = 256,
    CONFIG_LINE_MAX =
        198, /* bytes of a line, as libinih is usually built; a list goes on in indented lines */
    CONFIG_TEXT_MAX = 16 << 20, /* bytes of a file */
    CONFIG_PIN_BYTES = 32,      /* SHA-256 of a certificate's SubjectPublicKeyInfo */
    CONFIG_PIN_TEXT_MAX = 45,   /* its base64 with the NUL */
};

enum config_firewall { CONFIG_FIREWALL_AUTO, CONFIG_FIREWALL_NONE };
enum config_source { CONFIG_SOURCE_CLIENT, CONFIG_SOURCE_SELF, CONFIG_SOURCE_AUTO };
enum config_action { CONFIG_ACTION_ACCELERATE, CONFIG_ACTION_BYPASS, CONFIG_ACTION_DENY };
enum config_proto {
    CONFIG_PROTO_TLS = 1,
    CONFIG_PROTO_SSH = 2,
    CONFIG_PROTO_HTTP = 4,
    CONFIG_PROTO_OTHER = 8
};

/* A mark or a field of one: (packet mark & mask) == value. */
struct config_mark {
    uint32_t value, mask;
};

/* A share of a link: absolute bits a second, or per mille of the link's rate. Both zero: not set. */
struct config_rate {
    uint64_t bits_per_s;
    uint32_t permille;
};

struct config_prefixes {
    struct prefix *list;
    size_t count;
};

struct config_port_range {
    uint16_t first, last;
};

struct config_peer {
    char name[CONFIG_NAME_MAX];
    struct endpoint address; /* family AF_UNSPEC: wait for it to dial */
    uint8_t pins[CONFIG_PINS_MAX][CONFIG_PIN_BYTES];
    size_t pin_count;                /* at least one */
    unsigned pin_line;               /* of the file, for messages */
    struct config_prefixes networks; /* what is reached through it and what it may speak for */
    struct config_prefixes serve;    /* empty and !serve_set: our interfaces' networks */
    bool serve_set;
    enum config_source source;
    uint32_t lanes;           /* 1..CONFIG_LANES_MAX, default 2 */
    char congestion[16];      /* default "auto" */
    uint64_t rate_bits_per_s; /* 0: unknown, to be learned */
    uint64_t hold_us;         /* sessions outlive a tunnel without lanes this long; default 60 s */
};

struct config_class {
    char name[CONFIG_NAME_MAX];
    struct config_port_range *ports;
    size_t port_count; /* 0: any, likewise below */
    struct config_prefixes from, to;
    uint64_t dscp_mask; /* bit n: DSCP n; 0: any */
    char (*peers)[CONFIG_NAME_MAX];
    size_t peer_count;
    char (*ifaces)[CONFIG_NAME_MAX];
    size_t iface_count;
    uint32_t proto_mask; /* of enum config_proto; 0: any */
    enum config_action action;
    bool dedup;
    bool share;      /* false: dedup is false too, and compress 0 */
    int compress;    /* -1 auto, 0 off, 1..19 */
    uint32_t weight; /* 0 (background) .. 1000; default 1 */
    struct config_rate limit;
};

struct config {
    /* [node] */
    char name[CONFIG_NAME_MAX];
    char *identity;                    /* folder */
    char user[CONFIG_NAME_MAX];        /* "" = not set */
    uint32_t workers_min, workers_max; /* auto: both the number of CPUs */
    uint32_t homes;                    /* 0: not set, by the peers' rates */
    uint64_t memory_bytes;             /* resolved from bytes or % of RAM; at least 32M */
    uint32_t sessions_max;             /* budget; default 65536 */
    uint64_t connect_timeout_us;       /* default 10 s */
    int log_level;                     /* enum log_level; default info */
    /* [intercept] */
    char interfaces[CONFIG_INTERFACES_MAX][CONFIG_NAME_MAX];
    size_t interface_count; /* 0: nothing is intercepted here */
    uint16_t port;          /* default 3129 */
    enum config_firewall firewall;
    struct config_mark mark, lane_mark;
    /* [tunnel] */
    struct endpoint listen; /* family AF_UNSPEC: dial only */
    /* [store] */
    char *store_path; /* NULL: memory only */
    uint64_t store_size_bytes;
    /* [admin] */
    char *control;        /* default /run/hawser/control.sock */
    struct endpoint http; /* AF_UNSPEC: none */

    struct config_peer *peers;
    size_t peer_count;
    struct config_class *classes; /* in file order: the first that fits wins */
    size_t class_count;

    char *warnings; /* what is right, but will surprise: lines "FILE:LINE: reason\n"; NULL: nothing */
};

/* The first thing wrong, as a person reads it: "FILE:LINE: reason". */
#define CONFIG_ERROR_MAX 512

/* Parse and check a file, or text already in memory (name is used in messages). 0 with *out owned by the
 * caller, or -errno / -ERR_CONFIG with error[] filled. What needs the machine (interfaces that exist,
 * readable identities, free ports) is not looked at here. */
int config_load(struct config **out, const char *path, char error[static CONFIG_ERROR_MAX]);
int config_parse(struct config **out, const char *name, const char *text, size_t len_bytes,
                 char error[static CONFIG_ERROR_MAX]);

/* CPUs that this process may use; 0: more than can be told. */
int config_cpus(void);

/* Reference counting, atomic; config_unref(NULL) is fine, the last one frees. */
struct config *config_ref(struct config *c);
void config_unref(struct config *c);

/* What differs between two configurations and cannot be applied without a restart, as "key, key" into
 * out (cut to size); returns how many keys. */
int config_restart_needed(const struct config *was, const struct config *is, char *out, size_t out_size);
enum { CONFIG_KEYS_BYTES = 320 }; /* for all that there are */

/* Log the warnings of a configuration, one line each. */
void config_log_warnings(const struct config *c);

/* Print the option table as the OPTIONS part of hawser.ini(5) (roff). */
struct _IO_FILE;
void config_print_manual(struct _IO_FILE *to);

#endif
