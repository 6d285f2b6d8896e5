#include "hawser/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_reader.h"
#include "hawser/err.h"
#include "hawser/log.h"

/* The count is not part of the value that others see. */
struct config_counted {
    struct config config; /* first: config_ref gets this address */
    _Atomic unsigned refs;
};

static void config_free(struct config *c)
{
    for (size_t i = 0; i < c->peer_count; i++) {
        free(c->peers[i].networks.list);
        free(c->peers[i].serve.list);
    }
    for (size_t i = 0; i < c->class_count; i++) {
        free(c->classes[i].ports);
        free(c->classes[i].from.list);
        free(c->classes[i].to.list);
        free(c->classes[i].peers);
        free(c->classes[i].ifaces);
    }
    free(c->peers);
    free(c->classes);
    free(c->identity);
    free(c->store_path);
    free(c->control);
    free(c->warnings);
    free(c);
}

struct config *config_ref(struct config *c)
{
    struct config_counted *counted = (struct config_counted *)(void *)c;
    atomic_fetch_add_explicit(&counted->refs, 1, memory_order_relaxed);
    return c;
}

void config_unref(struct config *c)
{
    struct config_counted *counted = (struct config_counted *)(void *)c;
    if (c != NULL && atomic_fetch_sub_explicit(&counted->refs, 1, memory_order_acq_rel) == 1)
        config_free(c);
}

int config_parse(struct config **out, const char *name, const char *text, size_t len_bytes,
                 char error[static CONFIG_ERROR_MAX])
{
    struct config_counted *counted = calloc(1, sizeof(*counted));
    struct config_reader r = {.name = name, .text = text, .left = len_bytes, .error = error};
    error[0] = '\0';
    if (counted == NULL)
        return reader_fail(&r, -ENOMEM, 0, "%s", err_text(-ENOMEM));
    atomic_init(&counted->refs, 1);
    r.config = &counted->config;
    if (len_bytes > CONFIG_TEXT_MAX)
        reader_fail(&r, -EFBIG, 0, "the file is larger than %d MB; is it the right one?",
                    CONFIG_TEXT_MAX >> 20);
    int err = r.err == 0 ? config_read(&r) : r.err;
    if (err == 0)
        err = config_check(&r);
    free(r.places);
    free(r.networks);
    if (err < 0)
        config_unref(r.config);
    else
        *out = r.config;
    return err;
}

/* The bytes up to the end, or up to one more than a configuration may have. */
static int read_all(int fd, char **out, size_t *len_bytes)
{
    size_t room = 0, len = 0;
    char *bytes = NULL;
    for (;;) {
        if (len == room) {
            room = room == 0 ? 16384 : room * 2;
            char *more = realloc(bytes, room);
            if (more == NULL)
                goto no_memory;
            bytes = more;
        }
        ssize_t n = read(fd, bytes + len, room - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int err = -errno;
            free(bytes);
            return err;
        }
        len += (size_t)n;
        if (n == 0 || len > CONFIG_TEXT_MAX)
            break;
    }
    *out = bytes;
    *len_bytes = len;
    return 0;
no_memory:
    free(bytes);
    return -ENOMEM;
}

int config_load(struct config **out, const char *path, char error[static CONFIG_ERROR_MAX])
{
    char *text = NULL;
    size_t len_bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int err = fd < 0 ? -errno : read_all(fd, &text, &len_bytes);
    if (fd >= 0)
        close(fd);
    if (err < 0)
        snprintf(error, CONFIG_ERROR_MAX,
                 "%.200s: cannot be read: %s; give the path of a configuration, as hawser.ini(5) "
                 "describes it",
                 path, err_text(err));
    else
        err = config_parse(out, path, text, len_bytes, error);
    free(text);
    return err;
}

void config_log_warnings(const struct config *c)
{
    const char *end;
    for (const char *at = c->warnings; at != NULL && (end = strchr(at, '\n')) != NULL; at = end + 1)
        log_warn("%.*s", (int)(end - at), at);
}

int config_restart_needed(const struct config *was, const struct config *is, char *out, size_t out_size)
{
    int count = 0;
    size_t used = 0;
    if (out_size > 0)
        out[0] = '\0';
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        if ((o->flags & CONFIG_RESTART) == 0 || config_value_equal(o, was, is))
            continue;
        if (used < out_size)
            used += (size_t)snprintf(out + used, out_size - used, "%s[%s] %s", count > 0 ? ", " : "",
                                     config_sections[o->section].word, o->key);
        count++;
    }
    return count;
}
