/*
 * digits: says which digit is in a picture of 8 by 8 pixels, with a small neural network.
 *
 * Its weights, which train.py made, are in a blob. They are read by the first call of an instance; an
 * instance that is kept has them in its memory for the calls that follow.
 */
#include "http.h"
#include "lattice.h"
#include "msgpack.h"
#include "wit.h"

#define PIXELS 64
#define HIDDEN 32
#define DIGITS 10
#define PIXEL_MAX 16

#define CONTAINER LATTICE_TEXT("models")
#define OBJECT LATTICE_TEXT("digits")

/* As in the file: single precision, little-endian, nothing between. */
typedef struct {
    float hidden[HIDDEN][PIXELS];
    float hidden_bias[HIDDEN];
    float output[DIGITS][HIDDEN];
    float output_bias[DIGITS];
} network;

_Static_assert(sizeof(network) == 9640, "train.py writes so many bytes");

/* Outlive the call, if the instance does: the SDK's arena is only what is allocated. */
static network weights;
static bool has_weights;

static lattice_result in_blobs(lattice_bytes interface, lattice_bytes function,
                               const lattice_buffer *arguments)
{
    return wit_call(interface, function, lattice_view(arguments));
}

/* Get the weights, unless they are here. */
static lattice_result load_weights(void)
{
    lattice_buffer arguments = {0};

    if (has_weights) {
        return lattice_ok((lattice_bytes){0});
    }
    msgpack_write_array(&arguments, 4);
    msgpack_write_text(&arguments, CONTAINER);
    msgpack_write_text(&arguments, OBJECT);
    msgpack_write_integer(&arguments, 0);
    /* Both ends are included: one byte more than there may be shows that there are too many. */
    msgpack_write_integer(&arguments, sizeof weights);
    lattice_result got = in_blobs(LATTICE_TEXT("wasi:blobstore/container"),
                                  LATTICE_TEXT("container.get-data"), &arguments);
    if (!got.ok) {
        return got;
    }
    msgpack_reader reader = msgpack_begin(got.body);
    lattice_bytes file = msgpack_read_binary(&reader);
    if (!msgpack_end(&reader) || file.size != sizeof weights) {
        return lattice_error(LATTICE_TEXT("models/digits are no weights of this network"));
    }
    __builtin_memcpy(&weights, file.data, sizeof weights);
    has_weights = true;
    return lattice_ok(file);
}

static lattice_result store_weights(lattice_bytes file)
{
    lattice_buffer container = {0};
    lattice_buffer object = {0};

    msgpack_write_array(&container, 1);
    msgpack_write_text(&container, CONTAINER);
    lattice_result stored = in_blobs(LATTICE_TEXT("wasi:blobstore/blobstore"),
                                     LATTICE_TEXT("blobstore.create-container"), &container);
    if (!stored.ok) {
        return stored;
    }
    msgpack_write_array(&object, 3);
    msgpack_write_text(&object, CONTAINER);
    msgpack_write_text(&object, OBJECT);
    msgpack_write_binary(&object, file);
    stored = in_blobs(LATTICE_TEXT("wasi:blobstore/container"),
                      LATTICE_TEXT("container.write-data"), &object);
    has_weights = false;
    return stored;
}

/* e to the power of x, for x up to 0: 2^k times what is left of x, by five terms of its series. */
static float exponential(float x)
{
    union {
        uint32_t bits;
        float number;
    } power;

    if (x < -80) {
        return 0;
    }
    int32_t k = (int32_t)(x * 1.44269504f - 0.5f);
    float rest = x - (float)k * 0.69314718f;
    power.bits = (uint32_t)(k + 127) << 23;
    return power.number *
           (1 + rest * (1 + rest / 2 * (1 + rest / 3 * (1 + rest / 4 * (1 + rest / 5)))));
}

static float weighted(const float *factors, const float *values, size_t count, float bias)
{
    float sum = bias;

    for (size_t i = 0; i < count; i++) {
        sum += factors[i] * values[i];
    }
    return sum;
}

/* How probable each digit is; together they are 1. */
static void classify(const float *pixels, float *probabilities)
{
    float hidden[HIDDEN];
    float highest = 0;
    float sum = 0;

    for (size_t i = 0; i < HIDDEN; i++) {
        float value = weighted(weights.hidden[i], pixels, PIXELS, weights.hidden_bias[i]);
        hidden[i] = value > 0 ? value : 0;
    }
    for (size_t i = 0; i < DIGITS; i++) {
        probabilities[i] = weighted(weights.output[i], hidden, HIDDEN, weights.output_bias[i]);
        if (i == 0 || probabilities[i] > highest) {
            highest = probabilities[i];
        }
    }
    for (size_t i = 0; i < DIGITS; i++) {
        probabilities[i] = exponential(probabilities[i] - highest);
        sum += probabilities[i];
    }
    for (size_t i = 0; i < DIGITS; i++) {
        probabilities[i] /= sum;
    }
}

/* Numbers from 0 to 16 with anything but digits between them: lines, or an array of JSON. */
static bool read_pixels(lattice_bytes text, float *pixels)
{
    size_t count = 0;

    for (size_t i = 0; i < text.size;) {
        uint32_t number = 0;
        size_t start = i;
        while (i < text.size && text.data[i] >= '0' && text.data[i] <= '9' &&
               number <= PIXEL_MAX) {
            number = number * 10 + (text.data[i++] - '0');
        }
        if (i == start) {
            i++;
            continue;
        }
        if (number > PIXEL_MAX || count == PIXELS) {
            return false;
        }
        pixels[count++] = (float)number / PIXEL_MAX;
    }
    return count == PIXELS;
}

/* A probability in three decimals. */
static void append_thousandths(lattice_buffer *json, float number)
{
    int64_t thousandths = (int64_t)(number * 1000 + 0.5f);

    lattice_append_decimal(json, thousandths / 1000);
    lattice_append_byte(json, '.');
    for (int64_t unit = 100; unit > 0; unit /= 10) {
        lattice_append_byte(json, (uint8_t)('0' + thousandths / unit % 10));
    }
}

static lattice_result respond(int64_t status, lattice_bytes kind, lattice_bytes line)
{
    http_header header = {LATTICE_TEXT("content-type"), kind};
    lattice_buffer body = {0};

    lattice_append(&body, line);
    lattice_append_byte(&body, '\n');
    return http_respond(status, &header, 1, lattice_view(&body));
}

static lattice_result respond_text(int64_t status, lattice_bytes line)
{
    return respond(status, LATTICE_TEXT("text/plain"), line);
}

static lattice_result respond_classified(const float *probabilities, bool were_kept)
{
    lattice_buffer json = {0};
    size_t digit = 0;

    for (size_t i = 1; i < DIGITS; i++) {
        digit = probabilities[i] > probabilities[digit] ? i : digit;
    }
    lattice_append(&json, LATTICE_TEXT("{\"digit\": "));
    lattice_append_decimal(&json, (int64_t)digit);
    lattice_append(&json, LATTICE_TEXT(", \"probabilities\": ["));
    for (size_t i = 0; i < DIGITS; i++) {
        if (i > 0) {
            lattice_append(&json, LATTICE_TEXT(", "));
        }
        append_thousandths(&json, probabilities[i]);
    }
    lattice_append(&json, LATTICE_TEXT("], \"weights\": "));
    lattice_append(&json, were_kept ? LATTICE_TEXT("\"kept\"}") : LATTICE_TEXT("\"read\"}"));
    return respond(200, LATTICE_TEXT("application/json"), lattice_view(&json));
}

static lattice_result answer_classify(lattice_bytes body)
{
    float pixels[PIXELS];
    float probabilities[DIGITS];
    bool were_kept = has_weights;

    if (!read_pixels(body, pixels)) {
        return respond_text(400, LATTICE_TEXT("the body must be 64 numbers from 0 to 16"));
    }
    lattice_result loaded = load_weights();
    if (!loaded.ok) {
        return respond_text(503, loaded.body);
    }
    classify(pixels, probabilities);
    return respond_classified(probabilities, were_kept);
}

static lattice_result answer_weights(lattice_bytes body)
{
    if (body.size != sizeof weights) {
        return respond_text(400, LATTICE_TEXT("the weights are 9640 bytes, as train.py writes them"));
    }
    lattice_result stored = store_weights(body);
    return stored.ok ? respond_text(201, LATTICE_TEXT("stored"))
                     : respond_text(503, stored.body);
}

static lattice_result handle_request(lattice_bytes payload)
{
    msgpack_reader reader = msgpack_begin(payload);
    http_request request = http_read_request(&reader);

    if (!msgpack_end(&reader)) {
        return msgpack_failure(&reader);
    }
    if (lattice_equal(request.method, LATTICE_TEXT("POST")) &&
        lattice_equal(request.path, LATTICE_TEXT("/classify"))) {
        return answer_classify(request.body);
    }
    if (lattice_equal(request.method, LATTICE_TEXT("PUT")) &&
        lattice_equal(request.path, LATTICE_TEXT("/weights"))) {
        return answer_weights(request.body);
    }
    return respond_text(404, LATTICE_TEXT("POST /classify, or PUT /weights"));
}

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_equal(operation, LATTICE_TEXT("HttpServer.HandleRequest"))) {
        return handle_request(payload);
    }
    return lattice_unknown_operation(operation);
}

LATTICE_ACTOR(handle);
