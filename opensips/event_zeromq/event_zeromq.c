/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * An event transport of OpenSIPS: subscribe_event("E_UL_LATENCY_UPDATE", "zeromq:tcp://127.0.0.1:5555").
 *
 * What is raised goes to a ring in shared memory (ring.c). A process of its own publishes it (publisher.c), and another
 * one starts it again where it dies (supervisor.c): OpenSIPS ends when a process that it started itself does. */
#include "options.h"
#include "publisher.h"
#include "supervisor.h"

/* OpenSIPS' headers are not written for -Wextra. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include "../../dprint.h"
#include "../../evi/evi_transport.h"
#include "../../mem/shm_mem.h"
#include "../../sr_module.h"
#include "../../statistics.h"
#include "../../status_report.h"
#pragma GCC diagnostic pop

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROTOCOL "zeromq"
#define FLAG (1 << 19) /* no other transport has this one */

enum {
    UNSET,
    BEING_SET,
    SET,
    ENDPOINT_WAIT_MS = 1000,
    CALM_SECONDS = 30, /* without a loss: the next one is news again */
    TEXT_OF_NUMBER = 12,
};

/* What all processes share beside the ring. */
struct shared {
    atomic_int endpoint_state;
    char endpoint[ENDPOINT_CHARACTERS + 1];
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
static volatile sig_atomic_t is_stopping;

/* The endpoint: there is one, that of `publish` or of the first subscription. */

static const char *fix_endpoint(const char *endpoint, size_t length)
{
    const char *problem = check_endpoint(endpoint, length, curve_secret_key, allow_plaintext);
    int state = UNSET;

    if (problem)
        return problem;
    if (atomic_compare_exchange_strong(&shared->endpoint_state, &state, BEING_SET)) {
        memcpy(shared->endpoint, endpoint, length);
        atomic_store(&shared->endpoint_state, SET);
        return NULL;
    }
    while (atomic_load(&shared->endpoint_state) != SET)
        usleep(1);
    if (strlen(shared->endpoint) != length || memcmp(shared->endpoint, endpoint, length))
        return "one OpenSIPS publishes at one endpoint";
    return NULL;
}

/* Events: OpenSIPS calls raise while it holds locks of its own, so nothing here waits, allocates or logs. */

static void pack_param(struct pack *pack, const evi_param_t *param, unsigned position)
{
    char number[TEXT_OF_NUMBER];

    if (param->name.s) {
        pack_text(pack, param->name.s, (size_t)param->name.len);
    } else {
        snprintf(number, sizeof number, "%u", position);
        pack_key(pack, number);
    }
    if (param->flags & EVI_INT_VAL)
        pack_signed(pack, param->val.n);
    else if (param->val.s.s)
        pack_text(pack, param->val.s.s, (size_t)param->val.s.len);
    else
        pack_nil(pack);
}

static void pack_params(struct pack *pack, const evi_params_t *params)
{
    const evi_param_t *first = params ? params->first : NULL;
    unsigned count = 0;

    for (const evi_param_t *param = first; param; param = param->next)
        count++;
    pack_map(pack, count);
    count = 0;
    for (const evi_param_t *param = first; param; param = param->next)
        pack_param(pack, param, ++count);
}

static str find_aor(const evi_params_t *params)
{
    for (const evi_param_t *param = params ? params->first : NULL; param; param = param->next)
        if (param->name.len == 3 && !memcmp(param->name.s, "aor", 3) && param->flags & EVI_STR_VAL)
            return param->val.s;
    return (str){NULL, 0};
}

/* Return the length of a name that can be a topic of the bus, 0 for any other. */
static size_t topic_length(const str *name)
{
    for (int i = 0; i < name->len; i++)
        if (name->s[i] <= ' ' || name->s[i] > '~')
            return 0;
    return name->len == sizeof HEARTBEAT - 1 && !memcmp(name->s, HEARTBEAT, sizeof HEARTBEAT - 1) ? 0 : (size_t)name->len;
}

/* A lost event is no failure: OpenSIPS would log an error for each. It is counted, here and by the consumer. */
static int zeromq_raise(struct sip_msg *msg, str *name, evi_reply_sock *sock, evi_params_t *params,
                        evi_async_ctx_t *async)
{
    static _Thread_local unsigned char packed[RING_EVENT_BYTES];
    struct pack pack;
    str aor = find_aor(params);

    (void)msg;
    (void)sock;
    (void)async;
    pack_start(&pack, packed, sizeof packed);
    pack_params(&pack, params);
    ring_put(ring, name->s, topic_length(name), aor.s, (size_t)aor.len, pack.is_full ? NULL : packed, pack.length);
    return 0;
}

static evi_reply_sock *zeromq_parse(str socket)
{
    const char *problem =
        socket.len > 0 ? fix_endpoint(socket.s, (size_t)socket.len) : "write zeromq:tcp://127.0.0.1:5555";
    uint64_t one = 1;
    evi_reply_sock *parsed;

    if (problem) {
        LM_ERR("no events to zeromq:%.*s: %s%s%s\n", socket.len > 0 ? socket.len : 0, socket.s, problem,
               *shared->endpoint ? "; it is " : "", shared->endpoint);
        return NULL;
    }
    parsed = shm_malloc(sizeof *parsed + (size_t)socket.len);
    if (!parsed) {
        LM_ERR("no more shared memory\n");
        return NULL;
    }
    memset(parsed, 0, sizeof *parsed);
    parsed->flags = FLAG | EVI_ADDRESS | EVI_EXPIRE;
    parsed->address.s = (char *)(parsed + 1);
    parsed->address.len = socket.len;
    memcpy(parsed->address.s, socket.s, (size_t)socket.len);
    if (write(wake_fd, &one, sizeof one) < 0)
        LM_DBG("the publisher is awake already\n");
    return parsed;
}

static int zeromq_match(evi_reply_sock *one, evi_reply_sock *other)
{
    return one->address.len == other->address.len &&
           !memcmp(one->address.s, other->address.s, (size_t)one->address.len);
}

static str zeromq_print(evi_reply_sock *sock)
{
    return sock->address;
}

static const evi_export_t transport = {
    .proto = {PROTOCOL, sizeof PROTOCOL - 1},
    .raise = zeromq_raise,
    .parse = zeromq_parse,
    .match = zeromq_match,
    .print = zeromq_print,
    .flags = FLAG,
};

/* The publisher's process */

static void on_stop(int signo)
{
    const uint64_t one = 1;

    (void)signo;
    is_stopping = 1;
    if (write(wake_fd, &one, sizeof one) < 0) {
        /* it is awake already */
    }
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

    while (atomic_load(&shared->endpoint_state) != SET && !is_stopping)
        if (poll(&wake, 1, ENDPOINT_WAIT_MS) > 0 && read(wake_fd, &count, sizeof count) < 0)
            usleep(1000);
    return !is_stopping;
}

static int run_publisher(void)
{
    const struct publisher_options options = {
        .node = node,
        .endpoint = shared->endpoint,
        .hwm = hwm,
        .hold_ms = hold_ms,
        .keys = curve_secret_key ? &keys : NULL,
        .report = report,
        .is_stopping = &is_stopping,
    };

    signal(SIGTERM, on_stop);
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

static bool is_terminating(void)
{
    return sr_get_core_status() == STATE_TERMINATING;
}

static void run_supervisor(int rank)
{
    static const struct supervised supervised = {
        .run = run_publisher,
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
    problem = publish ? fix_endpoint(publish, strlen(publish)) : NULL;
    if (problem) {
        LM_ERR("publish = %s: %s\n", publish, problem);
        return -1;
    }
    return register_event_mod(&transport) ? -1 : 0;
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
