/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RULES_FRIENDS_H
#define USHER_RULES_FRIENDS_H

/* Who says which users may see each other's presence: the words of friends.mode, in their order. */
enum friends_mode { FRIENDS_OFF, FRIENDS_BACKEND, FRIENDS_SERVICE, FRIENDS_OPEN };

#endif
