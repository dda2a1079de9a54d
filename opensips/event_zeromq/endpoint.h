/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * The one endpoint of an OpenSIPS, in memory that its processes share. */
#ifndef EVENT_ZEROMQ_ENDPOINT_H
#define EVENT_ZEROMQ_ENDPOINT_H

#include "options.h"

#include <stdatomic.h>

struct endpoint {
    atomic_int state;
    bool is_encrypted;
    bool allows_plaintext;
    char text[ENDPOINT_CHARACTERS + 1];
};

/* Set the endpoint, where there is none yet. Return NULL, or why this one is refused. */
const char *endpoint_fix(struct endpoint *endpoint, const char *text, size_t length);

bool endpoint_is_set(struct endpoint *endpoint);

#endif
