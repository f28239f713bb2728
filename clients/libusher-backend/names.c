/* SPDX-License-Identifier: Apache-2.0 */
#include "usher_backend.h"

#include <stdlib.h>
#include <unistd.h>

#include "backend.pb-c.h"

/* Words for the numbers of the schema, and where a node is looked for by default. */

static const char *const kind_names[] = {
    [USHER_BACKEND_ONLINE] = "online",
    [USHER_BACKEND_DETACHED] = "detached",
    [USHER_BACKEND_RESUMED] = "resumed",
    [USHER_BACKEND_OFFLINE] = "offline",
};

static const char *const history_kind_names[] = {
    [USHER_BACKEND_HISTORY_ONLINE] = "online",
    [USHER_BACKEND_HISTORY_DETACHED] = "detached",
    [USHER_BACKEND_HISTORY_RESUMED] = "resumed",
    [USHER_BACKEND_HISTORY_OFFLINE] = "offline",
    [USHER_BACKEND_HISTORY_LOGIN_REFUSED] = "login-refused",
    [USHER_BACKEND_HISTORY_RESUME_REFUSED] = "resume-refused",
};

static const char *const cause_names[] = {
    [USHER__V1__PRESENCE_EVENT__CAUSE__LOGIN] = "login",
    [USHER__V1__PRESENCE_EVENT__CAUSE__TAKEOVER] = "takeover",
    [USHER__V1__PRESENCE_EVENT__CAUSE__LOGOUT] = "logout",
    [USHER__V1__PRESENCE_EVENT__CAUSE__LOST] = "lost",
    [USHER__V1__PRESENCE_EVENT__CAUSE__EXPIRED] = "expired",
    [USHER__V1__PRESENCE_EVENT__CAUSE__KICKED] = "kicked",
    [USHER__V1__PRESENCE_EVENT__CAUSE__HEARTBEAT] = "heartbeat",
    [USHER__V1__PRESENCE_EVENT__CAUSE__SLOW_CONSUMER] = "slow-consumer",
    [USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL] = "protocol",
    [USHER__V1__PRESENCE_EVENT__CAUSE__SHUTDOWN] = "shutdown",
    [USHER__V1__PRESENCE_EVENT__CAUSE__RESTART] = "restart",
    [USHER__V1__PRESENCE_EVENT__CAUSE__TOKEN_EXPIRED] = "token-expired",
};

static const char *const state_names[] = {
    [USHER_BACKEND_SESSION_ONLINE] = "online",
    [USHER_BACKEND_SESSION_DETACHED] = "detached",
    [USHER_BACKEND_SESSION_GONE] = "gone",
};

static const char *const code_names[] = {
    [USHER_BACKEND_OK] = "ok",
    [USHER_BACKEND_NOT_ONLINE] = "not-online",
    [USHER_BACKEND_STALE_EPOCH] = "stale-epoch",
    [USHER_BACKEND_GONE] = "gone",
    [USHER_BACKEND_INBOX_FULL] = "inbox-full",
    [USHER_BACKEND_TOO_LARGE] = "too-large",
    [USHER_BACKEND_MALFORMED] = "malformed",
    [USHER_BACKEND_UNAVAILABLE] = "unavailable",
    [USHER_BACKEND_FORBIDDEN] = "forbidden",
    [USHER_BACKEND_NO_ROOM] = "no-room",
    [USHER_BACKEND_ROOM_FULL] = "room-full",
    [USHER_BACKEND_NOT_MEMBER] = "not-member",
    [USHER_BACKEND_RATE_LIMITED] = "rate-limited",
    [USHER_BACKEND_FULL] = "full",
};

static const char *const room_kind_names[] = {
    [USHER_BACKEND_ROOM_OPENED] = "opened",   [USHER_BACKEND_ROOM_CLOSED] = "closed",
    [USHER_BACKEND_ROOM_JOINED] = "joined",   [USHER_BACKEND_ROOM_AWAY] = "away",
    [USHER_BACKEND_ROOM_BACK] = "back",       [USHER_BACKEND_ROOM_LEFT] = "left",
    [USHER_BACKEND_ROOM_MESSAGE] = "message",
};

static const char *const room_cause_names[] = {
    [USHER__V1__ROOM_NEWS__CAUSE__ASKED] = "asked",
    [USHER__V1__ROOM_NEWS__CAUSE__SERVICE] = "service",
    [USHER__V1__ROOM_NEWS__CAUSE__TAKEOVER] = "takeover",
    [USHER__V1__ROOM_NEWS__CAUSE__LOGOUT] = "logout",
    [USHER__V1__ROOM_NEWS__CAUSE__EXPIRED] = "expired",
    [USHER__V1__ROOM_NEWS__CAUSE__KICKED] = "kicked",
    [USHER__V1__ROOM_NEWS__CAUSE__TOKEN_EXPIRED] = "token-expired",
    [USHER__V1__ROOM_NEWS__CAUSE__IDLE] = "idle",
    [USHER__V1__ROOM_NEWS__CAUSE__LOST] = "lost",
};

static const char *name(const char *const *names, size_t count, unsigned value)
{
    return value < count && names[value] != NULL ? names[value] : "unknown";
}

#define NAME(names, value) name(names, sizeof(names) / sizeof(names[0]), value)

const char *usher_backend_kind_name(unsigned kind)
{
    return NAME(kind_names, kind);
}

const char *usher_backend_history_kind_name(unsigned kind)
{
    return NAME(history_kind_names, kind);
}

const char *usher_backend_cause_name(unsigned cause)
{
    return NAME(cause_names, cause);
}

const char *usher_backend_room_kind_name(unsigned kind)
{
    return NAME(room_kind_names, kind);
}

const char *usher_backend_room_cause_name(unsigned cause)
{
    return NAME(room_cause_names, cause);
}

const char *usher_backend_state_name(unsigned session_state)
{
    return NAME(state_names, session_state);
}

const char *usher_backend_code_name(unsigned code)
{
    if (code == USHER_BACKEND_NOT_STORED)
        return "not-stored";
    return code == USHER_BACKEND_LOST ? "lost" : NAME(code_names, code);
}

const char *usher_backend_default_url(void)
{
    const char *from_environment = getenv("USHER_LINK");
    if (from_environment != NULL && from_environment[0] != '\0')
        return from_environment;
    if (access("./build/data/link.sock", F_OK) == 0)
        return "ipc://./build/data/link.sock";
    if (access("./usher-data/link.sock", F_OK) != 0 && access("/run/usher/link.sock", F_OK) == 0)
        return "ipc:///run/usher/link.sock";
    return "ipc://./usher-data/link.sock";
}
