/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_BOUNCE_H
#define USHER_ACTORS_BOUNCE_H

/* A message whose actor is gone, or is of a kind that it is not for. */

#include "actors/turn.h"

/* Answers whoever waits for it. Takes it. */
void bounce(struct message *message, struct turn *turn);

#endif
