/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_SECRET_H
#define USHER_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/* Whether what was shown is the secret. How long that takes depends on the size of what was shown
 * and on nothing else, so it does not tell how much of it was right. A secret of no bytes is none:
 * nothing is equal to it. Pure; any thread. */
bool secret_equal(const void *secret, size_t secret_size, const void *shown, size_t shown_size);

#endif
