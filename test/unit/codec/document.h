/* document.h - the worked examples of PROTOCOL.md, so that tests hold the document and the code together.
 * An example is a fenced block opened by "```hex NAME"; in each line hex digits up to a '#'. For tests only.
 */
#ifndef TEST_CODEC_DOCUMENT_H
#define TEST_CODEC_DOCUMENT_H

#include <check.h>
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline FILE *document_open(void)
{
    char path[4096];
    const char *root = getenv("HAWSER_SOURCE");
    if (root != NULL)
        snprintf(path, sizeof(path), "%s/PROTOCOL.md", root);
    else /* run by hand: this file is test/unit/codec/document.h */
        snprintf(path, sizeof(path), "%.*s/../../../PROTOCOL.md", (int)(strrchr(__FILE__, '/') - __FILE__),
                 __FILE__);
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s cannot be read: set HAWSER_SOURCE to the top of the tree", path);
    return f;
}

/* Add a line's bytes at len; returns the new length. */
static inline size_t document_hex_line(const char *line, uint8_t *out, size_t len, size_t room)
{
    for (const char *p = line; *p != '\0' && *p != '#' && *p != '\n';) {
        if (isspace((unsigned char)*p)) {
            p++;
            continue;
        }
        char pair[3] = {p[0], p[1], '\0'}, *end;
        unsigned long byte = strtoul(pair, &end, 16);
        ck_assert_msg(end == pair + 2 && len < room, "PROTOCOL.md: not hex, or too much of it: %s", line);
        out[len] = (uint8_t)byte;
        len++;
        p += 2;
    }
    return len;
}

/* The bytes of the example NAME into out; their number. Fails the test when there is none. */
static inline size_t document_hex(const char *name, uint8_t *out, size_t room)
{
    char line[512], fence[64];
    size_t len = 0;
    int inside = 0;
    FILE *f = document_open();
    snprintf(fence, sizeof(fence), "```hex %s\n", name);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (inside && strncmp(line, "```", 3) == 0)
            break;
        if (inside)
            len = document_hex_line(line, out, len, room);
        if (strcmp(line, fence) == 0)
            inside = 1;
    }
    fclose(f);
    ck_assert_msg(len > 0, "PROTOCOL.md has no example '%s'", name);
    return len;
}

#endif
