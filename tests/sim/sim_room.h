/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_SIM_SIM_ROOM_H
#define USHER_SIM_SIM_ROOM_H

/* Rooms in the simulation: what clients and backends do with them (sim_room.c, sim_room_command.c),
 * what they are told (sim_room_frames.c, sim_room_news.c), and the rules over both. Two runs in
 * three have rooms; their classes are drawn by the seed.
 *
 * What is true of a room is put together from what anybody saw of it: a life of a room (an
 * incarnation) has the contents of its offsets, and its news. What a client knows stands in a view
 * for each wire, because what comes on one wire is in an order; a place for each session is what
 * its client names in the next Resume. */

#include "sim.h"

enum {
    ROOMS = 5,
    LIVES_MAX = 2048,
    PUBLISHED_MAX = 8192,
    JOINS_MAX = 8192,
    NAMED_MAX = ROOMS + 1,
    ROOM_ASKS = 64, /* of the owner, that an instance has not answered */
    GRANTS_MAX = 4096,
    PAGES_MAX = 512,
    ROOM_PAYLOAD_MAX = 400,
};

/* A room's name and what its class says. */
struct sim_room {
    const char *name;
    bool asks; /* join=service */
    bool lists, counts, owned, follows, any;
    uint32_t history;
    uint64_t history_ms, idle_ms; /* UINT64_MAX: never */
};

/* A message of a room. Its place in the table is its payload, and the order of its publisher. */
struct published {
    int from; /* a user, or USERS + the backend's lane */
    int room, wire;
    uint64_t step, ms, incarnation, offset; /* 0: not known yet */
    uint32_t size;
};

struct news_row {
    uint8_t kind; /* RoomNews.Kind; 0: was not seen */
    int user;     /* NOBODY: none */
    uint64_t epoch;
};

/* An incarnation. */
struct life {
    int room;
    uint64_t incarnation;
    uint32_t number; /* 0: nobody was told it yet */
    bool closed;     /* somebody was told so */
    uint64_t newest; /* the greatest offset that is known to exist */
    int *contents;   /* published, by offset; NOBODY: was not seen */
    uint64_t contents_size;
    struct news_row *news; /* by news_seq */
    uint64_t news_size, news_last;
    bool news_missing; /* some are */
    uint64_t link[BACKENDS], link_seq[BACKENDS];
};

struct view {
    bool joined;
    bool leaving;           /* LEFT is the next that may come */
    uint32_t leaves_untold; /* it was asked for, without a Done before it, so often */
    uint32_t number;
    uint64_t incarnation, newest_incarnation, ended_incarnation;
    uint64_t next_min, next_max; /* where the next message may be */
    uint64_t joined_step;
    uint32_t joins, untold; /* Joins that were asked; ends of memberships that it was not told of */
    bool asked_anew; /* its history, and the room had ended: that may be what PARTIAL is about */
    uint32_t roster, away, members; /* a bit for each user; as they were told */
};

/* A position that a Resume named. */
struct named {
    int room;
    uint32_t number;
    uint64_t incarnation, offset;
    bool answered;
};

struct wire_rooms {
    struct view views[ROOMS];
    struct named named[NAMED_MAX];
    uint32_t named_count;
};

struct place {
    bool joined, unsure; /* unsure: it was not named in the last Resume */
    uint32_t number;
    uint64_t incarnation, offset;
};

struct session_rooms {
    struct place places[ROOMS];
};

struct join {
    int room, wire;
    bool recover;
    uint64_t incarnation, offset;
    uint64_t known_incarnation, known; /* what existed for certain when it was asked */
};

/* Who was let in: the owner's yes, or a RoomAdd. */
struct grant {
    int user, room;
    uint64_t epoch; /* 0: any */
};

struct room_ask {
    uint64_t call, epoch;
    int user, room;
};

struct page_row {
    int user;
    bool away;
};

/* A list of members that waits for the news that it is true for. */
struct room_page {
    uint64_t incarnation, news_seq;
    uint32_t count;
    struct page_row rows[USERS];
};

/* Of a user in a room: whether a service has made him a member who stays. */
struct carry {
    uint64_t step;      /* when that was asked for; 0: it was not, or somebody has ended it */
    uint64_t left_step; /* of his last Leave */
    uint32_t leaves;    /* Leaves without an answer */
};

union room_body {
    Usher__V1__ReplyTo reply_to;
    Usher__V1__RoomOpen open;
    Usher__V1__RoomClose close;
    Usher__V1__RoomAdd add;
    Usher__V1__RoomRemove remove;
    Usher__V1__RoomPublish publish;
    Usher__V1__RoomMembers members;
};

struct rooms_world {
    bool on;
    struct sim_room rooms[ROOMS];
    struct life *lives;
    uint32_t life_count;
    struct published *published;
    uint32_t published_count;
    struct join *joins;
    uint32_t join_count;
    struct wire_rooms *wires;       /* by wire */
    struct session_rooms *sessions; /* by session */
    struct grant *grants;
    uint32_t grant_count;
    struct room_page *pages;
    uint32_t page_count;
    struct room_ask asks[BACKENDS][ROOM_ASKS];
    uint32_t ask_count[BACKENDS];
    uint64_t up_step;           /* since when there is this process of the broker */
    uint64_t news_gaps;         /* of it */
    uint32_t removes[ROOMS];    /* RoomRemoves and RoomCloses without a result */
    uint64_t ended_step[ROOMS]; /* of the last one of these */
    struct carry carries[USERS][ROOMS];
    uint32_t heal_rounds;
    uint32_t final_pages; /* asked for, one of each room */
    /* of the Resume and of the Submit that are being made */
    Usher__V1__RoomPosition positions[NAMED_MAX], *position_list[NAMED_MAX];
    union room_body bodies[COMMANDS];
    char *names[COMMANDS][COMMANDS];
    uint64_t epochs[COMMANDS][COMMANDS];
    uint8_t payloads[COMMANDS][ROOM_PAYLOAD_MAX];
};

/* --- sim_room.c: what clients do -------------------------------------------------------------- */

/* Before the broker's options are used: draws the classes into them. */
void rooms_make(struct world *world);
void rooms_free(struct world *world);

/* What a broker knew of rooms is gone. */
void rooms_forget(struct world *world);

/* One thing that a client may do on that wire; false: there are no rooms. */
bool rooms_speak(struct world *world, int wire);
/* The Resume was refused, and a Login follows on that wire. */
void rooms_no_positions(struct world *world, int wire);
void rooms_put_positions(struct world *world, int wire, int session, Usher__V1__Resume *resume);

/* A round of healing: some publish once more. */
void rooms_heal(struct world *world);

/* The published one; NOBODY: there are too many. */
int room_publication(struct world *world, int from, int room, int wire);
void room_fill(struct world *world, int which, uint8_t *payload);
int room_named(struct world *world, const char *name);

/* NULL: it was not heard of. */
struct life *life_find(struct world *world, uint64_t incarnation);
struct life *life_of(struct world *world, uint64_t incarnation, int room);
void life_knows(struct life *life, uint64_t offset);

/* --- sim_room_frames.c: what clients are told ------------------------------------------------- */

void rooms_frame(struct world *world, uint32_t wire, const Usher__V1__BrokerFrame *frame);
void rooms_done(struct world *world, uint32_t wire, const struct asked *request,
                const Usher__V1__Done *done);
void rooms_refused(struct world *world, uint32_t wire, const struct asked *request, uint32_t code);

/* Rules R1 and R3: that message stands at that offset. `from` and `service` as they were told. */
void check_content(struct world *world, struct life *life, uint64_t offset, struct bytes payload,
                   const char *from, const char *service);

/* The publisher was told where it is. */
void check_offset(struct world *world, int published, uint64_t incarnation, uint64_t offset);

/* In the end, when all is quiet and everybody is there. */
void rooms_check_healed(struct world *world);
void rooms_check_empty(struct world *world);

/* Who is in that life, as the clients of open wires see it; a bit for each. False: somebody's
 * client is not there. */
bool rooms_members(const struct world *world, const struct life *life, uint32_t *members);

/* --- sim_room_news.c: what owners are told ---------------------------------------------------- */

void rooms_ask(struct world *world, uint32_t backend, const Usher__V1__RoomAsk *ask);
void rooms_news(struct world *world, uint32_t backend, const Usher__V1__RoomNews *news);
void rooms_page(struct world *world, const Usher__V1__RoomMemberList *list, int room);

/* --- sim_room_command.c: what backends do ----------------------------------------------------- */

/* The next command of a Submit, its body in place `at`; false: there is none. */
bool rooms_command(struct world *world, uint32_t backend, uint32_t lane, uint32_t at,
                   Usher__V1__Command *to, struct asked_command *asked);
bool rooms_have_work(const struct world *world, uint32_t backend);

/* True: it was a command of rooms. */
bool rooms_result(struct world *world, const struct asked_command *asked,
                  const Usher__V1__Result *result);

#endif
