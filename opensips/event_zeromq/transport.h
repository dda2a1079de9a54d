/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * The transport `zeromq:` of OpenSIPS' event interface. */
#ifndef EVENT_ZEROMQ_TRANSPORT_H
#define EVENT_ZEROMQ_TRANSPORT_H

#include "endpoint.h"
#include "ring.h"

/* Let OpenSIPS raise events to a ring. Return whether it took the transport. */
bool transport_register(struct ring *ring, struct endpoint *endpoint);

#endif
