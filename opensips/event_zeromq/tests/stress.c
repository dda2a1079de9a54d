/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Several producers and a reader on one ring: stress PRODUCERS EVENTS PAUSE_US. It is built with sanitizers, and exits
 * with 1 where something is not as it should be. */
#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_PRODUCERS = 16, MOST_BYTES = 3000 };

static struct ring *ring;
static unsigned producer_count, event_count, pause_us;
static atomic_uint done;
static uint64_t received;

static void require(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "stress: %s\n", what);
    exit(1);
}

/* Each producer has a name and an AOR; all bytes of an event are its number. */
static void *produce(void *argument)
{
    unsigned producer = (unsigned)(uintptr_t)argument, seed = producer;
    unsigned char bytes[MOST_BYTES];
    char name[8], aor[8];
    int name_length = snprintf(name, sizeof name, "E_%u", producer);
    int aor_length = snprintf(aor, sizeof aor, "a%u", producer);

    for (unsigned i = 0; i < event_count; i++) {
        size_t length = (size_t)rand_r(&seed) % MOST_BYTES;

        memset(bytes, (int)(i & 0xff), length);
        ring_put(ring, name, (size_t)name_length, producer ? aor : NULL, (size_t)aor_length, bytes, length);
    }
    atomic_fetch_add(&done, 1);
    return NULL;
}

static void check(const struct record *record)
{
    static uint64_t next[RING_NAMES];
    static int64_t last_ms[RING_NAMES];
    const struct ring_name *name = &ring->names[record->name];

    require(record->ordinal >= next[record->name], "numbers go back");
    require(record->time_ms > last_ms[record->name] - !strcmp(name->text, "E_0"), "times do not rise");
    next[record->name] = record->ordinal + 1;
    last_ms[record->name] = record->time_ms;
    for (uint32_t i = 0; i < record->length; i++)
        require(record->params[i] == (record->ordinal & 0xff), "an event has the bytes of another");
}

static void read_all(void)
{
    uint64_t position = ring_position(ring);
    const struct record *record;

    while ((record = ring_read(ring, &position))) {
        check(record);
        ring_commit(ring, position, record, 1);
        received++;
        if (pause_us)
            usleep(pause_us);
    }
    ring_account(ring);
}

static void *consume(void *unused)
{
    (void)unused;
    while (atomic_load(&done) < producer_count)
        read_all();
    read_all();
    return NULL;
}

/* Texts of random bytes, many of them almost UTF-8, into buffers of random sizes. */
static void pack_texts(unsigned count)
{
    static const char bytes[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\x80\xff\xf4\x8f\xbf";
    unsigned char buffer[256];
    char text[64];
    unsigned seed = 1;
    struct pack pack;

    while (count--) {
        size_t length = (size_t)rand_r(&seed) % sizeof text;

        for (size_t i = 0; i < length; i++)
            text[i] = bytes[(size_t)rand_r(&seed) % (sizeof bytes - 1)];
        pack_start(&pack, buffer, (size_t)rand_r(&seed) % sizeof buffer);
        pack_text(&pack, text, length);
        pack_signed(&pack, (int64_t)rand_r(&seed) * (rand_r(&seed) % 2 ? -1 : 1) * rand_r(&seed));
        require(pack.length <= pack.size, "more was packed than there is room for");
    }
}

static void check_sums(void)
{
    uint64_t lost = atomic_load(&ring->lost), accounted = 0;

    for (uint32_t i = 0; i < RING_NAMES; i++)
        accounted += atomic_load(&ring->names[i].accounted);
    require(atomic_load(&ring->raised) == (uint64_t)producer_count * event_count, "an event was not counted");
    require(received + lost == atomic_load(&ring->raised), "published and lost do not make all");
    require(accounted == atomic_load(&ring->raised), "the accounts are not complete");
    require(atomic_load(&ring->published) == received && ring_is_empty(ring), "the reader did not finish");
    printf("%llu received, %llu lost\n", (unsigned long long)received, (unsigned long long)lost);
}

int main(int count, char **arguments)
{
    pthread_t producers[MOST_PRODUCERS], reader;

    require(count == 4, "usage: stress PRODUCERS EVENTS PAUSE_US");
    producer_count = (unsigned)atoi(arguments[1]);
    event_count = (unsigned)atoi(arguments[2]);
    pause_us = (unsigned)atoi(arguments[3]);
    require(producer_count <= MOST_PRODUCERS, "too many producers");
    pack_texts(event_count);
    ring = ring_create(RING_MIN_BYTES, -1);
    require(ring, "no memory");
    pthread_create(&reader, NULL, consume, NULL);
    for (uintptr_t i = 0; i < producer_count; i++)
        pthread_create(&producers[i], NULL, produce, (void *)i);
    for (unsigned i = 0; i < producer_count; i++)
        pthread_join(producers[i], NULL);
    pthread_join(reader, NULL);
    check_sums();
    ring_destroy(ring);
    return 0;
}
