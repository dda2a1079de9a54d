/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * The ZeroMQ sockets of a publisher. */
#ifndef EVENT_ZEROMQ_SOCKETS_H
#define EVENT_ZEROMQ_SOCKETS_H

#include "keys.h"

struct sockets {
    void *context;
    void *bus;
    void *authenticator; /* NULL without CURVE */
};

struct socket_options {
    const char *endpoint;
    int hwm; /* messages that wait for a slow subscriber; beyond them ZeroMQ drops */
    const struct keys *keys; /* NULL without CURVE */
};

/* Open the sockets, which are to be closed in any case. */
bool sockets_open(struct sockets *sockets, const struct socket_options *options);

/* Close them; what was sent has some seconds to leave. */
void sockets_close(struct sockets *sockets);

/* Send the two frames of a message, without waiting. */
void sockets_send(struct sockets *sockets, const char *topic, size_t topic_length, const void *body, size_t length);

#endif
