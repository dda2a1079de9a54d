/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * A producer that dies while it holds the lock of a ring, at each of its steps, before and after the reader took what it
 * wrote. Exits with 1 where an event then has a number of another, or the sums are wrong. */
#include "ring.c"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

enum step { NOTHING, WRITTEN, QUEUED, COUNTED, STEPS };

static void require(bool is_true, const char *what, int step)
{
    if (is_true)
        return;
    fprintf(stderr, "dying at step %d: %s\n", step, what);
    exit(1);
}

/* Do what `ring_put` does, up to a step. */
static void put_and_die(struct ring *ring, enum step step)
{
    struct record head = {.ordinal = 1, .number = 1, .length = 3};

    lock(ring);
    if (step >= WRITTEN)
        write_record(ring, &head, "abc");
    if (step == WRITTEN)
        atomic_fetch_sub(&ring->queued, 1);
    if (step == COUNTED)
        add(&ring->names[0].raised, 1);
    _exit(0);
}

static uint64_t read_all(struct ring *ring, uint64_t next, int step)
{
    uint64_t position = ring_position(ring);
    const struct record *record;

    while ((record = ring_read(ring, &position))) {
        require(record->ordinal == next && record->number == next, "a number is missing or comes twice", step);
        next++;
        ring_commit(ring, position, record, 1);
    }
    return next;
}

static void check(enum step step, bool is_read)
{
    struct ring *ring = ring_create(RING_MIN_BYTES, -1);
    uint64_t next = 0;

    require(ring && ring_put(ring, "E", 1, NULL, 0, "abc", 3), "no ring", step);
    if (!fork())
        put_and_die(ring, step);
    wait(NULL);
    if (is_read)
        next = read_all(ring, next, step);
    require(ring_put(ring, "E", 1, NULL, 0, "abc", 3), "the ring is blocked", step);
    next = read_all(ring, next, step);
    require(next == 2 + (step >= WRITTEN), "an event is missing", step);
    require(atomic_load(&ring->raised) == next && atomic_load(&ring->published) == next, "the sums are wrong", step);
    ring_destroy(ring);
}

int main(void)
{
    for (int step = NOTHING; step < STEPS; step++) {
        check((enum step)step, false);
        check((enum step)step, true);
    }
    return 0;
}
