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

static const int reset[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGCHLD, SIGSEGV, SIGABRT};

static void set_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGCHLD);
}

/* Run in a child that ends when its parent does. What the parent did with signals is forgotten. */
static pid_t start(const struct supervised *supervised, const sigset_t *signals)
{
    pid_t parent = getpid(), child = fork();

    if (child)
        return child;
    for (size_t i = 0; i < sizeof reset / sizeof *reset; i++)
        signal(reset[i], SIG_DFL);
    signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole group; the supervisor decides */
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(0);
    sigprocmask(SIG_UNBLOCK, signals, NULL);
    _exit(supervised->run());
}

/* Wait up to a second for a signal; return 0 when none came. */
static int await(const sigset_t *signals)
{
    const struct timespec timeout = {TICK_MS / 1000, TICK_MS % 1000 * 1000000L};
    int signo = sigtimedwait(signals, NULL, &timeout);

    return signo < 0 ? 0 : signo;
}

static int64_t now_ms(void)
{
    return read_steady_ns() / 1000000;
}

static void pause_ms(int ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

    nanosleep(&time, NULL);
}

/* Wait for the end of the child, for SIGTERM, or for the end of OpenSIPS, which may have been killed. Return whether to
 * go on. */
static bool watch(const struct supervised *supervised, const sigset_t *signals, pid_t child, pid_t parent)
{
    int status;

    for (;;) {
        bool is_asked = await(signals) == SIGTERM && supervised->may_stop();

        if (is_asked || getppid() != parent) {
            kill(child, SIGTERM);
            waitpid(child, &status, 0);
            return false;
        }
        supervised->tick();
        if (waitpid(child, &status, WNOHANG) == child) {
            supervised->ended(status);
            return true;
        }
    }
}

void supervise(const struct supervised *supervised)
{
    int pause = FIRST_PAUSE_MS;
    pid_t parent = getppid();
    sigset_t signals;

    set_signals(&signals);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    for (;;) {
        int64_t started_ms = now_ms();
        pid_t child = start(supervised, &signals);

        if (child > 0 && !watch(supervised, &signals, child, parent))
            return;
        if (child > 0 && now_ms() - started_ms > LIVED_MS) {
            pause = FIRST_PAUSE_MS;
            continue; /* it lived for a while: start the next one at once */
        }
        pause_ms(pause);
        pause = pause * 2 < MOST_PAUSE_MS ? pause * 2 : MOST_PAUSE_MS;
    }
}
