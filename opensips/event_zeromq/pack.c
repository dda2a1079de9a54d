/* SPDX-License-Identifier: GPL-2.0-or-later
 * Copyright (C) 2026 The OpenSIPS Companion developers
 *
 * Pack msgpack into a buffer. Each value has its shortest form, as in Python's msgpack. */
#include "pack.h"

#include <string.h>

static const char REPLACEMENT[] = "\xef\xbf\xbd";
enum { REPLACEMENT_LENGTH = 3 };

void pack_start(struct pack *pack, void *buffer, size_t size)
{
    *pack = (struct pack){.data = buffer, .size = size};
}

void pack_raw(struct pack *pack, const void *bytes, size_t length)
{
    if (pack->is_full || length > pack->size - pack->length) {
        pack->is_full = true;
        return;
    }
    if (length)
        memcpy(pack->data + pack->length, bytes, length);
    pack->length += length;
}

/* Add a type byte and the lowest `count` bytes of a value, most significant first. */
static void pack_head(struct pack *pack, unsigned char type, uint64_t value, unsigned count)
{
    unsigned char bytes[9] = {type};

    for (unsigned i = 0; i < count; i++)
        bytes[count - i] = (unsigned char)(value >> (8 * i));
    pack_raw(pack, bytes, count + 1);
}

void pack_map(struct pack *pack, uint32_t count)
{
    if (count < 16)
        pack_head(pack, (unsigned char)(0x80 | count), 0, 0);
    else if (count <= UINT16_MAX)
        pack_head(pack, 0xde, count, 2);
    else
        pack_head(pack, 0xdf, count, 4);
}

void pack_array(struct pack *pack, uint32_t count)
{
    if (count < 16)
        pack_head(pack, (unsigned char)(0x90 | count), 0, 0);
    else if (count <= UINT16_MAX)
        pack_head(pack, 0xdc, count, 2);
    else
        pack_head(pack, 0xdd, count, 4);
}

void pack_unsigned(struct pack *pack, uint64_t value)
{
    if (value < 0x80)
        pack_head(pack, (unsigned char)value, 0, 0);
    else if (value <= UINT8_MAX)
        pack_head(pack, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        pack_head(pack, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        pack_head(pack, 0xce, value, 4);
    else
        pack_head(pack, 0xcf, value, 8);
}

void pack_signed(struct pack *pack, int64_t value)
{
    if (value >= 0)
        pack_unsigned(pack, (uint64_t)value);
    else if (value >= -0x20)
        pack_head(pack, (unsigned char)(0xe0 | (value & 0x1f)), 0, 0);
    else if (value >= INT8_MIN)
        pack_head(pack, 0xd0, (uint64_t)value, 1);
    else if (value >= INT16_MIN)
        pack_head(pack, 0xd1, (uint64_t)value, 2);
    else if (value >= INT32_MIN)
        pack_head(pack, 0xd2, (uint64_t)value, 4);
    else
        pack_head(pack, 0xd3, (uint64_t)value, 8);
}

void pack_bool(struct pack *pack, bool value)
{
    pack_head(pack, value ? 0xc3 : 0xc2, 0, 0);
}

void pack_nil(struct pack *pack)
{
    pack_head(pack, 0xc0, 0, 0);
}

static void pack_text_head(struct pack *pack, size_t length)
{
    if (length < 32)
        pack_head(pack, (unsigned char)(0xa0 | length), 0, 0);
    else if (length <= UINT8_MAX)
        pack_head(pack, 0xd9, length, 1);
    else if (length <= UINT16_MAX)
        pack_head(pack, 0xda, length, 2);
    else if (length <= UINT32_MAX)
        pack_head(pack, 0xdb, length, 4);
    else
        pack->is_full = true;
}

void pack_key(struct pack *pack, const char *text)
{
    size_t length = strlen(text);

    pack_text_head(pack, length);
    pack_raw(pack, text, length);
}

/* The bytes that may follow a lead byte: how many, and the range of the first of them (Unicode, table 3-7). */
struct lead {
    unsigned char count, low, high;
};

static struct lead find_lead(unsigned char byte)
{
    if (byte >= 0xc2 && byte <= 0xdf)
        return (struct lead){1, 0x80, 0xbf};
    if (byte >= 0xe0 && byte <= 0xef)
        return (struct lead){2, byte == 0xe0 ? 0xa0 : 0x80, byte == 0xed ? 0x9f : 0xbf};
    if (byte >= 0xf0 && byte <= 0xf4)
        return (struct lead){3, byte == 0xf0 ? 0x90 : 0x80, byte == 0xf4 ? 0x8f : 0xbf};
    return (struct lead){0, 0, 0};
}

/* Return the length of the next character, or of what is to be replaced by one U+FFFD. */
static size_t next_part(const unsigned char *text, size_t length, bool *is_valid)
{
    struct lead lead = find_lead(text[0]);
    size_t done = 1;

    if (text[0] < 0x80) {
        *is_valid = true;
        return 1;
    }
    while (done <= lead.count && done < length && text[done] >= lead.low && text[done] <= lead.high) {
        lead.low = 0x80;
        lead.high = 0xbf;
        done++;
    }
    *is_valid = lead.count && done == lead.count + 1u;
    return done;
}

/* Return how many bytes at the start are ASCII, eight at a time. */
static size_t count_ascii(const unsigned char *text, size_t length)
{
    size_t done = 0;
    uint64_t word;

    for (; length - done >= sizeof word; done += sizeof word) {
        memcpy(&word, text + done, sizeof word);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (done < length && text[done] < 0x80)
        done++;
    return done;
}

/* Return the length of a text after its invalid bytes were replaced. */
static size_t measure(const unsigned char *text, size_t length)
{
    size_t at = count_ascii(text, length), total = at;
    bool is_valid;

    while (at < length) {
        size_t part = next_part(text + at, length - at, &is_valid);

        total += is_valid ? part : REPLACEMENT_LENGTH;
        at += part;
    }
    return total;
}

static void pack_replaced(struct pack *pack, const unsigned char *text, size_t length)
{
    bool is_valid;

    for (size_t at = 0; at < length && !pack->is_full;) {
        size_t part = next_part(text + at, length - at, &is_valid);

        pack_raw(pack, is_valid ? text + at : (const unsigned char *)REPLACEMENT, is_valid ? part : REPLACEMENT_LENGTH);
        at += part;
    }
}

/* Return whether each byte belongs to a valid character. A replacement can be as long as what it replaces, so the
 * length alone does not tell. */
static bool is_utf8(const unsigned char *text, size_t length)
{
    size_t at = count_ascii(text, length);
    bool is_valid = true;

    while (is_valid && at < length)
        at += next_part(text + at, length - at, &is_valid);
    return is_valid;
}

void pack_text(struct pack *pack, const char *text, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    const void *end = length ? memchr(text, 0, length) : NULL;

    if (end)
        length = (size_t)((const char *)end - text);
    if (is_utf8(bytes, length)) {
        pack_text_head(pack, length);
        pack_raw(pack, bytes, length);
    } else {
        pack_text_head(pack, measure(bytes, length));
        pack_replaced(pack, bytes, length);
    }
}
