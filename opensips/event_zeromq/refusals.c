/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Decide which refused subscribers are worth a line in the log. */
#include "refusals.h"

#include <string.h>

enum { AGAIN_MS = 60000 };

uint64_t refusals_count(struct refusals *refusals, const char *key, int64_t now_ms)
{
    bool is_first = !refusals->logged_ms;
    bool is_same = !is_first && !strcmp(key, refusals->key) && now_ms < refusals->last_ms + AGAIN_MS;
    uint64_t count = ++refusals->count;

    if (is_same)
        refusals->last_ms = now_ms;
    if (is_same || (!is_first && now_ms < refusals->logged_ms + AGAIN_MS))
        return 0;
    *refusals = (struct refusals){.last_ms = now_ms, .logged_ms = now_ms};
    strncpy(refusals->key, key, KEY_CHARACTERS);
    return count;
}
