/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_UTF8_H
#define USHER_PROTO_UTF8_H

#include <stdbool.h>

#include "proto/bytes.h"

/* Whether text is well-formed UTF-8 (RFC 3629: no surrogates, nothing overlong, at most U+10FFFF)
 * without a NUL byte. The empty text is. Any thread; never blocks. */
bool utf8_valid(struct bytes text);

#endif
