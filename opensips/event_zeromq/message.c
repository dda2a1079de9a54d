/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Build the bodies of the bus' messages. */
#include "message.h"

enum { BUS_VERSION = 1 };

/* Pack the parts before the value of `params`. */
static void pack_envelope(struct pack *pack, const struct origin *origin, uint64_t seq, int64_t time_ms, bool has_more)
{
    pack_map(pack, has_more ? 7 : 6);
    pack_key(pack, "v");
    pack_unsigned(pack, BUS_VERSION);
    pack_key(pack, "node");
    pack_key(pack, origin->node);
    pack_key(pack, "run");
    pack_unsigned(pack, origin->run);
    pack_key(pack, "seq");
    pack_unsigned(pack, seq);
    pack_key(pack, "ts");
    pack_signed(pack, time_ms);
    pack_key(pack, "params");
}

static void pack_more(struct pack *pack, const struct record *const *records, size_t count)
{
    pack_key(pack, "more");
    pack_array(pack, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        pack_array(pack, 2);
        pack_signed(pack, records[i]->time_ms);
        pack_raw(pack, records[i]->params, records[i]->length);
    }
}

void pack_message(struct pack *pack, const struct origin *origin, uint64_t seq, const struct record *const *records,
                  size_t count)
{
    pack_envelope(pack, origin, seq, records[0]->time_ms, count > 1);
    pack_raw(pack, records[0]->params, records[0]->length);
    if (count > 1)
        pack_more(pack, records + 1, count - 1);
}

static void pack_seqs(struct pack *pack, const struct last_seq *seqs, size_t count)
{
    pack_key(pack, "seqs");
    pack_map(pack, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        pack_key(pack, seqs[i].name);
        pack_unsigned(pack, seqs[i].seq);
    }
}

void pack_heartbeat(struct pack *pack, const struct origin *origin, uint64_t seq, const struct heartbeat *heartbeat)
{
    pack_envelope(pack, origin, seq, heartbeat->time_ms, false);
    pack_map(pack, heartbeat->is_end ? 4 : 3);
    pack_seqs(pack, heartbeat->seqs, heartbeat->count);
    pack_key(pack, "last_event_at");
    pack_signed(pack, heartbeat->last_event_ms);
    pack_key(pack, "received");
    pack_unsigned(pack, heartbeat->received);
    if (heartbeat->is_end) {
        pack_key(pack, "end");
        pack_bool(pack, true);
    }
}
