/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/names.h"

#include <stddef.h>

/* Numbers of the contract, their names and what to do about them, as tables. */

struct name {
    int64_t number;
    const char *name;
    const char *advice;
};

#define COUNT(table) (sizeof(table) / sizeof(*(table)))

static const struct name ERROR_NAMES[] = {
    {0, "NONE", ""},
    {USHER_ERROR_PROTOCOL, "PROTOCOL", "client and broker may be of different versions"},
    {USHER_ERROR_UNAUTHENTICATED, "UNAUTHENTICATED", "check the token"},
    {USHER_ERROR_FORBIDDEN, "FORBIDDEN", "this user may not do that"},
    {USHER_ERROR_INVALID_NAME, "INVALID_NAME", "choose another name"},
    {USHER_ERROR_NOT_ONLINE, "NOT_ONLINE", "the receiver is not logged in"},
    {USHER_ERROR_INBOX_FULL, "INBOX_FULL", "the receiver does not keep up; try later"},
    {USHER_ERROR_BUSY, "BUSY", "try again in a moment"},
    {USHER_ERROR_NO_SERVICE, "NO_SERVICE", "no such service is linked; start it"},
    {USHER_ERROR_TIMEOUT, "TIMEOUT", "the service took too long; it may have acted"},
    {USHER_ERROR_SERVICE_LOST, "SERVICE_LOST", "the service went away; it may have acted"},
    {USHER_ERROR_TOO_LARGE, "TOO_LARGE", "send less at once"},
    {USHER_ERROR_RATE_LIMITED, "RATE_LIMITED", "send more slowly"},
    {USHER_ERROR_UNAVAILABLE, "UNAVAILABLE", "the broker cannot store; see its log"},
    {USHER_ERROR_UNDELIVERED, "UNDELIVERED", "the receiver left without taking it"},
    {USHER_ERROR_RESUME_REJECTED, "RESUME_REJECTED", "log in anew"},
    {USHER_ERROR_DRAINING, "DRAINING", "the broker is about to stop; try again later"},
    {USHER_ERROR_INTERNAL, "INTERNAL", "see the broker's log"},
    {USHER_ERROR_NO_ROOM, "NO_ROOM", "there is no such room"},
    {USHER_ERROR_ROOM_FULL, "ROOM_FULL", "try another room"},
    {USHER_ERROR_NOT_MEMBER, "NOT_MEMBER", "join the room"},
    {USHER_ERROR_NOT_SENT, "NOT_SENT", "send it again"},
    {USHER_ERROR_NOT_STORED, "NOT_STORED", "upgrade the broker"},
    {USHER_ERROR_NO_ANSWER, "NO_ANSWER", "find out whether it was done before doing it again"},
};

static const struct name CLOSE_NAMES[] = {
    {0, "NONE", "see the broker's log"},
    {USHER_CLOSE_REPLACED, "REPLACED", "log in again only when the player wants to"},
    {USHER_CLOSE_KICKED, "KICKED", "someone in charge ended the session"},
    {USHER_CLOSE_PROTOCOL_ERROR, "PROTOCOL_ERROR",
     "check the port; or client and broker differ in version"},
    {USHER_CLOSE_AUTH_FAILED, "AUTH_FAILED", "check name and token"},
    {USHER_CLOSE_AUTH_TIMEOUT, "AUTH_TIMEOUT", "the login took too long; try again"},
    {USHER_CLOSE_HEARTBEAT_TIMEOUT, "HEARTBEAT_TIMEOUT", "call usher_client_process more often"},
    {USHER_CLOSE_SLOW_CONSUMER, "SLOW_CONSUMER", "take messages faster"},
    {USHER_CLOSE_RATE_LIMITED, "RATE_LIMITED", "send more slowly"},
    {USHER_CLOSE_DRAINING, "DRAINING", "come back to another node, or later"},
    {USHER_CLOSE_SHUTDOWN, "SHUTDOWN", "come back later"},
    {USHER_CLOSE_LOGGED_OUT, "LOGGED_OUT", "as asked for"},
    {USHER_CLOSE_OVERLOADED, "OVERLOADED", "come back later"},
    {USHER_CLOSE_INTERNAL, "INTERNAL", "see the broker's log"},
    {USHER_CLOSE_STALE_SESSION, "STALE_SESSION", "log in again only when the player wants to"},
    {USHER_CLOSE_TOKEN_EXPIRED, "TOKEN_EXPIRED", "log in with a new token"},
};

static const struct name EVENT_NAMES[] = {
    {USHER_WELCOME, "WELCOME", ""}, {USHER_MESSAGE, "MESSAGE", ""},
    {USHER_DONE, "DONE", ""},       {USHER_REPLY, "REPLY", ""},
    {USHER_ERROR, "ERROR", ""},     {USHER_PONG, "PONG", ""},
    {USHER_CLOSE, "CLOSE", ""},     {USHER_DISCONNECTED, "DISCONNECTED", ""},
    {USHER_ROOM, "ROOM", ""},       {USHER_ROOM_MESSAGE, "ROOM_MESSAGE", ""},
    {USHER_FRIENDS, "FRIENDS", ""}, {USHER_ROOM_MEMBERS, "ROOM_MEMBERS", ""},
};

static const struct name UNKNOWN = {0, "UNKNOWN", "the broker is newer than this library"};

static const struct name *find(const struct name *table, size_t count, int64_t number)
{
    for (size_t i = 0; i < count; i++)
        if (table[i].number == number)
            return &table[i];
    return &UNKNOWN;
}

const char *usher_error_name(int64_t code)
{
    return find(ERROR_NAMES, COUNT(ERROR_NAMES), code)->name;
}

const char *usher_close_name(int64_t reason)
{
    return find(CLOSE_NAMES, COUNT(CLOSE_NAMES), reason)->name;
}

const char *usher_event_name(enum usher_event_type type)
{
    return find(EVENT_NAMES, COUNT(EVENT_NAMES), type)->name;
}

const char *error_advice(int64_t code)
{
    return find(ERROR_NAMES, COUNT(ERROR_NAMES), code)->advice;
}

const char *close_advice(int64_t reason)
{
    return find(CLOSE_NAMES, COUNT(CLOSE_NAMES), reason)->advice;
}
