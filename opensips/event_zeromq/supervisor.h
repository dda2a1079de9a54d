/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Keep a child process running. */
#ifndef EVENT_ZEROMQ_SUPERVISOR_H
#define EVENT_ZEROMQ_SUPERVISOR_H

#include <stdbool.h>

struct supervised {
    int (*run)(void); /* in the child; its result is the exit code */
    void (*ended)(int status); /* of waitpid; a new child is started */
    void (*tick)(void); /* every second */
    bool (*may_stop)(void); /* whether a SIGTERM is meant */
};

/* Start the child again whenever it ends, until SIGTERM; then pass that on and wait for the child. */
void supervise(const struct supervised *supervised);

#endif
