/* lane_keys.h - two identities with their TLS contexts for the tests of this floor, and loops driven by hand.
 */
#ifndef LANE_KEYS_H
#define LANE_KEYS_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "hawser/clock.h"
#include "hawser/identity.h"
#include "hawser/lane.h"
#include "hawser/log.h"

enum { HANG_US = 20000000 };

static struct {
    SSL_CTX *accept, *dial;
    uint8_t pin[CONFIG_PIN_BYTES];
} keys[2];

/* Before the tests fork. */
static void make_keys(void)
{
    char error[IDENTITY_ERROR_MAX];
    for (int i = 0; i < 2; i++) {
        char dir[] = "/tmp/hawser-lane-XXXXXX", path[64];
        struct identity *id = NULL;
        if (mkdtemp(dir) == NULL || identity_generate(dir, "lane", error) < 0 ||
            identity_load(&id, dir, error) < 0 || identity_tls_context(id, 1, &keys[i].accept) < 0 ||
            identity_tls_context(id, 0, &keys[i].dial) < 0) {
            fprintf(stderr, "no identity: %s\n", error);
            exit(EXIT_FAILURE);
        }
        identity_pin(id, keys[i].pin);
        identity_free(id);
        snprintf(path, sizeof(path), "%s/node.key", dir);
        unlink(path);
        snprintf(path, sizeof(path), "%s/node.crt", dir);
        unlink(path);
        rmdir(dir);
    }
}

static void free_keys(void)
{
    for (int i = 0; i < 2; i++) {
        SSL_CTX_free(keys[i].accept);
        SSL_CTX_free(keys[i].dial);
    }
}

static struct loop *loops[2];

/* One turn of each loop that is not asleep. */
static void turn(bool first, bool second)
{
    if (first)
        event_base_loop(loop_base(loops[0]), EVLOOP_NONBLOCK);
    if (second)
        event_base_loop(loop_base(loops[1]), EVLOOP_NONBLOCK);
}

#define turn_until(condition)                                                                                \
    do {                                                                                                     \
        uint64_t began_us = clock_now_us();                                                                  \
        while (!(condition)) {                                                                               \
            turn(true, true);                                                                                \
            ck_assert_msg(clock_now_us() - began_us < HANG_US, "hangs: " #condition);                        \
        }                                                                                                    \
    } while (0)

static void make_loops(void)
{
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(loop_new(&loops[i]), 0);
}

static void free_loops(void)
{
    for (int i = 0; i < 2; i++)
        loop_free(loops[i]);
    chunk_thread_end();
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}

static int run_suite(const char *name, void (*add)(TCase *t))
{
    log_set_level(getenv("TEST_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    make_keys();
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, make_loops, free_loops);
    add(t);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    free_keys();
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
