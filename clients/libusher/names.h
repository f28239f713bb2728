/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_NAMES_H
#define USHER_LIBUSHER_NAMES_H

#include "usher.h"

/* What a person can do about a refusal or a close: never NULL, any thread. */
const char *error_advice(int64_t code);
const char *close_advice(int64_t reason);

#endif
