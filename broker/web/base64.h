/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_WEB_BASE64_H
#define USHER_WEB_BASE64_H

/* Base64 as JSON over HTTP has it: with + and /, and padded. Any thread. */

#include "proto/bytes.h"

/* A text, the caller's to free, and to wipe where the bytes are a secret. NULL without memory. */
char *web_base64(struct bytes bytes);

#endif
