/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Make the times of events. */
#include "stamps.h"

#include <string.h>
#include <time.h>

#define NS_PER_MS INT64_C(1000000)
#define STEP_MS 1000

static int64_t read_ns(clockid_t id)
{
    struct timespec time;

    clock_gettime(id, &time);
    return (int64_t)time.tv_sec * 1000 * NS_PER_MS + time.tv_nsec;
}

int64_t read_wall_ns(void)
{
    return read_ns(CLOCK_REALTIME);
}

int64_t read_steady_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

void clock_start(struct steady_clock *clock, int64_t wall_ns, int64_t steady_ns)
{
    clock->offset_ns = wall_ns - steady_ns;
}

int64_t clock_follow(struct steady_clock *clock, int64_t wall_ns, int64_t steady_ns)
{
    int64_t step_ms = (wall_ns - steady_ns - clock->offset_ns) / NS_PER_MS;

    if (step_ms > -STEP_MS && step_ms < STEP_MS)
        return 0;
    clock_start(clock, wall_ns, steady_ns);
    return step_ms;
}

int64_t clock_now_ms(const struct steady_clock *clock, int64_t steady_ns)
{
    return (clock->offset_ns + steady_ns) / NS_PER_MS;
}

static int64_t max(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

/* FNV-1a: short, and good enough to spread AORs over a table. */
static uint32_t hash(const char *text, size_t length)
{
    uint32_t value = 2166136261u;

    for (size_t i = 0; i < length; i++)
        value = (value ^ (unsigned char)text[i]) * 16777619u;
    return value ^ (value >> 16);
}

void stamps_forget(struct stamps *stamps)
{
    memset(stamps, 0, sizeof *stamps);
}

int64_t stamps_next(struct stamps *stamps, const char *aor, size_t length, int64_t now_ms)
{
    int64_t time_ms;

    if (aor) {
        int64_t *last_ms = &stamps->last_ms[hash(aor, length) % STAMP_SLOTS];

        time_ms = *last_ms = max(max(now_ms, stamps->floor_ms), *last_ms + 1);
    } else {
        time_ms = stamps->floor_ms = max(now_ms, stamps->newest_ms);
    }
    stamps->newest_ms = max(stamps->newest_ms, time_ms);
    return time_ms;
}
