/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Keep a child process running. */
#ifndef EVENT_ZEROMQ_SUPERVISOR_H
#define EVENT_ZEROMQ_SUPERVISOR_H

#include <stdbool.h>

struct supervised {
    int (*run)(void); /* in the child; its result is the exit code */
    void (*stop)(int signo); /* in the child, on SIGTERM */
    void (*ended)(int status); /* of waitpid; a new child is started */
    void (*tick)(void); /* at least every second */
    bool (*may_stop)(void); /* whether a SIGTERM is meant */
};

/* Start the child again whenever it ends, until SIGTERM or the end of the parent. Then stop the child and wait for it. */
void supervise(const struct supervised *supervised);

#endif
