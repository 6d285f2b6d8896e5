/* config_case.h - what tests of the configuration's file share: a file that is right, and reading a text. */
#ifndef CONFIG_CASE_H
#define CONFIG_CASE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/config.h"
#include "hawser/err.h"

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

#define PIN_A "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define PIN_B "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define NODE  "[node]\nname = here\nidentity = /id\n" /* lines 1 to 3 */
#define PEER  "[peer dc]\naddress = 10.9.0.1:4430\npin = " PIN_A "\nnetworks = 10.2.0.0/24\n" /* 4 to 7 */
#define GOOD  NODE PEER /* the next is line 8 */

static struct config *config;
static char error[CONFIG_ERROR_MAX];

static void take_down(void)
{
    config_unref(config);
    config = NULL;
}

static int parse_bytes(const char *text, size_t len)
{
    take_down();
    /* No NUL behind the text, and the sanitizer behind its last byte. */
    char *exact = malloc(len);
    ck_assert(exact != NULL || len == 0);
    if (len > 0)
        memcpy(exact, text, len);
    int err = config_parse(&config, "f.ini", exact, len, error);
    free(exact);
    return err;
}

static void good(const char *text)
{
    int err = parse_bytes(text, strlen(text));
    ck_assert_msg(err == 0, "%s", error);
}

/* An error whose message begins "f.ini:LINE: " and holds the words. */
static void bad_bytes(const char *text, size_t len, unsigned line, const char *words)
{
    char start[32];
    int err = parse_bytes(text, len);
    ck_assert_msg(err == -ERR_CONFIG, "accepted: %s", text);
    ck_assert_ptr_null(config);
    snprintf(start, sizeof(start), "f.ini:%u: ", line);
    ck_assert_msg(strncmp(error, start, strlen(start)) == 0, "'%s' does not blame line %u", error, line);
    ck_assert_msg(strstr(error, words) != NULL, "'%s' does not say '%s'", error, words);
}

static void bad(const char *text, unsigned line, const char *words)
{
    bad_bytes(text, strlen(text), line, words);
}

#endif
