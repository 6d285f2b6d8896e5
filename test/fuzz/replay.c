/* replay.c - runs a fuzz target over its corpus, without a fuzzing engine (tests).
 * Usage: fuzz_NAME FOLDER|FILE... Each file is fed whole, and small files also as every prefix of themselves,
 * each in a heap block of exactly its size, so that the address sanitizer sees a read past the end. A folder
 * without a file is a failure: a corpus that went missing must not look like a test that passed. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len_bytes);

enum {
    PREFIXED_MAX = 4096, /* bytes of a file whose prefixes are all fed */
};

struct tally {
    size_t files, inputs;
};

static void feed(const uint8_t *bytes, size_t len, struct tally *tally)
{
    uint8_t *exact = malloc(len); /* of 0 bytes too: not a byte of it may be read */
    if (exact == NULL && len > 0) {
        fprintf(stderr, "out of memory for %zu bytes\n", len);
        exit(1);
    }
    if (len > 0)
        memcpy(exact, bytes, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    tally->inputs++;
}

static uint8_t *file_read(const char *path, size_t *len)
{
    struct stat st;
    uint8_t *bytes = NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return NULL;
    if (fstat(fileno(file), &st) == 0 && S_ISREG(st.st_mode)) {
        *len = (size_t)st.st_size;
        bytes = malloc(*len + 1);
        if (bytes != NULL && fread(bytes, 1, *len, file) != *len) {
            free(bytes);
            bytes = NULL;
        }
    }
    fclose(file);
    return bytes;
}

static int replay_file(const char *path, struct tally *tally)
{
    size_t len = 0;
    uint8_t *bytes = file_read(path, &len);
    if (bytes == NULL) {
        fprintf(stderr, "%s: cannot be read: %s\n", path, strerror(errno));
        return -1;
    }
    /* The last thing printed before a crash names the file. */
    fprintf(stderr, "%s\n", path);
    feed(bytes, len, tally);
    for (size_t prefix = 0; len <= PREFIXED_MAX && prefix < len; prefix++)
        feed(bytes, prefix, tally);
    free(bytes);
    tally->files++;
    return 0;
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int replay_folder(const char *folder, struct tally *tally)
{
    char path[PATH_MAX];
    struct dirent **entries = NULL;
    size_t before = tally->files;
    int err = 0, count = scandir(folder, &entries, not_hidden, alphasort);
    if (count < 0) {
        fprintf(stderr, "%s: cannot be read: %s\n", folder, strerror(errno));
        return -1;
    }
    for (int i = 0; i < count; i++) {
        if (snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name) >= (int)sizeof(path))
            err = -1;
        else if (replay_file(path, tally) < 0)
            err = -1;
        free(entries[i]);
    }
    free(entries);
    if (tally->files == before) {
        fprintf(stderr, "%s: no file to replay; put the corpus there\n", folder);
        err = -1;
    }
    return err;
}

int main(int argc, char **argv)
{
    struct tally tally = {0};
    int failed = argc < 2;
    if (failed)
        fprintf(stderr, "usage: %s FOLDER|FILE...\n", argv[0]);
    for (int i = 1; i < argc; i++) {
        struct stat st;
        int folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        if ((folder ? replay_folder(argv[i], &tally) : replay_file(argv[i], &tally)) < 0)
            failed = 1;
    }
    printf("%zu files, %zu inputs\n", tally.files, tally.inputs);
    return failed;
}
