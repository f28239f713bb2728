/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHERCTL_PRINT_H
#define USHER_USHERCTL_PRINT_H

/* What usherctl says on stdout: tables, or one JSON object per line. Bytes of other people are
 * escaped. Blocks as long as stdout does. */

#include "usherctl/ctl.h"

enum { PRINT_TIME_BYTES_MAX = 32 };

/* The operator's own time; a dash when there is none. */
const char *print_time(char to[PRINT_TIME_BYTES_MAX], uint64_t unix_ms);

/* Somebody's text, of any length. */
void print_escaped(const char *text);

void print_session_head(const struct ctl *ctl);
void print_session(const struct ctl *ctl, const struct usher_backend_session *session);
void print_event_head(const struct ctl *ctl);
/* Not if it is about another user than the one asked for. */
void print_event(const struct ctl *ctl, const struct usher_backend_event *event);
void print_room_head(const struct ctl *ctl);
void print_room(const struct ctl *ctl, const struct usher_backend_room *room);
void print_member_head(const struct ctl *ctl);
void print_member(const struct ctl *ctl, const struct usher_backend_room_member *member);
void print_stored_head(const struct ctl *ctl, uint32_t count, uint64_t bytes);
void print_stored(const struct ctl *ctl, const struct usher_backend_stored *stored);
void print_number(const struct ctl *ctl, const char *name, uint64_t value);
void print_result(const struct ctl *ctl, const struct usher_backend_result *result);

#endif
