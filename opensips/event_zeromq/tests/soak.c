/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * The ring, the supervisor and the publisher under load without OpenSIPS: soak ENDPOINT SECONDS PRODUCERS. It is meant for
 * ASan or valgrind. One subscriber reads all, one is slow, others come and go, and strangers try a new key each time.
 * Every minute it prints how many events were published and lost, and the resident memory of the publisher. */
#include "publisher.h"
#include "supervisor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { PAUSE_US = 500, MOST_BYTES = 700, MINUTE = 60, STAY_MS = 500, FOR_EVER_MS = 1 << 30 };

struct pair {
    char public[KEY_CHARACTERS + 1], secret[KEY_CHARACTERS + 1];
};

static struct ring *ring;
static atomic_int *publisher;
static const char *endpoint;
static time_t started, end;
static struct pair server, client;
static struct keys keys;
static volatile sig_atomic_t stopping = GO_ON;

static void report(enum report_level level, const char *text)
{
    fprintf(stderr, "%d %s\n", level, text);
}

static void on_stop(int signo)
{
    (void)signo;
    stopping = STOP_FOR_GOOD;
}

static void produce(unsigned seed)
{
    unsigned char bytes[MOST_BYTES + 8];
    char text[MOST_BYTES], name[8], aor[16];
    int name_length = snprintf(name, sizeof name, "E_%u", seed);
    struct pack pack;

    while (time(NULL) < end - 2) {
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
}

/* Read messages for a while, with a pause after each. */
static void subscribe(const struct pair *pair, int stay_ms, unsigned pause_us)
{
    static char bytes[MESSAGE_BYTES];
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_SUB);
    int64_t until_ms = read_steady_ns() / 1000000 + stay_ms;
    int patience_ms = 100;

    zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server.public, KEY_CHARACTERS + 1);
    zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, pair->public, KEY_CHARACTERS + 1);
    zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, pair->secret, KEY_CHARACTERS + 1);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &patience_ms, sizeof patience_ms);
    zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0);
    zmq_connect(socket, endpoint);
    while (read_steady_ns() / 1000000 < until_ms && time(NULL) < end)
        if (zmq_recv(socket, bytes, sizeof bytes, 0) >= 0)
            usleep(pause_us);
    zmq_close(socket);
    zmq_ctx_term(context);
}

static void read_all(void)
{
    subscribe(&client, FOR_EVER_MS, 0);
}

static void read_slowly(void)
{
    subscribe(&client, FOR_EVER_MS, 20000);
}

static void come_and_go(void)
{
    while (time(NULL) < end)
        subscribe(&client, STAY_MS, 0);
}

static void try_keys(void)
{
    struct pair stranger;

    while (time(NULL) < end) {
        zmq_curve_keypair(stranger.public, stranger.secret);
        subscribe(&stranger, STAY_MS, 0);
    }
}

static int run(void)
{
    const struct publisher_options options = {
        .node = "soak",
        .sockets = {.endpoint = endpoint, .hwm = 1000, .keys = &keys},
        .hold_ms = 5000,
        .report = report,
        .stop = &stopping,
    };

    atomic_store(publisher, getpid());
    exit(publisher_run(ring, &options)); /* not _exit: leaks are reported at exit */
}

static void ended(int status)
{
    fprintf(stderr, "the publisher ended: %d\n", status);
}

/* Return the resident memory of the publisher in kB. */
static long read_memory_kb(void)
{
    char path[32];
    long pages = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/statm", atomic_load(publisher));
    file = fopen(path, "r");
    if (file && fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void tick(void)
{
    static time_t minutes;
    time_t now = time(NULL);

    if ((now - started) / MINUTE > minutes) {
        minutes = (now - started) / MINUTE;
        printf("%ld min: %llu published, %llu lost, %llu bytes wait, %ld kB\n", (long)minutes,
               (unsigned long long)atomic_load(&ring->published), (unsigned long long)atomic_load(&ring->lost),
               (unsigned long long)ring_queued_bytes(ring), read_memory_kb());
        fflush(stdout);
    }
    if (now >= end)
        kill(getpid(), SIGTERM);
}

static bool may_stop(void)
{
    return true;
}

static void in_a_child(void (*work)(void))
{
    if (fork())
        return;
    work();
    _exit(0);
}

int main(int count, char **arguments)
{
    static const struct supervised supervised = {
        .run = run, .stop = on_stop, .ended = ended, .tick = tick, .may_stop = may_stop};
    static void (*const subscribers[])(void) = {read_all, read_slowly, come_and_go, try_keys};

    if (count != 4)
        return 1;
    endpoint = arguments[1];
    started = time(NULL);
    end = started + atoi(arguments[2]);
    zmq_curve_keypair(server.public, server.secret);
    zmq_curve_keypair(client.public, client.secret);
    if (!keys_read_secret(&keys, server.secret, KEY_CHARACTERS) || keys_add_clients(&keys, client.public))
        return 1;
    ring = ring_create(RING_MIN_BYTES, eventfd(0, EFD_NONBLOCK));
    publisher = mmap(NULL, sizeof *publisher, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!ring || publisher == MAP_FAILED)
        return 1;
    for (int i = 0; i < atoi(arguments[3]); i++)
        if (!fork()) {
            produce((unsigned)i + 1);
            _exit(0);
        }
    for (size_t i = 0; i < sizeof subscribers / sizeof *subscribers; i++)
        in_a_child(subscribers[i]);
    supervise(&supervised);
    printf("%llu raised, %llu published, %llu lost\n", (unsigned long long)atomic_load(&ring->raised),
           (unsigned long long)atomic_load(&ring->published), (unsigned long long)atomic_load(&ring->lost));
    return atomic_load(&ring->raised) != atomic_load(&ring->published) + atomic_load(&ring->lost);
}
