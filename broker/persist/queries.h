/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_QUERIES_H
#define USHER_PERSIST_QUERIES_H

/* The thread that reads the store for backends. */

#include "broker/parts.h"

int queries_open(struct queries **queries, struct broker *broker);
int queries_start(struct queries *queries);

/* Answers one query on the calling thread. False: none waited. */
bool queries_step(struct queries *queries);

/* Takes the query. */
void queries_submit(struct queries *queries, struct query_message *query);
void queries_close(struct queries *queries);

#endif
