/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Publish what is in a ring on a ZeroMQ bus. */
#include "publisher.h"

#include "refusals.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum {
    BEAT_MS = 2000,
    TURN_MESSAGES = 256, /* then subscribers and keys get their turn */
    BIND_AGAIN_MS = 1000,
    QUIET_MS = 100, /* without an event, at the end: no SIP worker is left that could raise one */
    STOP_MS = 2000,
    LOG_CHARACTERS = 512,
};

/* What is polled. */
enum { SUBSCRIPTIONS, WAKE, AUTHENTICATION, POLLED };

struct publisher {
    struct ring *ring;
    const struct publisher_options *options;
    struct sockets sockets;
    struct origin origin;
    struct steady_clock clock;
    uint32_t epoch;
    int64_t beat_at_ms; /* of the steady clock, as all times here */
    int64_t hold_until_ms;
    bool is_holding;
    struct refusals refusals;
};

/* Only the publisher's process touches these pages. */
static unsigned char body[MESSAGE_BYTES];

static int64_t steady_ms(void)
{
    return read_steady_ns() / 1000000;
}

__attribute__((format(printf, 3, 4))) static void report(const struct publisher *publisher, enum report_level level,
                                                         const char *format, ...)
{
    char text[LOG_CHARACTERS];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    publisher->options->report(level, text);
}

static void rest_ms(int ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

    nanosleep(&time, NULL); /* a signal ends it early, which is meant */
}

/* Opening */

/* Bind, again and again: meanwhile events wait in the ring. Return false when it is time to stop. */
static bool bind_socket(const struct publisher *publisher)
{
    int reported = 0;

    while (!*publisher->options->stop) {
        if (!zmq_bind(publisher->sockets.bus, publisher->options->sockets.endpoint))
            return true;
        if (zmq_errno() != reported)
            report(publisher, REPORT_ERROR, "the bus can not be opened at %s: %s; trying again, events wait",
                   publisher->options->sockets.endpoint, zmq_strerror(zmq_errno()));
        reported = zmq_errno();
        rest_ms(BIND_AGAIN_MS);
    }
    return false;
}

/* Sending */

static void send_message(struct publisher *publisher, const char *topic, size_t topic_length, size_t length)
{
    sockets_send(&publisher->sockets, topic, topic_length, body, length);
}

/* Collect the last number of each name that has one in this run. Return how many. */
static size_t collect_seqs(struct ring *ring, struct last_seq *seqs)
{
    uint32_t all = atomic_load_explicit(&ring->name_count, memory_order_acquire);
    size_t count = 0;

    for (const struct ring_name *name = ring->names; name < ring->names + all; name++) {
        uint64_t events = atomic_load_explicit(&name->accounted, memory_order_relaxed) -
                          atomic_load_explicit(&name->first, memory_order_relaxed);

        if (events)
            seqs[count++] = (struct last_seq){name->text, events - 1};
    }
    return count;
}

/* Send a heartbeat, or the last message of a run. */
static void beat(struct publisher *publisher, bool is_end)
{
    struct ring *ring = publisher->ring;
    struct last_seq seqs[RING_NAMES];
    struct heartbeat heartbeat = {
        .seqs = seqs,
        .time_ms = clock_now_ms(&publisher->clock, read_steady_ns()),
        .is_end = is_end,
    };
    struct pack pack;

    ring_account(ring);
    heartbeat.count = collect_seqs(ring, seqs);
    heartbeat.last_event_ms = atomic_load(&ring->last_event_ms);
    heartbeat.received = atomic_load(&ring->raised);
    pack_start(&pack, body, sizeof body);
    pack_heartbeat(&pack, &publisher->origin, atomic_fetch_add(&ring->heartbeats, 1), &heartbeat);
    send_message(publisher, HEARTBEAT, strlen(HEARTBEAT), pack.length);
    atomic_store(&ring->has_ended, is_end);
}

/* Begin a new run, after the end of the last one: also of one whose publisher died. Each run is later than all before,
 * whatever the clock says. */
static void new_run(struct publisher *publisher)
{
    struct ring *ring = publisher->ring;
    uint64_t last = atomic_load(&ring->run), now = (uint64_t)read_wall_ns() / 1000;

    if (last && !atomic_load(&ring->has_ended)) {
        publisher->origin.run = last;
        beat(publisher, true);
    }
    for (uint32_t i = 0; i < RING_NAMES; i++)
        atomic_store(&ring->names[i].first, atomic_load(&ring->names[i].accounted));
    atomic_store(&ring->heartbeats, 0);
    publisher->origin.run = now > last ? now : last + 1;
    atomic_store(&ring->run, publisher->origin.run);
    atomic_store(&ring->has_ended, false);
}

/* Collect records that can share a message: of one name and without a gap. Return how many. */
static size_t gather(struct publisher *publisher, const struct record **records, uint64_t *position)
{
    uint64_t next = ring_position(publisher->ring);
    size_t count = 0;

    while (count < MESSAGE_EVENTS) {
        const struct record *record = ring_read(publisher->ring, &next);

        if (!record)
            break;
        if (count && (record->name != records[0]->name || record->ordinal != records[0]->ordinal + count ||
                      record->epoch != records[0]->epoch))
            break;
        records[count++] = record;
        *position = next;
    }
    return count;
}

/* Send the next message. Return false when there is none. */
static bool publish(struct publisher *publisher)
{
    const struct record *records[MESSAGE_EVENTS];
    struct pack pack;
    uint64_t position = 0;
    size_t count = gather(publisher, records, &position);
    const struct ring_name *name;
    uint64_t seq;

    if (!count)
        return false;
    if (records[0]->epoch != publisher->epoch) {
        publisher->epoch = records[0]->epoch;
        new_run(publisher);
    }
    name = &publisher->ring->names[records[0]->name];
    seq = records[0]->ordinal - atomic_load_explicit(&name->first, memory_order_relaxed);
    pack_start(&pack, body, sizeof body);
    pack_message(&pack, &publisher->origin, seq, records, count);
    send_message(publisher, name->text, name->length, pack.length);
    ring_commit(publisher->ring, position, records[count - 1], count);
    return true;
}

/* Receiving */

static void end_hold(struct publisher *publisher)
{
    publisher->is_holding = false;
    publisher->beat_at_ms = steady_ms();
    new_run(publisher);
}

/* Read who subscribed. A look at the heartbeat alone, as of companion doctor, does not end the wait of the events. */
static void read_subscriptions(struct publisher *publisher)
{
    char topic[RING_NAME_LENGTH + 1];
    int length;

    while ((length = zmq_recv(publisher->sockets.bus, topic, sizeof topic, ZMQ_DONTWAIT)) >= 0) {
        bool is_subscription = length > 0 && topic[0] == 1;
        bool is_heartbeat = length > 1 && topic[1] == HEARTBEAT[0];

        if (publisher->is_holding && is_subscription && !is_heartbeat)
            end_hold(publisher);
    }
}

static void authenticate(struct publisher *publisher)
{
    char key[KEY_CHARACTERS + 1], address[64];
    uint64_t count;

    if (!keys_answer(publisher->options->sockets.keys, publisher->sockets.authenticator, key, address, sizeof address))
        return;
    count = refusals_count(&publisher->refusals, key, steady_ms());
    if (count)
        report(publisher, REPORT_WARNING,
               "a subscriber at %s was refused: its public key %s is not in curve_clients (%llu refused since the last line)",
               address, *key ? key : "(none)", (unsigned long long)count);
}

/* Waiting */

static int until_ms(const struct publisher *publisher)
{
    int64_t left_ms = (publisher->is_holding ? publisher->hold_until_ms : publisher->beat_at_ms) - steady_ms();

    return left_ms < 0 ? 0 : (int)left_ms;
}

/* Wait for an event, a subscriber, a question or the next heartbeat. */
static void wait_for_work(struct publisher *publisher, int timeout_ms)
{
    zmq_pollitem_t items[POLLED] = {
        [SUBSCRIPTIONS] = {.socket = publisher->sockets.bus, .events = ZMQ_POLLIN},
        [WAKE] = {.fd = publisher->ring->wake_fd, .events = ZMQ_POLLIN},
        [AUTHENTICATION] = {.socket = publisher->sockets.authenticator, .events = ZMQ_POLLIN},
    };
    uint64_t count;

    if (!publisher->is_holding && !ring_await(publisher->ring))
        timeout_ms = 0;
    if (zmq_poll(items, publisher->sockets.authenticator ? POLLED : AUTHENTICATION, timeout_ms) < 0)
        return;
    ring_awake(publisher->ring);
    if (items[WAKE].revents && read(publisher->ring->wake_fd, &count, sizeof count) < 0) {
        /* another reader of it took the count, before it died */
    }
    if (items[AUTHENTICATION].revents)
        authenticate(publisher);
    if (items[SUBSCRIPTIONS].revents)
        read_subscriptions(publisher);
}

static void turn(struct publisher *publisher)
{
    wait_for_work(publisher, until_ms(publisher));
    if (publisher->is_holding && steady_ms() >= publisher->hold_until_ms) {
        report(publisher, REPORT_NOTICE, "no subscriber on the bus yet: events are lost until a consumer connects");
        end_hold(publisher);
    }
    if (publisher->is_holding)
        return;
    for (int i = 0; i < TURN_MESSAGES && publish(publisher); i++) {
    }
    if (steady_ms() < publisher->beat_at_ms)
        return;
    if (clock_follow(&publisher->clock, read_wall_ns(), read_steady_ns()) < 0)
        new_run(publisher);
    beat(publisher, false);
    publisher->beat_at_ms = steady_ms() + BEAT_MS;
}

/* Publish what the SIP workers still raise while they end, and say at the end how far the run came. */
static void finish(struct publisher *publisher)
{
    int64_t deadline_ms = steady_ms() + STOP_MS, quiet_at_ms = steady_ms() + QUIET_MS;

    if (publisher->is_holding)
        end_hold(publisher);
    while (steady_ms() < deadline_ms && steady_ms() < quiet_at_ms) {
        if (publish(publisher))
            quiet_at_ms = steady_ms() + QUIET_MS;
        else
            wait_for_work(publisher, QUIET_MS / 10);
    }
    if (*publisher->options->stop == STOP_FOR_GOOD)
        ring_abandon(publisher->ring);
    beat(publisher, true);
}

int publisher_run(struct ring *ring, const struct publisher_options *options)
{
    struct publisher publisher = {.ring = ring, .options = options, .origin.node = options->node, .is_holding = true};
    bool is_open = sockets_open(&publisher.sockets, &options->sockets);

    if (!is_open)
        report(&publisher, REPORT_ERROR, "ZeroMQ can not be used: %s", zmq_strerror(zmq_errno()));
    if (is_open && bind_socket(&publisher)) {
        clock_start(&publisher.clock, read_wall_ns(), read_steady_ns());
        ring_resume(ring);
        publisher.hold_until_ms = steady_ms() + options->hold_ms;
        report(&publisher, REPORT_NOTICE, "publishing at %s", options->sockets.endpoint);
        while (!*options->stop)
            turn(&publisher);
        finish(&publisher);
    }
    sockets_close(&publisher.sockets);
    return is_open ? 0 : 1;
}
