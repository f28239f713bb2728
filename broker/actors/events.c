/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/events.h"

#include "backend.pb-c.h"

/* A stored event as the message that backends see, and its causes by name. */

size_t presence_event_pack(const struct presence_event *event, uint8_t *to, size_t room)
{
    Usher__V1__PresenceEvent message = USHER__V1__PRESENCE_EVENT__INIT;
    message.seq = event->seq;
    message.time_ms = event->time_ms;
    message.user = (char *)event->user;
    message.kind = event->kind;
    message.epoch = event->epoch;
    message.previous_epoch = event->previous_epoch;
    message.cause = event->cause;
    message.until_ms = event->until_ms;
    message.address = (char *)event->address;
    message.client = (char *)event->client;
    if (usher__v1__presence_event__get_packed_size(&message) > room)
        return 0;
    return usher__v1__presence_event__pack(&message, to);
}

const char *presence_cause_name(uint8_t cause)
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&usher__v1__presence_event__cause__descriptor, cause);
    return value != NULL ? value->name : "?";
}
