/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <usher.h>

/* A client that rolls once: dice_roll NAME SIDES [PORT]. A broker that asks for tokens is shown the
 * one in the file $DICE_TOKEN_FILE, which is read for each login: it may have been renewed. */

enum { PATIENCE_MS = 10000 };

struct wallet {
    const char *path;
    char token[4096];
};

static int token_of(void *context, struct usher_token *token)
{
    struct wallet *wallet = context;
    FILE *file = fopen(wallet->path, "re");
    if (file == NULL)
        return -EAGAIN; /* asked again at the next try */
    token->size = fread(wallet->token, 1, sizeof(wallet->token), file);
    while (token->size > 0 && wallet->token[token->size - 1] == '\n')
        token->size--;
    token->data = wallet->token;
    fclose(file);
    return 0;
}

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
    struct wallet wallet = {.path = getenv("DICE_TOKEN_FILE")};
    if (wallet.path != NULL)
        usher_client_set_token_source(client, token_of, &wallet);
    int result = roll(client, argv[2]);
    usher_client_destroy(client);
    return result;
}
