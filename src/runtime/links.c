#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hawser/log.h"
#include "hawser/node.h"

/* STORE/links: a line a peer, "NAME RATE_BITS_PER_S RTT_US". Rubbish in it is only a cold start. */

enum { PATH_BYTES = 4096 };

static bool links_path(const struct node *n, char path[static PATH_BYTES], const char *suffix)
{
    const char *folder = n->landscape->config->store_path;
    return folder != NULL && snprintf(path, PATH_BYTES, "%s/links%s", folder, suffix) < PATH_BYTES;
}

const struct link_memory *links_find(const struct node *n, const char *peer)
{
    for (size_t i = 0; i < n->link_count; i++) {
        if (strcmp(n->links[i].peer, peer) == 0)
            return &n->links[i];
    }
    return NULL;
}

static struct link_memory *find_or_add(struct node *n, const char *peer)
{
    for (size_t i = 0; i < n->link_count; i++) {
        if (strcmp(n->links[i].peer, peer) == 0)
            return &n->links[i];
    }
    if (n->link_count >= CONFIG_PEERS_MAX)
        return NULL;
    struct link_memory *m, *links = realloc(n->links, (n->link_count + 1) * sizeof(*links));
    if (links == NULL)
        return NULL;
    n->links = links;
    m = &links[n->link_count++];
    *m = (struct link_memory){0};
    snprintf(m->peer, sizeof(m->peer), "%s", peer);
    return m;
}

void links_load(struct node *n)
{
    char path[PATH_BYTES], line[256];
    if (!links_path(n, path, ""))
        return;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    while (fgets(line, sizeof(line), f) != NULL) {
        char name[CONFIG_NAME_MAX];
        unsigned long long rate, rtt;
        if (sscanf(line, "%63s %llu %llu", name, &rate, &rtt) != 3 || rate == 0 || rate > 1000000000000ULL)
            continue;
        struct link_memory *m = find_or_add(n, name);
        if (m != NULL) {
            m->rate_bits_per_s = rate;
            m->rtt_us = rtt;
        }
    }
    fclose(f);
}

void links_save(struct node *n)
{
    char path[PATH_BYTES], fresh[PATH_BYTES];
    if (!n->links_changed || !links_path(n, path, "") || !links_path(n, fresh, ".new"))
        return;
    n->links_changed = false;
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f == NULL && fd >= 0)
        close(fd);
    bool good = f != NULL;
    for (size_t i = 0; good && i < n->link_count; i++) {
        const struct link_memory *m = &n->links[i];
        good = fprintf(f, "%s %llu %llu\n", m->peer, (unsigned long long)m->rate_bits_per_s,
                       (unsigned long long)m->rtt_us) > 0;
    }
    if (f != NULL && fclose(f) != 0)
        good = false;
    if (!good || rename(fresh, path) < 0) {
        log_warn("cannot write %s: %s; what was learned about the links is lost at the next start", path,
                 strerror(errno));
        unlink(fresh);
    }
}

void links_learn(struct node *n, const char *peer, uint64_t rate_bits_per_s, uint64_t rtt_us)
{
    struct link_memory *m = find_or_add(n, peer);
    if (m == NULL)
        return;
    m->rate_bits_per_s = rate_bits_per_s;
    m->rtt_us = rtt_us;
    n->links_changed = true;
}
