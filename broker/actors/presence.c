/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/presence.h"

#include "backend.pb-c.h"

/* A stored event as the message that backends see, and its causes by name. */

struct event_fields presence_event_fields(const struct presence_event *event)
{
    return (struct event_fields){
        .seq = event->seq,
        .time_ms = event->time_ms,
        .user = event->user,
        .kind = event->kind,
        .epoch = event->epoch,
        .previous_epoch = event->previous_epoch,
        .cause = event->cause,
        .until_ms = event->until_ms,
        .address = event->address,
        .client = event->client,
    };
}

size_t presence_event_pack(const struct presence_event *event, uint8_t *to, size_t room)
{
    struct event_fields fields = presence_event_fields(event);
    size_t size = link_event_size(&fields);
    if (size > room)
        return 0;
    link_event_write(to, &fields);
    return size;
}

const char *presence_cause_name(uint8_t cause)
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&usher__v1__presence_event__cause__descriptor, cause);
    return value != NULL ? value->name : "?";
}
