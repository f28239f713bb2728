/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_PROOF_H
#define USHER_ACTORS_PROOF_H

#include "proto/bytes.h"

/* Whoever shows epoch and secret of a session gives the same number as its user's actor; others do
 * not, but by an accident of one in 2^64, which that actor finds out (user/attach.c). 0: the
 * secret has not even the size of one. The key is a random one. */
uint64_t proof_of_resume(const uint64_t key[2], uint64_t epoch, struct bytes secret);

#endif
