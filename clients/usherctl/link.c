/* SPDX-License-Identifier: Apache-2.0 */
#include "usherctl/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "usherctl/print.h"

/* The orders of usherctl, and following presence: these need a link. */

struct order {
    const struct ctl *ctl;
    struct usher_backend *backend;
    int result;
    bool linked; /* the node was there, so no answer does not mean: nothing was done */
};

static void order_done(void *context, uint64_t token, const struct usher_backend_result *result)
{
    struct order *order = context;
    print_result(order->ctl, result);
    bool reached = result->accepted > 0 || result->dropped == 0;
    order->result = result->code == USHER_BACKEND_OK && result->failure_count == 0 && reached
                        ? CTL_OK
                        : CTL_REFUSED;
    usher_backend_stop(order->backend);
}

static void order_state(void *context, enum usher_backend_state state, const char *text)
{
    struct order *order = context;
    if (state == USHER_BACKEND_LINKED)
        order->linked = true;
}

static int order_open(struct order *order, const struct ctl *ctl)
{
    struct usher_backend_callbacks callbacks = {.on_result = order_done, .on_state = order_state};
    *order = (struct order){.ctl = ctl, .result = CTL_NO_BROKER};
    return ctl_open(ctl, &callbacks, order, &order->backend);
}

/* `error` is what queueing the order gave. */
static int order_finish(struct order *order, int error)
{
    if (error == 0)
        error = usher_backend_run(order->backend, CTL_TIMEOUT_MS);
    if (error == -ETIMEDOUT && order->linked) {
        fprintf(stderr,
                "usherctl: the broker at %s did not answer in time: it may have been done\n",
                order->ctl->url);
        order->result = CTL_NO_BROKER;
    } else if (error == -EACCES ||
               (error == -EINVAL && usher_backend_error_text(order->backend)[0])) {
        fprintf(stderr, "usherctl: %s\n", usher_backend_error_text(order->backend));
        order->result = CTL_REFUSED;
    } else if (error != 0) {
        order->result = ctl_complain(order->ctl, error);
    }
    usher_backend_close(order->backend);
    return order->result;
}

int ctl_kick(const struct ctl *ctl)
{
    struct usher_backend_kick kick = {
        .user = ctl->arguments[0],
        .epoch = ctl->epoch,
        .detail = ctl->reason,
        .do_not_return = ctl->do_not_return,
    };
    struct order order;
    int result = order_open(&order, ctl);
    if (result != CTL_OK)
        return result;
    return order_finish(&order, usher_backend_kick(order.backend, &kick, 1));
}

int ctl_push(const struct ctl *ctl)
{
    const char *users[] = {ctl->arguments[0]};
    const char *text = ctl->arguments[1];
    struct order order;
    int result = order_open(&order, ctl);
    if (result != CTL_OK)
        return result;
    const struct usher_backend_message message = {.users = users,
                                                  .user_count = 1,
                                                  .payload = text,
                                                  .payload_size = strlen(text),
                                                  .epoch = ctl->epoch,
                                                  .transient = ctl->transient,
                                                  .keep_s = (uint32_t)ctl->keep_s,
                                                  .tag = ctl->tag,
                                                  .traceparent = ctl->traceparent};
    return order_finish(&order, usher_backend_push_message(order.backend, &message, 1));
}

int ctl_push_all(const struct ctl *ctl)
{
    const char *text = ctl->arguments[0];
    struct order order;
    int result = order_open(&order, ctl);
    if (result != CTL_OK)
        return result;
    const struct usher_backend_message message = {.to_all = true,
                                                  .payload = text,
                                                  .payload_size = strlen(text),
                                                  .transient = ctl->transient,
                                                  .traceparent = ctl->traceparent};
    return order_finish(&order, usher_backend_push_message(order.backend, &message, 1));
}

static void dropped(void *context, uint64_t token, const struct usher_backend_result *result)
{
    struct order *order = context;
    bool ok = result->code == USHER_BACKEND_OK;
    if (!ok || order->ctl->json)
        print_result(order->ctl, result);
    else
        printf("%" PRIu32 " dropped\n", result->accepted);
    order->result = ok ? CTL_OK : CTL_REFUSED;
    usher_backend_stop(order->backend);
}

int ctl_inbox_drop(const struct ctl *ctl)
{
    struct usher_backend_callbacks callbacks = {.on_result = dropped, .on_state = order_state};
    struct order order = {.ctl = ctl, .result = CTL_NO_BROKER};
    int result = ctl_open(ctl, &callbacks, &order, &order.backend);
    if (result != CTL_OK)
        return result;
    return order_finish(&order,
                        usher_backend_inbox_drop(order.backend, ctl->arguments[0], ctl->up_to, 1));
}

static void follow_event(void *context, const struct usher_backend_event *event)
{
    const struct order *order = context;
    print_event(order->ctl, event);
    fflush(stdout);
    if (ferror(stdout)) /* whoever read has gone */
        usher_backend_stop(order->backend);
}

static void follow_reset(void *context)
{
    const struct order *order = context;
    if (order->ctl->after != 0 || order->linked)
        fputs("usherctl: some events were missed; see usherctl snapshot\n", stderr);
}

/* The head of the table once, when it is clear that somebody is there. */
static void follow_state(void *context, enum usher_backend_state state, const char *text)
{
    struct order *order = context;
    bool first = !order->linked;
    fprintf(stderr, "usherctl: %s\n", text);
    order_state(context, state, text);
    if (first && order->linked) {
        print_event_head(order->ctl);
        fflush(stdout);
    }
}

int ctl_follow(const struct ctl *ctl)
{
    struct usher_backend_callbacks callbacks = {
        .on_presence = follow_event,
        .on_presence_reset = follow_reset,
        .on_state = follow_state,
    };
    struct order order = {.ctl = ctl};
    int result = ctl_open(ctl, &callbacks, &order, &order.backend);
    int error;
    if (result != CTL_OK)
        return result;
    signal(SIGPIPE, SIG_IGN);
    /* Somebody must be there at first; later it waits for a broker that restarts. */
    error = usher_backend_run(order.backend, CTL_TIMEOUT_MS);
    if (error == -ETIMEDOUT && order.linked)
        error = usher_backend_run(order.backend, -1);
    return order_finish(&order, error);
}
