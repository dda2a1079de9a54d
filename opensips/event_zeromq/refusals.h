/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Decide which refused subscribers are worth a line in the log. No I/O. */
#ifndef EVENT_ZEROMQ_REFUSALS_H
#define EVENT_ZEROMQ_REFUSALS_H

#include "keys.h"

/* Start it with zeros. */
struct refusals {
    char key[KEY_CHARACTERS + 1]; /* the last one that was logged */
    int64_t last_ms; /* when that one was refused last */
    int64_t logged_ms;
    uint64_t count; /* since that line */
};

/* Count a refusal. Return how many the line stands for that is due now, 0 for none: one line a minute at most, even if a
 * stranger has a new key each time, and one for a key that is tried again and again. */
uint64_t refusals_count(struct refusals *refusals, const char *key, int64_t now_ms);

#endif
