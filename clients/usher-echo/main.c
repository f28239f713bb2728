/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files/token_file.h"
#include "usher_backend.h"

/* usher-echo: a whole service, to read and to copy.
 *
 * A service is a handler and a loop. The handler gets what users call; the loop (usher_backend_run)
 * keeps the link to the broker, whatever happens to it. Try it:
 *
 *     usherd &
 *     usher-echo --presence &
 *     usher call --user alice --service echo --method reverse stressed
 */

/* Statuses belong to the service. 0 is success; we borrow the others from HTTP. */
enum { STATUS_OK = 0, STATUS_NOT_FOUND = 404, STATUS_TOO_LARGE = 413 };

/* A signal handler gets no context, so this is the one object that it may touch. */
static struct usher_backend *the_backend;

static void on_signal(int number)
{
    usher_backend_stop(the_backend); /* allowed in a signal handler */
}

/* Replies are only queued here; the loop sends them in batches. A service may as well keep
 * call->id and reply later, from any thread. */
static void reply(const struct usher_backend_call *call, uint32_t status, const void *payload,
                  size_t size)
{
    if (usher_backend_reply(the_backend, call->id, status, payload, size) != 0)
        fprintf(stderr, "usher-echo: a reply does not fit; %s will see a timeout\n", call->user);
}

static void reverse(const struct usher_backend_call *call)
{
    const char *payload = call->payload;
    char reversed[4096];
    if (call->payload_size > sizeof(reversed)) {
        reply(call, STATUS_TOO_LARGE, NULL, 0);
        return;
    }
    for (size_t i = 0; i < call->payload_size; i++)
        reversed[i] = payload[call->payload_size - 1 - i];
    reply(call, STATUS_OK, reversed, call->payload_size);
}

/* The broker has checked who calls: `user` and `epoch` are facts. The epoch tells one login of
 * the user from the next, so it is what a game keeps beside a seat at a table. */
static void whoami(const struct usher_backend_call *call)
{
    char text[256];
    int size =
        snprintf(text, sizeof(text), "%.128s %llu", call->user, (unsigned long long)call->epoch);
    reply(call, STATUS_OK, text, (size_t)size);
}

static void reply_text(const struct usher_backend_call *call, unsigned status, const char *text)
{
    reply(call, status, text, strlen(text));
}

/* The caller's traceparent, for a service that writes spans of its own; "" without one. */
static void traceparent(const struct usher_backend_call *call)
{
    reply_text(call, STATUS_OK, call->traceparent);
}

/* call->redelivered warns that another instance may have done this call before it died. To echo
 * twice does no harm; to pay twice would. */
static void on_call(void *context, const struct usher_backend_call *call)
{
    if (strcmp(call->method, "echo") == 0)
        reply(call, STATUS_OK, call->payload, call->payload_size);
    else if (strcmp(call->method, "reverse") == 0)
        reverse(call);
    else if (strcmp(call->method, "whoami") == 0)
        whoami(call);
    else if (strcmp(call->method, "traceparent") == 0)
        traceparent(call);
    else
        reply_text(call, STATUS_NOT_FOUND, "methods: echo, reverse, whoami, traceparent");
}

/* Each change once and in order, also over a restart of the broker. */
static void on_presence(void *context, const struct usher_backend_event *event)
{
    printf("%s is %s (epoch %llu, %s)\n", event->user, usher_backend_kind_name(event->kind),
           (unsigned long long)event->epoch, usher_backend_cause_name(event->cause));
    fflush(stdout);
}

static void on_state(void *context, enum usher_backend_state state, const char *text)
{
    fprintf(stderr, "usher-echo: %s\n", text);
}

static int serve(const struct usher_backend_options *options)
{
    int error = usher_backend_open(&the_backend, options);
    if (error != 0) {
        fprintf(stderr, "usher-echo: %s: %s\n", options->urls[0], strerror(-error));
        return 1;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    error = usher_backend_run(the_backend, -1); /* until a signal stops it */
    if (error != 0)
        fprintf(stderr, "usher-echo: %s\n", usher_backend_error_text(the_backend));
    signal(SIGINT, SIG_DFL); /* what they would stop is about to go */
    signal(SIGTERM, SIG_DFL);
    usher_backend_close(the_backend);
    return error == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct option flags[] = {
        {"url", required_argument, NULL, 'u'},
        {"service", required_argument, NULL, 's'},
        {"instance", required_argument, NULL, 'i'},
        {"presence", no_argument, NULL, 'p'},
        {"token-file", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *url = usher_backend_default_url();
    char *token = NULL;
    struct usher_backend_options options = {
        .urls = &url,
        .url_count = 1,
        .service = "echo",
        .callbacks = {.on_call = on_call, .on_presence = on_presence, .on_state = on_state},
    };
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        if (flag == 'u')
            url = optarg;
        else if (flag == 's')
            options.service = optarg;
        else if (flag == 'i')
            options.instance = optarg;
        else if (flag == 'p')
            options.presence = true;
        else if (flag == 't') {
            free(token);
            int error = token_file_read(optarg, &token, &options.token_size);
            if (error != 0) {
                fprintf(stderr, "usher-echo: %s: %s\n", optarg, token_file_fault(error));
                return 64;
            }
            options.token = token;
        } else {
            /* On an unknown option getopt has said which. */
            fprintf(flag == 'h' ? stdout : stderr,
                    "usher-echo [--url URL] [--service echo] [--instance NAME] [--presence] "
                    "[--token-file FILE]\n");
            return flag == 'h' ? 0 : 64;
        }
    }
    int result = serve(&options);
    free(token);
    return result;
}
