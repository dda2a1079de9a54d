/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Keep a child process running. */
#include "supervisor.h"

#include "stamps.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 1000, LIVED_MS = 5000, FIRST_PAUSE_MS = 100, MOST_PAUSE_MS = 5000 };

struct supervisor {
    const struct supervised *supervised;
    sigset_t signals; /* blocked here, and only looked at by `await` */
    pid_t parent;
};

static const int reset[] = {SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGCHLD, SIGALRM, SIGSEGV, SIGABRT};

/* Run in a child that ends when its parent does. What the parent did with signals is forgotten. */
static pid_t start(const struct supervisor *supervisor)
{
    pid_t parent = getpid(), child = fork();

    if (child)
        return child;
    for (size_t i = 0; i < sizeof reset / sizeof *reset; i++)
        signal(reset[i], SIG_DFL);
    signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole group; the supervisor decides */
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, supervisor->supervised->stop);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(0);
    sigprocmask(SIG_UNBLOCK, &supervisor->signals, NULL);
    _exit(supervisor->supervised->run());
}

/* Wait for a signal, a second at most. Return false when it is time to stop: on SIGTERM, or at the end of OpenSIPS, which
 * may have been killed. */
static bool await(const struct supervisor *supervisor, int ms)
{
    const struct timespec timeout = {ms / 1000, ms % 1000 * 1000000L};
    int signo = sigtimedwait(&supervisor->signals, NULL, &timeout);

    supervisor->supervised->tick();
    return (signo != SIGTERM || !supervisor->supervised->may_stop()) && getppid() == supervisor->parent;
}

static int64_t now_ms(void)
{
    return read_steady_ns() / 1000000;
}

/* Wait before the next start. Return false when it is time to stop. */
static bool rest(const struct supervisor *supervisor, int ms)
{
    int64_t end_ms = now_ms() + ms, left_ms;

    while ((left_ms = end_ms - now_ms()) > 0)
        if (!await(supervisor, left_ms < TICK_MS ? (int)left_ms : TICK_MS))
            return false;
    return true;
}

/* Stop a child, also one that somebody halted. */
static void stop(pid_t child)
{
    kill(child, SIGTERM);
    kill(child, SIGCONT);
    waitpid(child, NULL, 0);
}

/* Wait for the end of the child. Return false when it is time to stop. */
static bool watch(const struct supervisor *supervisor, pid_t child)
{
    int status;

    while (await(supervisor, TICK_MS)) {
        if (waitpid(child, &status, WNOHANG) == child) {
            supervisor->supervised->ended(status);
            return true;
        }
    }
    stop(child);
    return false;
}

static void set_signals(struct supervisor *supervisor)
{
    sigemptyset(&supervisor->signals);
    sigaddset(&supervisor->signals, SIGTERM);
    sigaddset(&supervisor->signals, SIGCHLD);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &supervisor->signals, NULL);
}

void supervise(const struct supervised *supervised)
{
    struct supervisor supervisor = {.supervised = supervised, .parent = getppid()};
    int pause_ms = FIRST_PAUSE_MS;

    set_signals(&supervisor);
    for (;;) {
        int64_t started_ms = now_ms();
        pid_t child = start(&supervisor);

        if (child > 0 && !watch(&supervisor, child))
            return;
        if (child > 0 && now_ms() - started_ms > LIVED_MS) {
            pause_ms = FIRST_PAUSE_MS;
            continue; /* it lived for a while: start the next one at once */
        }
        if (!rest(&supervisor, pause_ms))
            return;
        pause_ms = pause_ms * 2 < MOST_PAUSE_MS ? pause_ms * 2 : MOST_PAUSE_MS;
    }
}
