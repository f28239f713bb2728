/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "fuzz/fuzz.h"

/* replay FOLDER: runs every file of the folder through the fuzz target it is linked with. Needs
 * no fuzzing engine, so each build and each compiler keeps the found cases as regressions. */

enum { FILE_BYTES_MAX = 1024 * 1024, PATH_BYTES_MAX = 4096 };

static bool replay(const char *path, uint8_t *data)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    size_t size = fread(data, 1, FILE_BYTES_MAX, file);
    bool good = !ferror(file);
    fclose(file);
    /* The target gets a copy of just that size, so that a sanitizer sees a read beyond it. */
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (!good || exact == NULL) {
        free(exact);
        return false;
    }
    memcpy(exact, data, size);
    fprintf(stderr, "%s (%zu)\n", path, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return true;
}

/* Gives the number of files, or -1. */
static int replay_folder(const char *folder, DIR *directory, uint8_t *data)
{
    int files = 0;
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        char path[PATH_BYTES_MAX];
        if (entry->d_name[0] == '.')
            continue;
        int length = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (length < 0 || (size_t)length >= sizeof(path) || !replay(path, data))
            return -1;
        files++;
    }
    return files;
}

int main(int argc, char **argv)
{
    DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
    if (directory == NULL) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return EXIT_FAILURE;
    }
    uint8_t *data = malloc(FILE_BYTES_MAX);
    int files = data == NULL ? -1 : replay_folder(argv[1], directory, data);
    free(data);
    closedir(directory);
    fprintf(stderr, "%d files\n", files);
    return files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
