/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * The one endpoint of an OpenSIPS. */
#include "endpoint.h"

#include <string.h>
#include <unistd.h>

enum { UNSET, BEING_SET, SET };

const char *endpoint_fix(struct endpoint *endpoint, const char *text, size_t length)
{
    const char *problem = check_endpoint(text, length, endpoint->is_encrypted, endpoint->allows_plaintext);
    int state = UNSET;

    if (problem)
        return problem;
    if (atomic_compare_exchange_strong(&endpoint->state, &state, BEING_SET)) {
        memcpy(endpoint->text, text, length);
        atomic_store(&endpoint->state, SET);
        return NULL;
    }
    while (!endpoint_is_set(endpoint))
        usleep(1);
    if (strlen(endpoint->text) != length || memcmp(endpoint->text, text, length))
        return "one OpenSIPS publishes at one endpoint";
    return NULL;
}

bool endpoint_is_set(struct endpoint *endpoint)
{
    return atomic_load(&endpoint->state) == SET;
}
