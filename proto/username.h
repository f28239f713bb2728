/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_USERNAME_H
#define USHER_PROTO_USERNAME_H

#include <stdbool.h>

#include "proto/bytes.h"

enum { USERNAME_BYTES_MAX = 64 };

/* Whether name may name a user or a service: 1 to USERNAME_BYTES_MAX bytes, each of them one of
 * A-Z a-z 0-9 . _ - @ : +. Any thread; never blocks. */
bool username_valid(struct bytes name);

#endif
