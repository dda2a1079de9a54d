/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * The transport `zeromq:` of OpenSIPS' event interface. */
#include "transport.h"

#include "message.h"
#include "opensips.h"

#include <string.h>
#include <unistd.h>

#define PROTOCOL "zeromq"
#define FLAG (1 << 19) /* no other transport has this one */

enum { TEXT_OF_NUMBER = 12 };

static struct ring *ring;
static struct endpoint *endpoint;

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
    unsigned char packed[RING_EVENT_BYTES]; /* on the stack: a thread's own memory would be allocated in the first call */
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
        socket.len > 0 ? endpoint_fix(endpoint, socket.s, (size_t)socket.len) : "write zeromq:tcp://127.0.0.1:5555";
    uint64_t one = 1;
    evi_reply_sock *parsed;

    if (problem) {
        LM_ERR("no events to zeromq:%.*s: %s%s%s\n", socket.len > 0 ? socket.len : 0, socket.s, problem,
               *endpoint->text ? "; it is " : "", endpoint->text);
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
    if (write(ring->wake_fd, &one, sizeof one) < 0)
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

bool transport_register(struct ring *a_ring, struct endpoint *an_endpoint)
{
    ring = a_ring;
    endpoint = an_endpoint;
    return !register_event_mod(&transport);
}
