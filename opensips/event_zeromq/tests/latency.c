/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * How long a SIP worker is held up by one event while nobody reads the ring: latency PRODUCERS EVENTS MB. Each producer is a
 * process. Prints the median, the 99th and 99.9th percentile and the largest time in ns, and how many events were lost. */
#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = {"domain", "aor",    "uri",     "received", "path", "qval", "user_agent", "socket",
                                    "bflags", "expires", "callid", "cseq",     "attr", "latency", "shtag"};
static const char text[] = "sip:alice@ae97d0eda82f.invalid;transport=ws";

static void raise_one(struct ring *ring, unsigned number)
{
    static unsigned char buffer[RING_EVENT_BYTES];
    char aor[16];
    struct pack pack;

    snprintf(aor, sizeof aor, "u%u", number);
    pack_start(&pack, buffer, sizeof buffer);
    pack_map(&pack, sizeof names / sizeof *names);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        pack_text(&pack, names[i], strlen(names[i]));
        if (i % 4 == 1)
            pack_signed(&pack, (int64_t)number);
        else
            pack_text(&pack, text, sizeof text - 1);
    }
    ring_put(ring, "E_UL_LATENCY_UPDATE", 19, aor, strlen(aor), buffer, pack.length);
}

static void produce(struct ring *ring, int64_t *times, unsigned events)
{
    for (unsigned i = 0; i < events; i++) {
        int64_t before = read_steady_ns();

        raise_one(ring, i);
        times[i] = read_steady_ns() - before;
    }
    _exit(0);
}

static int compare(const void *one, const void *other)
{
    int64_t difference = *(const int64_t *)one - *(const int64_t *)other;

    return (difference > 0) - (difference < 0);
}

int main(int count, char **arguments)
{
    size_t producers, events, all;
    struct ring *ring;
    int64_t *times;

    if (count != 4)
        return 1;
    producers = (size_t)atol(arguments[1]);
    events = (size_t)atol(arguments[2]);
    all = producers * events;
    ring = ring_create((size_t)atol(arguments[3]) << 20, -1);
    times = mmap(NULL, all * sizeof *times, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (!ring || times == MAP_FAILED)
        return 1;
    for (size_t i = 0; i < producers; i++)
        if (!fork())
            produce(ring, times + i * events, (unsigned)events);
    while (wait(NULL) > 0) {
    }
    qsort(times, all, sizeof *times, compare);
    printf("%lld %lld %lld %lld %llu\n", (long long)times[all / 2], (long long)times[all * 99 / 100],
           (long long)times[all * 999 / 1000], (long long)times[all - 1], (unsigned long long)atomic_load(&ring->lost));
    return 0;
}
