/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Make the times of events. No I/O. */
#ifndef EVENT_ZEROMQ_STAMPS_H
#define EVENT_ZEROMQ_STAMPS_H

#include <stddef.h>
#include <stdint.h>

enum { STAMP_SLOTS = 1 << 16 };

/* An even clock: it follows the machine's clock only when that was set by a second or more. */
struct steady_clock {
    int64_t offset_ns;
};

void clock_start(struct steady_clock *clock, int64_t wall_ns, int64_t steady_ns);

/* Follow a step of the machine's clock, and return its size in ms, 0 for none. */
int64_t clock_follow(struct steady_clock *clock, int64_t wall_ns, int64_t steady_ns);

/* Return epoch ms. */
int64_t clock_now_ms(const struct steady_clock *clock, int64_t steady_ns);

int64_t read_wall_ns(void);
int64_t read_steady_ns(void);

/* The times of a run. An AOR has a slot of a fixed table: two that share one only get a later time now and then. */
struct stamps {
    int64_t newest_ms;
    int64_t floor_ms;
    int64_t last_ms[STAMP_SLOTS];
};

/* Begin again, after which times may be earlier than before. */
void stamps_forget(struct stamps *stamps);

/* Return the time of an event: later than all of its AOR, and in order with those of events without AOR (NULL). */
int64_t stamps_next(struct stamps *stamps, const char *aor, size_t length, int64_t now_ms);

#endif
