/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * An event transport of OpenSIPS: subscribe_event("E_UL_LATENCY_UPDATE", "zeromq:tcp://127.0.0.1:5555").
 *
 * What is raised goes to a ring in shared memory (ring.c). A process of its own publishes it (publisher.c), and another
 * one starts it again where it dies (supervisor.c): OpenSIPS ends when a process that it started itself does. */
#include "opensips.h"
#include "publisher.h"
#include "supervisor.h"
#include "transport.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ENDPOINT_WAIT_MS = 1000,
    CALM_SECONDS = 30, /* without a loss: the next one is news again */
    STOP_SECONDS = 10, /* two to publish what is left, five for subscribers to take it */
};

/* What all processes share beside the ring. */
struct shared {
    struct endpoint endpoint;
    atomic_uint_least64_t restarts;
};

static char *node = "opensips";
static char *publish;
static int ring_size = 16 << 20;
static int hwm = 50000;
static int hold_ms = 5000;
static char *curve_secret_key;
static char *curve_clients = "";
static int allow_plaintext;

static struct ring *ring;
static struct shared *shared;
static struct keys keys;
static int wake_fd = -1;
static volatile sig_atomic_t stop = GO_ON;

static bool is_terminating(void)
{
    return sr_get_core_status() == STATE_TERMINATING;
}

/* The publisher's process */

static void on_stop(int signo)
{
    const uint64_t one = 1;
    int error = errno; /* of what it interrupts */

    (void)signo;
    stop = is_terminating() ? STOP_FOR_GOOD : STOP;
    if (write(wake_fd, &one, sizeof one) < 0) {
        /* it is awake already */
    }
    alarm(STOP_SECONDS); /* ends it if ZeroMQ does not: the endpoint must be free for the next one */
    errno = error;
}

static void report(enum report_level level, const char *text)
{
    if (level == REPORT_ERROR)
        LM_ERR("%s\n", text);
    else if (level == REPORT_WARNING)
        LM_WARN("%s\n", text);
    else
        LM_NOTICE("%s\n", text);
}

/* Wait for the first subscription where no parameter names the endpoint. */
static bool await_endpoint(void)
{
    struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
    uint64_t count;

    while (!endpoint_is_set(&shared->endpoint) && !stop)
        if (poll(&wake, 1, ENDPOINT_WAIT_MS) > 0 && read(wake_fd, &count, sizeof count) < 0)
            usleep(1000);
    return !stop;
}

static int run_publisher(void)
{
    const struct publisher_options options = {
        .node = node,
        .sockets = {.endpoint = shared->endpoint.text, .hwm = hwm, .keys = curve_secret_key ? &keys : NULL},
        .hold_ms = hold_ms,
        .report = report,
        .stop = &stop,
    };

    return await_endpoint() ? publisher_run(ring, &options) : 0;
}

/* The supervisor's process */

static void publisher_ended(int status)
{
    if (WIFSIGNALED(status))
        LM_ERR("the publisher was ended by signal %d; another one is started\n", WTERMSIG(status));
    else
        LM_ERR("the publisher ended with code %d; another one is started\n", WEXITSTATUS(status));
    atomic_fetch_add(&shared->restarts, 1);
}

/* Log losses once for each episode, here and not where they happen. */
static void watch_losses(void)
{
    static uint64_t before, reported;
    static int calm = CALM_SECONDS;
    uint64_t lost = atomic_load(&ring->lost);

    if (lost == before) {
        if (calm < CALM_SECONDS && ++calm == CALM_SECONDS)
            LM_NOTICE("%llu events were lost; none for %d s\n", (unsigned long long)(lost - reported), CALM_SECONDS);
        return;
    }
    if (calm == CALM_SECONDS) {
        reported = before;
        LM_WARN("events are lost: the ring is full, or an event is too large; is the publisher stopped or starved? "
                "ring_size gives more room\n");
    }
    calm = 0;
    before = lost;
}

static void run_supervisor(int rank)
{
    static const struct supervised supervised = {
        .run = run_publisher,
        .stop = on_stop,
        .ended = publisher_ended,
        .tick = watch_losses,
        .may_stop = is_terminating,
    };

    (void)rank;
    supervise(&supervised);
}

/* The module */

static bool check_parameters(void)
{
    const char *problem = curve_secret_key ? read_keys(&keys, curve_secret_key, curve_clients) : NULL;

    if (problem)
        LM_ERR("%s\n", problem);
    else if (!is_node(node))
        LM_ERR("node is not 1 to 64 of A-Z a-z 0-9 . _ -: %s\n", node);
    else if (hwm < 1 || hold_ms < 0 || ring_size < RING_MIN_BYTES || ring_size > 1 << 30)
        LM_ERR("hwm is at least 1, hold_ms 0 or more, ring_size from 1 MB (1048576) to 1 GB\n");
    else
        return true;
    return false;
}

static bool create_shared(void)
{
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0)
        return false;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return false;
    shared->endpoint.is_encrypted = curve_secret_key;
    shared->endpoint.allows_plaintext = allow_plaintext;
    ring = ring_create((size_t)ring_size, wake_fd);
    return ring;
}

static int mod_init(void)
{
    const char *problem;

    if (!check_parameters())
        return -1;
    if (!create_shared()) {
        LM_ERR("no memory for a ring of %d bytes: %s\n", ring_size, strerror(errno));
        return -1;
    }
    problem = publish ? endpoint_fix(&shared->endpoint, publish, strlen(publish)) : NULL;
    if (problem) {
        LM_ERR("publish = %s: %s\n", publish, problem);
        return -1;
    }
    return transport_register(ring, &shared->endpoint) ? 0 : -1;
}

static unsigned long get_published(void *unused)
{
    (void)unused;
    return ring ? (unsigned long)atomic_load(&ring->published) : 0;
}

static unsigned long get_lost(void *unused)
{
    (void)unused;
    return ring ? (unsigned long)atomic_load(&ring->lost) : 0;
}

static unsigned long get_queued_bytes(void *unused)
{
    (void)unused;
    return ring ? (unsigned long)ring_queued_bytes(ring) : 0;
}

static unsigned long get_restarts(void *unused)
{
    (void)unused;
    return shared ? (unsigned long)atomic_load(&shared->restarts) : 0;
}

static const stat_export_t statistics[] = {
    {"published", STAT_IS_FUNC, (stat_var **)get_published},
    {"lost", STAT_IS_FUNC, (stat_var **)get_lost},
    {"queued_bytes", STAT_IS_FUNC, (stat_var **)get_queued_bytes},
    {"restarts", STAT_IS_FUNC, (stat_var **)get_restarts},
    {0},
};

static const param_export_t parameters[] = {
    {"node", STR_PARAM, &node},
    {"publish", STR_PARAM, &publish},
    {"ring_size", INT_PARAM, &ring_size},
    {"hwm", INT_PARAM, &hwm},
    {"hold_ms", INT_PARAM, &hold_ms},
    {"curve_secret_key", STR_PARAM, &curve_secret_key},
    {"curve_clients", STR_PARAM, &curve_clients},
    {"allow_plaintext", INT_PARAM, &allow_plaintext},
    {0},
};

static const proc_export_t processes[] = {
    {.name = "event_zeromq supervisor", .function = run_supervisor, .no = 1},
    {0},
};

__attribute__((visibility("default"))) struct module_exports exports = {
    .name = "event_zeromq",
    .type = MOD_TYPE_DEFAULT,
    .ver_info = MODULE_VERSION,
    .dlflags = DEFAULT_DLFLAGS,
    .params = parameters,
    .stats = statistics,
    .procs = processes,
    .init_f = mod_init,
};
