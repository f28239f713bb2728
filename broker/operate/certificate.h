/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_CERTIFICATE_H
#define USHER_OPERATE_CERTIFICATE_H

/* How long the TLS certificates are good yet, for the log and whoever asks. */

#include "base/env.h"
#include "base/lock.h"
#include "base/log.h"
#include "net/net.h"

enum certificate_state {
    CERTIFICATE_NONE = 0, /* no TLS */
    CERTIFICATE_FINE,
    CERTIFICATE_NEAR, /* it should have been renewed by now */
    CERTIFICATE_EXPIRED,
    CERTIFICATE_NOT_YET
};

enum { CERTIFICATE_WATCH_MS = 15 * 60 * 1000 };

/* At now_s, Unix s. Pure. */
enum certificate_state certificate_judge(const struct net_validity *validity, int64_t now_s);

/* All that it points to outlives it. */
struct certificate {
    /* set once */
    struct net *net;
    const struct env *env;
    struct log *log;
    struct lock lock;
    /* under lock: what was last said */
    int64_t told_s;
    enum certificate_state told;
};

/* Of those in use, now; all 0 without TLS. Any thread. */
enum certificate_state certificate_look(const struct certificate *certificate,
                                        struct net_validity *validity);

/* Logs what there is to say: when the state has changed, once a day, or `anew`. Any thread. */
void certificate_tell(struct certificate *certificate, bool anew);

/* For the thread that waits for signals, each time it comes round: the same, not anew. Gives within
 * how many ms it is to be called again; 0: never. */
unsigned certificate_watch(struct certificate *certificate);

#endif
