/*
 * url-shortener: short codes for long URLs, over HTTP.
 *
 * Three capabilities, three links: requests come from an HTTP server, codes and hits are kept in a
 * key-value store (wasi:keyvalue), and each hit is told to whoever listens (wasmcloud:messaging).
 *
 * A code is a hash of its URL, so nothing has to be drawn or counted: who shortens the same URL twice
 * gets the same code. It is claimed by compare-and-set, so that of two URLs with one hash the second
 * sees that it came too late, and takes the next hash.
 */
#include "http.h"
#include "lattice.h"
#include "messaging.h"
#include "msgpack.h"
#include "wit.h"

/* 62^7 codes: a million URLs meet the same code once in seven times, and then try the next. */
#define CODE_SIZE 7
#define ATTEMPTS_MAX 8

/* What browsers and proxies take. */
#define URL_BYTES_MAX 2000

static const char DIGITS[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static bool starts_with(lattice_bytes text, lattice_bytes start)
{
    return text.size >= start.size &&
           lattice_equal((lattice_bytes){text.data, start.size}, start);
}

/* It is given out in a header, so it must not have line ends, nor anything else that is not seen. */
static bool is_url(lattice_bytes text)
{
    if (text.size > URL_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] <= ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return (starts_with(text, LATTICE_TEXT("http://")) && text.size > 7) ||
           (starts_with(text, LATTICE_TEXT("https://")) && text.size > 8);
}

/* CODE_SIZE bytes. */
static bool is_code(lattice_bytes text)
{
    for (size_t i = 0; i < CODE_SIZE; i++) {
        uint8_t byte = text.data[i];
        if (!((byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
              (byte >= 'a' && byte <= 'z'))) {
            return false;
        }
    }
    return true;
}

/* FNV-1a of the URL and the attempt, in base 62. */
static lattice_bytes code_of(lattice_bytes url, uint8_t attempt)
{
    uint64_t hash = 0xcbf29ce484222325;
    lattice_buffer code = {0};

    for (size_t i = 0; i < url.size; i++) {
        hash = (hash ^ url.data[i]) * 0x100000001b3;
    }
    hash = (hash ^ attempt) * 0x100000001b3;
    for (size_t i = 0; i < CODE_SIZE; i++) {
        lattice_append_byte(&code, (uint8_t)DIGITS[hash % 62]);
        hash /= 62;
    }
    return lattice_view(&code);
}

static void write_key(lattice_buffer *arguments, lattice_bytes kind, lattice_bytes code)
{
    lattice_buffer key = {0};

    lattice_append(&key, kind);
    lattice_append(&key, code);
    msgpack_write_text(arguments, lattice_view(&key));
}

static lattice_result in_store(lattice_bytes function, const lattice_buffer *arguments)
{
    return wit_call(LATTICE_TEXT("wasi:keyvalue"), function, lattice_view(arguments));
}

/* The value of a key; empty when it is not there. */
static lattice_result get(lattice_bytes kind, lattice_bytes code)
{
    lattice_buffer arguments = {0};

    msgpack_write_array(&arguments, 1);
    write_key(&arguments, kind, code);
    lattice_result got = in_store(LATTICE_TEXT("store.get"), &arguments);
    if (!got.ok) {
        return got;
    }
    msgpack_reader reader = msgpack_begin(got.body);
    lattice_bytes value = msgpack_read_binary(&reader);
    return msgpack_end(&reader) ? lattice_ok(value) : msgpack_failure(&reader);
}

/* Write the URL of a code if it has none yet. Whatever is there afterwards is the answer. */
static lattice_result claim(lattice_bytes code, lattice_bytes url)
{
    lattice_buffer arguments = {0};

    msgpack_write_array(&arguments, 3);
    write_key(&arguments, LATTICE_TEXT("url:"), code);
    msgpack_write_nil(&arguments); /* The version of a key that is not there. */
    msgpack_write_binary(&arguments, url);
    lattice_result swapped =
        lattice_call(LATTICE_TEXT("default"), LATTICE_TEXT("wasi:keyvalue"),
                     LATTICE_TEXT("atomics.swap"), lattice_view(&arguments));
    if (!swapped.ok) {
        return swapped;
    }
    msgpack_reader reader = msgpack_begin(swapped.body);
    if (wit_read_result(&reader)) {
        return lattice_ok(url);
    }
    return get(LATTICE_TEXT("url:"), code);
}

static lattice_result count_hit(lattice_bytes code)
{
    lattice_buffer arguments = {0};

    msgpack_write_array(&arguments, 2);
    write_key(&arguments, LATTICE_TEXT("hits:"), code);
    msgpack_write_integer(&arguments, 1);
    return in_store(LATTICE_TEXT("atomics.increment"), &arguments);
}

/* {"code": "0aZ…", "hits": 3} */
static lattice_bytes hits_json(lattice_bytes code, lattice_bytes hits)
{
    lattice_buffer json = {0};

    lattice_append(&json, LATTICE_TEXT("{\"code\": \""));
    lattice_append(&json, code);
    lattice_append(&json, LATTICE_TEXT("\", \"hits\": "));
    lattice_append(&json, hits);
    lattice_append(&json, LATTICE_TEXT("}"));
    return lattice_view(&json);
}

static lattice_result tell_hit(lattice_bytes code, int64_t hits)
{
    lattice_buffer number = {0};

    lattice_append_decimal(&number, hits);
    return messaging_publish((messaging_message){
        .subject = LATTICE_TEXT("shortener.hits"),
        .body = hits_json(code, lattice_view(&number)),
    });
}

static lattice_result respond(int64_t status, lattice_bytes name, lattice_bytes value,
                              lattice_bytes line)
{
    http_header header = {name, value};
    lattice_buffer body = {0};

    lattice_append(&body, line);
    lattice_append_byte(&body, '\n');
    return http_respond(status, &header, 1, lattice_view(&body));
}

static lattice_result respond_text(int64_t status, lattice_bytes line)
{
    return respond(status, LATTICE_TEXT("content-type"), LATTICE_TEXT("text/plain"), line);
}

static lattice_result not_allowed(lattice_bytes allowed)
{
    return respond(405, LATTICE_TEXT("allow"), allowed, LATTICE_TEXT("method not allowed"));
}

static lattice_result shorten(lattice_bytes url)
{
    while (url.size > 0 && (url.data[url.size - 1] == '\n' || url.data[url.size - 1] == '\r')) {
        url.size--;
    }
    if (!is_url(url)) {
        return respond_text(
            400, LATTICE_TEXT("the body must be an http or https URL of at most 2000 characters"));
    }

    for (uint8_t attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        lattice_bytes code = code_of(url, attempt);
        lattice_result claimed = claim(code, url);
        if (!claimed.ok) {
            return respond_text(503, claimed.body);
        }
        if (lattice_equal(claimed.body, url)) {
            lattice_buffer path = {0};
            lattice_append_byte(&path, '/');
            lattice_append(&path, code);
            return respond(201, LATTICE_TEXT("location"), lattice_view(&path), lattice_view(&path));
        }
    }
    return respond_text(503, LATTICE_TEXT("all codes of this URL are those of others"));
}

/* Who follows a code gets there, even when the hit can't be counted or told. */
static lattice_result redirect(lattice_bytes code, lattice_bytes url)
{
    lattice_result counted = count_hit(code);
    if (counted.ok) {
        msgpack_reader reader = msgpack_begin(counted.body);
        counted = tell_hit(code, msgpack_read_integer(&reader));
    }
    if (!counted.ok) {
        lattice_log(counted.body);
    }
    return respond(302, LATTICE_TEXT("location"), url, url);
}

static lattice_result show_hits(lattice_bytes code)
{
    lattice_result hits = get(LATTICE_TEXT("hits:"), code);
    if (!hits.ok) {
        return respond_text(503, hits.body);
    }
    lattice_bytes json = hits_json(code, hits.body.size > 0 ? hits.body : LATTICE_TEXT("0"));
    return respond(200, LATTICE_TEXT("content-type"), LATTICE_TEXT("application/json"), json);
}

/* GET /CODE and GET /CODE/stats. */
static lattice_result follow(lattice_bytes path)
{
    if (path.size < 1 + CODE_SIZE) {
        return respond_text(404, LATTICE_TEXT("no such code"));
    }
    lattice_bytes code = {path.data + 1, CODE_SIZE};
    lattice_bytes rest = {code.data + CODE_SIZE, path.size - 1 - CODE_SIZE};
    bool wants_hits = lattice_equal(rest, LATTICE_TEXT("/stats"));
    if (!is_code(code) || (rest.size > 0 && !wants_hits)) {
        return respond_text(404, LATTICE_TEXT("no such code"));
    }

    lattice_result url = get(LATTICE_TEXT("url:"), code);
    if (!url.ok) {
        return respond_text(503, url.body);
    }
    if (url.body.size == 0) {
        return respond_text(404, LATTICE_TEXT("no such code"));
    }
    return wants_hits ? show_hits(code) : redirect(code, url.body);
}

static lattice_result handle_request(lattice_bytes payload)
{
    msgpack_reader reader = msgpack_begin(payload);
    http_request request = http_read_request(&reader);

    if (!msgpack_end(&reader)) {
        return msgpack_failure(&reader);
    }
    if (lattice_equal(request.path, LATTICE_TEXT("/"))) {
        return lattice_equal(request.method, LATTICE_TEXT("POST"))
                   ? shorten(request.body)
                   : not_allowed(LATTICE_TEXT("POST"));
    }
    if (!lattice_equal(request.method, LATTICE_TEXT("GET"))) {
        return not_allowed(LATTICE_TEXT("GET"));
    }
    return follow(request.path);
}

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_equal(operation, LATTICE_TEXT("HttpServer.HandleRequest"))) {
        return handle_request(payload);
    }
    return lattice_unknown_operation(operation);
}

LATTICE_ACTOR(handle);
