/* SPDX-License-Identifier: Apache-2.0 */

/* A client that rolls once: dice_roll NAME SIDES [PORT] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <usher.h>

enum { PATIENCE_MS = 10000 };

static int roll(struct usher_client *client, const char *sides)
{
    struct usher_event event;
    if (usher_login(client, PATIENCE_MS, NULL) != 0 ||
        usher_call_wait(client, "dice", "roll", sides, strlen(sides), PATIENCE_MS, &event) != 0) {
        fprintf(stderr, "dice_roll: %s\n", usher_client_error_text(client));
        return 1;
    }
    if (event.type == USHER_ERROR) {
        fprintf(stderr, "dice_roll: %s\n", usher_error_name(event.code));
        return 1;
    }
    printf("%.*s\n", (int)event.payload_size, (const char *)event.payload);
    return event.code == 0 ? 0 : 1; /* the service's own status */
}

int main(int argc, char **argv)
{
    struct usher_options options;
    struct usher_client *client;
    if (argc < 3) {
        fprintf(stderr, "usage: dice_roll NAME SIDES [PORT]\n");
        return 64;
    }
    usher_options_init(&options);
    options.username = argv[1];
    if (argc > 3)
        options.port = (uint16_t)atoi(argv[3]);
    if (usher_client_create(&options, &client) != 0)
        return 1;
    int result = roll(client, argv[2]);
    usher_client_destroy(client);
    return result;
}
