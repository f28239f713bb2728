/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "operate/backends_private.h"

/* Requests about rooms become commands. What a room's owner is asked and told comes by the link. */

unsigned make_rooms(struct making *making, const struct admin_query *query, json_t *answer)
{
    Usher__V1__Rooms *rooms = &making->of.rooms;
    usher__v1__rooms__init(rooms);
    rooms->prefix = (char *)query->prefix;
    rooms->after = (char *)query->after_name;
    rooms->limit = query->limit != 0 ? query->limit : HTTP_ROWS;
    making->command.body_case = USHER__V1__COMMAND__BODY_ROOMS;
    making->command.rooms = rooms;
    return 0;
}

unsigned make_room_members(struct making *making, const struct admin_query *query, json_t *answer)
{
    Usher__V1__RoomMembers *members = &making->of.room_members;
    usher__v1__room_members__init(members);
    members->room = (char *)query->user;
    members->after = (char *)query->after_name;
    members->limit = query->limit != 0 ? query->limit : HTTP_ROWS;
    making->command.body_case = USHER__V1__COMMAND__BODY_ROOM_MEMBERS;
    making->command.room_members = members;
    return 0;
}

unsigned make_room_open(struct making *making, const struct admin_query *query, json_t *answer)
{
    const char *class = "";
    json_int_t members_max = 0;
    Usher__V1__RoomOpen *open = &making->of.room_open;
    usher__v1__room_open__init(open);
    unsigned status =
        make_unpack(query, answer, "{s?s, s?I}", "class", &class, "members_max", &members_max);
    if (status == 0 && (members_max < 0 || members_max > UINT32_MAX))
        return make_fault(answer, "members_max: not such a number");
    open->room = (char *)query->user;
    open->class_ = (char *)class;
    open->members_max = (uint32_t)members_max;
    making->command.body_case = USHER__V1__COMMAND__BODY_ROOM_OPEN;
    making->command.room_open = open;
    return status;
}

unsigned make_room_close(struct making *making, const struct admin_query *query, json_t *answer)
{
    const char *detail = "";
    Usher__V1__RoomClose *close = &making->of.room_close;
    usher__v1__room_close__init(close);
    unsigned status = make_unpack(query, answer, "{s?s}", "detail", &detail);
    close->room = (char *)query->user;
    close->detail = (char *)detail;
    making->command.body_case = USHER__V1__COMMAND__BODY_ROOM_CLOSE;
    making->command.room_close = close;
    return status;
}

/* One for each user, or none at all. */
static unsigned take_epochs(struct making *making, const json_t *epochs, size_t users,
                            json_t *answer)
{
    size_t count = json_array_size(epochs);
    if (epochs == NULL)
        return 0;
    if (count != users)
        return make_fault(answer, "epochs: a number for each user");
    making->epochs = calloc(count, sizeof(*making->epochs));
    if (making->epochs == NULL)
        return admin_fail(answer, 503, "UNAVAILABLE", "no memory");
    for (size_t i = 0; i < count; i++) {
        const json_t *number = json_array_get(epochs, i);
        if (!json_is_integer(number))
            return make_fault(answer, "epochs: a number for each user");
        unsigned status = make_epoch(json_integer_value(number), &making->epochs[i], answer);
        if (status != 0)
            return status;
    }
    return 0;
}

unsigned make_room_add(struct making *making, const struct admin_query *query, json_t *answer)
{
    const json_t *users = NULL, *epochs = NULL;
    int carry = 0;
    Usher__V1__RoomAdd *add = &making->of.room_add;
    usher__v1__room_add__init(add);
    unsigned status = make_unpack(query, answer, "{s:o, s?o, s?b}", "users", &users, "epochs",
                                  &epochs, "carry", &carry);
    status = status != 0 ? status : make_names(making, users, answer);
    status = status != 0 ? status : take_epochs(making, epochs, json_array_size(users), answer);
    add->room = (char *)query->user;
    add->users = making->names;
    add->n_users = json_array_size(users);
    add->epochs = making->epochs;
    add->n_epochs = json_array_size(epochs);
    add->carry = carry;
    making->command.body_case = USHER__V1__COMMAND__BODY_ROOM_ADD;
    making->command.room_add = add;
    return status;
}

unsigned make_room_remove(struct making *making, const struct admin_query *query, json_t *answer)
{
    const json_t *users = NULL;
    const char *detail = "";
    Usher__V1__RoomRemove *remove = &making->of.room_remove;
    usher__v1__room_remove__init(remove);
    unsigned status = make_unpack(query, answer, "{s:o, s?s}", "users", &users, "detail", &detail);
    status = status != 0 ? status : make_names(making, users, answer);
    remove->room = (char *)query->user;
    remove->users = making->names;
    remove->n_users = json_array_size(users);
    remove->detail = (char *)detail;
    making->command.body_case = USHER__V1__COMMAND__BODY_ROOM_REMOVE;
    making->command.room_remove = remove;
    return status;
}

unsigned make_room_publish(struct making *making, const struct admin_query *query, json_t *answer)
{
    const json_t *base64 = NULL, *text = NULL;
    Usher__V1__RoomPublish *publish = &making->of.room_publish;
    usher__v1__room_publish__init(publish);
    unsigned status =
        make_unpack(query, answer, "{s?o, s?o}", "payload", &base64, "payload_text", &text);
    status = status != 0 ? status : make_payload(making, base64, text, &publish->payload, answer);
    publish->room = (char *)query->user;
    making->command.body_case = USHER__V1__COMMAND__BODY_ROOM_PUBLISH;
    making->command.room_publish = publish;
    return status;
}
