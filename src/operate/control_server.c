#include "hawser/control_server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/report.h"

enum { CLIENTS_MAX = 64 };

struct control_client {
    struct control_server *server; /* NULL: it ended while a report was under way */
    struct bufferevent *stream;    /* NULL: the client left while a report was under way */
    bool waiting;                  /* for a report or a reload */
    TAILQ_ENTRY(control_client) link;
};

struct control_server {
    struct node *node;
    struct event accept;
    TAILQ_HEAD(, control_client) clients;
    size_t client_count;
    struct control_client *reloading;
};

static void client_free(struct control_client *c)
{
    if (c->stream != NULL)
        bufferevent_free(c->stream);
    if (c->server != NULL) {
        TAILQ_REMOVE(&c->server->clients, c, link);
        c->server->client_count--;
    }
    free(c);
}

static void client_leaves(struct control_client *c)
{
    if (!c->waiting) {
        client_free(c);
        return;
    }
    if (c->stream != NULL)
        bufferevent_free(c->stream); /* the report finds nobody */
    c->stream = NULL;
}

static void answer(struct control_client *c, json_t *document)
{
    c->waiting = false;
    if (c->stream == NULL || document == NULL) {
        json_decref(document);
        client_free(c);
        return;
    }
    char *text = json_dumps(document, JSON_COMPACT);
    json_decref(document);
    if (text == NULL || bufferevent_write(c->stream, text, strlen(text)) < 0) {
        free(text);
        client_free(c);
        return;
    }
    free(text);
    bufferevent_write(c->stream, "\n", 1);
    bufferevent_disable(c->stream, EV_READ);
}

static void answer_error(struct control_client *c, const char *text)
{
    answer(c, json_pack("{s:s}", "error", text));
}

static void report_done(void *arg, json_t *document)
{
    answer(arg, document);
}

static void reloaded(struct node *n, void *arg, const char *restart_needed)
{
    struct control_server *s = arg;
    (void)n;
    struct control_client *c = s->reloading;
    s->reloading = NULL;
    if (c != NULL)
        answer(c, json_pack("{s:b, s:s}", "ok", 1, "restart_needed", restart_needed));
}

static void reload(struct control_client *c)
{
    struct control_server *s = c->server;
    char error[CONFIG_ERROR_MAX] = "";
    if (s->reloading != NULL) {
        answer_error(c, "a reload is under way: try again");
        return;
    }
    int err = keeper_ask_reload(s->node->keeper, error);
    if (err < 0) {
        answer_error(c, error[0] != '\0' ? error : err_text(err));
        return;
    }
    c->waiting = true;
    s->reloading = c; /* answered when the configuration has come and is applied */
}

static void take_request(struct control_client *c, const char *line)
{
    static const char *const verbs[CONTROL_VERB_COUNT] = {
#define VERB_TEXT(name, text, help) text,
        CONTROL_VERB_TABLE(VERB_TEXT)
#undef VERB_TEXT
    };
    for (size_t i = 0; i < CONTROL_VERB_COUNT; i++) {
        if (strcmp(line, verbs[i]) != 0)
            continue;
        if (i == CONTROL_VERB_RELOAD) {
            reload(c);
            return;
        }
        c->waiting = true;
        if (report_start(c->server->node, (enum control_verb)i, report_done, c) < 0)
            answer_error(c, "out of memory");
        return;
    }
    answer_error(c, "no such verb; see hawserctl(1)");
}

static void on_read(struct bufferevent *stream, void *arg)
{
    struct control_client *c = arg;
    struct evbuffer *in = bufferevent_get_input(stream);
    if (c->waiting)
        return;
    size_t len = 0;
    char *line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF);
    if (line == NULL && evbuffer_get_length(in) < CONTROL_REQUEST_MAX)
        return;
    if (line == NULL || len + 1 > CONTROL_REQUEST_MAX)
        answer_error(c, "the request is too long");
    else
        take_request(c, line);
    free(line);
}

/* The answer is out. */
static void on_written(struct bufferevent *stream, void *arg)
{
    struct control_client *c = arg;
    bool answered = (bufferevent_get_enabled(stream) & EV_READ) == 0;
    if (answered && !c->waiting)
        client_free(c);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
    struct control_client *c = arg;
    (void)stream;
    if ((what & BEV_EVENT_TIMEOUT) && (what & BEV_EVENT_READING)) {
        if (!c->waiting)
            answer_error(c, "no request came");
        return; /* a report takes the time it takes */
    }
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) {
        bool half_closed =
            (what & BEV_EVENT_EOF) && (c->waiting || evbuffer_get_length(bufferevent_get_output(stream)) > 0);
        if (half_closed)
            return; /* a client may shut down its side after the request */
        client_leaves(c);
    }
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct control_server *s = arg;
    (void)what;
    int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0)
        return;
    struct control_client *c = s->client_count < CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;
    if (c != NULL)
        c->stream = bufferevent_socket_new(loop_base(s->node->loop), client, BEV_OPT_CLOSE_ON_FREE);
    if (c == NULL || c->stream == NULL) {
        free(c);
        close(client);
        return;
    }
    static const struct timeval patience = {CONTROL_REQUEST_MS / 1000, 0};
    c->server = s;
    TAILQ_INSERT_TAIL(&s->clients, c, link);
    s->client_count++;
    bufferevent_setcb(c->stream, on_read, on_written, on_event, c);
    bufferevent_set_timeouts(c->stream, &patience, &patience);
    bufferevent_setwatermark(c->stream, EV_READ, 0, CONTROL_REQUEST_MAX);
    bufferevent_enable(c->stream, EV_READ);
}

int control_server_new(struct control_server **out, struct node *n)
{
    struct control_server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->node = n;
    TAILQ_INIT(&s->clients);
    n->reloaded = reloaded;
    n->reloaded_arg = s;
    event_assign(&s->accept, loop_base(n->loop), n->control_fd, EV_READ | EV_PERSIST, on_accept, s);
    event_add(&s->accept, NULL);
    *out = s;
    return 0;
}

void control_server_free(struct control_server *s)
{
    if (s == NULL)
        return;
    event_del(&s->accept);
    s->node->reloaded = NULL;
    struct control_client *c;
    while ((c = TAILQ_FIRST(&s->clients)) != NULL) {
        if (!c->waiting || c == s->reloading) {
            client_free(c);
            continue;
        }
        client_leaves(c); /* the report frees it */
        TAILQ_REMOVE(&s->clients, c, link);
        c->server = NULL;
    }
    free(s);
}
