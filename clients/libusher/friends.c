/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/friends.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libusher/session.h"

/* A watch list is what Watches made of it that the broker has taken. One that ended with an ERROR
 * names nobody who is asked for again: the program has been told, and decides. So each name knows
 * the request that brought it, until that is done; when a session begins, a name whose request is
 * neither done nor under way is forgotten, and one whose request still waits comes with that.
 *
 * What the library asks by itself has no id for the program. Refused for the moment, it is asked
 * again; otherwise the program is told by an ERROR without an id.
 *
 * A broker that has crashed resumes sessions and knows of no watches: it says nothing, where
 * another one sends a picture. So after a resume without one it is asked, too. */

enum {
    WATCH_ADD = 1,
    FRAME_HEAD_BYTES = 32,      /* of a Watch, around its names */
    NAMES_BYTES_MAX = 8 * 1024, /* in one: a broker may have to carry it over a link */
    SILENCE_MS = 5000,
};

/* --- the list --------------------------------------------------------------------------------- */

static struct watched *find(const struct friends *friends, const char *name)
{
    for (size_t i = 0; i < friends->count; i++)
        if (strcmp(friends->list[i].name, name) == 0)
            return &friends->list[i];
    return NULL;
}

static void drop(struct friends *friends, struct watched *watched)
{
    free(watched->name);
    *watched = friends->list[--friends->count];
}

static int add(struct friends *friends, const char *name)
{
    if (friends->count == WATCHED_MAX)
        return -ENOBUFS;
    struct watched *list = realloc(friends->list, (friends->count + 1) * sizeof(*list));
    if (list != NULL)
        friends->list = list;
    char *copy = list != NULL ? strdup(name) : NULL;
    if (copy == NULL)
        return -ENOMEM;
    friends->list[friends->count++] = (struct watched){.name = copy, .asked = UINT64_MAX};
    friends->staged++;
    return 0;
}

static void unstage(struct friends *friends)
{
    for (; friends->staged > 0; friends->staged--)
        free(friends->list[--friends->count].name);
}

int friends_stage(struct friends *friends, const char *const *names, size_t count)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < count; i++)
        if (find(friends, names[i]) == NULL)
            result = add(friends, names[i]);
    if (result < 0)
        unstage(friends);
    return result;
}

static bool is_among(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

void friends_staged(struct usher_client *client, int result, uint64_t wire_id,
                    const char *const *add_names, size_t add_count, const char *const *remove,
                    size_t remove_count)
{
    struct friends *friends = &client->friends;
    if (result < 0) {
        unstage(friends);
        return;
    }
    friends->staged = 0;
    for (size_t i = 0; i < add_count; i++) {
        struct watched *watched = find(friends, add_names[i]);
        if (watched->asked != 0) /* otherwise a refusal leaves it watched */
            watched->asked = wire_id;
    }
    for (size_t i = 0; i < remove_count; i++) {
        struct watched *watched = find(friends, remove[i]);
        if (watched != NULL && !is_among(add_names, add_count, remove[i]))
            drop(friends, watched);
    }
}

void friends_status(struct friends *friends, struct bytes status, bool invisible, uint64_t wire_id)
{
    friends->status.size = 0;
    friends->has_status = buffer_append(&friends->status, status.data, status.size) == 0;
    friends->invisible = invisible;
    friends->status_asked = wire_id;
}

void friends_taken(struct friends *friends, uint64_t wire_id)
{
    for (size_t i = 0; i < friends->count; i++)
        if (friends->list[i].asked == wire_id)
            friends->list[i].asked = 0;
    if (friends->status_asked == wire_id)
        friends->status_asked = 0;
}

void friends_fini(struct friends *friends)
{
    for (size_t i = 0; i < friends->count; i++)
        free(friends->list[i].name);
    free(friends->list);
    buffer_fini(&friends->status);
    *friends = (struct friends){0};
}

/* --- asking again ----------------------------------------------------------------------------- */

/* What was asked for and came to nothing. */
static void settle(struct usher_client *client)
{
    struct friends *friends = &client->friends;
    for (size_t i = friends->count; i-- > 0;) {
        uint64_t asked = friends->list[i].asked;
        if (asked != 0 && !requests_know(&client->requests, asked))
            drop(friends, &friends->list[i]);
    }
    if (friends->status_asked != 0 && !requests_know(&client->requests, friends->status_asked))
        friends->has_status = false;
}

static int ask(struct usher_client *client, struct client_frame *frame)
{
    struct request *request = request_create(0, clock_ms() + client->options.request_timeout_ms);
    if (request == NULL)
        return -ENOMEM;
    frame->id = request->wire_id = client->next_id++;
    request->reminds = true;
    request->failure = event_create(USHER_ERROR, 0);
    int result = request->failure != NULL
                     ? client_frame_write(&request->frame, frame, CONTROL_BYTES_MAX)
                     : -ENOMEM;
    if (result < 0)
        request_destroy(request);
    else
        requests_add(&client->requests, request);
    return result;
}

/* As many as one Watch may name, from *next on. */
static int ask_some(struct usher_client *client, size_t *next)
{
    const struct friends *friends = &client->friends;
    struct client_frame frame = {.body = CLIENT_WATCH};
    struct buffer names = {0};
    size_t most = client->frame_bytes_max - FRAME_HEAD_BYTES;
    int result = 0;
    for (; result == 0 && *next < friends->count; ++*next) {
        const struct watched *watched = &friends->list[*next];
        size_t size = strlen(watched->name) + FRAME_HEAD_BYTES;
        if (names.size > 0 && names.size + size > (most < NAMES_BYTES_MAX ? most : NAMES_BYTES_MAX))
            break;
        if (watched->asked == 0)
            result = client_list_add_text(&names, WATCH_ADD, bytes_of_text(watched->name));
    }
    frame.watch.add = (struct client_list){{names.data, names.size}, WATCH_ADD};
    if (result == 0 && names.size > 0)
        result = ask(client, &frame);
    buffer_fini(&names);
    return result;
}

/* Without memory it is tried again, too. */
static void remind(struct usher_client *client)
{
    struct friends *friends = &client->friends;
    size_t next = 0;
    int result = 0;
    friends->again_at_ms = friends->silent_at_ms = 0;
    while (result == 0 && next < friends->count)
        result = ask_some(client, &next);
    if (result == 0 && friends->has_status && friends->status_asked == 0)
        result =
            ask(client, &(struct client_frame){
                            .body = CLIENT_SET_STATUS,
                            .set_status = {.status = {friends->status.data, friends->status.size},
                                           .invisible = friends->invisible}});
    if (result < 0)
        friends->again_at_ms = clock_ms() + AGAIN_MS;
}

void friends_welcomed(struct usher_client *client, bool resumed)
{
    struct friends *friends = &client->friends;
    settle(client);
    if (!resumed)
        remind(client);
    else if (friends->count > 0)
        friends->silent_at_ms = clock_ms() + SILENCE_MS;
}

void friends_reminded(struct usher_client *client, struct event_node *node)
{
    node->event.id = 0;
    if (node->event.type != USHER_ERROR) {
        free(node);
    } else if (session_may_pass(node->event.code)) {
        client->friends.again_at_ms = session_again_ms(node->event.retry_after_ms);
        free(node);
    } else {
        events_push(&client->events, node);
    }
}

void friends_pictured(struct friends *friends)
{
    friends->silent_at_ms = 0;
}

void friends_check(struct usher_client *client, uint64_t now_ms)
{
    if (now_ms >= friends_due_ms(&client->friends))
        remind(client);
}

uint64_t friends_due_ms(const struct friends *friends)
{
    uint64_t again_ms = friends->again_at_ms != 0 ? friends->again_at_ms : UINT64_MAX;
    uint64_t silent_ms = friends->silent_at_ms != 0 ? friends->silent_at_ms : UINT64_MAX;
    return again_ms < silent_ms ? again_ms : silent_ms;
}
