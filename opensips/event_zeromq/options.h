/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Check the module's parameters. No I/O but reading a key file. */
#ifndef EVENT_ZEROMQ_OPTIONS_H
#define EVENT_ZEROMQ_OPTIONS_H

#include "keys.h"

#include <stdbool.h>
#include <stddef.h>

enum { ENDPOINT_CHARACTERS = 255 };

/* Return NULL, or what is wrong with an endpoint of ZeroMQ. */
const char *check_endpoint(const char *endpoint, size_t length, bool is_encrypted, bool allows_plaintext);

/* Return whether a node's name is one that the bus takes: 1 to 64 of A-Z a-z 0-9 . _ - */
bool is_node(const char *text);

/* Read both kinds of keys; `secret` is the key or the path of a file with it. Return NULL, or what is wrong. */
const char *read_keys(struct keys *keys, const char *secret, const char *clients);

#endif
