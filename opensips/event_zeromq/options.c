/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Check the module's parameters. */
#include "options.h"

#include <stdio.h>
#include <string.h>

enum { NODE_CHARACTERS = 64 };

static bool starts_with(const char *text, size_t length, const char *start)
{
    return length >= strlen(start) && !memcmp(text, start, strlen(start));
}

static bool is_loopback(const char *endpoint, size_t length)
{
    static const char *const hosts[] = {"ipc://", "tcp://127.", "tcp://localhost:", "tcp://[::1]:"};

    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        if (starts_with(endpoint, length, hosts[i]))
            return true;
    return false;
}

/* Return whether an endpoint of TCP ends with a port. */
static bool has_port(const char *endpoint, size_t length)
{
    unsigned long port = 0;
    size_t digits = 0, power = 1;

    for (; digits < length && digits < 6 && endpoint[length - 1 - digits] >= '0' && endpoint[length - 1 - digits] <= '9';
         digits++, power *= 10)
        port += (unsigned long)(endpoint[length - 1 - digits] - '0') * power;
    return digits && port && port <= UINT16_MAX && digits < length && endpoint[length - 1 - digits] == ':';
}

const char *check_endpoint(const char *endpoint, size_t length, bool is_encrypted, bool allows_plaintext)
{
    if (!starts_with(endpoint, length, "tcp://") && !starts_with(endpoint, length, "ipc://"))
        return "write zeromq:tcp://127.0.0.1:5555 or zeromq:ipc:///run/bus";
    if (starts_with(endpoint, length, "tcp://") && !has_port(endpoint, length))
        return "the endpoint has no port";
    if (length > ENDPOINT_CHARACTERS || memchr(endpoint, 0, length))
        return "the endpoint is too long";
    if (!is_encrypted && !allows_plaintext && !is_loopback(endpoint, length))
        return "events would leave this machine in clear text: set curve_secret_key, or allow_plaintext to 1";
    return NULL;
}

bool is_node(const char *text)
{
    size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    return length > 0 && length <= NODE_CHARACTERS && !text[length];
}

static bool read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    size_t length;

    if (!file)
        return false;
    length = fread(text, 1, size - 1, file);
    fclose(file);
    text[length] = 0;
    text[strcspn(text, "\r\n \t")] = 0;
    return true;
}

const char *read_keys(struct keys *keys, const char *secret, const char *clients)
{
    char text[KEY_CHARACTERS + 2];
    const char *problem;

    if (!keys_read_secret(keys, secret, strlen(secret))) {
        if (*secret != '/')
            return "curve_secret_key is neither a key of 40 characters nor the path of a file";
        if (!read_file(secret, text, sizeof text))
            return "curve_secret_key is a file that can not be read";
        if (!keys_read_secret(keys, text, strlen(text)))
            return "the file of curve_secret_key holds no key of 40 characters";
    }
    problem = keys_add_clients(keys, clients);
    if (problem)
        return problem;
    return keys->client_count ? NULL : "curve_clients is empty: no consumer could subscribe";
}
