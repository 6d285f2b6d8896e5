#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/log.h"
#include "hawser/node.h"

/* STORE/links: a line a peer, "NAME RATE_BITS_PER_S RTT_US". Rubbish in it is only a cold start. */

enum {
    LINE_MAX_BYTES = CONFIG_NAME_MAX + 2 * 21 + 1,
    WAIT_US = 1000000, /* at the start and at the end: the keeper gives an engine more */
};
_Static_assert(CONFIG_PEERS_MAX *LINE_MAX_BYTES <= LINKS_FILE_MAX_BYTES, "what is written can be read");

static struct link_memory *find(const struct node *n, const char *peer)
{
    for (size_t i = 0; i < n->link_count; i++) {
        if (strcmp(n->links[i].peer, peer) == 0)
            return &n->links[i];
    }
    return NULL;
}

const struct link_memory *links_find(const struct node *n, const char *peer)
{
    return find(n, peer);
}

static struct link_memory *find_or_add(struct node *n, const char *peer)
{
    struct link_memory *m = find(n, peer);
    if (m != NULL || n->link_count >= CONFIG_PEERS_MAX)
        return m;
    struct link_memory *links = realloc(n->links, (n->link_count + 1) * sizeof(*links));
    if (links == NULL)
        return NULL;
    n->links = links;
    m = &links[n->link_count++];
    *m = (struct link_memory){0};
    snprintf(m->peer, sizeof(m->peer), "%s", peer);
    return m;
}

static void take_line(struct node *n, const char *line)
{
    char name[CONFIG_NAME_MAX];
    uint64_t rate, rtt;
    if (sscanf(line, "%63s %" SCNu64 " %" SCNu64, name, &rate, &rtt) != 3 || rate == 0 ||
        rate > 1000000000000)
        return;
    struct link_memory *m = find_or_add(n, name);
    if (m == NULL)
        return;
    m->rate_bits_per_s = rate;
    m->rtt_us = rtt;
}

int links_load(struct node *n)
{
    const char *folder = n->boot_config->store_path;
    char *text = NULL, *rest = NULL;
    if (folder == NULL || n->store_error < 0)
        return 0;
    int err = links_file_new(&n->links_file, folder);
    if (err < 0)
        return err;
    if (links_file_take(n->links_file, WAIT_US, &text) < 0)
        log_warn("%s/links could not be read within %d s; what the links are good for is learned anew. Look "
                 "at the "
                 "disk of that folder",
                 folder, WAIT_US / 1000000);
    for (char *line = text != NULL ? strtok_r(text, "\n", &rest) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        take_line(n, line);
    free(text);
    return 0;
}

void links_save(struct node *n)
{
    if (!n->links_changed || n->links_file == NULL)
        return;
    char *text = malloc(n->link_count * LINE_MAX_BYTES + 1);
    if (text == NULL)
        return; /* what has changed stays so */
    char *at = text;
    for (size_t i = 0; i < n->link_count; i++)
        at += sprintf(at, "%s %" PRIu64 " %" PRIu64 "\n", n->links[i].peer, n->links[i].rate_bits_per_s,
                      n->links[i].rtt_us);
    links_file_put(n->links_file, text);
    n->links_changed = false;
}

void links_end(struct node *n)
{
    if (links_file_free(n->links_file, WAIT_US) < 0)
        log_warn("%s/links could not be written within %d s; what was learned about the links is lost. Look "
                 "at the "
                 "disk of that folder",
                 n->boot_config->store_path, WAIT_US / 1000000);
    n->links_file = NULL;
    free(n->links);
    n->links = NULL;
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
