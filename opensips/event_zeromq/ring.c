/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * A ring of events in shared memory. */
#include "ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 8, PADDING = UINT16_MAX };

static bool init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    bool is_done;

    if (pthread_mutexattr_init(&attributes))
        return false;
    is_done = !pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) &&
              !pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) && !pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return is_done;
}

struct ring *ring_create(size_t bytes, int wake_fd)
{
    size_t capacity = RING_MIN_BYTES;
    struct ring *ring;

    while (capacity < bytes && capacity < SIZE_MAX / 4)
        capacity *= 2;
    /* populated, so that no SIP worker is the first to touch a page */
    ring = mmap(NULL, sizeof *ring + capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (ring == MAP_FAILED)
        return NULL;
    ring->capacity = capacity;
    ring->wake_fd = wake_fd;
    clock_start(&ring->clock, read_wall_ns(), read_steady_ns());
    if (!init_lock(&ring->lock)) {
        ring_destroy(ring);
        return NULL;
    }
    return ring;
}

void ring_destroy(struct ring *ring)
{
    munmap(ring, sizeof *ring + ring->capacity);
}

static void add(atomic_uint_least64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value, memory_order_release);
}

static void raise_to(atomic_uint_least64_t *counter, uint64_t value)
{
    if (atomic_load_explicit(counter, memory_order_relaxed) < value)
        atomic_store_explicit(counter, value, memory_order_release);
}

/* Count what a producer wrote that died before it could: its number must not be used again. The records that are still
 * there tell it, or the accounts of the reader that took them. */
static void mend(struct ring *ring)
{
    uint64_t position = atomic_load(&ring->tail);
    const struct record *record;

    raise_to(&ring->queued, atomic_load(&ring->published));
    for (uint32_t i = 0; i < RING_NAMES; i++)
        raise_to(&ring->names[i].raised, atomic_load(&ring->names[i].accounted));
    while ((record = ring_read(ring, &position))) {
        raise_to(&ring->queued, record->number + 1);
        raise_to(&ring->names[record->name].raised, record->ordinal + 1);
    }
    raise_to(&ring->raised, atomic_load(&ring->queued) + atomic_load(&ring->lost));
}

static void lock(struct ring *ring)
{
    if (pthread_mutex_lock(&ring->lock) != EOWNERDEAD)
        return;
    mend(ring);
    pthread_mutex_consistent(&ring->lock);
}

/* Return the name's index, RING_NAMES where there is no place for another one. */
static uint32_t find_name(struct ring *ring, const char *name, size_t length)
{
    uint32_t count = atomic_load_explicit(&ring->name_count, memory_order_relaxed), i;

    for (i = 0; i < count; i++)
        if (ring->names[i].length == length && !memcmp(ring->names[i].text, name, length))
            return i;
    if (!length || length > RING_NAME_LENGTH || count == RING_NAMES)
        return RING_NAMES;
    memcpy(ring->names[i].text, name, length);
    ring->names[i].length = (uint8_t)length;
    atomic_store_explicit(&ring->name_count, count + 1, memory_order_release);
    return i;
}

/* Return the position where so many bytes can be written in one piece; false when the ring is full. */
static bool reserve(struct ring *ring, size_t size, uint64_t *position)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t used = head - atomic_load_explicit(&ring->tail, memory_order_acquire);
    size_t rest = ring->capacity - (head & (ring->capacity - 1)), padding = rest < size ? rest : 0;

    if (used + padding + size > ring->capacity)
        return false;
    if (padding) {
        struct record *record = (struct record *)(ring->data + (head & (ring->capacity - 1)));

        record->size = (uint32_t)padding;
        record->name = PADDING;
    }
    *position = head + padding;
    return true;
}

static int64_t stamp(struct ring *ring, const char *aor, size_t length)
{
    int64_t steady_ns = read_steady_ns();

    if (clock_follow(&ring->clock, read_wall_ns(), steady_ns) < 0) {
        stamps_forget(&ring->stamps);
        ring->epoch++;
    }
    return stamps_next(&ring->stamps, aor, length, clock_now_ms(&ring->clock, steady_ns));
}

static bool write_record(struct ring *ring, struct record *head, const void *params)
{
    uint64_t position;
    struct record *record;

    head->size = (uint32_t)((sizeof *head + head->length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (!params || head->length > RING_EVENT_BYTES || !reserve(ring, head->size, &position))
        return false;
    record = (struct record *)(ring->data + (position & (ring->capacity - 1)));
    *record = *head;
    memcpy(record->params, params, head->length);
    atomic_store(&ring->head, position + head->size);
    add(&ring->queued, 1);
    return true;
}

/* Put an event in while the lock is held. The name's count is raised last: whoever sees it finds the record, too. */
static bool put(struct ring *ring, uint32_t index, const char *aor, size_t aor_length, const void *params, size_t length)
{
    struct ring_name *name = &ring->names[index];
    struct record head = {
        .name = index,
        .ordinal = atomic_load_explicit(&name->raised, memory_order_relaxed),
        .number = atomic_load_explicit(&ring->queued, memory_order_relaxed),
        .time_ms = stamp(ring, aor, aor_length),
        .epoch = ring->epoch,
        .length = (uint32_t)length,
    };
    bool is_in = write_record(ring, &head, params);

    add(&name->raised, 1);
    atomic_store_explicit(&ring->last_event_ms, head.time_ms, memory_order_relaxed);
    return is_in;
}

static void wake(struct ring *ring)
{
    const uint64_t one = 1;

    if (!atomic_load(&ring->is_waiting) || !atomic_exchange(&ring->is_waiting, false) || ring->wake_fd < 0)
        return;
    if (write(ring->wake_fd, &one, sizeof one) < 0) {
        /* an eventfd that is full is readable: the reader wakes all the same */
    }
}

bool ring_put(struct ring *ring, const char *name, size_t name_length, const char *aor, size_t aor_length,
              const void *params, size_t length)
{
    bool is_in = false;
    uint32_t index;

    if (length > RING_EVENT_BYTES)
        params = NULL;
    lock(ring);
    index = find_name(ring, name, name_length);
    if (index < RING_NAMES)
        is_in = put(ring, index, aor, aor_length, params, length);
    if (!is_in)
        add(&ring->lost, 1);
    add(&ring->raised, 1);
    pthread_mutex_unlock(&ring->lock);
    wake(ring);
    return is_in;
}

const struct record *ring_read(struct ring *ring, uint64_t *position)
{
    while (*position != atomic_load(&ring->head)) {
        const struct record *record = (const struct record *)(ring->data + (*position & (ring->capacity - 1)));

        *position += record->size;
        if (record->name != PADDING)
            return record;
    }
    return NULL;
}

uint64_t ring_position(struct ring *ring)
{
    return atomic_load_explicit(&ring->tail, memory_order_relaxed);
}

void ring_commit(struct ring *ring, uint64_t position, const struct record *last, uint64_t records)
{
    atomic_store_explicit(&ring->names[last->name].accounted, last->ordinal + 1, memory_order_relaxed);
    add(&ring->published, records);
    atomic_store_explicit(&ring->tail, position, memory_order_release);
}

void ring_abandon(struct ring *ring)
{
    uint64_t head, left;

    lock(ring);
    head = atomic_load(&ring->head);
    left = atomic_load(&ring->queued) - atomic_load(&ring->published);
    add(&ring->lost, left);
    for (uint32_t i = 0; i < RING_NAMES; i++)
        atomic_store(&ring->names[i].accounted, atomic_load(&ring->names[i].raised));
    atomic_store(&ring->tail, head);
    pthread_mutex_unlock(&ring->lock);
}

void ring_account(struct ring *ring)
{
    uint32_t count = atomic_load_explicit(&ring->name_count, memory_order_acquire);
    uint64_t raised[RING_NAMES];

    for (uint32_t i = 0; i < count; i++)
        raised[i] = atomic_load_explicit(&ring->names[i].raised, memory_order_acquire);
    if (!ring_is_empty(ring))
        return;
    for (uint32_t i = 0; i < count; i++)
        atomic_store_explicit(&ring->names[i].accounted, raised[i], memory_order_relaxed);
}

/* The first record of each name bounds what was accounted for, and the first of all tells how many were sent. */
void ring_resume(struct ring *ring)
{
    uint64_t position = ring_position(ring);
    const struct record *record, *first = NULL;

    while ((record = ring_read(ring, &position))) {
        struct ring_name *name = &ring->names[record->name];

        if (!first)
            first = record;
        if (record->ordinal < atomic_load_explicit(&name->accounted, memory_order_relaxed))
            atomic_store_explicit(&name->accounted, record->ordinal, memory_order_relaxed);
    }
    if (first)
        atomic_store_explicit(&ring->published, first->number, memory_order_relaxed);
}

bool ring_is_empty(struct ring *ring)
{
    return atomic_load(&ring->head) == ring_position(ring);
}

bool ring_await(struct ring *ring)
{
    atomic_store(&ring->is_waiting, true);
    if (ring_is_empty(ring))
        return true;
    ring_awake(ring);
    return false;
}

void ring_awake(struct ring *ring)
{
    atomic_store(&ring->is_waiting, false);
}

uint64_t ring_queued_bytes(struct ring *ring)
{
    return atomic_load(&ring->head) - atomic_load(&ring->tail);
}
