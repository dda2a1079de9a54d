/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * CURVE keys, and ZeroMQ's question (ZAP) whether a client's key is one of them. */
#ifndef EVENT_ZEROMQ_KEYS_H
#define EVENT_ZEROMQ_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEY_BYTES = 32, KEY_CHARACTERS = 40, KEY_CLIENTS = 64 };

struct keys {
    uint8_t secret[KEY_BYTES];
    uint8_t clients[KEY_CLIENTS][KEY_BYTES];
    size_t client_count;
};

/* Read a key of 40 characters (Z85). */
bool keys_read_secret(struct keys *keys, const char *text, size_t length);

/* Add the public keys in a text, separated by spaces or commas. Return NULL, or what is wrong with it. */
const char *keys_add_clients(struct keys *keys, const char *text);

/* Answer one question of ZAP on this socket. Return true when a client was refused, with its key and address. */
bool keys_answer(const struct keys *keys, void *socket, char key[KEY_CHARACTERS + 1], char *address, size_t size);

#endif
