/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_TURN_H
#define USHER_ACTORS_TURN_H

/* What a turn produces: effects, in order, carried out by egress when the handlers are done.
 *
 * Handlers are functions (state, message, turn) -> effects: they change their own state and append
 * here; they do no I/O, take no lock and ask nobody the time. Metrics and the log are written
 * through the turn; they are never read, so they do not make a handler depend on anything.
 *
 * One turn per thread, reused: what is appended is copied or taken before the turn is reset. */

#include "actors/messages.h"
#include "actors/source_rates.h"
#include "actors/spent.h"
#include "base/env.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "rules/friends.h"
#include "rules/room_classes.h"
#include "storage/store.h"

/* What backends must present in Hello. */
struct link_token {
    struct link_token *before; /* the one that it replaced: somebody may still be comparing */
    size_t size;
    uint8_t bytes[];
};

/* What handlers go by beside the limits; set once at start, but for the token. */
struct settings {
    const char *node;
    char node_boot[24];
    bool ends_with_token; /* sessions, with the token of their login */
    uint32_t requests_max;
    uint32_t link_submits_max;         /* of one link, in progress at once */
    struct source_rates *source_rates; /* NULL: nothing is counted per source */
    struct spent *spent_rates, *spent_fights,
        *spent_to_away;        /* of users whose session has ended; NULL: forgotten */
    struct refusals *refusals; /* NULL: no history is kept */
    uint64_t requests_key[2];  /* random; see user/requests.h */
    uint64_t proof_key[2];     /* random; see proof_of_resume */
    uint64_t link_key[2];      /* random; seals the numbers of links, see instance/access.h */
    struct link_token *_Atomic link_token; /* NULL: none is asked for */
    struct room_classes *_Atomic room_classes;
    uint8_t friends_mode; /* enum friends_mode */
    bool friends_show_away;
    const char *friends_service;
    bool stored_for_away; /* inbox.offline_from any: players may store for who has no session */
    const char *stored_service;       /* is told of what is stored for such users; "": none */
    uint64_t friends_key[2];          /* random; see watch_hash in watch.h */
    const actor_handle *watch_shards; /* WATCH_SHARDS of them */
};

/* What is counted per source and of those who have left; before anybody runs a turn, and after. 0
 * or -ENOMEM. */
int settings_make_rates(struct settings *settings, const struct limits *limits,
                        const struct env *env);
void settings_destroy_rates(struct settings *settings);

/* Numbers that all actors draw from; atomics, so that any thread may. */
struct counters {
    _Atomic uint64_t epoch_last;
    _Atomic uint64_t call_last;
    _Atomic uint64_t incarnation_last; /* of rooms; see counters_start */
    _Atomic uint64_t calls_waiting;    /* calls of all users without their answer */
    _Atomic uint64_t link_last;
    _Atomic uint32_t goaways; /* backends that are to hear of the stop and have not fetched it */
    _Atomic uint64_t presence_last;  /* the stream as committed */
    _Atomic uint64_t watch_pairs;    /* of watcher and watched; while there is none, nobody posts
                                      * presence events to the shards */
    _Atomic uint64_t crowd_until_ms; /* monotonic: until then many come or go at once */
    _Atomic uint64_t watch_stale;    /* a bit for each shard that an event could not be posted to */
};

/* Zeroed ones; those that the store knows (epoch_last, presence_last) are set by who reads it. */
void counters_start(struct counters *counters, const struct env *env);

enum effect_kind {
    EFFECT_SEND,     /* turn.out[offset, size) to conn */
    EFFECT_FLUSH,    /* conn: what waits, to the socket */
    EFFECT_PROOF,    /* what a Resume of this user has to show from now on */
    EFFECT_WELCOMED, /* conn: frames count from now on */
    EFFECT_FAREWELL, /* conn: why it is about to be released: `detail`, turn.out[offset, size) */
    EFFECT_RELEASE,  /* conn: give it back to be closed */
    EFFECT_UNBIND,   /* conn: give it back, free to log in, with turn.out[offset, size) as answer */
    EFFECT_CONSUMED, /* conn: one batch of its frames is done */
    EFFECT_POST,     /* message to an actor; dropped when that is gone */
    EFFECT_FORWARD,  /* a deliver_message to the user named in turn.out[offset, size) */
    EFFECT_ROOM,     /* a room_call to the room that it names; see room_messages.h */
    EFFECT_ROOM_OUT, /* a room's bundles to some more of its members */
    EFFECT_CALL,     /* a user_call_message to an instance of its service */
    EFFECT_ROOM_NEWS, /* one of room_news_create for the webhook; NULL: it could not be made */
    EFFECT_TIMER,     /* the tick to self comes at `value` (monotonic ms) from now on */
    EFFECT_ANSWER,    /* turn.out[offset, size) to a link exchange */
    EFFECT_VOUCH,     /* the peer of a link exchange has a link */
    EFFECT_LINK,      /* something of an instance's; see instance/instance.h */
    EFFECT_DONE,      /* stored messages of this user, up to the mid `value`, are processed */
    EFFECT_LOOK_UP,   /* a watch_look_message: comes back with what the store has of its users */
};

struct effect {
    uint8_t kind;
    uint16_t detail; /* of EFFECT_LINK; the reason of EFFECT_FAREWELL */
    uint32_t offset, size;
    uint64_t value; /* conn, proof, actor handle, due_ms or exchange */
    struct message *message;
};

/* What a turn asks to be stored: at most one per turn, and it ends the turn. The actor is held
 * until it is synced or has failed; then user_committed goes on. */
enum change_kind {
    CHANGE_ATTACH = 1,
    CHANGE_RESUME,
    CHANGE_DETACH,
    CHANGE_END,
    CHANGE_STORE,  /* messages, on the disk, for event.user; the session is as it was */
    CHANGE_WINDOW, /* reads some of them: goes to queries_window, not to the committer */
};

/* What the history says of a change beside its event. */
struct change_note {
    char by[STORE_BY_BYTES_MAX + 1]; /* who did it, or from where */
    char detail[STORE_DETAIL_BYTES_MAX + 1];
    const char *limit;     /* the option whose limit it was, static; NULL: none was */
    uint64_t bound, value; /* its value, and what there was */
};

struct change {
    struct change *next; /* of the committer */
    actor_handle self;
    enum change_kind kind;
    bool remove; /* the session, instead of putting `record` */
    struct session_record record;
    struct presence_event event;
    struct change_note note;
    struct message *cause; /* what asked for it; owned */
    int error;             /* how the commit ended */
    /* ATTACH, RESUME: what the client has processed is done with; and then there are so many more,
     * and some that he never had are gone. */
    uint64_t last_mid;
    uint32_t stored_count;
    bool stored_lost;
    /* STORE: those to be stored, in their order, linked by header.next; owned. With error 0 the
     * committer has set the `refusal` of each, and where that is 0 its `mid` and `repeated`.
     * WINDOW: those that were read, each with its mid. */
    struct deliver_message *stored;
    struct deliver_message *stored_last; /* STORE: of that list, while it is made */
    bool away;                           /* STORE: he has no session */
    /* WINDOW: from behind that mid on (0: the oldest), at most so much, but one at least; and
     * whether there are more. */
    uint64_t after_mid;
    uint32_t messages_max, bytes_max;
    bool more;
};

/* The receiver's connection, or the newcomer, gets something in this turn that is timed; egress
 * records it when the effects are done. The first few of a turn count. */
enum { TURN_MARKS_MAX = 4 };

struct turn_mark {
    enum histogram_id histogram;
    uint32_t stamp_us;
};

struct turn {
    /* set when the thread is made */
    const struct limits *limits;
    const struct settings *settings;
    struct counters *counters;
    const struct env *env;
    struct metrics *metrics;
    struct log *log;
    struct traces *traces; /* may be NULL: then nobody is traced */
    unsigned block;
    /* set when a turn begins */
    bool begun;
    bool looked; /* at what the user's connection has not sent yet */
    actor_handle self;
    const char *name;
    uint64_t now_ms;
    uint64_t wall_ms;
    uint32_t stamp_us; /* of the frames that are being handled, if they are timed; else 0 */
    /* what the handlers append */
    struct buffer out;
    struct effect *effects;
    size_t count, capacity;
    struct change *change;
    bool retire;
    unsigned mark_count;
    struct turn_mark marks[TURN_MARKS_MAX];
};

void turn_begin(struct turn *turn, actor_handle self, const char *name, uint64_t now_ms,
                uint64_t wall_ms);
void turn_reset(struct turn *turn);

/* Destroys what the effects carry instead of performing them. */
void turn_discard(struct turn *turn);
void turn_fini(struct turn *turn);

/* Appends an effect; room is made or the process ends (a turn cannot be half done). */
struct effect *turn_effect(struct turn *turn, enum effect_kind kind, uint64_t value);

/* The bytes appended to turn->out since `offset` go to conn. Joined with the send before. */
void turn_send(struct turn *turn, uint64_t conn, size_t offset);

/* Takes the message. */
void turn_post(struct turn *turn, actor_handle to, struct message *message);

/* A result to whoever sent the message, if he asked for one. */
void turn_result(struct turn *turn, actor_handle to, uint64_t request, uint64_t asker_epoch,
                 uint64_t epoch, uint16_t code);

/* The same, that it is stored under that mid. */
void turn_stored(struct turn *turn, actor_handle to, uint64_t request, uint64_t asker_epoch,
                 uint64_t epoch, uint64_t mid);

/* A zeroed change with self and cause (taken) set; NULL without memory, and cause is not taken. */
struct change *turn_change(struct turn *turn, enum change_kind kind, struct message *cause);

/* For the history, of the change that this turn has asked for: why, and where a limit was the
 * reason (NULL: none was) its option, its value and what there was. Text is cut where it is too
 * long. */
void turn_note(struct turn *turn, const char *detail, const char *limit, uint64_t bound,
               uint64_t value);

/* And who did it. */
void turn_note_by(struct turn *turn, const char *by);

/* What is carried of a traceparent that a peer has given: itself; nothing, and counted, if it is
 * none. */
struct bytes turn_traceparent(struct turn *turn, struct bytes given);

/* When the effects are done: the time since the stamp; 0: nothing, it is not timed. */
static inline void turn_mark(struct turn *turn, enum histogram_id histogram, uint32_t stamp_us)
{
    if (stamp_us != 0 && turn->mark_count < TURN_MARKS_MAX)
        turn->marks[turn->mark_count++] = (struct turn_mark){histogram, stamp_us};
}

/* They are done. */
void turn_record_marks(struct turn *turn);

static inline void turn_count(struct turn *turn, enum metric_id metric, uint64_t n)
{
    if (turn->metrics != NULL)
        metrics_add(turn->metrics, turn->block, metric, n);
}

#endif
