/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <usher_backend.h>

/* A service that rolls dice: call "dice" "roll" with the number of sides.
 *
 *     dice_service [URL]
 */

static struct usher_backend *the_backend; /* all that a signal handler may touch */

static void on_signal(int number)
{
    (void)number;
    usher_backend_stop(the_backend);
}

/* Only the broker can say who calls; what comes in the payload is the player's word. */
static void on_call(void *context, const struct usher_backend_call *call)
{
    char text[160];
    (void)context;
    snprintf(text, sizeof(text), "%.*s", (int)call->payload_size, (const char *)call->payload);
    long sides = strtol(text, NULL, 10);
    if (sides < 2 || sides > 1000) {
        usher_backend_reply(the_backend, call->id, 400, "2 to 1000 sides", 15);
        return;
    }
    int size = snprintf(text, sizeof(text), "%.64s rolled %ld of %ld", call->user,
                        random() % sides + 1, sides);
    usher_backend_reply(the_backend, call->id, 0, text, (size_t)size);
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : usher_backend_default_url();
    const struct usher_backend_options options = {
        .urls = &url, .url_count = 1, .service = "dice", .callbacks = {.on_call = on_call}};
    if (usher_backend_open(&the_backend, &options) != 0)
        return 1;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    int error = usher_backend_run(the_backend, -1);
    if (error != 0)
        fprintf(stderr, "dice_service: %s\n", usher_backend_error_text(the_backend));
    usher_backend_close(the_backend);
    return error == 0 ? 0 : 1;
}
