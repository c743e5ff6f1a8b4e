/*
 * msgpack.h: the part of MessagePack that wasmCloud's contracts use, for an actor in C.
 *
 * Reading. A reader walks a payload from front to end without copying: text and bytes that it
 * returns are views into the payload. Its first error sticks: from then on every read returns a
 * zero, an empty view or a count of 0. Read all fields, call msgpack_end, and look at the error
 * once:
 *
 *     msgpack_reader reader = msgpack_begin(payload);
 *     for (size_t left = msgpack_read_map(&reader); left > 0; left--) {
 *         lattice_bytes name = msgpack_read_text(&reader);
 *         if (lattice_equal(name, LATTICE_TEXT("key"))) {
 *             key = msgpack_read_text(&reader);
 *         } else {
 *             msgpack_skip(&reader);
 *         }
 *     }
 *     if (!msgpack_end(&reader)) {
 *         return msgpack_failure(&reader);
 *     }
 *
 * Bounds. A count or a length that the rest of the payload cannot hold is an error where it
 * stands, so a loop over a count is never longer than the payload. Skipping counts the values
 * still to come instead of recursing: nesting, however deep, takes no stack.
 *
 * Writing. The msgpack_write functions append to a lattice_buffer, each number and length in its
 * shortest form. A map's count is followed by that many names and values, written by the caller.
 *
 * Format: https://github.com/msgpack/msgpack/blob/master/spec.md
 */
#ifndef MSGPACK_H
#define MSGPACK_H

#include "lattice.h"

typedef struct {
    const uint8_t *start;
    const uint8_t *at;
    const uint8_t *end;
    /* What was wrong first; size 0 as long as nothing was. */
    lattice_bytes error;
    /* Where that was, in bytes from the start. */
    size_t error_offset;
} msgpack_reader;

/*
 * Start to read. The newer wasmbus SDKs put a byte 0xc1, which no MessagePack value starts with,
 * before the payload to tell it from CBOR; it is passed over.
 */
static inline msgpack_reader msgpack_begin(lattice_bytes payload)
{
    const uint8_t *at = payload.data;

    if (payload.size > 0 && *at == 0xc1) {
        at++;
    }
    return (msgpack_reader){.start = payload.data, .at = at, .end = payload.data + payload.size};
}

static inline size_t msgpack_rest(const msgpack_reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* Record an error at `offset`, unless there is one, and read no further. */
static inline void msgpack_fail(msgpack_reader *reader, size_t offset, lattice_bytes error)
{
    if (reader->error.size == 0) {
        reader->error = error;
        reader->error_offset = offset;
    }
    reader->at = reader->end;
}

/* Whether everything was read, to the last byte, and was as expected. */
static inline bool msgpack_end(msgpack_reader *reader)
{
    if (reader->at != reader->end) {
        msgpack_fail(reader, (size_t)(reader->at - reader->start), LATTICE_TEXT("trailing data"));
    }
    return reader->error.size == 0;
}

/* The answer to a payload that could not be read; it says what was wrong, and where. */
static inline lattice_result msgpack_failure(const msgpack_reader *reader)
{
    lattice_buffer text = {0};

    lattice_append(&text, LATTICE_TEXT("malformed payload: "));
    lattice_append(&text, reader->error);
    lattice_append(&text, LATTICE_TEXT(" at byte "));
    lattice_append_decimal(&text, (int64_t)reader->error_offset);
    return lattice_error(lattice_view(&text));
}

typedef enum {
    MSGPACK_NIL,
    MSGPACK_BOOLEAN,
    MSGPACK_INTEGER,
    MSGPACK_TEXT,
    MSGPACK_BINARY,
    MSGPACK_ARRAY,
    MSGPACK_MAP,
    /* Known well enough to be passed over: floats, extensions, integers above INT64_MAX. */
    MSGPACK_OTHER,
} msgpack_kind;

/* How a value starts. `number` is the boolean or integer itself, the bytes that follow (text,
   binary, other) or the elements that follow (array, map: pairs). */
typedef struct {
    msgpack_kind kind;
    int64_t number;
} msgpack_head;

/* An unsigned number of `width` bytes, most significant first. */
static inline uint64_t msgpack_read_unsigned(msgpack_reader *reader, size_t width)
{
    uint64_t number = 0;

    if (msgpack_rest(reader) < width) {
        msgpack_fail(reader, (size_t)(reader->end - reader->start), LATTICE_TEXT("truncated"));
        return 0;
    }
    for (size_t i = 0; i < width; i++) {
        number = number << 8 | *reader->at++;
    }
    return number;
}

static inline msgpack_head msgpack_sized(msgpack_kind kind, msgpack_reader *reader, size_t width)
{
    return (msgpack_head){kind, (int64_t)msgpack_read_unsigned(reader, width)};
}

/* Decode the first byte of a value and the number after it; no bounds on what follows. */
static inline msgpack_head msgpack_decode_head(msgpack_reader *reader)
{
    size_t offset = (size_t)(reader->at - reader->start);
    uint8_t tag = (uint8_t)msgpack_read_unsigned(reader, 1);
    msgpack_head head = {MSGPACK_OTHER, 0};

    if (reader->error.size > 0) {
        return head;
    }
    switch (tag) {
    case 0x00 ... 0x7f:
        return (msgpack_head){MSGPACK_INTEGER, tag};
    case 0x80 ... 0x8f:
        return (msgpack_head){MSGPACK_MAP, tag & 0x0f};
    case 0x90 ... 0x9f:
        return (msgpack_head){MSGPACK_ARRAY, tag & 0x0f};
    case 0xa0 ... 0xbf:
        return (msgpack_head){MSGPACK_TEXT, tag & 0x1f};
    case 0xc0:
        return (msgpack_head){MSGPACK_NIL, 0};
    case 0xc2 ... 0xc3:
        return (msgpack_head){MSGPACK_BOOLEAN, tag & 1};
    case 0xc4 ... 0xc6:
        return msgpack_sized(MSGPACK_BINARY, reader, 1u << (tag - 0xc4));
    case 0xc7 ... 0xc9: /* An extension of any size; its type is one byte more. */
        head = msgpack_sized(MSGPACK_OTHER, reader, 1u << (tag - 0xc7));
        head.number++;
        return head;
    case 0xca ... 0xcb: /* A float of 4 or 8 bytes. */
        return (msgpack_head){MSGPACK_OTHER, 4 << (tag - 0xca)};
    case 0xcc ... 0xcf:
        head = msgpack_sized(MSGPACK_INTEGER, reader, 1u << (tag - 0xcc));
        return head.number < 0 ? (msgpack_head){MSGPACK_OTHER, 0} : head;
    case 0xd0:
        return (msgpack_head){MSGPACK_INTEGER, (int8_t)msgpack_read_unsigned(reader, 1)};
    case 0xd1:
        return (msgpack_head){MSGPACK_INTEGER, (int16_t)msgpack_read_unsigned(reader, 2)};
    case 0xd2:
        return (msgpack_head){MSGPACK_INTEGER, (int32_t)msgpack_read_unsigned(reader, 4)};
    case 0xd3:
        return msgpack_sized(MSGPACK_INTEGER, reader, 8);
    case 0xd4 ... 0xd8: /* An extension of 1, 2, 4, 8 or 16 bytes, and its type. */
        return (msgpack_head){MSGPACK_OTHER, (1 << (tag - 0xd4)) + 1};
    case 0xd9 ... 0xdb:
        return msgpack_sized(MSGPACK_TEXT, reader, 1u << (tag - 0xd9));
    case 0xdc ... 0xdd:
        return msgpack_sized(MSGPACK_ARRAY, reader, 2u << (tag - 0xdc));
    case 0xde ... 0xdf:
        return msgpack_sized(MSGPACK_MAP, reader, 2u << (tag - 0xde));
    case 0xe0 ... 0xff:
        return (msgpack_head){MSGPACK_INTEGER, (int8_t)tag};
    default: /* 0xc1: never used. */
        msgpack_fail(reader, offset, LATTICE_TEXT("want a value"));
        return head;
    }
}

/* Read the start of a value, and make sure that the payload can hold the rest of it. */
static inline msgpack_head msgpack_read_head(msgpack_reader *reader)
{
    msgpack_head head = msgpack_decode_head(reader);
    uint64_t follows = 0;

    switch (head.kind) {
    case MSGPACK_NIL:
    case MSGPACK_BOOLEAN:
    case MSGPACK_INTEGER:
        break;
    case MSGPACK_TEXT:
    case MSGPACK_BINARY:
    case MSGPACK_ARRAY:
    case MSGPACK_OTHER:
        follows = (uint64_t)head.number;
        break;
    case MSGPACK_MAP:
        follows = 2 * (uint64_t)head.number;
        break;
    }
    if (follows > msgpack_rest(reader)) {
        msgpack_fail(reader, (size_t)(reader->end - reader->start), LATTICE_TEXT("truncated"));
    }
    return reader->error.size > 0 ? (msgpack_head){MSGPACK_OTHER, 0} : head;
}

/* The number of a head that must be of one kind; nil stands for 0 when `optional`. */
static inline int64_t msgpack_expect(msgpack_reader *reader, msgpack_kind kind, bool optional,
                                     lattice_bytes error)
{
    size_t offset = (size_t)(reader->at - reader->start);
    msgpack_head head = msgpack_read_head(reader);

    if (head.kind == kind || (optional && head.kind == MSGPACK_NIL)) {
        return head.number;
    }
    msgpack_fail(reader, offset, error);
    return 0;
}

static inline bool msgpack_read_boolean(msgpack_reader *reader)
{
    return msgpack_expect(reader, MSGPACK_BOOLEAN, false, LATTICE_TEXT("want a boolean"));
}

static inline int64_t msgpack_read_integer(msgpack_reader *reader)
{
    return msgpack_expect(reader, MSGPACK_INTEGER, false, LATTICE_TEXT("want an integer"));
}

/* How many elements follow; nil counts as none. */
static inline size_t msgpack_read_array(msgpack_reader *reader)
{
    return (size_t)msgpack_expect(reader, MSGPACK_ARRAY, true, LATTICE_TEXT("want an array"));
}

/* How many pairs of name and value follow; nil counts as none. */
static inline size_t msgpack_read_map(msgpack_reader *reader)
{
    return (size_t)msgpack_expect(reader, MSGPACK_MAP, true, LATTICE_TEXT("want a map"));
}

/* The next `size` bytes, of which msgpack_read_head made sure. */
static inline lattice_bytes msgpack_take(msgpack_reader *reader, size_t size)
{
    lattice_bytes bytes = {reader->at, size};

    reader->at += size;
    return bytes;
}

/* Binary data, or text, which is how older encoders wrote it; nil is empty. */
static inline lattice_bytes msgpack_read_binary(msgpack_reader *reader)
{
    size_t offset = (size_t)(reader->at - reader->start);
    msgpack_head head = msgpack_read_head(reader);

    if (head.kind != MSGPACK_BINARY && head.kind != MSGPACK_TEXT && head.kind != MSGPACK_NIL) {
        msgpack_fail(reader, offset, LATTICE_TEXT("want binary data"));
        return (lattice_bytes){0};
    }
    return msgpack_take(reader, (size_t)head.number);
}

/*
 * The bytes of the UTF-8 sequence at the front, 0 when there is none: no overlong forms, no
 * surrogates, nothing above U+10FFFF (RFC 3629, section 4).
 */
static inline size_t msgpack_utf8_sequence(const uint8_t *at, size_t rest)
{
    uint8_t lead = at[0];
    size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint8_t second_min = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t second_max = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;

    if (size == 1) {
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4 || rest < size || at[1] < second_min || at[1] > second_max) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

/* Text in valid UTF-8; nil is empty. */
static inline lattice_bytes msgpack_read_text(msgpack_reader *reader)
{
    size_t offset = (size_t)(reader->at - reader->start);
    size_t size = (size_t)msgpack_expect(reader, MSGPACK_TEXT, true, LATTICE_TEXT("want text"));
    lattice_bytes text = msgpack_take(reader, size);

    for (size_t i = 0; i < size;) {
        size_t step = msgpack_utf8_sequence(text.data + i, size - i);
        if (step == 0) {
            msgpack_fail(reader, offset, LATTICE_TEXT("want UTF-8"));
            return (lattice_bytes){0};
        }
        i += step;
    }
    return text;
}

/* Pass over one value and all that is inside it. */
static inline void msgpack_skip(msgpack_reader *reader)
{
    /* Every turn takes a byte at least, or fails: the loop ends. The count cannot overflow: fewer
       than 2^32 containers announce fewer than 2^32 values each. */
    for (uint64_t pending = 1; pending > 0; pending--) {
        msgpack_head head = msgpack_read_head(reader);
        if (reader->error.size > 0) {
            return;
        }
        switch (head.kind) {
        case MSGPACK_NIL:
        case MSGPACK_BOOLEAN:
        case MSGPACK_INTEGER:
            break;
        case MSGPACK_TEXT:
        case MSGPACK_BINARY:
        case MSGPACK_OTHER:
            msgpack_take(reader, (size_t)head.number);
            break;
        case MSGPACK_ARRAY:
            pending += (uint64_t)head.number;
            break;
        case MSGPACK_MAP:
            pending += 2 * (uint64_t)head.number;
            break;
        }
    }
}

/* A tag and a number of `width` bytes after it, most significant first. */
static inline void msgpack_write_tagged(lattice_buffer *buffer, uint8_t tag, uint64_t number,
                                        size_t width)
{
    uint8_t bytes[9] = {tag};

    for (size_t i = width; i > 0; i--) {
        bytes[i] = (uint8_t)number;
        number >>= 8;
    }
    lattice_append(buffer, (lattice_bytes){bytes, width + 1});
}

static inline void msgpack_write_nil(lattice_buffer *buffer)
{
    lattice_append_byte(buffer, 0xc0);
}

static inline void msgpack_write_boolean(lattice_buffer *buffer, bool value)
{
    lattice_append_byte(buffer, value ? 0xc3 : 0xc2);
}

static inline void msgpack_write_integer(lattice_buffer *buffer, int64_t number)
{
    if (number >= -32 && number <= INT8_MAX) {
        lattice_append_byte(buffer, (uint8_t)number);
    } else if (number >= INT8_MIN && number < 0) {
        msgpack_write_tagged(buffer, 0xd0, (uint64_t)number, 1);
    } else if (number >= INT16_MIN && number < 0) {
        msgpack_write_tagged(buffer, 0xd1, (uint64_t)number, 2);
    } else if (number >= INT32_MIN && number < 0) {
        msgpack_write_tagged(buffer, 0xd2, (uint64_t)number, 4);
    } else if (number < 0) {
        msgpack_write_tagged(buffer, 0xd3, (uint64_t)number, 8);
    } else if (number <= UINT8_MAX) {
        msgpack_write_tagged(buffer, 0xcc, (uint64_t)number, 1);
    } else if (number <= UINT16_MAX) {
        msgpack_write_tagged(buffer, 0xcd, (uint64_t)number, 2);
    } else if (number <= UINT32_MAX) {
        msgpack_write_tagged(buffer, 0xce, (uint64_t)number, 4);
    } else {
        msgpack_write_tagged(buffer, 0xcf, (uint64_t)number, 8);
    }
}

static inline void msgpack_write_array(lattice_buffer *buffer, size_t elements)
{
    if (elements < 16) {
        lattice_append_byte(buffer, (uint8_t)(0x90 | elements));
    } else if (elements <= UINT16_MAX) {
        msgpack_write_tagged(buffer, 0xdc, elements, 2);
    } else {
        msgpack_write_tagged(buffer, 0xdd, elements, 4);
    }
}

static inline void msgpack_write_map(lattice_buffer *buffer, size_t pairs)
{
    if (pairs < 16) {
        lattice_append_byte(buffer, (uint8_t)(0x80 | pairs));
    } else if (pairs <= UINT16_MAX) {
        msgpack_write_tagged(buffer, 0xde, pairs, 2);
    } else {
        msgpack_write_tagged(buffer, 0xdf, pairs, 4);
    }
}

static inline void msgpack_write_text(lattice_buffer *buffer, lattice_bytes text)
{
    if (text.size < 32) {
        lattice_append_byte(buffer, (uint8_t)(0xa0 | text.size));
    } else if (text.size <= UINT8_MAX) {
        msgpack_write_tagged(buffer, 0xd9, text.size, 1);
    } else if (text.size <= UINT16_MAX) {
        msgpack_write_tagged(buffer, 0xda, text.size, 2);
    } else {
        msgpack_write_tagged(buffer, 0xdb, text.size, 4);
    }
    lattice_append(buffer, text);
}

static inline void msgpack_write_binary(lattice_buffer *buffer, lattice_bytes bytes)
{
    if (bytes.size <= UINT8_MAX) {
        msgpack_write_tagged(buffer, 0xc4, bytes.size, 1);
    } else if (bytes.size <= UINT16_MAX) {
        msgpack_write_tagged(buffer, 0xc5, bytes.size, 2);
    } else {
        msgpack_write_tagged(buffer, 0xc6, bytes.size, 4);
    }
    lattice_append(buffer, bytes);
}

#endif
