/* How the file is read.
 *
 * libinih splits sections, keys, values and comments, but has no line numbers, silently cuts lines longer
 * than its buffer and names longer than 49 bytes, says nothing of empty sections, takes ':' for '=', and
 * takes every indented line for more of the value before it. So its reader callback is ours: reader_line
 * counts lines, refuses what inih would cut or misread, keeps the section itself, and hands on lines that can
 * only be read in one way; reader_option gets them back split. Rules that the two share:
 *   - a line that is indented and reads "word = ..." is an option of its own (people indent whole sections);
 *   - any other indented line goes on with the list of the option before it;
 *   - a line that is not blank, a comment, a heading or one of these two is an error.
 * Nothing is read past the first error. */
#include "config_reader.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_value.h"
#include "hawser/err.h"

/* A key before '=' in an indented line; a pin's base64 (43 digits, then '=') is longer and so never taken for
 * one. */
enum { INDENTED_KEY_MAX = 40 };

/* "NAME:LINE: reason", cut to size. */
__attribute__((format(printf, 3, 0))) static void message_format(const struct config_reader *r, unsigned line,
                                                                 const char *fmt, va_list args,
                                                                 char out[static CONFIG_ERROR_MAX])
{
    int used = snprintf(out, CONFIG_ERROR_MAX, "%.200s:%u: ", r->name, line == 0 ? 1 : line);
    char *reason = out + used;
    vsnprintf(reason, (size_t)(CONFIG_ERROR_MAX - used), fmt, args);
    for (char *c = reason; *c != '\0'; c++) {
        if (!isprint((unsigned char)*c))
            *c = '?'; /* a message goes to terminals and logs */
    }
}

int reader_fail(struct config_reader *r, int err, unsigned line, const char *fmt, ...)
{
    va_list args;
    if (r->err < 0)
        return r->err;
    r->err = err;
    va_start(args, fmt);
    message_format(r, line, fmt, args, r->error);
    va_end(args);
    return err;
}

int reader_warn(struct config_reader *r, unsigned line, const char *fmt, ...)
{
    char text[CONFIG_ERROR_MAX], *all = NULL;
    const char *was = r->config->warnings != NULL ? r->config->warnings : "";
    va_list args;
    va_start(args, fmt);
    message_format(r, line, fmt, args, text);
    va_end(args);
    if (asprintf(&all, "%s%s\n", was, text) < 0)
        return reader_fail(r, -ENOMEM, line, "%s", err_text(-ENOMEM));
    free(r->config->warnings);
    r->config->warnings = all;
    return 0;
}

char *place_format(const struct config_reader *r, const struct section_place *p,
                   char out[static PLACE_TEXT_MAX])
{
    const char *name = NULL;
    if (p->section == CONFIG_SECTION_PEER)
        name = r->config->peers[p->index].name;
    if (p->section == CONFIG_SECTION_CLASS)
        name = r->config->classes[p->index].name;
    snprintf(out, PLACE_TEXT_MAX, "[%s%s%s]", config_sections[p->section].word, name != NULL ? " " : "",
             name != NULL ? name : "");
    return out;
}

static unsigned option_line(const struct section_place *p, const char *key)
{
    const struct config_option *o = config_option_find(p->section, key);
    return o != NULL ? p->option_line[o - config_options] : 0;
}

bool place_has(const struct section_place *p, const char *key)
{
    return option_line(p, key) != 0;
}

unsigned place_line(const struct section_place *p, const char *key)
{
    unsigned line = option_line(p, key);
    return line != 0 ? line : p->heading_line;
}

static struct section_place *current_place(const struct config_reader *r)
{
    return r->place_count > 0 ? &r->places[r->place_count - 1] : NULL;
}

static void *place_base(const struct config_reader *r, const struct section_place *p)
{
    if (p->section == CONFIG_SECTION_PEER)
        return &r->config->peers[p->index];
    if (p->section == CONFIG_SECTION_CLASS)
        return &r->config->classes[p->index];
    return r->config;
}

/* ---- sections ---- */

static int section_defaults(struct config_reader *r, enum config_section section, void *base, unsigned line)
{
    char why[CONFIG_ERROR_MAX];
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        if (o->section != section || o->fallback == NULL)
            continue;
        int err = config_value_parse(o, base, o->fallback, why);
        if (err < 0)
            return reader_fail(r, err, line, "default of %s: %s", o->key, why);
    }
    return 0;
}

static int section_end(struct config_reader *r)
{
    char place[PLACE_TEXT_MAX];
    const struct section_place *p = current_place(r);
    for (size_t i = 0; p != NULL && i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        if (o->section == p->section && (o->flags & CONFIG_REQUIRED) != 0 && p->option_line[i] == 0)
            return reader_fail(r, -ERR_CONFIG, p->heading_line, "%s has no %s; add the line '%s = %s'",
                               place_format(r, p, place), o->key, o->key, o->syntax);
    }
    return 0;
}

static int peer_add(struct config_reader *r, const char *name, size_t *index)
{
    struct config *c = r->config;
    for (size_t i = 0; i < c->peer_count; i++) {
        if (strcmp(c->peers[i].name, name) == 0)
            return reader_fail(r, -ERR_CONFIG, r->line,
                               "[peer %s] is in the file already; choose another name or take "
                               "one out",
                               name);
    }
    if (c->peer_count == CONFIG_PEERS_MAX)
        return reader_fail(r, -ERR_CONFIG, r->line, "there are more than %d peers; take some out",
                           CONFIG_PEERS_MAX);
    struct config_peer *list = config_list_grow(c->peers, c->peer_count, sizeof(*list));
    if (list == NULL)
        return reader_fail(r, -ENOMEM, r->line, "%s", err_text(-ENOMEM));
    c->peers = list;
    *index = c->peer_count++;
    c->peers[*index] = (struct config_peer){0};
    strcpy(c->peers[*index].name, name);
    return 0;
}

static int class_add(struct config_reader *r, const char *name, size_t *index)
{
    struct config *c = r->config;
    for (size_t i = 0; i < c->class_count; i++) {
        if (strcmp(c->classes[i].name, name) == 0)
            return reader_fail(r, -ERR_CONFIG, r->line,
                               "[class %s] is in the file already; choose another name or take "
                               "one out",
                               name);
    }
    if (c->class_count == CONFIG_CLASSES_MAX)
        return reader_fail(r, -ERR_CONFIG, r->line, "there are more than %d classes; take some out",
                           CONFIG_CLASSES_MAX);
    struct config_class *list = config_list_grow(c->classes, c->class_count, sizeof(*list));
    if (list == NULL)
        return reader_fail(r, -ENOMEM, r->line, "%s", err_text(-ENOMEM));
    c->classes = list;
    *index = c->class_count++;
    c->classes[*index] = (struct config_class){0};
    strcpy(c->classes[*index].name, name);
    return 0;
}

static int section_begin(struct config_reader *r, enum config_section section, const char *name)
{
    size_t index = 0;
    int err = section_end(r);
    for (size_t i = 0; err == 0 && !config_sections[section].named && i < r->place_count; i++) {
        if (r->places[i].section == section)
            err = reader_fail(r, -ERR_CONFIG, r->line, "[%s] began in line %u already; put its options there",
                              config_sections[section].word, r->places[i].heading_line);
    }
    if (err == 0 && section == CONFIG_SECTION_PEER)
        err = peer_add(r, name, &index);
    if (err == 0 && section == CONFIG_SECTION_CLASS)
        err = class_add(r, name, &index);
    if (err < 0)
        return err;
    struct section_place *places = config_list_grow(r->places, r->place_count, sizeof(*places));
    if (places == NULL)
        return reader_fail(r, -ENOMEM, r->line, "%s", err_text(-ENOMEM));
    r->places = places;
    struct section_place *p = &r->places[r->place_count++];
    *p = (struct section_place){.section = section, .index = index, .heading_line = r->line};
    r->last = NULL;
    /* The defaults of the sections that exist once were set before the first line. */
    return config_sections[section].named ? section_defaults(r, section, place_base(r, p), r->line) : 0;
}

static int section_find(const char *word)
{
    for (int i = 0; i < CONFIG_SECTIONS; i++) {
        if (strcmp(config_sections[i].word, word) == 0)
            return i;
    }
    return -1;
}

static bool is_section_name(const char *text)
{
    return isalnum((unsigned char)text[0]) &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == strlen(text);
}

static bool is_comment_or_end(const char *text)
{
    text += strspn(text, " \t");
    return *text == '\0' || *text == ';' || *text == '#';
}

/* line is "[...", without its line end. */
static int heading(struct config_reader *r, const char *line)
{
    char inside[CONFIG_LINE_MAX + 1];
    const char *end = strchr(line, ']');
    if (end == NULL)
        return reader_fail(r, -ERR_CONFIG, r->line, "the heading has no ']'; close it");
    if (!is_comment_or_end(end + 1))
        return reader_fail(r, -ERR_CONFIG, r->line, "there is text after ']'; put it in a line of its own");
    size_t len = (size_t)(end - line - 1);
    memcpy(inside, line + 1, len);
    inside[len] = '\0';
    char *rest = NULL;
    const char *word = strtok_r(inside, " \t", &rest);
    const char *name = strtok_r(NULL, " \t", &rest);
    int section = word != NULL ? section_find(word) : -1;
    if (section < 0)
        return reader_fail(r, -ERR_CONFIG, r->line,
                           "unknown section [%.80s]; there are [node], [intercept], [tunnel], "
                           "[peer NAME], [store], [class NAME] and [admin]",
                           word != NULL ? word : "");
    if (!config_sections[section].named)
        return name == NULL
                   ? section_begin(r, (enum config_section)section, "")
                   : reader_fail(r, -ERR_CONFIG, r->line, "[%s] takes no name; write [%s]", word, word);
    if (name == NULL)
        return reader_fail(r, -ERR_CONFIG, r->line, "[%s] needs a name; write [%s NAME]", word, word);
    if (strtok_r(NULL, " \t", &rest) != NULL || !is_section_name(name) || strlen(name) >= CONFIG_NAME_MAX)
        return reader_fail(r, -ERR_CONFIG, r->line,
                           "the name in [%s NAME] must be at most %d letters, digits, '.', '_' "
                           "and '-', a letter or digit first",
                           word, CONFIG_NAME_MAX - 1);
    return section_begin(r, (enum config_section)section, name);
}

/* ---- lines ---- */

/* The '=' of "key = value", before any comment; or NULL. */
static char *find_equals(char *line)
{
    for (char *c = line; *c != '\0'; c++) {
        if (*c == '=')
            return c;
        if (*c == ';' && c > line && isspace((unsigned char)c[-1]))
            return NULL;
    }
    return NULL;
}

static void cut_comment(char *line)
{
    for (char *c = line; *c != '\0'; c++) {
        if (*c == ';' && c > line && isspace((unsigned char)c[-1])) {
            *c = '\0';
            return;
        }
    }
}

/* Whether "text =" reads as a key and not as the end of a pin. */
static bool is_indented_key(const char *text, const char *equals)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return len > 0 && len <= INDENTED_KEY_MAX && text + len + strspn(text + len, " \t") == equals;
}

/* line, NUL-terminated and without its line end, becomes what inih may see. */
static int line_sort(struct config_reader *r, char *line)
{
    if (r->line == 1 && strncmp(line, "\xEF\xBB\xBF", 3) == 0)
        memmove(line, line + 3, strlen(line + 3) + 1); /* an editor's byte order mark */
    char *text = line;
    while (isspace((unsigned char)*text))
        text++;
    bool indented = text > line;
    r->continues = false;
    if (*text == '\0' || *text == ';' || *text == '#') {
        *line = '\0';
        return 0;
    }
    const char *equals = find_equals(text);
    if (*text == '[' || (equals != NULL && (!indented || r->last == NULL || is_indented_key(text, equals)))) {
        memmove(line, text, strlen(text) + 1);
        if (*line == '[')
            return heading(r, line);
        equals = find_equals(line);
        if (equals == line)
            return reader_fail(r, -ERR_CONFIG, r->line, "there is no key before '='; write KEY = VALUE");
        if (memchr(line, ':', (size_t)(equals - line)) != NULL)
            return reader_fail(r, -ERR_CONFIG, r->line, "there is a ':' before '='; write KEY = VALUE");
        r->expects = true;
        return 0;
    }
    if (!indented || r->last == NULL)
        return reader_fail(r, -ERR_CONFIG, r->line,
                           "'%.80s' has no '='; write KEY = VALUE, or start a comment with ';'", text);
    cut_comment(line); /* which inih does not do in such a line */
    r->continues = r->expects = true;
    return 0;
}

/* inih's fgets: one line of at most room bytes with '\n' and NUL, or NULL at the end and at an error. */
static char *reader_line(char *out, int room, void *stream)
{
    struct config_reader *r = stream;
    size_t most = CONFIG_LINE_MAX;
    if ((size_t)room - 2 < most)
        most = (size_t)room - 2; /* a libinih built with a shorter buffer */
    if (r->err < 0 || r->left == 0)
        return NULL;
    if (r->expects) {
        reader_fail(r, -ERR_CONFIG, r->line, "the line cannot be read; write KEY = VALUE");
        return NULL;
    }
    const char *newline = memchr(r->text, '\n', r->left);
    size_t whole = newline != NULL ? (size_t)(newline - r->text) : r->left;
    size_t len = whole > 0 && r->text[whole - 1] == '\r' ? whole - 1 : whole;
    r->line++;
    if (memchr(r->text, '\0', len) != NULL)
        return reader_fail(r, -ERR_CONFIG, r->line, "there is a NUL byte; is this a text file?"), NULL;
    if (len > most)
        return reader_fail(r, -ERR_CONFIG, r->line,
                           "the line has %zu bytes, and %zu is the most; a list may go on in the "
                           "next lines, indented",
                           len, most),
               NULL;
    memcpy(out, r->text, len);
    out[len] = '\0';
    r->text += newline != NULL ? whole + 1 : whole;
    r->left -= newline != NULL ? whole + 1 : whole;
    if (line_sort(r, out) < 0)
        return NULL;
    strcat(out, "\n");
    return out;
}

static int unknown_key(struct config_reader *r, const struct section_place *p, const char *key)
{
    char known[CONFIG_ERROR_MAX / 2] = "", place[PLACE_TEXT_MAX];
    size_t used = 0;
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].section == p->section && used < sizeof(known))
            used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used > 0 ? ", " : "",
                                     config_options[i].key);
    }
    return reader_fail(r, -ERR_CONFIG, r->line, "unknown key '%.60s' in %s; it has %s", key,
                       place_format(r, p, place), known);
}

/* Remember where the networks stood that a line has added. */
static int networks_note(struct config_reader *r, const struct section_place *p, size_t from)
{
    const struct config_prefixes *networks = &r->config->peers[p->index].networks;
    for (size_t i = from; i < networks->count; i++) {
        struct network_place *list = config_list_grow(r->networks, r->network_count, sizeof(*list));
        if (list == NULL)
            return reader_fail(r, -ENOMEM, r->line, "%s", err_text(-ENOMEM));
        r->networks = list;
        r->networks[r->network_count++] = (struct network_place){networks->list[i], p->index, r->line};
    }
    return 0;
}

static int option_take(struct config_reader *r, struct section_place *p, const struct config_option *o,
                       const char *value)
{
    char why[CONFIG_ERROR_MAX], place[PLACE_TEXT_MAX];
    bool networks = o->section == CONFIG_SECTION_PEER && strcmp(o->key, "networks") == 0;
    size_t networks_before = networks ? r->config->peers[p->index].networks.count : 0;
    int err = config_value_parse(o, place_base(r, p), value, why);
    if (err < 0)
        return reader_fail(r, err, r->line, "%s %s: %s", place_format(r, p, place), o->key, why);
    return networks ? networks_note(r, p, networks_before) : 0;
}

/* inih's handler: 1 fine, 0 an error; the section is the one that reader_line has seen, for inih's may be
 * cut. */
static int reader_option(void *user, const char *section, const char *key, const char *value)
{
    struct config_reader *r = user;
    struct section_place *p = current_place(r);
    char place[PLACE_TEXT_MAX];
    (void)section;
    r->expects = false;
    if (r->err < 0)
        return 0;
    if (p == NULL)
        return reader_fail(r, -ERR_CONFIG, r->line,
                           "'%.60s' is in no section; put [node] or another heading before it", key),
               0;
    if (r->continues) {
        if ((r->last->flags & CONFIG_LIST) == 0)
            return reader_fail(r, -ERR_CONFIG, r->line,
                               "%s takes one value in one line; an option of its own needs "
                               "KEY = VALUE",
                               r->last->key),
                   0;
        return option_take(r, p, r->last, value) == 0;
    }
    const struct config_option *o = config_option_find(p->section, key);
    if (o == NULL)
        return unknown_key(r, p, key), 0;
    unsigned *line = &p->option_line[o - config_options];
    if (*line != 0)
        return reader_fail(r, -ERR_CONFIG, r->line, "%s has %s in line %u already; take one out",
                           place_format(r, p, place), key, *line),
               0;
    *line = r->line;
    r->last = o;
    return option_take(r, p, o, value) == 0;
}

int config_read(struct config_reader *r)
{
    for (int i = 0; r->err == 0 && i < CONFIG_SECTIONS; i++) {
        if (!config_sections[i].named)
            section_defaults(r, (enum config_section)i, r->config, 0);
    }
    if (r->err < 0)
        return r->err;
    int inih = ini_parse_stream(reader_line, r, reader_option, r);
    if (r->err == 0 && inih == -2)
        reader_fail(r, -ENOMEM, r->line, "%s", err_text(-ENOMEM));
    if (r->err == 0 && (inih != 0 || r->expects))
        reader_fail(r, -ERR_CONFIG, r->line, "the line cannot be read; write KEY = VALUE");
    if (r->err == 0)
        section_end(r);
    return r->err;
}
