/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * CURVE keys, and ZeroMQ's question (ZAP, RFC 27) whether a client's key is one of them. */
#include "keys.h"

#include <string.h>
#include <zmq.h>

/* The frames of a question. */
enum { OF_VERSION, OF_REQUEST, OF_DOMAIN, OF_ADDRESS, OF_IDENTITY, OF_MECHANISM, OF_CREDENTIALS, FRAMES };

enum { FRAME_BYTES = 256 };

struct frame {
    char bytes[FRAME_BYTES];
    size_t length;
};

static bool decode(uint8_t *key, const char *text, size_t length)
{
    char copy[KEY_CHARACTERS + 1] = {0};

    if (length != KEY_CHARACTERS)
        return false;
    memcpy(copy, text, length);
    return zmq_z85_decode(key, copy);
}

bool keys_read_secret(struct keys *keys, const char *text, size_t length)
{
    return decode(keys->secret, text, length);
}

const char *keys_add_clients(struct keys *keys, const char *text)
{
    static const char separators[] = " ,\t\n";

    for (text += strspn(text, separators); *text; text += strspn(text, separators)) {
        size_t length = strcspn(text, separators);

        if (keys->client_count == KEY_CLIENTS)
            return "too many keys";
        if (!decode(keys->clients[keys->client_count], text, length))
            return "not a public key of 40 characters";
        keys->client_count++;
        text += length;
    }
    return NULL;
}

static bool is_allowed(const struct keys *keys, const uint8_t *key)
{
    for (size_t i = 0; i < keys->client_count; i++)
        if (!memcmp(keys->clients[i], key, KEY_BYTES))
            return true;
    return false;
}

/* Read a whole message; return how many frames it has. */
static size_t read_frames(void *socket, struct frame *frames, size_t most)
{
    struct frame rest;
    int more = 1;
    size_t count = 0, size = sizeof more;

    while (more) {
        struct frame *frame = count < most ? &frames[count] : &rest;
        int length = zmq_recv(socket, frame->bytes, FRAME_BYTES, 0);

        if (length < 0)
            return 0;
        frame->length = length < FRAME_BYTES ? (size_t)length : FRAME_BYTES;
        count++;
        if (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size))
            return 0;
    }
    return count;
}

static void send_text(void *socket, const char *text, int flags)
{
    zmq_send(socket, text, strlen(text), flags);
}

static void reply(void *socket, const struct frame *request, bool is_ok)
{
    send_text(socket, "1.0", ZMQ_SNDMORE);
    zmq_send(socket, request->bytes, request->length, ZMQ_SNDMORE);
    send_text(socket, is_ok ? "200" : "400", ZMQ_SNDMORE);
    send_text(socket, is_ok ? "OK" : "unknown key", ZMQ_SNDMORE);
    send_text(socket, "", ZMQ_SNDMORE);
    send_text(socket, "", 0);
}

bool keys_answer(const struct keys *keys, void *socket, char key[KEY_CHARACTERS + 1], char *address, size_t size)
{
    struct frame frames[FRAMES] = {0};
    bool is_whole = read_frames(socket, frames, FRAMES) == FRAMES && frames[OF_CREDENTIALS].length == KEY_BYTES;
    bool is_ok = is_whole && is_allowed(keys, (const uint8_t *)frames[OF_CREDENTIALS].bytes);
    size_t length = frames[OF_ADDRESS].length < size ? frames[OF_ADDRESS].length : size - 1;

    reply(socket, &frames[OF_REQUEST], is_ok);
    memcpy(address, frames[OF_ADDRESS].bytes, length);
    address[length] = 0;
    key[0] = 0;
    if (is_whole)
        zmq_z85_encode(key, (const uint8_t *)frames[OF_CREDENTIALS].bytes, KEY_BYTES);
    return !is_ok;
}
