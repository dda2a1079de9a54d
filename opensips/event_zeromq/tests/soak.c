/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * The ring, the supervisor and the publisher under load without OpenSIPS: soak ENDPOINT SECONDS PRODUCERS. It is meant for
 * ASan or valgrind. Every minute it prints how many events were published and lost, and the memory of the publisher. */
#include "publisher.h"
#include "supervisor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { PAUSE_US = 500, MOST_BYTES = 700, MINUTE = 60 };

static struct ring *ring;
static const char *endpoint;
static int seconds;
static volatile sig_atomic_t stop = GO_ON;

static void report(enum report_level level, const char *text)
{
    fprintf(stderr, "%d %s\n", level, text);
}

static void on_stop(int signo)
{
    (void)signo;
    stop = STOP_FOR_GOOD;
}

static void produce(unsigned seed)
{
    unsigned char bytes[MOST_BYTES + 8];
    char text[MOST_BYTES], name[8], aor[16];
    int name_length = snprintf(name, sizeof name, "E_%u", seed);
    time_t end = time(NULL) + seconds - 2;
    struct pack pack;

    while (time(NULL) < end) {
        size_t length = (size_t)rand_r(&seed) % MOST_BYTES;
        int aor_length = snprintf(aor, sizeof aor, "u%u", (unsigned)rand_r(&seed) % 100000);

        memset(text, rand_r(&seed) % 0xf0 + 1, length);
        pack_start(&pack, bytes, sizeof bytes);
        pack_map(&pack, 1);
        pack_key(&pack, "t");
        pack_text(&pack, text, length);
        ring_put(ring, name, (size_t)name_length, aor, (size_t)aor_length, pack.is_full ? NULL : bytes, pack.length);
        usleep(PAUSE_US);
    }
    _exit(0);
}

static int run(void)
{
    const struct publisher_options options = {
        .node = "soak",
        .sockets = {.endpoint = endpoint, .hwm = 1000},
        .hold_ms = 5000,
        .report = report,
        .stop = &stop,
    };

    signal(SIGTERM, on_stop);
    exit(publisher_run(ring, &options)); /* not _exit: leaks are reported at exit */
}

static void ended(int status)
{
    fprintf(stderr, "the publisher ended: %d\n", status);
}

static void tick(void)
{
    static int second;

    if (++second % MINUTE == 0)
        printf("%d s: %llu published, %llu lost, %llu bytes wait\n", second,
               (unsigned long long)atomic_load(&ring->published), (unsigned long long)atomic_load(&ring->lost),
               (unsigned long long)ring_queued_bytes(ring));
    fflush(stdout);
    if (second >= seconds)
        kill(getpid(), SIGTERM);
}

static bool may_stop(void)
{
    return true;
}

int main(int count, char **arguments)
{
    static const struct supervised supervised = {.run = run, .ended = ended, .tick = tick, .may_stop = may_stop};

    if (count != 4)
        return 1;
    endpoint = arguments[1];
    seconds = atoi(arguments[2]);
    ring = ring_create(RING_MIN_BYTES, eventfd(0, EFD_NONBLOCK));
    for (int i = 0; i < atoi(arguments[3]); i++)
        if (!fork())
            produce((unsigned)i + 1);
    supervise(&supervised);
    printf("%llu raised, %llu published, %llu lost\n", (unsigned long long)atomic_load(&ring->raised),
           (unsigned long long)atomic_load(&ring->published), (unsigned long long)atomic_load(&ring->lost));
    return atomic_load(&ring->raised) != atomic_load(&ring->published) + atomic_load(&ring->lost);
}
