/* metrics.c - see metrics.h. A table of metrics for each kind of thing that is reported: a row is a field of
 * its JSON and becomes a line for each. */
#include "metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/compress.h"

struct lines {
    char *text;
    size_t len, cap;
};

static void __attribute__((format(printf, 2, 3))) add_line(struct lines *l, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(line))
        return;
    if (l->len + (size_t)n + 1 > l->cap) {
        size_t cap = l->cap == 0 ? 4096 : l->cap * 2;
        char *text = realloc(l->text, cap);
        if (text == NULL)
            return;
        l->text = text;
        l->cap = cap;
    }
    memcpy(l->text + l->len, line, (size_t)n + 1);
    l->len += (size_t)n;
}

struct metric {
    const char *field, *name, *kind, *help;
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct metric peer_metrics[] = {
    {"sessions", "hawser_peer_sessions", "gauge", "Live sessions with the peer"},
    {"opened", "hawser_peer_sessions_opened_total", "counter", "Sessions opened with the peer"},
    {"in_bytes", "hawser_peer_in_bytes_total", "counter", "Bytes read from hosts here, towards the peer"},
    {"out_bytes", "hawser_peer_out_bytes_total", "counter", "Bytes from the peer given to hosts here"},
    {"wire_in_bytes", "hawser_peer_wire_in_bytes_total", "counter", "Bytes received on the peer's lanes"},
    {"wire_out_bytes", "hawser_peer_wire_out_bytes_total", "counter", "Bytes sent on the peer's lanes"},
    {"out_frame_bytes", "hawser_peer_out_frame_bytes_total", "counter",
     "Bytes sent to the peer, before compression"},
    {"out_block_bytes", "hawser_peer_out_block_bytes_total", "counter",
     "Bytes sent to the peer, after compression"},
    {"out_raw_blocks", "hawser_peer_out_raw_blocks_total", "counter", "Blocks sent without compression"},
    {"in_frame_bytes", "hawser_peer_in_frame_bytes_total", "counter",
     "Bytes received from the peer, decompressed"},
    {"in_block_bytes", "hawser_peer_in_block_bytes_total", "counter",
     "Bytes received from the peer, as they came"},
    {"in_saved_bytes", "hawser_peer_in_saved_bytes_total", "counter",
     "Bytes towards the peer that crossed as references"},
    {"out_saved_bytes", "hawser_peer_out_saved_bytes_total", "counter",
     "Bytes from the peer that crossed as references"},
    {"misses", "hawser_peer_misses_total", "counter",
     "Frames from the peer that were asked for again: unresolved, or past credit"},
    {"missed_bytes", "hawser_peer_missed_bytes_total", "counter",
     "Bytes sent again since the peer's store did not have what we referred to"},
    {"repeated_misses", "hawser_peer_repeated_misses_total", "counter",
     "Requests of the peer for bytes that were sent again already, ignored"},
};

static const struct metric class_metrics[] = {
    {"sessions", "hawser_class_sessions", "gauge", "Live sessions of the class"},
    {"bytes", "hawser_class_in_bytes_total", "counter", "Bytes of the class's sessions sent to the peer"},
    {"out_bytes", "hawser_class_out_bytes_total", "counter", "Bytes of the class's sessions from the peer"},
    {"wire_bytes", "hawser_class_wire_out_bytes_total", "counter",
     "Bytes of frames that carried them to the peer, before compression"},
    {"wire_in_bytes", "hawser_class_wire_in_bytes_total", "counter",
     "Bytes of frames that carried them from the peer, decompressed"},
    {"in_saved_bytes", "hawser_class_in_saved_bytes_total", "counter",
     "Bytes towards the peer that crossed as references"},
    {"out_saved_bytes", "hawser_class_out_saved_bytes_total", "counter",
     "Bytes from the peer that crossed as references"},
};

static const struct metric store_metrics[] = {
    {"memory_bytes", "hawser_store_memory_bytes", "gauge", "Memory of the store and its index"},
    {"memory_cap_bytes", "hawser_store_memory_cap_bytes", "gauge", "The most that it may take"},
    {"held_bytes", "hawser_store_held_bytes", "gauge", "Bytes that the store holds"},
    {"segments", "hawser_store_segments", "gauge", "Segments that they are in"},
    {"index_bytes", "hawser_store_index_bytes", "gauge", "Memory of the index"},
    {"taken_bytes", "hawser_store_taken_bytes_total", "counter",
     "Bytes from hosts here that went through it"},
    {"refused_bytes", "hawser_store_refused_bytes_total", "counter",
     "Bytes from hosts here that it could not take, for want of memory"},
    {"matched_bytes", "hawser_store_matched_bytes_total", "counter", "Of these, bytes that it held already"},
    {"filled_bytes", "hawser_store_filled_bytes_total", "counter", "Bytes stored that peers sent"},
    {"evicted_segments", "hawser_store_evicted_segments_total", "counter",
     "Segments that made room for others"},
    {"uncollected_bytes", "hawser_store_uncollected_bytes_total", "counter",
     "Bytes that left memory, or were too many small parts, before they could be written to disk"},
    {"cold_files", "hawser_store_cold_files", "gauge",
     "Segments known to be on disk, some in memory as well"},
    {"cold_hits", "hawser_store_cold_hits_total", "counter",
     "Times that a segment on disk only was met, and wanted back"},
    {"cold_adopted", "hawser_store_cold_adopted_total", "counter",
     "Segments that came back from disk for that"},
};

/* Of a store that is on disk too. */
static const struct metric disk_metrics[] = {
    {"bytes", "hawser_store_disk_bytes", "gauge", "What the store's files take"},
    {"size_bytes", "hawser_store_disk_size_bytes", "gauge", "The most that they may take"},
    {"segments", "hawser_store_disk_segments", "gauge", "Segments that have a file"},
    {"written_bytes", "hawser_store_disk_written_bytes_total", "counter", "Bytes of segments written"},
    {"read_bytes", "hawser_store_disk_read_bytes_total", "counter", "Bytes of segments read back"},
    {"fetched", "hawser_store_disk_fetched_total", "counter", "Segments read back since they were wanted"},
    {"bad_records", "hawser_store_disk_bad_records_total", "counter",
     "Records dropped: damaged or cut short"},
    {"bad_files", "hawser_store_disk_bad_files_total", "counter",
     "Files dropped: of another version or node, or without a sound record"},
    {"gone_files", "hawser_store_disk_gone_files_total", "counter", "Files that somebody else removed"},
    {"unreadable_files", "hawser_store_disk_unreadable_files_total", "counter",
     "Files left alone: they could not be opened, read or removed"},
    {"removed_files", "hawser_store_disk_removed_files_total", "counter", "Oldest files that made room"},
    {"skipped_bytes", "hawser_store_disk_skipped_bytes_total", "counter",
     "Bytes not written for want of room, or of a file to write to"},
};

static void add_heading(struct lines *l, const struct metric *m)
{
    add_line(l, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->kind);
}

static const char *text_of(const json_t *thing, const char *field)
{
    return json_string_value(json_object_get(thing, field));
}

static long long count_of(const json_t *thing, const char *field)
{
    return (long long)json_integer_value(json_object_get(thing, field));
}

static void add_peers(struct lines *l, const json_t *peers)
{
    size_t i;
    const json_t *p;
    add_line(l, "# HELP hawser_peer_up Whether a lane to the peer is up\n# TYPE hawser_peer_up gauge\n");
    json_array_foreach(peers, i, p)
    {
        add_line(l, "hawser_peer_up{peer=\"%s\"} %d\n", text_of(p, "name"),
                 strcmp(text_of(p, "state"), "up") == 0);
    }
    for (size_t k = 0; k < COUNT(peer_metrics); k++) {
        const struct metric *m = &peer_metrics[k];
        add_heading(l, m);
        json_array_foreach(peers, i, p)
        {
            add_line(l, "%s{peer=\"%s\"} %lld\n", m->name, text_of(p, "name"), count_of(p, m->field));
        }
    }
}

static void add_classes(struct lines *l, const json_t *classes)
{
    size_t i;
    const json_t *c;
    for (size_t k = 0; k < COUNT(class_metrics); k++) {
        const struct metric *m = &class_metrics[k];
        add_heading(l, m);
        json_array_foreach(classes, i, c)
        {
            add_line(l, "%s{class=\"%s\",peer=\"%s\"} %lld\n", m->name, text_of(c, "name"),
                     text_of(c, "peer"), count_of(c, m->field));
        }
    }
}

static void add_store(struct lines *l, const json_t *store)
{
    for (size_t k = 0; k < COUNT(store_metrics); k++) {
        add_heading(l, &store_metrics[k]);
        add_line(l, "%s %lld\n", store_metrics[k].name, count_of(store, store_metrics[k].field));
    }
    const json_t *disk = json_object_get(store, "disk");
    for (size_t k = 0; json_is_object(disk) && k < COUNT(disk_metrics); k++) {
        add_heading(l, &disk_metrics[k]);
        add_line(l, "%s %lld\n", disk_metrics[k].name, count_of(disk, disk_metrics[k].field));
    }
}

json_t *metrics_json(const struct node *n, const uint64_t bypassed[static BYPASS_COUNT], const json_t *peers,
                     const json_t *classes, const json_t *store)
{
    struct lines l = {0};
    add_line(&l, "# HELP hawser_sessions Live sessions\n# TYPE hawser_sessions gauge\nhawser_sessions %llu\n",
             (unsigned long long)atomic_load(&n->sessions));
    add_line(
        &l,
        "# HELP hawser_memory_bytes Bytes held for sessions and for compression\n# TYPE hawser_memory_bytes "
        "gauge\nhawser_memory_bytes %llu\n",
        (unsigned long long)(chunk_bytes_total() + compress_bytes_total()));
    add_line(&l,
             "# HELP hawser_accepting Whether new connections are caught\n# TYPE hawser_accepting "
             "gauge\nhawser_accepting %d\n",
             n->accepting);
    add_line(&l, "# HELP hawser_bypass_total Connections that went direct or were refused\n# TYPE "
                 "hawser_bypass_total counter\n");
    for (size_t i = 0; i < BYPASS_COUNT; i++)
        add_line(&l, "hawser_bypass_total{reason=\"%s\"} %llu\n", bypass_entries[i].name,
                 (unsigned long long)bypassed[i]);
    add_peers(&l, peers);
    add_classes(&l, classes);
    add_store(&l, store);
    json_t *document = l.text != NULL ? json_pack("{s:s}", "text", l.text) : NULL;
    free(l.text);
    return document;
}
