/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_CONFIG_LIMITS_H
#define USHER_CONFIG_LIMITS_H

/* Limits that follow from several options together, so that each place which keeps to one has the
 * same. Pure. */

#include "config/config.h"

/* What ends a connection when it waits there: limits.output_bytes, or what a frame of the largest
 * size needs that others send, and some answers beside it. */
uint32_t output_max(const struct options *options);

/* How much may wait in a connection for long: limits.output_soft_bytes, and half of what ends it at
 * once, so that what others send leaves room for answers. */
uint32_t output_window(const struct options *options);

#endif
