/*
 * thumbnailer: makes small pictures of large ones, from blobs to blobs.
 *
 * Pictures are PNG, or PPM and PGM, the plainest formats there are: a line of text, then the pixels. A
 * thumbnail has its picture's format. Each pixel of a thumbnail is the mean of the area that it stands for; where a pixel of the picture lies on the
 * border of two areas, each has its share. All of it is integer arithmetic, and exact.
 */
#include "http.h"
#include "image.h"
#include "lattice.h"
#include "msgpack.h"
#include "png.h"
#include "wit.h"

/* A picture in whole, in memory; the HTTP server takes as much in a request. */
#define IMAGE_BYTES_MAX (4 * 1024 * 1024)
#define WIDTH_DEFAULT 64
#define NAME_BYTES_MAX 100

#define IMAGES LATTICE_TEXT("images")
#define THUMBNAILS LATTICE_TEXT("thumbnails")

/* A number of a header, up to SIDE_MAX; 0 when there is none. */
static uint32_t read_number(lattice_bytes *text)
{
    uint32_t number = 0;

    while (text->size > 0 && *text->data >= '0' && *text->data <= '9' && number <= SIDE_MAX) {
        number = number * 10 + (*text->data - '0');
        text->data++;
        text->size--;
    }
    return number <= SIDE_MAX ? number : 0;
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* What stands between two numbers: white space, and comments to the end of their line. */
static void skip_space(lattice_bytes *text)
{
    bool in_comment = false;

    while (text->size > 0 && (in_comment || is_space(*text->data) || *text->data == '#')) {
        in_comment = *text->data == '#' || (in_comment && *text->data != '\n');
        text->data++;
        text->size--;
    }
}

static bool is_png(lattice_bytes file)
{
    const lattice_bytes signature = PNG_SIGNATURE;

    return file.size > signature.size &&
           lattice_equal((lattice_bytes){file.data, signature.size}, signature);
}

/* "P6 WIDTH HEIGHT 255" and one white space, then a byte for each channel of each pixel; or PNG. */
static image read_image(lattice_bytes file)
{
    image read = {0};

    if (is_png(file)) {
        return read_png(file);
    }
    if (file.size < 2 || file.data[0] != 'P' || (file.data[1] != '5' && file.data[1] != '6')) {
        return read;
    }
    uint32_t channels = file.data[1] == '6' ? 3 : 1;
    lattice_bytes rest = {file.data + 2, file.size - 2};
    skip_space(&rest);
    read.width = read_number(&rest);
    skip_space(&rest);
    read.height = read_number(&rest);
    skip_space(&rest);
    if (read_number(&rest) != 255 || rest.size == 0 || !is_space(*rest.data)) {
        return read;
    }
    read.pixels = rest.data + 1;
    uint64_t size = (uint64_t)read.width * read.height * channels;
    if (size > 0 && rest.size - 1 == size) {
        read.channels = channels;
    }
    return read;
}

/* How much of the stretch from `start` to `end` lies within that from `from` to `to`. */
static uint32_t overlap(uint32_t start, uint32_t end, uint32_t from, uint32_t to)
{
    uint32_t later = start > from ? start : from;
    uint32_t earlier = end < to ? end : to;

    return earlier - later;
}

/*
 * The mean of what pixel (x, y) of a thumbnail stands for. Both pictures are measured in units in
 * which every pixel has whole sides: `width` of them for one of the picture, from.width for one of the
 * thumbnail.
 */
static void average(const image *from, uint32_t width, uint32_t height, uint32_t x, uint32_t y,
                    uint8_t *pixel)
{
    uint32_t left = x * from->width, right = left + from->width;
    uint32_t top = y * from->height, bottom = top + from->height;
    uint64_t area = (uint64_t)from->width * from->height;
    uint64_t sums[3] = {0};

    for (uint32_t row = top / height; row * height < bottom; row++) {
        uint64_t tall = overlap(row * height, (row + 1) * height, top, bottom);
        const uint8_t *at =
            from->pixels + ((size_t)row * from->width + left / width) * from->channels;
        for (uint32_t column = left / width; column * width < right; column++) {
            uint64_t share = tall * overlap(column * width, (column + 1) * width, left, right);
            for (uint32_t channel = 0; channel < from->channels; channel++) {
                sums[channel] += share * *at++;
            }
        }
    }
    for (uint32_t channel = 0; channel < from->channels; channel++) {
        pixel[channel] = (uint8_t)((sums[channel] + area / 2) / area);
    }
}

/* The height that keeps the shape, rounded; at least a pixel. */
static uint32_t height_of(const image *from, uint32_t width)
{
    uint32_t height = (from->height * width + from->width / 2) / from->width;

    return height > 0 ? height : 1;
}

static image shrink(const image *from, uint32_t width, uint32_t height)
{
    lattice_buffer pixels = {0};
    uint8_t pixel[3];

    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++) {
            average(from, width, height, x, y, pixel);
            lattice_append(&pixels, (lattice_bytes){pixel, from->channels});
        }
    }
    return (image){width, height, from->channels, lattice_view(&pixels).data, from->is_png};
}

static lattice_bytes write_image(const image *picture)
{
    lattice_buffer file = {0};

    if (picture->is_png) {
        return write_png(picture);
    }
    lattice_append(&file, picture->channels == 3 ? LATTICE_TEXT("P6 ") : LATTICE_TEXT("P5 "));
    lattice_append_decimal(&file, picture->width);
    lattice_append_byte(&file, ' ');
    lattice_append_decimal(&file, picture->height);
    lattice_append(&file, LATTICE_TEXT(" 255\n"));
    lattice_append(&file, (lattice_bytes){picture->pixels, (size_t)picture->width * picture->height *
                                                               picture->channels});
    return lattice_view(&file);
}

static lattice_result write_blob(lattice_bytes container, lattice_bytes name, lattice_bytes data)
{
    lattice_buffer made = {0};
    lattice_buffer written = {0};

    msgpack_write_array(&made, 1);
    msgpack_write_text(&made, container);
    lattice_result result =
        wit_call(LATTICE_TEXT("wasi:blobstore/blobstore"),
                 LATTICE_TEXT("blobstore.create-container"), lattice_view(&made));
    if (!result.ok) {
        return result;
    }
    msgpack_write_array(&written, 3);
    msgpack_write_text(&written, container);
    msgpack_write_text(&written, name);
    msgpack_write_binary(&written, data);
    return wit_call(LATTICE_TEXT("wasi:blobstore/container"),
                    LATTICE_TEXT("container.write-data"), lattice_view(&written));
}

static lattice_result read_blob(lattice_bytes container, lattice_bytes name)
{
    lattice_buffer arguments = {0};

    msgpack_write_array(&arguments, 4);
    msgpack_write_text(&arguments, container);
    msgpack_write_text(&arguments, name);
    msgpack_write_integer(&arguments, 0);
    msgpack_write_integer(&arguments, IMAGE_BYTES_MAX - 1);
    lattice_result got = wit_call(LATTICE_TEXT("wasi:blobstore/container"),
                                  LATTICE_TEXT("container.get-data"), lattice_view(&arguments));
    if (!got.ok) {
        return got;
    }
    msgpack_reader reader = msgpack_begin(got.body);
    lattice_bytes data = msgpack_read_binary(&reader);
    return msgpack_end(&reader) ? lattice_ok(data) : msgpack_failure(&reader);
}

static lattice_result respond(int64_t status, lattice_bytes line)
{
    http_header plain = {LATTICE_TEXT("content-type"), LATTICE_TEXT("text/plain")};
    lattice_buffer body = {0};

    lattice_append(&body, line);
    lattice_append_byte(&body, '\n');
    return http_respond(status, &plain, 1, lattice_view(&body));
}

/* The host's text begins with a code: what is not there is the client's to know. */
static lattice_result respond_failure(lattice_bytes text)
{
    const lattice_bytes code = LATTICE_TEXT("not_found:");
    bool is_missing =
        text.size > code.size && lattice_equal((lattice_bytes){text.data, code.size}, code);

    return respond(is_missing ? 404 : 503, text);
}

static lattice_result respond_not_a_picture(void)
{
    return respond(415, LATTICE_TEXT("not a PNG, PPM or PGM (P6 or P5) of 8 bits with sides up to"
                                     " 10000; a PNG not interlaced, and of 16 MiB unpacked"));
}

static lattice_result put_image(lattice_bytes name, lattice_bytes file)
{
    if (read_image(file).channels == 0) {
        return respond_not_a_picture();
    }
    lattice_result written = write_blob(IMAGES, name, file);
    return written.ok ? respond(201, LATTICE_TEXT("stored")) : respond_failure(written.body);
}

/* The width that a query asks for; 0 when it is no such query. */
static uint32_t width_of(lattice_bytes query)
{
    const lattice_bytes key = LATTICE_TEXT("width=");

    if (query.size == 0) {
        return WIDTH_DEFAULT;
    }
    if (query.size < key.size || !lattice_equal((lattice_bytes){query.data, key.size}, key)) {
        return 0;
    }
    lattice_bytes number = {query.data + key.size, query.size - key.size};
    uint32_t width = read_number(&number);
    return number.size == 0 ? width : 0;
}

static lattice_result make_thumbnail(lattice_bytes name, lattice_bytes query)
{
    uint32_t width = width_of(query);

    if (width == 0) {
        return respond(400, LATTICE_TEXT("the query may be width=NUMBER, from 1 to 10000"));
    }
    lattice_result got = read_blob(IMAGES, name);
    if (!got.ok) {
        return respond_failure(got.body);
    }
    image picture = read_image(got.body);
    if (picture.channels == 0) {
        return respond_not_a_picture();
    }
    uint32_t height = height_of(&picture, width);
    if (width > picture.width || height > picture.height) {
        return respond(400, LATTICE_TEXT("a thumbnail is no larger than its picture"));
    }

    image thumbnail = shrink(&picture, width, height);
    lattice_result written = write_blob(THUMBNAILS, name, write_image(&thumbnail));
    if (!written.ok) {
        return respond_failure(written.body);
    }
    lattice_buffer size = {0};
    lattice_append_decimal(&size, width);
    lattice_append_byte(&size, 'x');
    lattice_append_decimal(&size, height);
    return respond(201, lattice_view(&size));
}

static lattice_result get_thumbnail(lattice_bytes name)
{
    http_header kind = {LATTICE_TEXT("content-type"), LATTICE_TEXT("image/x-portable-anymap")};
    lattice_result got = read_blob(THUMBNAILS, name);

    if (!got.ok) {
        return respond_failure(got.body);
    }
    if (is_png(got.body)) {
        kind.value = LATTICE_TEXT("image/png");
    }
    return http_respond(200, &kind, 1, got.body);
}

static lattice_result handle_request(lattice_bytes payload)
{
    msgpack_reader reader = msgpack_begin(payload);
    http_request request = http_read_request(&reader);

    if (!msgpack_end(&reader)) {
        return msgpack_failure(&reader);
    }
    if (request.path.size < 2 || request.path.size > 1 + NAME_BYTES_MAX) {
        return respond(404, LATTICE_TEXT("the path is the name of a picture, of 1 to 100 bytes"));
    }
    lattice_bytes name = {request.path.data + 1, request.path.size - 1};
    if (lattice_equal(request.method, LATTICE_TEXT("PUT"))) {
        return put_image(name, request.body);
    }
    if (lattice_equal(request.method, LATTICE_TEXT("POST"))) {
        return make_thumbnail(name, request.query);
    }
    if (lattice_equal(request.method, LATTICE_TEXT("GET"))) {
        return get_thumbnail(name);
    }
    return respond(405, LATTICE_TEXT("PUT a picture, POST for its thumbnail, GET that"));
}

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_equal(operation, LATTICE_TEXT("HttpServer.HandleRequest"))) {
        return handle_request(payload);
    }
    return lattice_unknown_operation(operation);
}

LATTICE_ACTOR(handle);
