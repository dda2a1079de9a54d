/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * A ring of events in shared memory: any number of producers, one reader that takes no lock.
 *
 * A producer never waits for the reader. Where the ring is full its event is lost, but it has used up its number, so
 * that the gap is seen by whoever counts. The ring outlives its reader: the next one goes on where the last one was. */
#ifndef EVENT_ZEROMQ_RING_H
#define EVENT_ZEROMQ_RING_H

#include "stamps.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RING_NAMES = 128,
    RING_NAME_LENGTH = 64,
    RING_MIN_BYTES = 1 << 20,
    RING_EVENT_BYTES = 1 << 16, /* the most of one event */
};

/* One event. The first eight bytes are all there is of the padding before the end of the memory. */
struct record {
    uint32_t size; /* with this head and the bytes up to the next record */
    uint32_t name; /* index of the event's name */
    uint64_t ordinal; /* of the events of this name, the lost ones too */
    uint64_t number; /* of the records */
    int64_t time_ms;
    uint32_t epoch; /* changes when times may have gone back */
    uint32_t length;
    unsigned char params[];
};

struct ring_name {
    char text[RING_NAME_LENGTH + 1];
    uint8_t length;
    atomic_uint_least64_t raised; /* by producers: the next ordinal */
    atomic_uint_least64_t accounted; /* by the reader: everything below was sent, or is known to be lost */
    atomic_uint_least64_t first; /* by the reader: the ordinal that is seq 0 of its run */
};

struct ring {
    size_t capacity; /* a power of two */
    int wake_fd; /* an eventfd that wakes the reader; -1 for none */

    /* Producers, under the lock. */
    pthread_mutex_t lock;
    uint32_t epoch;
    struct steady_clock clock;
    struct stamps stamps;
    struct ring_name names[RING_NAMES];
    atomic_uint_least32_t name_count;
    atomic_uint_least64_t head; /* bytes ever written */
    atomic_uint_least64_t queued; /* records ever written */
    atomic_uint_least64_t raised; /* events */
    atomic_uint_least64_t lost;
    atomic_int_least64_t last_event_ms;

    /* The reader. */
    atomic_uint_least64_t tail; /* bytes ever read */
    atomic_uint_least64_t published; /* events */
    atomic_uint_least64_t run;
    atomic_uint_least64_t heartbeats; /* of the run */
    atomic_bool has_ended; /* the end of the run was sent */
    atomic_bool is_waiting;

    _Alignas(16) unsigned char data[];
};

/* Return a ring of at least so many bytes in memory that all later children share, NULL when there is none. */
struct ring *ring_create(size_t bytes, int wake_fd);
void ring_destroy(struct ring *ring);

/* Put an event in. `aor` may be NULL. Parameters that could not be packed are NULL: such an event is lost, too.
 * Return whether it is in. */
bool ring_put(struct ring *ring, const char *name, size_t name_length, const char *aor, size_t aor_length,
              const void *params, size_t length);

/* Return the record at a position and move on, NULL where there is none yet. */
const struct record *ring_read(struct ring *ring, uint64_t *position);

/* Return where the reader is. */
uint64_t ring_position(struct ring *ring);

/* Free everything before a position; `records` of one name up to `last` were sent. */
void ring_commit(struct ring *ring, uint64_t position, const struct record *last, uint64_t records);

/* Account for events that were lost after the last record: only with an empty ring is it known that none is to come. */
void ring_account(struct ring *ring);

/* Count what is still in the ring as lost: nobody will read it. */
void ring_abandon(struct ring *ring);

/* Mend the accounts of a reader that died between two of its steps. */
void ring_resume(struct ring *ring);

bool ring_is_empty(struct ring *ring);

/* Ask to be woken by `wake_fd`. Return false when an event is there already. */
bool ring_await(struct ring *ring);
void ring_awake(struct ring *ring);

uint64_t ring_queued_bytes(struct ring *ring);

#endif
