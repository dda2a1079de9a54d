/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * What is used of OpenSIPS. Its headers are not written for -Wextra. */
#ifndef EVENT_ZEROMQ_OPENSIPS_H
#define EVENT_ZEROMQ_OPENSIPS_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include "../../dprint.h"
#include "../../evi/evi_transport.h"
#include "../../mem/shm_mem.h"
#include "../../sr_module.h"
#include "../../statistics.h"
#include "../../status_report.h"
#pragma GCC diagnostic pop

#endif
