/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Pack msgpack into a buffer. No I/O, no allocation, no lock. */
#ifndef EVENT_ZEROMQ_PACK_H
#define EVENT_ZEROMQ_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is packed so far. `is_full` once something did not fit: from then on nothing is added. */
struct pack {
    unsigned char *data;
    size_t length;
    size_t size;
    bool is_full;
};

void pack_start(struct pack *pack, void *buffer, size_t size);
void pack_map(struct pack *pack, uint32_t count);
void pack_array(struct pack *pack, uint32_t count);
void pack_unsigned(struct pack *pack, uint64_t value);
void pack_signed(struct pack *pack, int64_t value);
void pack_bool(struct pack *pack, bool value);
void pack_nil(struct pack *pack);

/* Pack a C string of ours, which is ASCII. */
void pack_key(struct pack *pack, const char *text);

/* Pack text from the network. It ends at its first NUL, as in OpenSIPS' JSON. Bytes that are not UTF-8 become U+FFFD:
 * one for each longest part of a character that could not go on (Unicode, 3.9, "maximal subpart"). */
void pack_text(struct pack *pack, const char *text, size_t length);

/* Add bytes that are packed already. */
void pack_raw(struct pack *pack, const void *bytes, size_t length);

#endif
