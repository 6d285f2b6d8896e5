/* load_result.h - the result of a run of the load generator, as one line of JSON (part of load.c only). */
#ifndef LOAD_RESULT_H
#define LOAD_RESULT_H

#include "load_end.h"

static void print_groups(void)
{
    printf(", \"groups\": [");
    for (size_t i = 0; i < end.group_count; i++) {
        const struct group *g = &end.groups[i];
        printf("%s{\"kind\": \"%s\", \"sessions\": %llu, ", i > 0 ? ", " : "", kind_text[g->kind],
               (unsigned long long)g->finished);
        latency_print(stdout, "connect", &g->connected);
        printf(", ");
        latency_print(stdout, "first_byte", &g->first);
        printf(", ");
        latency_print(stdout, "round", &g->round);
        printf("}");
    }
    printf("]");
}

static void print_peers(void)
{
    printf(", \"peers\": {");
    for (size_t i = 0; i < end.peer_count; i++) {
        char text[INET6_ADDRSTRLEN];
        const uint8_t *a = end.peers[i].address;
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        bool is_v4 = memcmp(a, mapped, 12) == 0;
        inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? a + 12 : a, text, sizeof(text));
        printf("%s\"%s\": %llu", i > 0 ? ", " : "", text, (unsigned long long)end.peers[i].count);
    }
    printf("}");
}

static int result(void)
{
    uint64_t spent = now_us() - end.began_us, opening = end.last_open_us - end.began_us;
    uint64_t missing = end.is_server ? 0 : end.sessions - end.opened;
    const struct session *s, *one = NULL;
    TAILQ_FOREACH (s, &end.live, link) {
        if (end.is_server && (s->plan.flags & LOAD_LEAVES)) {
            end.left++; /* silently: nobody has told us */
            continue;
        }
        missing++;
        one = s;
    }
    if (missing > 0)
        note_error(one, "unfinished, as %llu in all", (unsigned long long)missing);
    printf("{\"sessions\": %llu, \"finished\": %llu, \"left\": %llu, \"unfinished\": %llu, \"errors\": %llu, "
           "\"first_error\": ",
           (unsigned long long)end.opened, (unsigned long long)end.finished, (unsigned long long)end.left,
           (unsigned long long)missing, (unsigned long long)end.errors);
    printf(end.errors > 0 ? "\"%s\"" : "null%s", end.first_error);
    printf(", \"most_at_once\": %llu, \"seconds\": %.6f, \"opened_per_s\": %.1f, \"up_bytes\": %llu, "
           "\"down_bytes\": %llu",
           (unsigned long long)end.most_at_once, (double)spent / 1e6,
           opening > 0 ? (double)end.opened * 1e6 / (double)opening : 0, (unsigned long long)end.up_bytes,
           (unsigned long long)end.down_bytes);
    if (end.is_server)
        print_peers();
    else
        print_groups();
    puts("}");
    return end.errors > 0 ? 1 : 0;
}

#endif
