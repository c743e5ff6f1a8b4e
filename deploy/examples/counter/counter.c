/*
 * counter: counts the requests for each path, in a key-value store.
 *
 * A request for /a/b increments the key "a:b" over the link "default" for wasmcloud:keyvalue, and
 * is answered with {"counter": N}. Which store that is, the actor neither knows nor cares.
 */
#include "http.h"
#include "lattice.h"
#include "msgpack.h"

/* "/" counts as "counter", "/a/b" as "a:b": the colon is what people separate such keys with. */
static lattice_bytes key_of(lattice_bytes path)
{
    lattice_buffer key = {0};

    for (size_t i = 0; i < path.size; i++) {
        if (path.data[i] != '/') {
            lattice_append_byte(&key, path.data[i]);
        } else if (i > 0) {
            lattice_append_byte(&key, ':');
        }
    }
    return key.size > 0 ? lattice_view(&key) : LATTICE_TEXT("counter");
}

static lattice_result increment(lattice_bytes key)
{
    lattice_buffer payload = {0};

    msgpack_write_map(&payload, 2);
    msgpack_write_text(&payload, LATTICE_TEXT("key"));
    msgpack_write_text(&payload, key);
    msgpack_write_text(&payload, LATTICE_TEXT("value"));
    msgpack_write_integer(&payload, 1);
    return lattice_call(LATTICE_TEXT("default"), LATTICE_TEXT("wasmcloud:keyvalue"),
                        LATTICE_TEXT("KeyValue.Increment"), lattice_view(&payload));
}

static const char HEX_DIGITS[] = "0123456789abcdef";

static void append_json_text(lattice_buffer *json, lattice_bytes text)
{
    lattice_append_byte(json, '"');
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte == '"' || byte == '\\') {
            lattice_append_byte(json, '\\');
            lattice_append_byte(json, byte);
        } else if (byte < 0x20) {
            lattice_append(json, LATTICE_TEXT("\\u00"));
            lattice_append_byte(json, (uint8_t)HEX_DIGITS[byte >> 4]);
            lattice_append_byte(json, (uint8_t)HEX_DIGITS[byte & 0x0f]);
        } else {
            lattice_append_byte(json, byte);
        }
    }
    lattice_append_byte(json, '"');
}

static lattice_result respond_json(int64_t status, lattice_buffer *json)
{
    http_header headers[] = {
        {LATTICE_TEXT("content-type"), LATTICE_TEXT("application/json")},
        {LATTICE_TEXT("allow"), LATTICE_TEXT("GET, HEAD, POST")},
    };

    lattice_append(json, LATTICE_TEXT("}\n"));
    /* A 405 must name the methods that are allowed (RFC 9110, section 15.5.6). */
    return http_respond(status, headers, status == 405 ? 2 : 1, lattice_view(json));
}

static lattice_result respond_error(int64_t status, lattice_bytes text)
{
    lattice_buffer json = {0};

    lattice_append(&json, LATTICE_TEXT("{\"error\": "));
    append_json_text(&json, text);
    return respond_json(status, &json);
}

static lattice_result respond_count(int64_t count)
{
    lattice_buffer json = {0};

    lattice_append(&json, LATTICE_TEXT("{\"counter\": "));
    lattice_append_decimal(&json, count);
    return respond_json(200, &json);
}

static bool is_allowed(lattice_bytes method)
{
    return lattice_equal(method, LATTICE_TEXT("GET")) ||
           lattice_equal(method, LATTICE_TEXT("HEAD")) ||
           lattice_equal(method, LATTICE_TEXT("POST"));
}

static lattice_result handle_request(lattice_bytes payload)
{
    msgpack_reader request_reader = msgpack_begin(payload);
    http_request request = http_read_request(&request_reader);
    if (!msgpack_end(&request_reader)) {
        return msgpack_failure(&request_reader);
    }
    if (!is_allowed(request.method)) {
        return respond_error(405, LATTICE_TEXT("method not allowed"));
    }

    lattice_result incremented = increment(key_of(request.path));
    if (!incremented.ok) {
        return respond_error(503, incremented.body);
    }

    msgpack_reader count_reader = msgpack_begin(incremented.body);
    int64_t count = msgpack_read_integer(&count_reader);
    if (!msgpack_end(&count_reader)) {
        return respond_error(503, LATTICE_TEXT("the key-value store did not answer with a number"));
    }
    return respond_count(count);
}

static lattice_result health(void)
{
    lattice_buffer response = {0};

    msgpack_write_map(&response, 1);
    msgpack_write_text(&response, LATTICE_TEXT("healthy"));
    msgpack_write_boolean(&response, true);
    return lattice_ok(lattice_view(&response));
}

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_equal(operation, LATTICE_TEXT("HttpServer.HandleRequest"))) {
        return handle_request(payload);
    }
    if (lattice_equal(operation, LATTICE_TEXT("Actor.HealthRequest"))) {
        return health();
    }
    return lattice_unknown_operation(operation);
}

LATTICE_ACTOR(handle);
