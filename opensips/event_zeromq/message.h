/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Build the bodies of the bus' messages (docs/bus.md). No I/O. */
#ifndef EVENT_ZEROMQ_MESSAGE_H
#define EVENT_ZEROMQ_MESSAGE_H

#include "pack.h"
#include "ring.h"

enum {
    MESSAGE_EVENTS = 16, /* the most events in one message */
    MESSAGE_BYTES = (MESSAGE_EVENTS + 1) * RING_EVENT_BYTES,
};

#define HEARTBEAT "HEARTBEAT"

/* Who publishes, and which life of it. */
struct origin {
    const char *node;
    uint64_t run;
};

/* Pack events of one name that follow each other; `seq` is the first one's. */
void pack_message(struct pack *pack, const struct origin *origin, uint64_t seq, const struct record *const *records,
                  size_t count);

/* The last number of a name. */
struct last_seq {
    const char *name;
    uint64_t seq;
};

struct heartbeat {
    const struct last_seq *seqs;
    size_t count;
    int64_t time_ms;
    int64_t last_event_ms; /* 0 for none */
    uint64_t received;
    bool is_end; /* the last message of its run */
};

void pack_heartbeat(struct pack *pack, const struct origin *origin, uint64_t seq, const struct heartbeat *heartbeat);

#endif
