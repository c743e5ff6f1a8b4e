/*
 * lattice.h: what an actor written in C needs, and nothing of libc.
 *
 * An actor is one source file that includes this header and ends with LATTICE_ACTOR(handle).
 * The host calls `handle` with the name of an operation and its payload; the actor answers
 * with lattice_ok or lattice_error. While it runs it may send messages along its links
 * (lattice_call) and write log lines (lattice_log). There is nothing else it could do: no
 * files, no clock, no sockets.
 *
 * Underneath is the waPC protocol, which wasmCloud calls wasmbus: a guest exports
 * `__guest_call` and imports the nine functions of the module `wapc` declared below.
 *
 * Ownership. A lattice_bytes is a view, never an owner. Whatever the SDK hands out (the
 * operation, the payload, results of lattice_call, buffers) lives in one arena that is emptied
 * when the next call arrives, so nothing is freed one by one and no pointer may be kept from
 * one call to the next.
 *
 * Errors. No function of the SDK traps. When the memory that the host allows is used up, the
 * call is lost but the actor's code need not look: allocations give NULL, appending to a buffer
 * does nothing, no further message leaves the actor, and whatever `handle` returns is replaced by
 * the error "out of memory".
 */
#ifndef LATTICE_H
#define LATTICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(size_t) == 4, "an actor is a wasm32 module");

/* A view of bytes that someone else owns; UTF-8 where it is meant as text. */
typedef struct {
    const uint8_t *data;
    size_t size;
} lattice_bytes;

/* The view of a string literal, without its terminating zero. */
#define LATTICE_TEXT(literal) \
    ((lattice_bytes){(const uint8_t *)("" literal), sizeof(literal) - 1})

static inline bool lattice_equal(lattice_bytes left, lattice_bytes right)
{
    if (left.size != right.size) {
        return false;
    }
    for (size_t i = 0; i < left.size; i++) {
        if (left.data[i] != right.data[i]) {
            return false;
        }
    }
    return true;
}

/* The end of a call, in either direction: a response, or the text of an error. */
typedef struct {
    bool ok;
    lattice_bytes body;
} lattice_result;

/* What an actor provides: it answers one operation. */
typedef lattice_result lattice_handler(lattice_bytes operation, lattice_bytes payload);

static inline lattice_result lattice_ok(lattice_bytes response)
{
    return (lattice_result){true, response};
}

/* The caller sees the text as an `actor_error`. Write it for a person. */
static inline lattice_result lattice_error(lattice_bytes text)
{
    return (lattice_result){false, text};
}

/* The error for an operation that the actor does not know; it names the operation. */
static inline lattice_result lattice_unknown_operation(lattice_bytes operation);

/*
 * Send a message along the link `link_name` for `interface`, such as "wasmcloud:keyvalue", and
 * wait for the answer. An empty link name means "default".
 *
 * A failure is a result like any other. Its text starts with a code of the lattice, such as
 * "no_link: " or "deadline_exceeded: "; answer with the result itself to pass it on.
 */
static inline lattice_result lattice_call(lattice_bytes link_name, lattice_bytes interface,
                                          lattice_bytes operation, lattice_bytes payload);

/* Write one line to the host's log; long lines and too many of them are cut there. */
static inline void lattice_log(lattice_bytes line);

/* Make `handle` the actor of this module. Once, at the end of its source file. */
#define LATTICE_ACTOR(handle)                                                          \
    __attribute__((export_name("__guest_call"))) int32_t lattice_guest_call(           \
        size_t operation_size, size_t payload_size);                                   \
    int32_t lattice_guest_call(size_t operation_size, size_t payload_size)             \
    {                                                                                  \
        return lattice_serve(handle, operation_size, payload_size);                    \
    }                                                                                  \
    _Static_assert(true, "the macro wants a semicolon")

/*
 * Memory until the end of the call, aligned to 8 bytes; NULL when there is no more of it. Its
 * content is undefined: it may hold what an earlier call left there.
 */
static inline void *lattice_allocate(size_t size);

/* Bytes that grow at their end. Start with `lattice_buffer buffer = {0}`. */
typedef struct {
    uint8_t *data;
    size_t size;
    size_t capacity;
} lattice_buffer;

static inline void lattice_append(lattice_buffer *buffer, lattice_bytes bytes);
static inline void lattice_append_byte(lattice_buffer *buffer, uint8_t byte);
static inline void lattice_append_decimal(lattice_buffer *buffer, int64_t number);

/* A view of what was appended so far; it ends with the next append. */
static inline lattice_bytes lattice_view(const lattice_buffer *buffer)
{
    return (lattice_bytes){buffer->data, buffer->size};
}

#define LATTICE_IMPORT(name) __attribute__((import_module("wapc"), import_name(name)))

/* Copies the operation and the payload of this call into memory; once per call. */
LATTICE_IMPORT("__guest_request")
void lattice_wapc_guest_request(uint8_t *operation, uint8_t *payload);

LATTICE_IMPORT("__guest_response")
void lattice_wapc_guest_response(const uint8_t *response, size_t size);

LATTICE_IMPORT("__guest_error")
void lattice_wapc_guest_error(const uint8_t *text, size_t size);

/* 1: there is a host response; 0: there is a host error. `binding` is waPC's word for a link. */
LATTICE_IMPORT("__host_call")
int32_t lattice_wapc_host_call(const uint8_t *binding, size_t binding_size,
                               const uint8_t *interface, size_t interface_size,
                               const uint8_t *operation, size_t operation_size,
                               const uint8_t *payload, size_t payload_size);

LATTICE_IMPORT("__host_response_len")
size_t lattice_wapc_host_response_size(void);

LATTICE_IMPORT("__host_response")
void lattice_wapc_host_response(uint8_t *response);

LATTICE_IMPORT("__host_error_len")
size_t lattice_wapc_host_error_size(void);

LATTICE_IMPORT("__host_error")
void lattice_wapc_host_error(uint8_t *text);

LATTICE_IMPORT("__console_log")
void lattice_wapc_console_log(const uint8_t *line, size_t size);

#define LATTICE_ALIGNMENT 8u
#define LATTICE_PAGE_BYTES 65536u
#define LATTICE_PAGES_MAX 65536u

/* Given by the linker: the first byte after the stack and the static data. */
extern uint8_t __heap_base;

/* The first free byte of the arena. Kept in 64 bits: the end of the last page is 2^32. */
static uint64_t lattice_arena_top;

/* Set by the first allocation that failed, until the next call. */
static bool lattice_arena_exhausted;

static inline uint64_t lattice_aligned(uint64_t address)
{
    return (address + LATTICE_ALIGNMENT - 1) & ~(uint64_t)(LATTICE_ALIGNMENT - 1);
}

static inline void lattice_arena_empty(void)
{
    lattice_arena_top = lattice_aligned((uintptr_t)&__heap_base);
    lattice_arena_exhausted = false;
}

/* Move the top of the arena, with as many new pages as that takes. */
static inline bool lattice_arena_reach(uint64_t top)
{
    uint64_t pages_needed = (top + LATTICE_PAGE_BYTES - 1) / LATTICE_PAGE_BYTES;
    size_t pages = __builtin_wasm_memory_size(0);

    if (pages_needed > LATTICE_PAGES_MAX) {
        lattice_arena_exhausted = true;
    } else if (pages_needed > pages) {
        size_t before = __builtin_wasm_memory_grow(0, (size_t)pages_needed - pages);
        lattice_arena_exhausted |= before == (size_t)-1;
    }
    if (lattice_arena_exhausted) {
        return false;
    }
    lattice_arena_top = top;
    return true;
}

static inline void *lattice_allocate(size_t size)
{
    uint64_t start = lattice_arena_top;

    if (!lattice_arena_reach(lattice_aligned(start + size))) {
        return NULL;
    }
    return (void *)(uintptr_t)start;
}

/* Room for `more` bytes at the end of the buffer; in place when it is the newest allocation. */
static inline bool lattice_buffer_reserve(lattice_buffer *buffer, size_t more)
{
    if (more <= buffer->capacity - buffer->size) {
        return true;
    }
    uint64_t capacity = (uint64_t)buffer->size + more;
    if (capacity < 2 * (uint64_t)buffer->capacity) {
        capacity = 2 * (uint64_t)buffer->capacity;
    }
    capacity = lattice_aligned(capacity);
    if (capacity > UINT32_MAX) {
        lattice_arena_exhausted = true;
        return false;
    }

    uint64_t start = (uintptr_t)buffer->data;
    if (buffer->data && start + buffer->capacity == lattice_arena_top) {
        if (!lattice_arena_reach(start + capacity)) {
            return false;
        }
    } else {
        uint8_t *data = lattice_allocate((size_t)capacity);
        if (!data) {
            return false;
        }
        if (buffer->size > 0) {
            __builtin_memcpy(data, buffer->data, buffer->size);
        }
        buffer->data = data;
    }
    buffer->capacity = (size_t)capacity;
    return true;
}

static inline void lattice_append(lattice_buffer *buffer, lattice_bytes bytes)
{
    if (bytes.size > 0 && lattice_buffer_reserve(buffer, bytes.size)) {
        __builtin_memcpy(buffer->data + buffer->size, bytes.data, bytes.size);
        buffer->size += bytes.size;
    }
}

static inline void lattice_append_byte(lattice_buffer *buffer, uint8_t byte)
{
    lattice_append(buffer, (lattice_bytes){&byte, 1});
}

static inline void lattice_append_decimal(lattice_buffer *buffer, int64_t number)
{
    uint8_t digits[20];
    size_t first = sizeof digits;
    /* Negated as unsigned: the smallest int64_t has no positive counterpart. */
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

    do {
        digits[--first] = (uint8_t)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (number < 0) {
        digits[--first] = '-';
    }
    lattice_append(buffer, (lattice_bytes){digits + first, sizeof digits - first});
}

/* Copy in `size` bytes of the kind that `read` fetches. */
static inline lattice_bytes lattice_fetch(size_t size, void (*read)(uint8_t *))
{
    uint8_t *data = lattice_allocate(size);

    if (!data || size == 0) {
        return (lattice_bytes){data, 0};
    }
    read(data);
    return (lattice_bytes){data, size};
}

static inline lattice_result lattice_call(lattice_bytes link_name, lattice_bytes interface,
                                          lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_arena_exhausted) {
        return lattice_error(LATTICE_TEXT("out of memory"));
    }
    if (lattice_wapc_host_call(link_name.data, link_name.size, interface.data, interface.size,
                               operation.data, operation.size, payload.data, payload.size)) {
        return lattice_ok(
            lattice_fetch(lattice_wapc_host_response_size(), lattice_wapc_host_response));
    }
    return lattice_error(lattice_fetch(lattice_wapc_host_error_size(), lattice_wapc_host_error));
}

static inline void lattice_log(lattice_bytes line)
{
    lattice_wapc_console_log(line.data, line.size);
}

static inline lattice_result lattice_unknown_operation(lattice_bytes operation)
{
    lattice_buffer text = {0};

    lattice_append(&text, LATTICE_TEXT("unknown operation: "));
    lattice_append(&text, operation);
    return lattice_error(lattice_view(&text));
}

/* Answer one call: the body of `__guest_call`. */
static inline int32_t lattice_serve(lattice_handler *handle, size_t operation_size,
                                    size_t payload_size)
{
    lattice_arena_empty();
    uint8_t *operation = lattice_allocate(operation_size);
    uint8_t *payload = lattice_allocate(payload_size);
    lattice_result result = {0};

    if (operation && payload) {
        lattice_wapc_guest_request(operation, payload);
        result = handle((lattice_bytes){operation, operation_size},
                        (lattice_bytes){payload, payload_size});
    }
    if (lattice_arena_exhausted) {
        result = lattice_error(LATTICE_TEXT("out of memory"));
    }
    if (result.ok) {
        lattice_wapc_guest_response(result.body.data, result.body.size);
    } else {
        lattice_wapc_guest_error(result.body.data, result.body.size);
    }
    return result.ok;
}

#endif
