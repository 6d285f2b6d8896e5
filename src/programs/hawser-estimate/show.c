/* show.c - the estimate for people and as JSON. */
#include <jansson.h>
#include <langinfo.h>
#include <stdio.h>
#include <string.h>

#include "estimate.h"

enum { ROWS_MAX = 20, BAR_CELLS = 25 };

char *show_bytes(uint64_t bytes, char out[static 16])
{
    static const char units[] = "KMGTP";
    double value = (double)bytes / 1024;
    size_t unit = 0;
    if (bytes < 1024) {
        snprintf(out, 16, "%u", (unsigned)bytes);
        return out;
    }
    for (; value >= 1023.5 && unit + 2 < sizeof(units); value /= 1024)
        unit++;
    snprintf(out, 16, value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    return out;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

/* Full cells for what crosses again, half ones for what crosses the first time beyond that. */
static void print_bar(const struct tally_type *t)
{
    bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    double cold = share(t->passes[PASS_COLD].wire_bytes, t->passes[PASS_COLD].bytes);
    double warm = share(t->passes[PASS_WARM].wire_bytes, t->passes[PASS_WARM].bytes);
    for (int i = 0; i < BAR_CELLS; i++) {
        double at = (i + 0.5) / BAR_CELLS;
        const char *cell = at < warm ? (utf8 ? "\u2588" : "#") : at < cold ? (utf8 ? "\u2592" : "+") : ".";
        fputs(cell, stdout);
    }
}

static void print_type(const struct tally_type *t)
{
    char bytes[16], wire[16];
    printf("%-20s %8llu %7s", t->name, (unsigned long long)t->count,
           show_bytes(t->passes[PASS_COLD].bytes, bytes));
    for (int pass = 0; pass < PASSES; pass++) {
        const struct carry_tally *c = &t->passes[pass];
        printf("  %6s %6.1f%%", show_bytes(c->wire_bytes, wire), 100 * share(c->wire_bytes, c->bytes));
    }
    fputs("  ", stdout);
    print_bar(t);
    putchar('\n');
}

static double seconds(const struct shown *s, uint64_t bytes)
{
    return (double)s->rtt_us / 1e6 + (double)bytes * 8 / (double)s->rate_bits_per_s;
}

static void print_time(double s)
{
    if (s < 60)
        printf("%.1f s", s);
    else if (s < 3600)
        printf("%d min %d s", (int)s / 60, (int)s % 60);
    else
        printf("%.1f h", s / 3600);
}

/* Where the savings come from. */
static void print_parts(const struct tally_type *sum)
{
    char saved[16], frames[16], wire[16];
    for (int pass = 0; pass < PASSES; pass++) {
        const struct carry_tally *c = &sum->passes[pass];
        printf("%s: %s crossed as references (%.1f%%); %s of frames became %s on the wire by zstd and TLS "
               "(%.1f%% saved)\n",
               pass_names[pass], show_bytes(c->saved_bytes, saved), 100 * share(c->saved_bytes, c->bytes),
               show_bytes(c->frame_bytes, frames), show_bytes(c->wire_bytes, wire),
               c->frame_bytes > 0 ? 100 - 100 * share(c->wire_bytes, c->frame_bytes) : 0);
    }
}

/* name, of struct skipped, what people read */
#define SKIPPED_TABLE(X)                                                                                     \
    X(unreadable, "files that could not be read")                                                            \
    X(special, "links, devices and other special files")                                                     \
    X(not_ip, "packets that are not IP")                                                                     \
    X(not_tcp, "packets that are not TCP")                                                                   \
    X(fragments, "fragments of IP packets")                                                                  \
    X(cut_short, "packets whose headers were not captured")                                                  \
    X(missing_bytes, "bytes of TCP streams that were not captured")                                          \
    X(midway, "connections that began before the capture (what is there counts)")                            \
    X(too_many, "connections closed early, since more than 4096 were open at once")                          \
    X(encrypted, "connections that begin as TLS or SSH: carried as they are")

static void print_skipped(const struct skipped *s)
{
    bool first = true;
    const struct {
        uint64_t count;
        const char *text;
    } rows[] = {
#define SKIPPED_ROW(name, text) {s->name, text},
        SKIPPED_TABLE(SKIPPED_ROW)
#undef SKIPPED_ROW
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].count == 0)
            continue;
        printf("%s%12llu  %s\n", first ? "\nleft out, or to be known:\n" : "",
               (unsigned long long)rows[i].count, rows[i].text);
        first = false;
    }
}

/* The rows that would make the table too long, as one. */
static bool sum_rest(const struct tally *all, struct tally_type *rest)
{
    static struct tally smaller;
    if (all->count <= ROWS_MAX)
        return false;
    smaller.count = all->count - ROWS_MAX + 1;
    memcpy(smaller.types, all->types + ROWS_MAX - 1, smaller.count * sizeof(smaller.types[0]));
    tally_sum(&smaller, rest);
    snprintf(rest->name, sizeof(rest->name), "%zu smaller types", smaller.count);
    return true;
}

void show_text(const struct shown *s)
{
    struct tally_type sum, rest;
    char held[16], memory[16], index[16];
    bool cut = sum_rest(s->tally, &rest);
    tally_sum(s->tally, &sum);
    printf("%-20s %8s %7s  %-14s  %-14s  0%% of the bytes   100%%\n", "TYPE", s->noun, "BYTES", "     COLD",
           "     WARM");
    for (size_t i = 0; i < (cut ? ROWS_MAX - 1 : s->tally->count); i++)
        print_type(&s->tally->types[i]);
    if (cut)
        print_type(&rest);
    print_type(&sum);
    putchar('\n');
    print_parts(&sum);
    printf("store: %s held in %s of memory (index %s), %llu segments evicted; zstd level %d\n",
           show_bytes(s->store.segment_bytes, held), show_bytes(s->store.memory_bytes, memory),
           show_bytes(s->store.index_bytes, index), (unsigned long long)s->store.evicted_segments, s->level);
    if (s->rate_bits_per_s > 0) {
        fputs("link: direct at best ", stdout);
        print_time(seconds(s, sum.passes[PASS_COLD].bytes));
        for (int pass = 0; pass < PASSES; pass++) {
            printf(", %s ", pass_names[pass]);
            print_time(seconds(s, sum.passes[pass].wire_bytes));
        }
        putchar('\n');
    }
    print_skipped(s->skipped);
}

/* ---- JSON ---- */

static json_t *pass_json(const struct shown *s, const struct carry_tally *c)
{
    json_t *pass = json_pack("{s:I, s:I, s:I, s:I}", "bytes", (json_int_t)c->bytes, "saved_bytes",
                             (json_int_t)c->saved_bytes, "frame_bytes", (json_int_t)c->frame_bytes,
                             "wire_bytes", (json_int_t)c->wire_bytes);
    if (s->rate_bits_per_s > 0)
        json_object_set_new(pass, "seconds", json_real(seconds(s, c->wire_bytes)));
    return pass;
}

static json_t *type_json(const struct shown *s, const struct tally_type *t)
{
    json_t *type = json_pack("{s:s, s:I}", "type", t->name, "count", (json_int_t)t->count);
    for (int pass = 0; pass < PASSES; pass++)
        json_object_set_new(type, pass_names[pass], pass_json(s, &t->passes[pass]));
    if (s->rate_bits_per_s > 0)
        json_object_set_new(type, "direct_seconds", json_real(seconds(s, t->passes[PASS_COLD].bytes)));
    return type;
}

int show_json(const struct shown *s)
{
    struct tally_type sum;
    json_t *types = json_array(), *skipped = json_object();
    tally_sum(s->tally, &sum);
    for (size_t i = 0; i < s->tally->count; i++)
        json_array_append_new(types, type_json(s, &s->tally->types[i]));
#define SKIPPED_JSON(name, text)                                                                             \
    json_object_set_new(skipped, #name, json_integer((json_int_t)s->skipped->name));
    SKIPPED_TABLE(SKIPPED_JSON)
#undef SKIPPED_JSON
    json_t *document =
        json_pack("{s:s, s:o, s:o, s:o, s:{s:I, s:I, s:I, s:I}, s:i}", "version", HAWSER_VERSION, "total",
                  type_json(s, &sum), "types", types, "skipped", skipped, "store", "held_bytes",
                  (json_int_t)s->store.segment_bytes, "memory_bytes", (json_int_t)s->store.memory_bytes,
                  "index_bytes", (json_int_t)s->store.index_bytes, "evicted_segments",
                  (json_int_t)s->store.evicted_segments, "level", s->level);
    int err = document != NULL ? json_dumpf(document, stdout, JSON_INDENT(2)) : -1;
    json_decref(document);
    putchar('\n');
    return err;
}
