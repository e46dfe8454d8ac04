/*
 * test.h - checks for unit tests.  A CHECK that fails prints place and values and counts; TEST_END
 * makes main return non-zero if any did.
 */
#ifndef EPIDOTE_TEST_H
#define EPIDOTE_TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int test_n_checks, test_n_failed;

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        test_n_checks++;                                                                           \
        if (!(cond)) {                                                                             \
            test_n_failed++;                                                                       \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                   \
        }                                                                                          \
    } while (0)

#define CHECK_INT(got, want)                                                                       \
    do {                                                                                           \
        const long long test_got = (long long)(got), test_want = (long long)(want);                \
        test_n_checks++;                                                                           \
        if (test_got != test_want) {                                                               \
            test_n_failed++;                                                                       \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, test_got,   \
                    test_want);                                                                    \
        }                                                                                          \
    } while (0)

#define CHECK_STR(got, want)                                                                       \
    do {                                                                                           \
        const char *test_got = (got), *test_want = (want);                                         \
        test_n_checks++;                                                                           \
        if (test_got == NULL || strcmp(test_got, test_want) != 0) {                                \
            test_n_failed++;                                                                       \
            fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #got,         \
                    test_got ? test_got : "(null)", test_want);                                    \
        }                                                                                          \
    } while (0)

/* got contains part: for messages that have to name file, place and remedy. */
#define CHECK_HAS(got, part)                                                                       \
    do {                                                                                           \
        const char *test_got = (got), *test_part = (part);                                         \
        test_n_checks++;                                                                           \
        if (test_got == NULL || strstr(test_got, test_part) == NULL) {                             \
            test_n_failed++;                                                                       \
            fprintf(stderr, "%s:%d: \"%s\" does not contain \"%s\"\n", __FILE__, __LINE__,         \
                    test_got ? test_got : "(null)", test_part);                                    \
        }                                                                                          \
    } while (0)

#define TEST_END()                                                                                 \
    do {                                                                                           \
        fprintf(stderr, "%s: %d checks, %d failed\n", __FILE__, test_n_checks, test_n_failed);     \
        return test_n_failed != 0 || test_n_checks == 0;                                           \
    } while (0)

#endif
