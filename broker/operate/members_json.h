/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_MEMBERS_JSON_H
#define USHER_OPERATE_MEMBERS_JSON_H

/* The members of a room as JSON: one form for operators and for backends that ask by HTTP. Any
 * thread. */

#include <jansson.h>

#include "backend.pb-c.h"

/* A new array; NULL without memory, which json_object_set_new takes as a failure. */
json_t *members_json(const Usher__V1__RoomMemberList *list);

#endif
