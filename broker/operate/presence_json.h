/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_PRESENCE_JSON_H
#define USHER_OPERATE_PRESENCE_JSON_H

/* A presence event as JSON: one form for operators, for backends that ask by HTTP and for those
 * that are told. Any thread. */

#include <jansson.h>

#include "actors/presence.h"

/* A new object with all that PresenceEvent has, by the same names: "kind" and "cause" are the words
 * of backend.proto, numbers are numbers. Each field is there, also when it says nothing. Of a
 * stored event: presence_event_fields. */
json_t *presence_json(const struct event_fields *event);

#endif
