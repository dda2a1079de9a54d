/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * A supervisor in trouble: supervise fork (no process can be started), or supervise halt (its child is halted). It is
 * linked with -Wl,--wrap=fork, says when it is in that state, and exits with 0 after SIGTERM. */
#include "supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *trouble;
static volatile sig_atomic_t is_stopped;

pid_t __real_fork(void);
pid_t __wrap_fork(void);

static void say(const char *what)
{
    puts(what);
    fflush(stdout);
}

pid_t __wrap_fork(void)
{
    if (strcmp(trouble, "fork"))
        return __real_fork();
    say("no child");
    errno = EAGAIN;
    return -1;
}

static void on_stop(int signo)
{
    (void)signo;
    is_stopped = 1;
}

static int run(void)
{
    say("child");
    while (!is_stopped)
        raise(SIGSTOP);
    say("stopped");
    return 0;
}

static void ended(int status)
{
    (void)status;
    say("ended");
}

static void tick(void)
{
}

static bool may_stop(void)
{
    return true;
}

int main(int count, char **arguments)
{
    static const struct supervised supervised = {
        .run = run, .stop = on_stop, .ended = ended, .tick = tick, .may_stop = may_stop};

    if (count != 2)
        return 1;
    trouble = arguments[1];
    supervise(&supervised);
    return 0;
}
