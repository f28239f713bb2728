/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <usher_backend.h>

/* What libusher-backend pushes in a second, beside usher-backend in backend_measure.mjs:
 *
 *     backend_push URL COUNT USERS
 *
 * Transient pushes to push-0 and on, each with its result; prints pushes per second. */

enum { OPEN_MAX = 1024, NAME_BYTES = 32 };

struct run {
    struct usher_backend *backend;
    unsigned sent, done, count, users;
};

static void push_next(struct run *run)
{
    static const char payload[32] = "positions";
    char name[NAME_BYTES];
    const char *to = name;
    if (run->sent == run->count)
        return;
    snprintf(name, sizeof(name), "push-%u", run->sent++ % run->users);
    if (usher_backend_push_transient(run->backend, &to, 1, payload, sizeof(payload), 0, 1) != 0)
        abort();
}

static void on_result(void *context, uint64_t token, const struct usher_backend_result *result)
{
    struct run *run = context;
    (void)token;
    if (result->accepted + result->dropped != 1)
        abort();
    push_next(run);
    if (++run->done == run->count)
        usher_backend_stop(run->backend);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 64;
    const char *url = argv[1];
    struct run run = {.count = (unsigned)atoi(argv[2]), .users = (unsigned)atoi(argv[3])};
    struct usher_backend_options options = {
        .urls = &url, .url_count = 1, .callbacks = {.on_result = on_result}, .context = &run};
    if (usher_backend_open(&run.backend, &options) != 0)
        return 1;
    usher_backend_run(run.backend, 200); /* the link is made */
    double began = seconds();
    for (unsigned i = 0; i < OPEN_MAX; i++)
        push_next(&run);
    usher_backend_run(run.backend, -1);
    printf("%.0f\n", run.count / (seconds() - began));
    usher_backend_close(run.backend);
    return 0;
}
