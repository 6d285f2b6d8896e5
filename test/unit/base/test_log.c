/* test_log.c - what one call of log_line writes: one line, whatever is in it; and the texts of errors. */
#include "hawser/log.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hawser/err.h"

static int saved_stderr, ends[2];
static char text[65536];

static void set_up(void)
{
    saved_stderr = dup(STDERR_FILENO);
    ck_assert_int_eq(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    unsetenv("JOURNAL_STREAM");
    log_set_level(LOG_LEVEL_INFO);
    log_set_tag("");
}

static void tear_down(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(ends[0]);
}

/* Everything that was logged since set_up; stderr is the test's own again. */
static const char *logged(void)
{
    size_t len = 0;
    ssize_t n;
    dup2(saved_stderr, STDERR_FILENO);
    while ((n = read(ends[0], text + len, sizeof(text) - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    ck_assert_uint_eq(strlen(text), len);
    return text;
}

static size_t lines(const char *in)
{
    size_t n = 0;
    for (; (in = strchr(in, '\n')) != NULL; in++)
        n++;
    return n;
}

START_TEST(a_name_from_outside_cannot_forge_a_line)
{
    char evil[256];
    for (size_t i = 0; i < sizeof(evil) - 1; i++)
        evil[i] = (char)(i + 1);
    evil[sizeof(evil) - 1] = '\0';
    log_info("peer %s: x\r\n2026-01-01 error \x1b[31mforged", evil);
    const char *out = logged();
    ck_assert_uint_eq(lines(out), 1);
    ck_assert_int_eq(out[strlen(out) - 1], '\n');
    for (size_t i = 0; out[i + 1] != '\0'; i++)
        ck_assert_msg((unsigned char)out[i] >= ' ' && out[i] != 0x7f, "byte 0x%02x is written",
                      (unsigned char)out[i]);
}
END_TEST

START_TEST(a_long_line_is_cut_and_stays_one)
{
    char *long_text = malloc(10000);
    memset(long_text, 'a', 9999);
    long_text[9999] = '\0';
    log_warn("%s", long_text);
    log_warn("after");
    const char *out = logged();
    free(long_text);
    ck_assert_uint_eq(lines(out), 2);
    ck_assert_uint_le((size_t)(strchr(out, '\n') - out), 1024);
    ck_assert_ptr_nonnull(strstr(out, "aaaa\n"));
    ck_assert_ptr_nonnull(strstr(out, "after\n"));
}
END_TEST

START_TEST(the_journal_gets_priorities)
{
    setenv("JOURNAL_STREAM", "8:1", 1);
    log_set_tag("engine");
    log_set_level(LOG_LEVEL_DEBUG);
    log_error("a %d", 1);
    log_warn("b");
    log_info("c");
    log_debug("d");
    log_set_tag("");
    log_info("no tag");
    ck_assert_str_eq(logged(), "<3>engine: a 1\n<4>engine: b\n<6>engine: c\n<7>engine: d\n<6>no tag\n");
}
END_TEST

START_TEST(people_get_a_time_and_a_word)
{
    log_set_tag("keeper");
    log_warn("hello");
    const char *out = logged();
    ck_assert_uint_gt(strlen(out), 30);
    ck_assert_int_eq(out[4], '-');
    ck_assert_int_eq(out[10], 'T');
    ck_assert_int_eq(out[23], 'Z');
    ck_assert_str_eq(out + 24, " warn  keeper: hello\n");
}
END_TEST

START_TEST(what_is_below_the_level_is_not_written)
{
    log_set_level(LOG_LEVEL_WARN);
    log_info("no");
    log_debug("no");
    log_warn("yes");
    log_error("yes");
    const char *out = logged();
    ck_assert_uint_eq(lines(out), 2);
    ck_assert_ptr_null(strstr(out, "no\n"));
}
END_TEST

START_TEST(errno_survives)
{
    errno = EXDEV;
    log_error("x");
    int after = errno;
    logged();
    ck_assert_int_eq(after, EXDEV);
}
END_TEST

START_TEST(levels_have_names)
{
    ck_assert_int_eq(log_level_parse("error"), LOG_LEVEL_ERROR);
    ck_assert_int_eq(log_level_parse("warn"), LOG_LEVEL_WARN);
    ck_assert_int_eq(log_level_parse("info"), LOG_LEVEL_INFO);
    ck_assert_int_eq(log_level_parse("debug"), LOG_LEVEL_DEBUG);
    ck_assert_int_eq(log_level_parse("Info"), -EINVAL);
    ck_assert_int_eq(log_level_parse(""), -EINVAL);
    logged();
}
END_TEST

static void *write_many(void *arg)
{
    for (int i = 0; i < 50; i++)
        log_info("%s", (const char *)arg);
    return NULL;
}

START_TEST(threads_do_not_mix_lines)
{
    static char words[4][101];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        memset(words[i], 'a' + i, 100);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, write_many, words[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    const char *out = logged();
    ck_assert_uint_eq(lines(out), 200);
    for (const char *at = out, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        const char *word = end - 100;
        ck_assert(word > at && strspn(word, (char[]){*word, '\0'}) == 100);
    }
}
END_TEST

START_TEST(every_error_has_a_text_of_its_own)
{
    static const int own[] = {
#define ERR_LIST(name, words) name,
        ERR_TABLE(ERR_LIST)
#undef ERR_LIST
    };
    logged();
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        ck_assert_int_gt(own[i], ERR_BASE);
        ck_assert_ptr_null(strstr(err_text(-own[i]), "Unknown"));
        for (size_t j = 0; j < i; j++) {
            ck_assert_int_ne(own[i], own[j]);
            ck_assert_str_ne(err_text(-own[i]), err_text(-own[j]));
        }
    }
    ck_assert_str_eq(err_text(-ENOENT), strerror(ENOENT));
    ck_assert_str_eq(err_text(-ERR_PIN), "the peer's key is not one that is pinned here");
    ck_assert_ptr_nonnull(strstr(err_text(-5000), "5000"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_name_from_outside_cannot_forge_a_line);
    tcase_add_test(t, a_long_line_is_cut_and_stays_one);
    tcase_add_test(t, the_journal_gets_priorities);
    tcase_add_test(t, people_get_a_time_and_a_word);
    tcase_add_test(t, what_is_below_the_level_is_not_written);
    tcase_add_test(t, errno_survives);
    tcase_add_test(t, levels_have_names);
    tcase_add_test(t, threads_do_not_mix_lines);
    tcase_add_test(t, every_error_has_a_text_of_its_own);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
