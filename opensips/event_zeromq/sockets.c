/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * The ZeroMQ sockets of a publisher. */
#include "sockets.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

enum { LINGER_MS = 5000 };

static bool set_number(void *socket, int option, int value)
{
    return !zmq_setsockopt(socket, option, &value, sizeof value);
}

static bool set_keys(void *socket, const struct keys *keys)
{
    return set_number(socket, ZMQ_CURVE_SERVER, 1) &&
           !zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, keys->secret, KEY_BYTES);
}

/* Open the socket that ZeroMQ asks about each client; it must be there before the first client is. */
static bool open_authenticator(struct sockets *sockets)
{
    sockets->authenticator = zmq_socket(sockets->context, ZMQ_REP);
    return sockets->authenticator && !zmq_bind(sockets->authenticator, "inproc://zeromq.zap.01");
}

bool sockets_open(struct sockets *sockets, const struct socket_options *options)
{
    bool is_ipv6 = !strncmp(options->endpoint, "tcp://[", 7);

    *sockets = (struct sockets){.context = zmq_ctx_new()};
    if (!sockets->context || (options->keys && !open_authenticator(sockets)))
        return false;
    sockets->bus = zmq_socket(sockets->context, ZMQ_XPUB);
    return sockets->bus && set_number(sockets->bus, ZMQ_SNDHWM, options->hwm) &&
           set_number(sockets->bus, ZMQ_LINGER, LINGER_MS) && set_number(sockets->bus, ZMQ_IPV6, is_ipv6) &&
           (!options->keys || set_keys(sockets->bus, options->keys));
}

void sockets_close(struct sockets *sockets)
{
    if (sockets->bus)
        zmq_close(sockets->bus);
    if (sockets->authenticator)
        zmq_close(sockets->authenticator);
    while (sockets->context && zmq_ctx_term(sockets->context) && zmq_errno() == EINTR) {
        /* a second SIGTERM is no reason to drop what still leaves */
    }
}

static void send_frame(void *socket, const void *bytes, size_t length, int flags)
{
    while (zmq_send(socket, bytes, length, flags | ZMQ_DONTWAIT) < 0 && zmq_errno() == EINTR) {
    }
}

void sockets_send(struct sockets *sockets, const char *topic, size_t topic_length, const void *body, size_t length)
{
    send_frame(sockets->bus, topic, topic_length, ZMQ_SNDMORE);
    send_frame(sockets->bus, body, length, 0);
}
