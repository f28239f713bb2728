/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_LINK_ANSWER_H
#define USHER_PROTO_LINK_ANSWER_H

/* Writes what backends are told (backend.proto): LinkAnswer, and the Batch, Results and
 * PresenceEvent that are made piece by piece before they are in one. It is the only writer of
 * them.
 *
 * Each function appends to a buffer that the caller owns and gives 0, or an error with everything
 * as it was: -ENOMEM, and -ENOSPC where a room is kept. What is passed in is borrowed for the
 * call. Fields that are 0, empty or NULL are left out, unless it is said otherwise. Texts must be
 * valid UTF-8: they are not checked here. Any thread that owns the buffers; never block. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

/* --- LinkAnswer: the whole of it, which is one nng message ------------------------------------ */

struct accepted_fields {
    uint64_t link;
    const char *node, *node_boot;
    uint32_t frame_bytes_max, park_ms;
    uint64_t presence_from, number;
};

int link_answer_accepted(struct buffer *out, const struct accepted_fields *a);

/* code is a Refused.Code. */
int link_answer_refused(struct buffer *out, uint32_t code, const char *detail);

/* `items` were written by link_batch_*. presence_last is said also when it is 0. */
int link_answer_batch(struct buffer *out, struct bytes items, bool presence_reset,
                      uint64_t presence_last);

struct link_results;

/* As many as link_results_begin was told must be in it. */
int link_answer_results(struct buffer *out, const struct link_results *results);

/* Results that are that code, each of `count`. */
int link_answer_codes(struct buffer *out, uint64_t seq, uint32_t code, size_t count);

/* --- what is in a Batch: one item each, mail before events ------------------------------------ */

struct user_call_fields {
    uint64_t call;
    struct bytes user;
    uint64_t epoch;
    struct bytes method, payload;
    uint32_t timeout_ms;
    bool redelivered;
    struct bytes traceparent;
};

struct auth_call_fields {
    uint64_t call;
    struct bytes user, token, address, client;
    uint32_t timeout_ms;
    bool redelivered;
};

int link_batch_call(struct buffer *items, uint64_t seq, const struct user_call_fields *call);
int link_batch_auth(struct buffer *items, uint64_t seq, const struct auth_call_fields *call);

/* kind is a RoomAsk.Kind. */
struct room_ask_fields {
    uint64_t call;
    struct bytes user;
    uint64_t epoch;
    struct bytes room;
    uint32_t kind, timeout_ms;
    bool redelivered;
};

/* kind and cause are a RoomNews.Kind and a RoomNews.Cause. */
struct room_news_fields {
    struct bytes room;
    uint64_t incarnation, news_seq;
    uint32_t kind;
    struct bytes user;
    uint64_t epoch;
    uint32_t cause;
    uint64_t offset;
    struct bytes payload;
    bool redelivered;
    uint64_t time_ms;
    struct bytes service;
};

/* `targets` were written by link_watch_target. */
struct watch_ask_fields {
    uint64_t call;
    struct bytes user;
    uint64_t epoch;
    struct bytes targets;
    uint32_t timeout_ms;
    bool redelivered;
};

struct stored_notice_fields {
    struct bytes user;
    uint64_t mid;
    struct bytes from, service; /* one of them */
    uint32_t payload_bytes;
    uint64_t time_ms;
    uint32_t count;
};

int link_batch_stored(struct buffer *items, uint64_t seq,
                      const struct stored_notice_fields *stored);
int link_batch_ask(struct buffer *items, uint64_t seq, const struct room_ask_fields *ask);
int link_batch_news(struct buffer *items, uint64_t seq, const struct room_news_fields *news);
int link_batch_watch(struct buffer *items, uint64_t seq, const struct watch_ask_fields *ask);

/* One name more for a WatchAsk. */
int link_watch_target(struct buffer *targets, struct bytes name);

/* kind is a Control.Kind. */
int link_batch_control(struct buffer *items, uint64_t seq, uint32_t kind);

/* The bytes of the item that `items` begin with. They are written by us and whole: 0 if they are
 * not. */
size_t link_batch_item_size(struct bytes items);

/* --- PresenceEvent ---------------------------------------------------------------------------- */

struct event_fields {
    uint64_t seq, time_ms;
    const char *user;
    uint32_t kind; /* PresenceEvent.Kind */
    uint64_t epoch, previous_epoch;
    uint32_t cause; /* PresenceEvent.Cause */
    uint64_t until_ms;
    const char *address, *client;
};

/* The message alone: `to` has room for its size. */
size_t link_event_size(const struct event_fields *event);
void link_event_write(uint8_t *to, const struct event_fields *event);

/* --- pages: what is repeated in a Result or a Batch, as long as there is room ----------------- */

/* Starts as {.room = how many bytes}, and is ended by buffer_fini on `items`. When something does
 * not fit (-ENOSPC) the page is full and takes nothing any more: so it has no gaps. All of one
 * page is of one kind. */
struct link_page {
    struct buffer items;
    size_t room;
    bool full;
};

struct session_fields {
    const char *user;
    uint32_t state; /* SessionInfo.State */
    uint64_t epoch;
    const char *node;
    uint64_t since_ms;
    const char *address, *client;
    uint32_t inbox_messages;
    const char *transport;
};

/* Room is taken as if no message waited and some bytes more: where a page ends does not depend on
 * what waits. */
int link_page_session(struct link_page *page, const struct session_fields *session);

/* Of an EventList. */
int link_page_event(struct link_page *page, const struct event_fields *event);

/* Of a Batch: an item of it. */
int link_page_batch_event(struct link_page *page, const struct event_fields *event);

/* A value beyond NUMBER_TOLD_MAX (number.h) is said as that. */
int link_page_number(struct link_page *page, const char *name, uint64_t value);

/* Some room is left for the end of the list. */
int link_page_line(struct link_page *page, struct bytes line);

/* code is a Result.Code. */
int link_page_failure(struct link_page *page, const char *user, uint32_t code);

struct room_fields {
    struct bytes name;
    uint64_t incarnation, offset;
    uint32_t members;
    struct bytes pattern, owner;
    uint32_t away, history_messages;
    uint64_t history_bytes, deliveries, opened_ms;
};

int link_page_room(struct link_page *page, const struct room_fields *room);
int link_page_room_member(struct link_page *page, struct bytes user, uint64_t epoch, bool away,
                          bool carry);

struct history_fields {
    uint64_t time_ms;
    uint32_t kind, cause;
    uint64_t epoch;
    const char *address, *client, *transport, *by, *detail, *limit;
    uint64_t bound, value, missing;
    uint32_t count;
    const char *text;
};

int link_page_history(struct link_page *page, const struct history_fields *record);

/* One that is stored for a user. */
struct stored_fields {
    uint64_t mid;
    struct bytes from, service; /* one of them */
    uint32_t payload_bytes;
    uint64_t time_ms, expires_ms;
};

int link_page_stored(struct link_page *page, const struct stored_fields *stored);

/* --- Result ----------------------------------------------------------------------------------- */

/* What a Result may need beside the items of a page. */
enum { LINK_RESULT_OVERHEAD = 48 };

/* A whole Result each. code is a Result.Code; it is said also when it is OK, except in those of
 * sessions, events, numbers and pushes. */
int link_result_code(struct buffer *out, uint32_t code);
int link_result_sessions(struct buffer *out, const struct link_page *page, uint64_t presence_seq,
                         bool more);

/* presence_last is said also when it is 0. */
int link_result_events(struct buffer *out, const struct link_page *page, uint64_t presence_last,
                       bool reset);
int link_result_numbers(struct buffer *out, const struct link_page *page);

/* next and more are said always. */
int link_result_lines(struct buffer *out, uint32_t code, const struct link_page *page,
                      uint64_t next, bool more);

/* The pages are of rooms, and of members of one. `next` is empty at the end. */
int link_result_rooms(struct buffer *out, const struct link_page *page, bool more);
int link_result_members(struct buffer *out, const struct link_page *page, struct bytes next,
                        uint64_t news_seq, uint64_t incarnation, uint64_t offset);

/* first_ms is 0 where there is none. */
int link_result_history(struct buffer *out, const struct link_page *page, uint64_t kept,
                        uint64_t first_ms, bool more);

/* The page may be empty; count and bytes are not of it alone. */
int link_result_stored(struct buffer *out, const struct link_page *page, bool more, uint32_t count,
                       uint64_t bytes);

/* The page is of failures; mid 0: nothing was stored. */
int link_result_push(struct buffer *out, uint32_t code, uint32_t accepted, uint32_t dropped,
                     uint64_t mid, const struct link_page *page);

/* --- Results: in order, each at least as a code ----------------------------------------------- */

enum {
    LINK_RESULTS_CODE_BYTES = 4, /* a code alone, with the tag and length of its Result */
    LINK_RESULTS_OVERHEAD = 32,  /* beside the Results: bytes_max is this and the codes at least */
};

/* Ended by buffer_fini on `items`. */
struct link_results {
    struct buffer items;
    size_t bytes_max;
    size_t left; /* how many are still to come */
};

/* seq is said also when it is 0. */
int link_results_begin(struct link_results *results, uint64_t seq, size_t count, size_t bytes_max);

/* The next one: `result` was written by link_result_*. -ENOSPC: behind it the rest would not fit
 * as codes. */
int link_results_add(struct link_results *results, struct bytes result);

/* The next one is a code alone, for which there is always room; OK is left out. */
int link_results_code(struct link_results *results, uint32_t code);

#endif
