/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_PRESENCE_H
#define USHER_ACTORS_PRESENCE_H

/* Presence events as backends and people see them. Pure. */

#include "proto/link_answer.h"
#include "storage/store.h"

/* The stored event as a message; its texts are borrowed. */
struct event_fields presence_event_fields(const struct presence_event *event);

/* Encodes the event into `to`; 0 when it does not fit. */
size_t presence_event_pack(const struct presence_event *event, uint8_t *to, size_t room);

/* "LOST", "KICKED": a PresenceEvent.Cause for people. */
const char *presence_cause_name(uint8_t cause);

#endif
