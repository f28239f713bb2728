/* SPDX-License-Identifier: Apache-2.0 */
#include "usher/print.h"

#include <inttypes.h>
#include <string.h>

#include "common/escape.h"
#include "common/json.h"
#include "proto/utf8.h"

/* Payloads and names come from other people, so a terminal is shown them escaped. JSON has to be
 * valid whatever comes: a payload that is not UTF-8 goes out as base64 under another key. */

/* With NULs, which utf8_valid does not let through but JSON can say. */
static bool is_utf8(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t length = utf8_size(data + i, size - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

void print_text(const struct printer *printer, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    if (!printer->escape) {
        fwrite(data, 1, size, printer->stream);
        return;
    }
    for (size_t i = 0; i < size;) {
        char shown[ESCAPED_BYTES_MAX];
        i += escape_character(shown, bytes + i, size - i);
        fputs(shown, printer->stream);
    }
}

static void print_name(const struct printer *printer, const char *text)
{
    print_text(printer, text, strlen(text));
}

/* --- JSON ------------------------------------------------------------------------------------- */

/* A member that says nothing is left out. */
static void member_text(FILE *stream, const char *key, const char *text)
{
    if (text[0] != '\0')
        print_json_text(stream, ",", key, text);
}

static void member_number(FILE *stream, const char *key, uint64_t value)
{
    if (value != 0)
        print_json_number(stream, ",", key, value);
}

static void json_base64(FILE *stream, const uint8_t *data, size_t size)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    fputc('"', stream);
    for (size_t i = 0; i < size; i += 3) {
        uint32_t group = (uint32_t)data[i] << 16;
        if (i + 1 < size)
            group |= (uint32_t)data[i + 1] << 8;
        if (i + 2 < size)
            group |= data[i + 2];
        fputc(DIGITS[group >> 18], stream);
        fputc(DIGITS[group >> 12 & 63], stream);
        fputc(i + 1 < size ? DIGITS[group >> 6 & 63] : '=', stream);
        fputc(i + 2 < size ? DIGITS[group & 63] : '=', stream);
    }
    fputc('"', stream);
}

/* Under one of two keys, so that a script knows without looking whether to decode. */
static void json_bytes(FILE *stream, const char *key, const void *data, size_t size)
{
    if (is_utf8(data, size)) {
        fprintf(stream, ",\"%s\":", key);
        print_json_string(stream, data, size);
    } else {
        fprintf(stream, ",\"%s_base64\":", key);
        json_base64(stream, data, size);
    }
}

static void json_payload(FILE *stream, const struct usher_event *event)
{
    if (event->type == USHER_MESSAGE || event->type == USHER_REPLY ||
        event->type == USHER_ROOM_MESSAGE)
        json_bytes(stream, "payload", event->payload, event->payload_size);
}

/* Each kind of event has its own word for its number. */
static void json_code(FILE *stream, const struct usher_event *event)
{
    if (event->type == USHER_REPLY)
        fprintf(stream, ",\"status\":%" PRId64, event->code);
    else if (event->type == USHER_ERROR || (event->type == USHER_ROOM && event->code != 0))
        fprintf(stream, ",\"code\":\"%s\"", usher_error_name(event->code));
    else if (event->type == USHER_CLOSE)
        fprintf(stream, ",\"reason\":\"%s\",\"do_not_return\":%s", usher_close_name(event->code),
                event->do_not_return ? "true" : "false");
    else if (event->type == USHER_DISCONNECTED)
        fprintf(stream, ",\"error\":\"%s\",\"will_retry\":%s",
                event->error != 0 ? strerrorname_np(-event->error) : "",
                event->will_retry ? "true" : "false");
}

static const char *replay_name(enum usher_replay replay)
{
    return replay == USHER_COMPLETE ? "COMPLETE" : replay == USHER_PARTIAL ? "PARTIAL" : "FRESH";
}

static const char *state_name(enum usher_room_state state)
{
    switch (state) {
    case USHER_ROOM_JOINED:
        return "JOINED";
    case USHER_ROOM_LEFT:
        return "LEFT";
    case USHER_ROOM_REMOVED:
        return "REMOVED";
    case USHER_ROOM_CLOSED:
        return "CLOSED";
    case USHER_ROOM_LOST:
        break;
    }
    return "LOST";
}

static const char *room_replay_name(enum usher_room_replay replay)
{
    return replay == USHER_ROOM_NONE       ? "NONE"
           : replay == USHER_ROOM_COMPLETE ? "COMPLETE"
                                           : "PARTIAL";
}

static const char *presence_name(enum usher_presence presence)
{
    static const char *const names[] = {"JOINED", "AWAY", "BACK", "LEFT"};
    return (unsigned)presence < 4 ? names[presence] : "UNKNOWN";
}

static const char *friend_name(enum usher_friend_state state)
{
    static const char *const names[] = {"OFFLINE", "ONLINE", "AWAY"};
    return (unsigned)state < 3 ? names[state] : "UNKNOWN";
}

static void json_changes(FILE *stream, const struct usher_event *event)
{
    if (event->change_count == 0)
        return;
    fputs(",\"changes\":[", stream);
    for (size_t i = 0; i < event->change_count; i++) {
        const struct usher_room_change *change = &event->changes[i];
        print_json_text(stream, i == 0 ? "{" : ",{", "user", change->user);
        fprintf(stream, ",\"presence\":\"%s\"}", presence_name(change->presence));
    }
    fputc(']', stream);
}

static void json_room(FILE *stream, const struct usher_event *event)
{
    member_text(stream, "room", event->room);
    if (event->type == USHER_ROOM)
        fprintf(stream, ",\"state\":\"%s\",\"replay\":\"%s\"", state_name(event->room_state),
                room_replay_name(event->room_replay));
    member_number(stream, "incarnation", event->incarnation);
    member_number(stream, "offset", event->offset);
    member_number(stream, "members", event->members);
    member_number(stream, "tick_ms", event->tick_ms);
    json_changes(stream, event);
}

static void json_friends(FILE *stream, const struct usher_event *event)
{
    fprintf(stream, ",\"snapshot\":%s,\"friends\":[", event->snapshot ? "true" : "false");
    for (size_t i = 0; i < event->friend_count; i++) {
        const struct usher_friend *friend = &event->friends[i];
        print_json_text(stream, i == 0 ? "{" : ",{", "user", friend->user);
        fprintf(stream, ",\"state\":\"%s\"", friend_name(friend->state));
        member_number(stream, "since_ms", friend->since_ms);
        if (friend->status_size > 0)
            json_bytes(stream, "status", friend->status, friend->status_size);
        fputc('}', stream);
    }
    fputc(']', stream);
}

static void print_json(FILE *stream, const struct usher_event *event)
{
    fprintf(stream, "{\"event\":\"%s\"", usher_event_name(event->type));
    member_number(stream, "id", event->id);
    member_number(stream, "epoch", event->epoch);
    member_number(stream, "seq", event->seq);
    member_number(stream, "missed", event->missed);
    member_number(stream, "mid", event->mid);
    member_number(stream, "stored_messages", event->stored_messages);
    member_text(stream, "from", event->from);
    member_text(stream, "service", event->service);
    json_room(stream, event);
    json_payload(stream, event);
    if (event->type == USHER_FRIENDS)
        json_friends(stream, event);
    if (event->redelivered)
        fputs(",\"redelivered\":true", stream);
    if (event->transient)
        fputs(",\"transient\":true", stream);
    if (event->dropped)
        fputs(",\"dropped\":true", stream);
    if (event->type == USHER_WELCOME)
        fprintf(stream, ",\"replay\":\"%s\"", replay_name(event->replay));
    if (event->type == USHER_WELCOME && event->stored != USHER_FRESH)
        fprintf(stream, ",\"stored\":\"%s\"", replay_name(event->stored));
    member_text(stream, "node", event->node);
    json_code(stream, event);
    member_text(stream, "detail", event->detail);
    member_number(stream, "retry_after_ms", event->retry_after_ms);
    member_number(stream, "time_ms", event->time_ms);
    member_text(stream, "traceparent", event->traceparent);
    fputs("}\n", stream);
}

/* --- text ------------------------------------------------------------------------------------- */

static void print_detail(const struct printer *printer, const struct usher_event *event)
{
    if (event->detail[0] != '\0') {
        fputs(": ", printer->stream);
        print_name(printer, event->detail);
    }
    if (event->retry_after_ms != 0)
        fprintf(printer->stream, " (again in %" PRIu32 " ms)", event->retry_after_ms);
}

/* Who says it: a service is marked, and a backend without a name is an operator's. */
static void print_sender(const struct printer *printer, const struct usher_event *event)
{
    bool pushed = event->service[0] != '\0';
    print_name(printer, pushed ? event->service : event->from);
    if (pushed)
        fputs(" (service)", printer->stream);
    else if (event->from[0] == '\0')
        fputs("(operator)", printer->stream); /* a backend that has no name, such as usherctl */
}

static void print_message(const struct printer *printer, const struct usher_event *event)
{
    if (event->missed != 0)
        fprintf(printer->stream, "-- %" PRIu64 " messages are missing here\n", event->missed);
    fputc('<', printer->stream);
    print_sender(printer, event);
    fputs("> ", printer->stream);
    print_text(printer, event->payload, event->payload_size);
    if (event->redelivered)
        fputs("  [again]", printer->stream);
    if (event->transient)
        fputs("  [now]", printer->stream);
}

static void print_room_message(const struct printer *printer, const struct usher_event *event)
{
    fputc('#', printer->stream);
    print_name(printer, event->room);
    fputs(" <", printer->stream);
    print_sender(printer, event);
    fputs("> ", printer->stream);
    print_text(printer, event->payload, event->payload_size);
}

static void print_changes(const struct printer *printer, const struct usher_event *event)
{
    static const char *const words[] = {"", " (away)", " (back)", " (left)"};
    for (size_t i = 0; i < event->change_count; i++) {
        fputs(i == 0 ? ": " : ", ", printer->stream);
        print_name(printer, event->changes[i].user);
        fputs((unsigned)event->changes[i].presence < 4 ? words[event->changes[i].presence] : " (?)",
              printer->stream);
    }
}

static void print_room(const struct printer *printer, const struct usher_event *event)
{
    static const char *const words[] = {"joined", "left", "removed from it", "closed"};
    FILE *stream = printer->stream;
    if (event->id != 0)
        fprintf(stream, "#%" PRIu64 " ", event->id);
    fputs("-- room ", stream);
    print_name(printer, event->room);
    fprintf(stream, ": %s", event->room_state < 0 ? "lost" : words[event->room_state]);
    if (event->room_state == USHER_ROOM_LOST && event->code != 0)
        fprintf(stream, " (%s)", usher_error_name(event->code));
    if (event->room_replay == USHER_ROOM_COMPLETE)
        fputs(", nothing missing", stream);
    else if (event->room_replay == USHER_ROOM_PARTIAL)
        fputs(", some messages are gone", stream);
    if (event->members != 0)
        fprintf(stream, ", %" PRIu32 " in it", event->members);
    print_changes(printer, event);
    print_detail(printer, event);
}

static void print_friends(const struct printer *printer, const struct usher_event *event)
{
    fputs("-- friends", printer->stream);
    for (size_t i = 0; i < event->friend_count; i++) {
        const struct usher_friend *friend = &event->friends[i];
        static const char *const words[] = {"offline", "online", "away"};
        fputs(i == 0 ? ": " : ", ", printer->stream);
        print_name(printer, friend->user);
        fprintf(printer->stream, " %s", (unsigned)friend->state < 3 ? words[friend->state] : "?");
        if (friend->status_size > 0) {
            fputs(" (", printer->stream);
            print_text(printer, friend->status, friend->status_size);
            fputc(')', printer->stream);
        }
    }
}

static void print_line(const struct printer *printer, const struct usher_event *event)
{
    FILE *stream = printer->stream;
    switch (event->type) {
    case USHER_WELCOME:
        fputs("-- welcome", stream);
        if (event->node[0] != '\0') {
            fputs(" at ", stream);
            print_name(printer, event->node);
        }
        fprintf(stream, ", epoch %" PRIu64 ", %s", event->epoch,
                event->replay == USHER_FRESH      ? "a new session"
                : event->replay == USHER_COMPLETE ? "resumed, nothing missing"
                                                  : "resumed, some messages are gone or may be");
        break;
    case USHER_MESSAGE:
        print_message(printer, event);
        break;
    case USHER_DONE:
        fprintf(stream, "#%" PRIu64 " %s", event->id,
                event->dropped ? "dropped: away, or behind" : "done");
        break;
    case USHER_REPLY:
        fprintf(stream, "#%" PRIu64 " reply %" PRId64 ": ", event->id, event->code);
        print_text(printer, event->payload, event->payload_size);
        break;
    case USHER_ERROR:
        fprintf(stream, "#%" PRIu64 " refused: %s", event->id, usher_error_name(event->code));
        print_detail(printer, event);
        break;
    case USHER_PONG:
        fprintf(stream, "#%" PRIu64 " pong", event->id);
        break;
    case USHER_CLOSE:
        fprintf(stream, "-- closed by the broker: %s", usher_close_name(event->code));
        print_detail(printer, event);
        break;
    case USHER_DISCONNECTED:
        fputs("-- disconnected", stream);
        if (event->will_retry)
            fprintf(stream, ", trying again in %" PRIu32 " ms", event->retry_after_ms);
        break;
    case USHER_ROOM:
        print_room(printer, event);
        break;
    case USHER_ROOM_MESSAGE:
        print_room_message(printer, event);
        break;
    case USHER_ROOM_MEMBERS:
        fputs("-- room ", stream);
        print_name(printer, event->room);
        fprintf(stream, ": %" PRIu32 " in it", event->members);
        print_changes(printer, event);
        break;
    case USHER_FRIENDS:
        print_friends(printer, event);
        break;
    }
    fputc('\n', stream);
}

void print_event(const struct printer *printer, const struct usher_event *event)
{
    if (printer->json)
        print_json(printer->stream, event);
    else
        print_line(printer, event);
    fflush(printer->stream);
}
