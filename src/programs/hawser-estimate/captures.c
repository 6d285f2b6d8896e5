/* captures.c - TCP connections of a capture file.
 *
 * Each connection is a session, each direction its bytes in order. A segment that comes before those in front
 * of it waits; where these were never captured, they are counted as missing and the stream goes on behind the
 * gap. What is heard again is dropped. Bytes go on in pieces as a socket would give them: up to 64 KB, less
 * where the other side answers. */
#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "estimate.h"
#include "hawser/err.h"
#include "hawser/map.h"
#include "hawser/probe.h"
#include "packets.h"

enum {
    CONNECTIONS_MAX = 4096,    /* at once */
    EARLY_MAX_BYTES = 1 << 20, /* waiting behind a gap, of a direction */
    GATHER_BYTES = 65536
};

struct early {
    TAILQ_ENTRY(early) next;
    uint32_t seq, captured, len;
    uint8_t bytes[];
};
TAILQ_HEAD(early_list, early);

struct half {
    bool known; /* next_seq is */
    uint32_t next_seq;
    struct early_list early; /* by seq */
    uint32_t early_bytes;
    uint8_t *gathered; /* NULL while gathered_len is 0 */
    uint32_t gathered_len;
    struct carry_stream stream;
    bool ended;
};

struct connection {
    TAILQ_ENTRY(connection) by_use; /* oldest first */
    struct endpoint ends[2];        /* client, server */
    uint64_t key;
    bool opened; /* towards carry, by the first byte */
    struct tally_type *type;
    struct half halves[2]; /* what each of the ends sends */
};
TAILQ_HEAD(connection_list, connection);

struct capture {
    struct run *run;
    struct skipped *skipped;
    struct map connections;
    struct connection_list by_use;
    size_t count;
    uint64_t packets; /* of all files */
    bool damaged;     /* one of them */
    int err;          /* of carrying: ends it all */
};

/* ---- bytes in order ---- */

static void open_connection(struct capture *c, struct connection *n, unsigned first, const uint8_t *bytes,
                            size_t len)
{
    char name[TALLY_NAME_MAX];
    uint32_t proto = probe_protocol(bytes, len);
    snprintf(name, sizeof(name), "port %u", n->ends[1].port);
    n->type = tally_find(&c->run->tally, name);
    n->opened = true;
    struct carry_tally *tally = &n->type->passes[c->run->pass];
    c->err = carry_open(c->run->carry, &n->halves[0].stream, 0, tally);
    carry_open_back(&n->halves[0].stream, &n->halves[1].stream, tally);
    bool encrypted = proto == PROBE_SSH || (proto == PROBE_TLS && first == 0);
    n->halves[0].stream.encrypted = n->halves[1].stream.encrypted = encrypted;
    if (c->run->pass == PASS_COLD) {
        n->type->count++;
        c->skipped->encrypted += encrypted;
    }
}

static void pass_on(struct capture *c, struct connection *n, unsigned end)
{
    struct half *h = &n->halves[end];
    if (h->gathered_len == 0 || c->err < 0)
        return;
    if (!n->opened)
        open_connection(c, n, end, h->gathered, h->gathered_len);
    if (c->err == 0)
        c->err = carry_bytes(c->run->carry, &h->stream, h->gathered, h->gathered_len);
    h->gathered_len = 0;
    free(h->gathered);
    h->gathered = NULL;
}

/* The other side answers, so what this one said was all that was at hand. */
static void pause_half(struct capture *c, struct connection *n, unsigned end)
{
    pass_on(c, n, end);
    if (n->opened && c->err == 0)
        c->err = carry_pause(c->run->carry, &n->halves[end].stream);
}

static void gather(struct capture *c, struct connection *n, unsigned end, const uint8_t *bytes, uint32_t len)
{
    struct half *h = &n->halves[end];
    if (n->halves[!end].gathered_len > 0)
        pause_half(c, n, !end);
    while (len > 0 && c->err == 0) {
        if (h->gathered == NULL && (h->gathered = malloc(GATHER_BYTES)) == NULL) {
            c->err = -ENOMEM;
            return;
        }
        uint32_t room = GATHER_BYTES - h->gathered_len, now = len < room ? len : room;
        memcpy(h->gathered + h->gathered_len, bytes, now);
        h->gathered_len += now;
        bytes += now;
        len -= now;
        if (h->gathered_len == GATHER_BYTES)
            pass_on(c, n, end);
    }
}

/* The segment begins at or before next_seq. */
static void take_in_order(struct capture *c, struct connection *n, unsigned end, uint32_t seq,
                          const uint8_t *bytes, uint32_t captured, uint32_t len)
{
    struct half *h = &n->halves[end];
    uint32_t had = h->next_seq - seq;
    if (had >= len)
        return;
    h->next_seq = seq + len;
    if (captured > had)
        gather(c, n, end, bytes + had, captured - had);
    if (c->run->pass == PASS_COLD)
        c->skipped->missing_bytes += len - (captured > had ? captured : had);
}

/* ---- order ---- */

static uint32_t early_cost(const struct early *e)
{
    return e->captured + (uint32_t)sizeof(*e);
}

static void drain_early(struct capture *c, struct connection *n, unsigned end)
{
    struct half *h = &n->halves[end];
    struct early *e;
    while ((e = TAILQ_FIRST(&h->early)) != NULL && (int32_t)(e->seq - h->next_seq) <= 0) {
        TAILQ_REMOVE(&h->early, e, next);
        h->early_bytes -= early_cost(e);
        take_in_order(c, n, end, e->seq, e->bytes, e->captured, e->len);
        free(e);
    }
}

/* What is in front of the first that waits was not captured. */
static void skip_gap(struct capture *c, struct connection *n, unsigned end)
{
    struct half *h = &n->halves[end];
    const struct early *first = TAILQ_FIRST(&h->early);
    if (c->run->pass == PASS_COLD)
        c->skipped->missing_bytes += first->seq - h->next_seq;
    h->next_seq = first->seq;
    drain_early(c, n, end);
}

static void keep_early(struct capture *c, struct connection *n, unsigned end, const struct segment_seen *seen)
{
    struct half *h = &n->halves[end];
    struct early *e = malloc(sizeof(*e) + seen->captured), *before;
    if (e == NULL) {
        c->err = -ENOMEM;
        return;
    }
    e->seq = seen->seq;
    e->captured = seen->captured;
    e->len = seen->len;
    memcpy(e->bytes, seen->bytes, seen->captured);
    TAILQ_FOREACH_REVERSE(before, &h->early, early_list, next)
    {
        if ((int32_t)(before->seq - e->seq) <= 0)
            break;
    }
    if (before != NULL)
        TAILQ_INSERT_AFTER(&h->early, before, e, next);
    else
        TAILQ_INSERT_HEAD(&h->early, e, next);
    h->early_bytes += early_cost(e);
    while (h->early_bytes > EARLY_MAX_BYTES && !TAILQ_EMPTY(&h->early))
        skip_gap(c, n, end);
}

static void take_segment(struct capture *c, struct connection *n, unsigned end,
                         const struct segment_seen *seen)
{
    struct half *h = &n->halves[end];
    if (seen->syn) {
        h->next_seq = seen->seq + 1;
        h->known = true;
    } else if (!h->known && seen->len > 0) {
        h->next_seq = seen->seq;
        h->known = true;
    }
    if (seen->len > 0 && !h->ended) {
        uint32_t seq = seen->seq + seen->syn;
        if ((int32_t)(seq - h->next_seq) > 0) {
            keep_early(c, n, end, seen);
        } else {
            take_in_order(c, n, end, seq, seen->bytes, seen->captured, seen->len);
            drain_early(c, n, end);
        }
    }
}

/* ---- connections ---- */

static uint64_t key_of(const struct endpoint ends[2])
{
    uint64_t key = 0;
    for (int i = 0; i < 2; i++) {
        uint64_t hash = 0xcbf29ce484222325u ^ ends[i].port;
        for (size_t b = 0; b < sizeof(ends[i].addr.bytes); b++)
            hash = (hash ^ ends[i].addr.bytes[b]) * 0x100000001b3u;
        key += hash * (hash | 1); /* the same for both directions */
    }
    return key;
}

static void end_connection(struct capture *c, struct connection *n)
{
    for (unsigned end = 0; end < 2; end++) {
        while (!TAILQ_EMPTY(&n->halves[end].early))
            skip_gap(c, n, end);
    }
    for (unsigned end = 0; end < 2; end++)
        pass_on(c, n, end);
    for (unsigned end = 0; end < 2; end++) {
        if (n->opened && c->err == 0)
            c->err = carry_close(c->run->carry, &n->halves[end].stream);
        free(n->halves[end].gathered);
    }
    TAILQ_REMOVE(&c->by_use, n, by_use);
    map_remove(&c->connections, n->key);
    c->count--;
    free(n);
}

/* Who sent the SYN is the client; without one, the lower port is the server's. */
static struct connection *new_connection(struct capture *c, const struct segment_seen *seen, uint64_t key)
{
    if (c->count == CONNECTIONS_MAX) {
        c->skipped->too_many += c->run->pass == PASS_COLD;
        end_connection(c, TAILQ_FIRST(&c->by_use));
    }
    struct connection *n = calloc(1, sizeof(*n));
    if (n == NULL || map_put(&c->connections, key, n) < 0) {
        free(n);
        c->err = -ENOMEM;
        return NULL;
    }
    bool from_client = seen->syn ? !seen->ack : seen->to.port <= seen->from.port;
    n->ends[0] = from_client ? seen->from : seen->to;
    n->ends[1] = from_client ? seen->to : seen->from;
    n->key = key;
    TAILQ_INIT(&n->halves[0].early);
    TAILQ_INIT(&n->halves[1].early);
    TAILQ_INSERT_TAIL(&c->by_use, n, by_use);
    c->count++;
    c->skipped->midway += !seen->syn && c->run->pass == PASS_COLD;
    return n;
}

static void take_tcp(struct capture *c, const struct segment_seen *seen)
{
    uint64_t key = key_of((struct endpoint[2]){seen->from, seen->to});
    struct connection *n = map_get(&c->connections, key);
    bool other = n != NULL &&
                 !(endpoint_equal(&n->ends[0], &seen->from) && endpoint_equal(&n->ends[1], &seen->to)) &&
                 !(endpoint_equal(&n->ends[1], &seen->from) && endpoint_equal(&n->ends[0], &seen->to));
    bool anew =
        n != NULL && seen->syn && !seen->ack && n->halves[0].known && n->halves[0].next_seq != seen->seq + 1;
    if (n != NULL && (other || anew)) {
        end_connection(c, n); /* the ports are used again, or have another's hash */
        n = NULL;
    }
    if (n == NULL && seen->len == 0 && !seen->syn)
        return; /* the last words of one that has ended */
    if (n == NULL && (n = new_connection(c, seen, key)) == NULL)
        return;
    TAILQ_REMOVE(&c->by_use, n, by_use);
    TAILQ_INSERT_TAIL(&c->by_use, n, by_use);
    unsigned end = !endpoint_equal(&n->ends[0], &seen->from);
    take_segment(c, n, end, seen);
    if (seen->fin)
        n->halves[end].ended = TAILQ_EMPTY(&n->halves[end].early);
    if (seen->rst || (n->halves[0].ended && n->halves[1].ended))
        end_connection(c, n);
}

static void take_packet(struct capture *c, int link_type, const struct pcap_pkthdr *header,
                        const uint8_t *bytes)
{
    struct segment_seen seen;
    bool counts = c->run->pass == PASS_COLD;
    switch (packet_read(link_type, bytes, header->caplen, header->len, &seen)) {
    case PACKET_TCP:
        take_tcp(c, &seen);
        break;
    case PACKET_NOT_IP:
        c->skipped->not_ip += counts;
        break;
    case PACKET_NOT_TCP:
        c->skipped->not_tcp += counts;
        break;
    case PACKET_FRAGMENT:
        c->skipped->fragments += counts;
        break;
    case PACKET_CUT_SHORT:
        c->skipped->cut_short += counts;
        break;
    }
}

/* ---- files ---- */

/* NULL with what to do about it. */
static pcap_t *open_capture(const char *path, char error[static ERROR_MAX])
{
    char reason[PCAP_ERRBUF_SIZE];
    struct stat st;
    if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode)) { /* opening it would wait for who writes */
        snprintf(error, ERROR_MAX,
                 "%.300s is a pipe, and a capture is read more than once; write it to a file", path);
        return NULL;
    }
    FILE *file = fopen(path, "re");
    if (file == NULL || fstat(fileno(file), &st) < 0) {
        int err = -errno;
        snprintf(error, ERROR_MAX, "cannot read %.300s: %s; %s", path, err_text(err),
                 err == -ENOENT ? "correct the name (standard input is not read)"
                                : "run it as a user who may read that");
        if (file != NULL)
            fclose(file);
        return NULL;
    }
    pcap_t *p = S_ISREG(st.st_mode) ? pcap_fopen_offline(file, reason) : NULL;
    if (p == NULL) {
        fclose(file);
        snprintf(error, ERROR_MAX,
                 "%.300s is not a capture file (pcap or pcapng); make one with 'tcpdump -s 0 -w FILE tcp', "
                 "or leave out "
                 "--pcap to take it as a file",
                 path);
        return NULL;
    }
    if (!packet_link_is_known(pcap_datalink(p))) {
        snprintf(error, ERROR_MAX,
                 "%.300s has packets of link type %d, which is not understood; capture on an Ethernet "
                 "interface, or on 'any'",
                 path, pcap_datalink(p));
        pcap_close(p);
        return NULL;
    }
    return p;
}

int captures_measure(char *const paths[], uint64_t *bytes, char error[static ERROR_MAX])
{
    *bytes = 0;
    for (size_t i = 0; paths[i] != NULL; i++) {
        struct stat st;
        pcap_t *p = open_capture(paths[i], error);
        if (p == NULL)
            return -EINVAL;
        if (fstat(fileno(pcap_file(p)), &st) == 0)
            *bytes += (uint64_t)st.st_size;
        pcap_close(p);
    }
    return 0;
}

static int carry_capture(struct capture *c, const char *path, char error[static ERROR_MAX])
{
    struct pcap_pkthdr *header;
    const uint8_t *bytes;
    int got = 0;
    uint64_t before = c->packets;
    pcap_t *p = open_capture(path, error);
    if (p == NULL)
        return -EINVAL;
    while (c->err == 0 && (got = pcap_next_ex(p, &header, &bytes)) == 1) {
        take_packet(c, pcap_datalink(p), header, bytes);
        c->packets++;
        progress_add(c->run, header->caplen + 16);
    }
    while (!TAILQ_EMPTY(&c->by_use))
        end_connection(c, TAILQ_FIRST(&c->by_use));
    c->damaged |= got == PCAP_ERROR;
    if (got == PCAP_ERROR && c->run->pass == PASS_COLD)
        fprintf(stderr, "hawser-estimate: %s %s (%s)%s\n", path,
                c->packets > before ? "ends in the middle" : "has no packet that can be read", pcap_geterr(p),
                c->packets > before ? ": what came before counts" : "");
    pcap_close(p);
    if (c->err < 0)
        snprintf(error, ERROR_MAX, "cannot go on: %s; give it less at once, or a smaller --store",
                 err_text(c->err));
    return c->err;
}

int captures_carry(struct run *run, char *const paths[], struct skipped *skipped,
                   char error[static ERROR_MAX])
{
    struct capture c = {.run = run, .skipped = skipped};
    int err = 0;
    TAILQ_INIT(&c.by_use);
    for (size_t i = 0; err == 0 && paths[i] != NULL; i++)
        err = carry_capture(&c, paths[i], error);
    if (err == 0 && (c.packets == 0 || (c.damaged && run->tally.count == 0))) {
        snprintf(
            error, ERROR_MAX,
            "there is nothing to count: %s; capture while the traffic runs, with 'tcpdump -s 0 -w FILE tcp'",
            c.damaged ? "what was captured cannot be read" : "nothing was captured, not one packet");
        err = -ENODATA;
    }
    map_clear(&c.connections);
    return err;
}
