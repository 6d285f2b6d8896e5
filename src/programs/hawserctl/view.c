/* view.c - see view.h. */
#include "view.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "columns.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct column worker_columns[] = {
    {"WORKER", "id", COLUMN_COUNT},
    {"SESSIONS", "sessions", COLUMN_COUNT},
    {"CPU%", "cpu_percent", COLUMN_DECIMAL},
};

static const struct column peer_columns[] = {
    {"NAME", "name", COLUMN_TEXT},
    {"STATE", "state", COLUMN_TEXT},
    {"LANES", "lanes", COLUMN_UP},
    {"RTT_MS", "rtt_ms", COLUMN_DECIMAL},
    {"MBIT", "rate_mbit", COLUMN_DECIMAL},
    {"SESSIONS", "sessions", COLUMN_COUNT},
    {"FROM_LAN", "in_bytes", COLUMN_BYTES},
    {"TO_LAN", "out_bytes", COLUMN_BYTES},
    {"FROM_WAN", "wire_in_bytes", COLUMN_BYTES},
    {"TO_WAN", "wire_out_bytes", COLUMN_BYTES},
    {"STORE", "store", COLUMN_TEXT},
    {"DEDUP%", "dedup_percent", COLUMN_DECIMAL},
    {"ZSTD%", "zstd_percent", COLUMN_DECIMAL},
    {"SAVED%", "saved_percent", COLUMN_DECIMAL},
    {"REASON", "reason", COLUMN_TEXT},
};

static const struct column lane_columns[] = {
    {"PEER", "peer", COLUMN_TEXT},
    {"LANE", "id", COLUMN_COUNT},
    {"ROLE", "role", COLUMN_TEXT},
    {"STATE", "state", COLUMN_TEXT},
    {"ADDRESS", "address", COLUMN_TEXT},
    {"RTT_MS", "rtt_ms", COLUMN_DECIMAL},
    {"CWND", "cwnd_bytes", COLUMN_BYTES},
    {"PACING_MBIT", "pacing_mbit", COLUMN_DECIMAL},
    {"DELIVERY_MBIT", "delivery_mbit", COLUMN_DECIMAL},
    {"RETRANS", "retransmits", COLUMN_COUNT},
    {"IN", "in_bytes", COLUMN_BYTES},
    {"OUT", "out_bytes", COLUMN_BYTES},
    {"LEVEL", "level", COLUMN_COUNT},
    {"ZSTD%", "zstd_percent", COLUMN_DECIMAL},
};

static const struct column session_columns[] = {
    {"ID", "id", COLUMN_COUNT},
    {"CLIENT", "client", COLUMN_TEXT},
    {"SERVER", "server", COLUMN_TEXT},
    {"PEER", "peer", COLUMN_TEXT},
    {"CLASS", "class", COLUMN_TEXT},
    {"STATE", "state", COLUMN_TEXT},
    {"AGE", "age_s", COLUMN_DURATION},
    {"FROM_LAN", "in_bytes", COLUMN_BYTES},
    {"TO_LAN", "out_bytes", COLUMN_BYTES},
    {"FROM_WAN", "wire_in_bytes", COLUMN_BYTES},
    {"TO_WAN", "wire_bytes", COLUMN_BYTES},
    {"SAVED%", "saved_percent", COLUMN_DECIMAL},
    {"ENCRYPTED", "encrypted", COLUMN_TEXT},
    {"LANE", "lane", COLUMN_COUNT},
};

static const struct column class_columns[] = {
    {"NAME", "name", COLUMN_TEXT},          {"PEER", "peer", COLUMN_TEXT},
    {"ACTION", "action", COLUMN_TEXT},      {"WEIGHT", "weight", COLUMN_COUNT},
    {"SESSIONS", "sessions", COLUMN_COUNT}, {"FROM_LAN", "bytes", COLUMN_BYTES},
    {"TO_LAN", "out_bytes", COLUMN_BYTES},  {"FROM_WAN", "wire_in_bytes", COLUMN_BYTES},
    {"TO_WAN", "wire_bytes", COLUMN_BYTES}, {"SAVED%", "saved_percent", COLUMN_DECIMAL},
};

static const struct column home_columns[] = {
    {"HOME", "home", COLUMN_COUNT},
    {"MEMORY", "memory_bytes", COLUMN_BYTES},
    {"HELD", "held_bytes", COLUMN_BYTES},
    {"SEGMENTS", "segments", COLUMN_COUNT},
    {"INDEX", "index_bytes", COLUMN_BYTES},
    {"TAKEN", "taken_bytes", COLUMN_BYTES},
    {"MATCHED%", "matched_percent", COLUMN_DECIMAL},
    {"FILLED", "filled_bytes", COLUMN_BYTES},
    {"OLDEST", "oldest_s", COLUMN_DURATION},
    {"EVICTED", "evicted_segments", COLUMN_COUNT},
    {"MISSES", "misses", COLUMN_COUNT},
    {"SENT_AGAIN", "missed_bytes", COLUMN_BYTES},
};

static const struct column bypass_columns[] = {
    {"NO", "number", COLUMN_COUNT},   {"NAME", "name", COLUMN_TEXT},
    {"COUNT", "count", COLUMN_COUNT}, {"LAST_AGO", "last_s_ago", COLUMN_DURATION},
    {"WHY", "text", COLUMN_TEXT},
};

static int print_list(json_t *answer, const struct column *columns, size_t count, const char *none, FILE *to)
{
    if (!json_is_array(answer))
        return -EBADMSG;
    if (json_array_size(answer) == 0)
        (void)fprintf(to, "%s\n", none);
    else
        columns_write(to, columns, count, answer);
    return 0;
}

static int print_peers(json_t *answer, FILE *to)
{
    return print_list(answer, peer_columns, COUNT(peer_columns), "no peers are configured", to);
}

static int print_lanes(json_t *answer, FILE *to)
{
    return print_list(answer, lane_columns, COUNT(lane_columns), "no lanes; 'hawserctl peers' says why", to);
}

static int print_sessions(json_t *answer, FILE *to)
{
    return print_list(answer, session_columns, COUNT(session_columns), "no sessions", to);
}

static int print_classes(json_t *answer, FILE *to)
{
    return print_list(answer, class_columns, COUNT(class_columns), "no classes are configured", to);
}

/* The reasons as a table, then what to do about those that happened, which is too long for a column. */
static int print_bypass(json_t *answer, FILE *to)
{
    bool first = true;
    int err = print_list(answer, bypass_columns, COUNT(bypass_columns), "no connection went direct", to);

    for (size_t i = 0; err == 0 && i < json_array_size(answer); i++) {
        const json_t *reason = json_array_get(answer, i);
        const char *advice = json_string_value(json_object_get(reason, "advice"));
        char buffer[COLUMN_TEXT_MAX];

        if (advice == NULL || advice[0] == '\0' || json_number_value(json_object_get(reason, "count")) <= 0)
            continue;
        (void)fprintf(to, "%s%3s  ", first ? "\nWhat to do:\n" : "",
                      column_text(json_object_get(reason, "number"), COLUMN_COUNT, buffer));
        (void)column_write_text(to, advice);
        (void)fputc('\n', to);
        first = false;
    }
    return err;
}

/* A line: the name of a fact, one field of the answer, maybe "of" another, and a remark. */
static void print_fact(FILE *to, json_t *answer, const char *name, const char *field, enum column_kind kind,
                       const char *of_field, const char *remark)
{
    char buffer[COLUMN_TEXT_MAX];

    (void)fprintf(to, "%-10s ", name);
    (void)column_write_text(to, column_text(json_object_get(answer, field), kind, buffer));
    if (of_field != NULL) {
        (void)fputs(" of ", to);
        (void)column_write_text(to, column_text(json_object_get(answer, of_field), kind, buffer));
    }
    (void)fprintf(to, "%s\n", remark);
}

static int print_status(json_t *answer, FILE *to)
{
    const json_t *workers = json_object_get(answer, "workers");
    bool closed = json_is_false(json_object_get(answer, "accepting"));

    if (!json_is_object(answer))
        return -EBADMSG;
    print_fact(to, answer, "node", "node", COLUMN_TEXT, NULL, "");
    print_fact(to, answer, "version", "version", COLUMN_TEXT, NULL, "");
    print_fact(to, answer, "up for", "uptime_s", COLUMN_DURATION, NULL, "");
    print_fact(to, answer, "peers", "peers_up", COLUMN_COUNT, "peers_total", " up");
    print_fact(to, answer, "sessions", "sessions", COLUMN_COUNT, NULL, "");
    print_fact(to, answer, "memory", "memory_bytes", COLUMN_BYTES, "memory_cap_bytes", "");
    print_fact(to, answer, "accepting", "accepting", COLUMN_TEXT, NULL,
               closed ? ": new connections go direct; 'hawserctl bypass' says why" : "");
    if (json_array_size(workers) > 0) {
        (void)fputc('\n', to);
        columns_write(to, worker_columns, COUNT(worker_columns), workers);
    }
    return 0;
}

static void print_disk(json_t *disk, FILE *to)
{
    const char *error = json_string_value(json_object_get(disk, "error"));

    print_fact(to, disk, "on disk", "bytes", COLUMN_BYTES, "size_bytes", "");
    print_fact(to, disk, "files", "segments", COLUMN_COUNT, NULL, "");
    print_fact(to, disk, "removed", "removed_files", COLUMN_COUNT, NULL, " oldest files");
    print_fact(to, disk, "written", "written_bytes", COLUMN_BYTES, NULL, "");
    print_fact(to, disk, "read back", "read_bytes", COLUMN_BYTES, NULL, "");
    print_fact(to, disk, "skipped", "skipped_bytes", COLUMN_BYTES, NULL, ": there was no room for them");
    print_fact(to, disk, "damaged", "bad_records", COLUMN_COUNT, NULL, " records");
    print_fact(to, disk, "refused", "bad_files", COLUMN_COUNT, NULL, " files");
    print_fact(to, disk, "gone", "gone_files", COLUMN_COUNT, NULL, " files: removed by somebody else");
    print_fact(to, disk, "left alone", "unreadable_files", COLUMN_COUNT, NULL,
               " files: they could not be opened, read or removed");
    if (error != NULL) {
        (void)fputs("disk error ", to);
        (void)column_write_text(to, error);
        (void)fputs(
            ": nothing is written while it lasts, and what leaves memory is not kept; make room or mend the "
            "disk,"
            " which is tried again each 30 s (a folder that could not be used is looked at again after a"
            " restart)\n",
            to);
    }
}

/* All homes as one; then, where there are several, a line each. */
static int print_store(json_t *answer, FILE *to)
{
    const json_t *homes = json_object_get(answer, "homes");
    json_t *disk = json_object_get(answer, "disk");

    if (!json_is_object(answer))
        return -EBADMSG;
    if (json_is_false(json_object_get(answer, "enabled"))) {
        (void)fputs(
            "the store is off: it takes half of memory in [node], and needs 64M; give memory 128M or more\n",
            to);
        return 0;
    }
    print_fact(to, answer, "memory", "memory_bytes", COLUMN_BYTES, "memory_cap_bytes", "");
    print_fact(to, answer, "holds", "held_bytes", COLUMN_BYTES, NULL, " in segments of 16M");
    print_fact(to, answer, "segments", "segments", COLUMN_COUNT, NULL, "");
    print_fact(to, answer, "evicted", "evicted_segments", COLUMN_COUNT, NULL, "");
    print_fact(to, answer, "oldest", "oldest_s", COLUMN_DURATION, NULL, "");
    print_fact(to, answer, "index", "index_bytes", COLUMN_BYTES, NULL, "");
    print_fact(to, answer, "matched", "matched_bytes", COLUMN_BYTES, "taken_bytes",
               " from hosts here, known here");
    if (json_integer_value(json_object_get(answer, "refused_bytes")) > 0)
        print_fact(to, answer, "refused", "refused_bytes", COLUMN_BYTES, NULL,
                   " from hosts here: memory is short");
    print_fact(to, answer, "matched%", "matched_percent", COLUMN_DECIMAL, NULL, "");
    print_fact(to, answer, "filled", "filled_bytes", COLUMN_BYTES, NULL, " by peers");
    print_fact(to, answer, "misses", "misses", COLUMN_COUNT, NULL, " frames here, asked for again");
    print_fact(to, answer, "sent again", "missed_bytes", COLUMN_BYTES, NULL, " for misses of peers");
    if (json_is_object(disk)) {
        print_fact(to, answer, "cold hits", "cold_hits", COLUMN_COUNT, NULL, " of segments on disk only");
        print_fact(to, answer, "came back", "cold_adopted", COLUMN_COUNT, NULL, " of them");
        print_fact(to, answer, "not kept", "uncollected_bytes", COLUMN_BYTES, NULL,
                   ": left memory, or were too many small parts, before they could be written");
        print_disk(disk, to);
    }
    if (json_array_size(homes) > 1) {
        (void)fputc('\n', to);
        columns_write(to, home_columns, COUNT(home_columns), homes);
    }
    return 0;
}

static int print_metrics(json_t *answer, FILE *to)
{
    const json_t *text = json_object_get(answer, "text");

    if (!json_is_string(text))
        return -EBADMSG;
    (void)fputs(json_string_value(text), to); /* for programs: as it is */
    return 0;
}

static int print_reload(json_t *answer, FILE *to)
{
    const char *keys = json_string_value(json_object_get(answer, "restart_needed"));

    if (!json_is_true(json_object_get(answer, "ok")))
        return -EBADMSG;
    if (keys == NULL || keys[0] == '\0') {
        (void)fputs("the configuration was applied\n", to);
    } else {
        (void)fputs("the configuration was applied, but for what needs a restart of hawserd: ", to);
        (void)column_write_text(to, keys);
        (void)fputc('\n', to);
    }
    return 0;
}

int view_print(enum control_verb verb, json_t *answer, FILE *to)
{
    static int (*const printers[CONTROL_VERB_COUNT])(json_t *, FILE *) = {
        [CONTROL_VERB_STATUS] = print_status,   [CONTROL_VERB_PEERS] = print_peers,
        [CONTROL_VERB_LANES] = print_lanes,     [CONTROL_VERB_SESSIONS] = print_sessions,
        [CONTROL_VERB_CLASSES] = print_classes, [CONTROL_VERB_STORE] = print_store,
        [CONTROL_VERB_BYPASS] = print_bypass,   [CONTROL_VERB_METRICS] = print_metrics,
        [CONTROL_VERB_RELOAD] = print_reload,
    };

    return printers[verb](answer, to);
}
