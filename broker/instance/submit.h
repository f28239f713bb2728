/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_INSTANCE_SUBMIT_H
#define USHER_INSTANCE_SUBMIT_H

/* Private to submit*.c: one command of a Submit, while it runs. */

#include "instance/private.h"

/* Which one: its result and the tokens that find the way back to it. */
struct running {
    struct instance *instance;
    struct submit *submit;
    uint32_t index;
    struct command_result *result;
};

/* One result more is waited for, which bears this token. `name` is the index of the user in a
 * command that names several. */
uint64_t submit_await(const struct running *running, uint32_t name);

/* To the user of that name; takes the message. */
void submit_forward(struct turn *turn, const char *user, struct message *message);

/* How long the command's Result may be. */
uint32_t submit_room_of(const struct submit *submit, const struct turn *turn);

/* He is one of those to whom it did not go; code is a Result.Code. */
void submit_fail(struct command_result *result, uint32_t name, uint16_t code);

/* --- submit_rooms.c --- */

/* Whether it changes something of a room, or asks one. */
bool submit_is_of_room(const Usher__V1__Command *command);
void submit_run_of_room(const struct running *running, const Usher__V1__Command *command,
                        struct turn *turn);

/* The names that it is for, NULL: none. */
char *const *submit_names(const Usher__V1__Command *command, size_t *count);

/* --- submit_watch.c --- */

void submit_watch_list(const struct running *running, const Usher__V1__WatchList *list,
                       struct turn *turn);

#endif
