/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_SIGNALS_H
#define USHER_OPERATE_SIGNALS_H

/* Operators ask by signal, and the service manager by its watchdog: the thread that waits for both,
 * from the moment that the broker serves until it is to stop. */

#include <signal.h>

#include "operate/certificate.h"
#include "operate/leave.h"
#include "operate/pulse.h"
#include "operate/succession.h"

/* All that it points to outlives it. */
struct signals {
    struct net *net;
    struct log *log;
    struct leave *leave;
    struct reload *reload;
    const struct pulse *pulse;
    struct certificate *certificate;
    struct succession *succession;
};

/* SIGTERM and SIGINT end the broker, SIGHUP asks for a reload, SIGUSR1 for the flight recorder,
 * SIGUSR2 for what leave.h or succession.h asks. They are blocked in every thread that is started
 * afterwards, and `set` gets them. SIGPIPE and SIGXFSZ are ignored: what they tell comes as an
 * error too. */
void signals_block(sigset_t *set);

/* Tells log and manager that the broker serves; then does what signals ask for until it is to stop,
 * and tells the manager. `recorder_path` is where the flight recorder is written. True: it is to
 * begin again afterwards. On the thread that made the broker. */
bool signals_serve(const struct signals *signals, const sigset_t *set, const char *recorder_path);

#endif
