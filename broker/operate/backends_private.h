/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_BACKENDS_PRIVATE_H
#define USHER_OPERATE_BACKENDS_PRIVATE_H

/* Private to operate/: what backends ask by HTTP. backends.c opens and closes it, backends_ask.c
 * takes a request to its answer, backends_make*.c make commands of requests, backends_show.c makes
 * JSON of results, backends_presence.c tells the stream, backends_follow.c is the thread that knows
 * what time it is. */

#include <pthread.h>

#include "actors/messages.h"
#include "admin/admin.h"
#include "backend.pb-c.h"
#include "base/lock.h"
#include "operate/backends.h"
#include "proto/arena.h"
#include "proto/link_answer.h"

enum backend_route {
#define BACKEND(name, method, path, change, make) BACKEND_##name,
#include "operate/backends.def"
#undef BACKEND
    BACKEND_ROUTES
};

enum { HTTP_NAMES_MAX = 1000, HTTP_ROWS = 100 };

/* --- a command while it is made --------------------------------------------------------------- */

struct making {
    Usher__V1__Command command;
    union {
        Usher__V1__Push push;
        Usher__V1__PushAll push_all;
        Usher__V1__Kick kick;
        Usher__V1__WatchList watch_list;
        Usher__V1__List list;
        Usher__V1__Lookup lookup;
        Usher__V1__Count count;
        Usher__V1__Events events;
        Usher__V1__Inbox inbox;
        Usher__V1__InboxDrop inbox_drop;
        Usher__V1__Rooms rooms;
        Usher__V1__RoomMembers room_members;
        Usher__V1__RoomOpen room_open;
        Usher__V1__RoomClose room_close;
        Usher__V1__RoomAdd room_add;
        Usher__V1__RoomRemove room_remove;
        Usher__V1__RoomPublish room_publish;
    } of;
    /* freed by making_fini */
    uint8_t *payload;
    char **names;
    uint64_t *epochs;
};

/* Fills the making, with what is the query's and its own; 0, or the status and an answer. */
typedef unsigned backend_make(struct making *making, const struct admin_query *query,
                              json_t *answer);

backend_make make_push, make_push_all, make_kick, make_watch_list;
backend_make make_inbox, make_inbox_drop;
backend_make make_list, make_session, make_lookup, make_count;
backend_make make_rooms, make_room_members, make_room_open, make_room_close;
backend_make make_room_add, make_room_remove, make_room_publish;

extern backend_make *const backend_makes[BACKEND_ROUTES];

void making_fini(struct making *making);

/* backends_make.c, for the others: 0 or the status, as above. */
unsigned make_fault(json_t *answer, const char *detail);
unsigned make_unpack(const struct admin_query *query, json_t *answer, const char *format, ...);
unsigned make_names(struct making *making, const json_t *names, json_t *answer);
unsigned make_payload(struct making *making, const json_t *base64, const json_t *text,
                      ProtobufCBinaryData *payload, json_t *answer);
unsigned make_epoch(json_int_t number, uint64_t *epoch, json_t *answer);

/* --- one that waits --------------------------------------------------------------------------- */

enum ask_state {
    ASK_FREE,
    ASK_IDLE,     /* the HTTP thread has it */
    ASK_POSTED,   /* its command is on its way */
    ASK_PARKED,   /* until the stream grows, or its time is over */
    ASK_ANSWERED, /* `frame` is what came; none: nothing did */
};

struct ask {
    uint32_t index;
    uint32_t generation; /* of what was posted last: its answer names it */
    enum ask_state state;
    bool waits;     /* counts among http.waits, not among http.requests */
    bool suspended; /* and is resumed by who ends that */
    bool gone;      /* its peer */
    struct exchange *exchange;
    unsigned route;
    char address[ADDRESS_BYTES_MAX + 1];
    uint64_t due_ms;     /* POSTED, PARKED: when that is over */
    struct buffer frame; /* held */
    /* of the stream of presence */
    uint64_t after;    /* the cursor */
    uint64_t until_ms; /* a long poll */
    uint32_t limit;
    bool more;          /* the last page was full: the next one is read at once */
    bool ends;          /* when its text is written */
    struct buffer text; /* held; of the HTTP thread alone */
    size_t written;
};

/* An event as streams tell it. */
struct told_event {
    uint64_t seq; /* 0: none */
    struct buffer text;
};

enum { TOLD_EVENTS = 1024 };

struct backends {
    /* set once */
    struct backends_options options;
    struct admin_face face;
    struct admin *admin; /* NULL until it is started */
    int listener;        /* until it is started; -1 */
    uint16_t port;
    actor_handle actor;
    uint32_t requests_max, waits_max;
    /* of the HTTP thread */
    struct arena arena;
    struct told_event told[TOLD_EVENTS]; /* each at its seq modulo that */
    /* of the thread that follows */
    pthread_t thread;
    bool started;
    uint64_t *due; /* exchanges that are to be sent: room for all of them */
    /* under lock */
    struct lock lock;
    pthread_cond_t changed; /* for that thread */
    pthread_cond_t over;    /* for who stops it: fewer are left */
    struct ask *asks;       /* requests_max + waits_max */
    uint32_t requests, waits;
    uint32_t under_way; /* commands that are not answered, of those who have given up too */
    bool closing;
};

/* --- backends_ask.c --------------------------------------------------------------------------- */

/* Of struct admin_asker. */
unsigned backends_step(void *context, struct exchange *exchange, unsigned route,
                       const struct admin_query *query, json_t *answer);
void backends_over(void *context, void *own);

unsigned ask_busy(struct backends *backends, json_t *answer, const char *option);
unsigned ask_draining(json_t *answer);

/* NULL: as many wait as may. */
struct ask *ask_take(struct backends *backends, struct exchange *exchange,
                     const struct admin_query *query, unsigned route, bool waits);

/* The command on its way; NULL without memory. */
struct link_request_message *ask_wrap(const struct ask *ask, const Usher__V1__Command *command);

/* Suspends, and posts; takes the message (NULL: nothing comes of it). The HTTP thread, in ASK_IDLE.
 * False: nothing is begun any more. */
bool ask_post(struct backends *backends, struct ask *ask, struct link_request_message *message);

/* The two halves of that, for one that is suspended already: under the lock, and then without it.
 * Gives the exchange. */
uint64_t ask_set_posted(struct backends *backends, struct ask *ask);
void ask_send(struct backends *backends, uint64_t exchange, struct link_request_message *message);

/* Under the lock: it is ANSWERED or IDLE, and goes on. */
void ask_wake(struct backends *backends, struct ask *ask);

/* What came, for the HTTP thread, which frees it; it is IDLE. Empty: nothing came. */
struct buffer ask_take_frame(struct backends *backends, struct ask *ask);

/* The one Result in it, in the arena of the HTTP thread; NULL with status and answer: a refusal, or
 * nothing. */
const Usher__V1__Result *ask_result(struct backends *backends, const struct buffer *frame,
                                    json_t *answer, unsigned *status);

/* --- backends_show.c -------------------------------------------------------------------------- */

/* Fills the answer and gives the status. `single`: of one name, who is not there is not found. */
unsigned show_result(const Usher__V1__Result *result, bool single, json_t *answer);

struct event_fields show_event(const Usher__V1__PresenceEvent *event);

/* --- backends_presence.c ---------------------------------------------------------------------- */

unsigned presence_begin(struct backends *backends, struct exchange *exchange, unsigned route,
                        const struct admin_query *query, json_t *answer);
unsigned presence_go_on(struct backends *backends, struct ask *ask, json_t *answer);
ssize_t backends_read(void *context, void *own, struct exchange *exchange, char *to, size_t room);
void backends_gone(void *context, void *own);

/* The question for what is in the stream behind the cursor. */
struct link_request_message *presence_question(const struct ask *ask);

/* Forgets the texts of events; at the end. */
void presence_fini(struct backends *backends);

uint64_t presence_last(const struct backends *backends);

/* --- backends_follow.c ------------------------------------------------------------------------ */

int follow_start(struct backends *backends);
void follow_stop(struct backends *backends);

#endif
