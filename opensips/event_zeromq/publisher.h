/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Publish what is in a ring on a ZeroMQ bus. It runs in a process of its own, and knows nothing of OpenSIPS. */
#ifndef EVENT_ZEROMQ_PUBLISHER_H
#define EVENT_ZEROMQ_PUBLISHER_H

#include "message.h"
#include "sockets.h"

#include <signal.h>

enum report_level { REPORT_ERROR, REPORT_WARNING, REPORT_NOTICE };

enum stop { GO_ON, STOP, STOP_FOR_GOOD };

typedef void report_function(enum report_level level, const char *text);

struct publisher_options {
    const char *node;
    struct socket_options sockets;
    int hold_ms; /* how long events wait for the first subscriber */
    report_function *report;
    const volatile sig_atomic_t *stop; /* an enum stop: for good, when no other publisher will come */
};

/* Publish until `stop`, then what is left. Return the process' exit code. */
int publisher_run(struct ring *ring, const struct publisher_options *options);

#endif
