/* SPDX-License-Identifier: Apache-2.0 */
#include "usherctl/print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/escape.h"
#include "common/json.h"

/* How usherctl speaks: tables for people, JSON lines for scripts.
 *
 * Names and texts come from clients. What could steer a terminal is shown as an escape, in a table
 * and in JSON, so that nobody's client name moves an operator's cursor. */

enum { CELL_BYTES_MAX = 400 };

/* What does not fit a cell is cut off. */
static const char *escaped(char *to, const char *text)
{
    const uint8_t *at = (const uint8_t *)text;
    size_t left = strlen(text);
    size_t size = 0;
    while (left > 0 && size + ESCAPED_BYTES_MAX < CELL_BYTES_MAX) {
        size_t taken = escape_character(to + size, at, left);
        size += strlen(to + size);
        at += taken;
        left -= taken;
    }
    to[size] = '\0';
    return size == 0 ? "-" : to;
}

const char *print_time(char to[PRINT_TIME_BYTES_MAX], uint64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;
    if (unix_ms == 0 || localtime_r(&seconds, &parts) == NULL ||
        strftime(to, PRINT_TIME_BYTES_MAX, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        return "-";
    return to;
}

void print_escaped(const char *text)
{
    const uint8_t *at = (const uint8_t *)text;
    for (size_t left = strlen(text); left > 0;) {
        char character[ESCAPED_BYTES_MAX];
        size_t taken = escape_character(character, at, left);
        fputs(character, stdout);
        at += taken;
        left -= taken;
    }
}

void print_session_head(const struct ctl *ctl)
{
    if (!ctl->json)
        printf("%-20s %-9s %-19s %14s %6s %-22s %-4s %-12s %s\n", "USER", "STATE", "SINCE", "EPOCH",
               "INBOX", "ADDRESS", "BY", "NODE", "CLIENT");
}

void print_session(const struct ctl *ctl, const struct usher_backend_session *session)
{
    const char *state = usher_backend_state_name(session->state);
    char user[CELL_BYTES_MAX], address[CELL_BYTES_MAX], node[CELL_BYTES_MAX];
    char client[CELL_BYTES_MAX], since[PRINT_TIME_BYTES_MAX], transport[CELL_BYTES_MAX];
    if (!ctl->json) {
        printf("%-20s %-9s %-19s %14" PRIu64 " %6" PRIu32 " %-22s %-4s %-12s %s\n",
               escaped(user, session->user), state, print_time(since, session->since_ms),
               session->epoch, session->inbox_messages, escaped(address, session->address),
               escaped(transport, session->transport), escaped(node, session->node),
               escaped(client, session->client));
        return;
    }
    print_json_text(stdout, "{", "user", session->user);
    print_json_text(stdout, ",", "state", state);
    print_json_number(stdout, ",", "epoch", session->epoch);
    print_json_text(stdout, ",", "node", session->node);
    print_json_number(stdout, ",", "since_ms", session->since_ms);
    print_json_text(stdout, ",", "address", session->address);
    print_json_text(stdout, ",", "transport", session->transport);
    print_json_text(stdout, ",", "client", session->client);
    print_json_number(stdout, ",", "inbox_messages", session->inbox_messages);
    puts("}");
}

void print_event_head(const struct ctl *ctl)
{
    if (!ctl->json)
        printf("%8s %-19s %-9s %-20s %14s %-13s %-22s %s\n", "SEQ", "TIME", "KIND", "USER", "EPOCH",
               "CAUSE", "ADDRESS", "CLIENT");
}

void print_event(const struct ctl *ctl, const struct usher_backend_event *event)
{
    const char *kind = usher_backend_kind_name(event->kind);
    const char *cause = usher_backend_cause_name(event->cause);
    char user[CELL_BYTES_MAX], address[CELL_BYTES_MAX], client[CELL_BYTES_MAX];
    char time_text[PRINT_TIME_BYTES_MAX];
    if (ctl->user != NULL && strcmp(ctl->user, event->user) != 0)
        return;
    if (!ctl->json) {
        printf("%8" PRIu64 " %-19s %-9s %-20s %14" PRIu64 " %-13s %-22s %s\n", event->seq,
               print_time(time_text, event->time_ms), kind, escaped(user, event->user),
               event->epoch, cause, escaped(address, event->address),
               escaped(client, event->client));
        return;
    }
    print_json_number(stdout, "{", "seq", event->seq);
    print_json_number(stdout, ",", "time_ms", event->time_ms);
    print_json_text(stdout, ",", "user", event->user);
    print_json_text(stdout, ",", "kind", kind);
    print_json_number(stdout, ",", "epoch", event->epoch);
    print_json_number(stdout, ",", "previous_epoch", event->previous_epoch);
    print_json_text(stdout, ",", "cause", cause);
    print_json_number(stdout, ",", "until_ms", event->until_ms);
    print_json_text(stdout, ",", "address", event->address);
    print_json_text(stdout, ",", "client", event->client);
    puts("}");
}

void print_stored_head(const struct ctl *ctl, uint32_t count, uint64_t bytes)
{
    if (ctl->json)
        return;
    printf("%" PRIu32 " stored, %" PRIu64 " bytes\n", count, bytes);
    if (count > 0)
        printf("%16s %-24s %-24s %8s %-19s %s\n", "MID", "FROM", "SERVICE", "BYTES", "TIME",
               "EXPIRES");
}

void print_stored(const struct ctl *ctl, const struct usher_backend_stored *stored)
{
    char from[CELL_BYTES_MAX], service[CELL_BYTES_MAX];
    char time_text[PRINT_TIME_BYTES_MAX], expires_text[PRINT_TIME_BYTES_MAX];
    if (!ctl->json) {
        printf("%16" PRIu64 " %-24s %-24s %8" PRIu32 " %-19s %s\n", stored->mid,
               escaped(from, stored->from), escaped(service, stored->service),
               stored->payload_bytes, print_time(time_text, stored->time_ms),
               print_time(expires_text, stored->expires_ms));
        return;
    }
    print_json_number(stdout, "{", "mid", stored->mid);
    print_json_text(stdout, ",", "from", stored->from);
    print_json_text(stdout, ",", "service", stored->service);
    print_json_number(stdout, ",", "payload_bytes", stored->payload_bytes);
    print_json_number(stdout, ",", "time_ms", stored->time_ms);
    print_json_number(stdout, ",", "expires_ms", stored->expires_ms);
    puts("}");
}

void print_room_head(const struct ctl *ctl)
{
    if (!ctl->json)
        printf("%-24s %8s %8s %12s %8s %14s %-16s %-16s %s\n", "ROOM", "MEMBERS", "AWAY", "OFFSET",
               "HISTORY", "DELIVERIES", "OWNER", "CLASS", "OPENED");
}

void print_room(const struct ctl *ctl, const struct usher_backend_room *room)
{
    char name[CELL_BYTES_MAX], owner[CELL_BYTES_MAX], pattern[CELL_BYTES_MAX];
    char time_text[PRINT_TIME_BYTES_MAX];
    if (!ctl->json) {
        printf("%-24s %8" PRIu32 " %8" PRIu32 " %12" PRIu64 " %8" PRIu32 " %14" PRIu64
               " %-16s %-16s %s\n",
               escaped(name, room->name), room->members, room->away, room->offset,
               room->history_messages, room->deliveries, escaped(owner, room->owner),
               escaped(pattern, room->room_class), print_time(time_text, room->opened_ms));
        return;
    }
    print_json_text(stdout, "{", "room", room->name);
    print_json_number(stdout, ",", "incarnation", room->incarnation);
    print_json_number(stdout, ",", "offset", room->offset);
    print_json_number(stdout, ",", "members", room->members);
    print_json_number(stdout, ",", "away", room->away);
    print_json_text(stdout, ",", "class", room->room_class);
    print_json_text(stdout, ",", "owner", room->owner);
    print_json_number(stdout, ",", "history_messages", room->history_messages);
    print_json_number(stdout, ",", "history_bytes", room->history_bytes);
    print_json_number(stdout, ",", "deliveries", room->deliveries);
    print_json_number(stdout, ",", "opened_ms", room->opened_ms);
    puts("}");
}

void print_member_head(const struct ctl *ctl)
{
    if (!ctl->json)
        printf("%-24s %-6s %-6s %s\n", "USER", "STATE", "CARRY", "EPOCH");
}

void print_member(const struct ctl *ctl, const struct usher_backend_room_member *member)
{
    char user[CELL_BYTES_MAX];
    const char *state = member->away ? "away" : "here";
    if (!ctl->json) {
        printf("%-24s %-6s %-6s %" PRIu64 "\n", escaped(user, member->user), state,
               member->carry ? "yes" : "no", member->epoch);
        return;
    }
    print_json_text(stdout, "{", "user", member->user);
    print_json_text(stdout, ",", "state", state);
    print_json_number(stdout, ",", "carry", member->carry);
    print_json_number(stdout, ",", "epoch", member->epoch);
    puts("}");
}

void print_number(const struct ctl *ctl, const char *name, uint64_t value)
{
    char cell[CELL_BYTES_MAX];
    if (!ctl->json) {
        printf("%-40s %" PRIu64 "\n", escaped(cell, name), value);
        return;
    }
    print_json_text(stdout, "{", "name", name);
    print_json_number(stdout, ",", "value", value);
    puts("}");
}

void print_result(const struct ctl *ctl, const struct usher_backend_result *result)
{
    char cell[CELL_BYTES_MAX];
    if (ctl->json) {
        print_json_text(stdout, "{", "result", usher_backend_code_name(result->code));
        print_json_number(stdout, ",", "accepted", result->accepted);
        if (result->dropped > 0)
            print_json_number(stdout, ",", "dropped", result->dropped);
        if (result->mid > 0)
            print_json_number(stdout, ",", "mid", result->mid);
        fputs(",\"failures\":[", stdout);
        for (size_t i = 0; i < result->failure_count; i++) {
            print_json_text(stdout, i == 0 ? "{" : ",{", "user", result->failures[i].user);
            print_json_text(stdout, ",", "code", usher_backend_code_name(result->failures[i].code));
            putchar('}');
        }
        puts("]}");
        return;
    }
    printf("%s", usher_backend_code_name(result->code));
    if (result->accepted > 0)
        printf(", accepted by %" PRIu32, result->accepted);
    if (result->dropped > 0)
        printf(", dropped for %" PRIu32, result->dropped);
    if (result->mid > 0)
        printf(", stored as %" PRIu64, result->mid);
    putchar('\n');
    for (size_t i = 0; i < result->failure_count; i++)
        printf("%-20s %s\n", escaped(cell, result->failures[i].user),
               usher_backend_code_name(result->failures[i].code));
}
