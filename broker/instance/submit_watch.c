/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "actors/watch.h"
#include "base/memory.h"
#include "instance/submit.h"

/* A WatchList: to the user's own turn, by his name, and what becomes of it back into the result. */

/* One that is too long for a name is none; so is an empty one. */
static struct bytes name_of(const char *text)
{
    struct bytes name = bytes_of_text(text);
    return name.size <= USERNAME_BYTES_MAX ? name : (struct bytes){0};
}

static struct watch_list_message *make(const Usher__V1__WatchList *list)
{
    struct watch_list_message *message;
    size_t size = 0;
    for (size_t i = 0; i < list->n_targets; i++)
        size += 1 + name_of(list->targets[i]).size;
    MEMORY_MUST((message = message_create(MESSAGE_WATCH_LIST, sizeof(*message) + size)) != NULL,
                "a list of friends");
    uint8_t *to = message->names;
    for (size_t i = 0; i < list->n_targets; i++) {
        struct bytes name = name_of(list->targets[i]);
        *to++ = (uint8_t)name.size;
        to = bytes_put(to, name);
    }
    message->epoch = list->epoch;
    message->mode = list->mode;
    message->count = (uint32_t)list->n_targets;
    message->size = (uint32_t)size;
    return message;
}

void submit_watch_list(const struct running *running, const Usher__V1__WatchList *list,
                       struct turn *turn)
{
    struct command_result *result = running->result;
    if (turn->settings->friends_mode == FRIENDS_OFF) {
        result->code = USHER__V1__RESULT__CODE__FORBIDDEN;
    } else if (list->mode > USHER__V1__WATCH_LIST__MODE__REMOVE) {
        result->code = USHER__V1__RESULT__CODE__MALFORMED;
    } else if (!username_valid(bytes_of_text(list->user))) {
        result->code = USHER__V1__RESULT__CODE__NOT_ONLINE;
    } else {
        struct watch_list_message *message = make(list);
        message->by = turn->self;
        message->request = submit_await(running, 0);
        submit_forward(turn, list->user, &message->header);
    }
}

void instance_watch_listed(struct instance *instance, const struct watch_listed_message *listed,
                           struct turn *turn)
{
    struct command_result *result = instance_take_result(instance, listed->request);
    if (result == NULL)
        return;
    result->code = listed->code;
    result->push = listed->code == USHER__V1__RESULT__CODE__OK;
    result->accepted = listed->accepted;
    for (uint32_t i = 0; i < listed->count; i++)
        submit_fail(result, listed->failures[i].index, listed->failures[i].code);
    instance_result_taken(instance, listed->request, turn);
}
