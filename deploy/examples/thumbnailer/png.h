/*
 * PNG, read and written: pictures of 8 bits that are not interlaced. What is transparent is laid on
 * white. Written ones are not compressed, which their readers do not notice.
 *
 * Sources: PNG (ISO/IEC 15948), zlib (RFC 1950), deflate (RFC 1951).
 */
#ifndef THUMBNAILER_PNG_H
#define THUMBNAILER_PNG_H

#include "image.h"
#include "lattice.h"

/* What a picture may unpack to: a file of some kilobytes could say that it holds gigabytes. */
#define PNG_BYTES_MAX (16 * 1024 * 1024)

#define PNG_SIGNATURE LATTICE_TEXT("\x89PNG\r\n\x1a\n")

static uint32_t png_read_word(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Deflate: bits from the lowest up, and codes whose shorter ones come first. */

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    uint32_t bits;
    uint32_t count;
    bool failed;
} png_bits;

typedef struct {
    uint16_t counts[16];
    uint16_t symbols[288];
} png_codes;

static uint32_t png_read_bits(png_bits *from, uint32_t count)
{
    while (from->count < count) {
        if (from->at == from->end) {
            from->failed = true;
            return 0;
        }
        from->bits |= (uint32_t)*from->at++ << from->count;
        from->count += 8;
    }
    uint32_t value = from->bits & ((1u << count) - 1);
    from->bits >>= count;
    from->count -= count;
    return value;
}

/* Codes by the length of each symbol's; false when they would be ambiguous. */
static bool png_make_codes(png_codes *codes, const uint8_t *lengths, uint32_t symbols)
{
    uint16_t offsets[16] = {0};
    int32_t left = 1;

    for (uint32_t length = 0; length < 16; length++) {
        codes->counts[length] = 0;
    }
    for (uint32_t symbol = 0; symbol < symbols; symbol++) {
        codes->counts[lengths[symbol]]++;
    }
    for (uint32_t length = 1; length < 16; length++) {
        left = 2 * left - codes->counts[length];
        if (left < 0) {
            return false;
        }
    }
    for (uint32_t length = 1; length < 15; length++) {
        offsets[length + 1] = offsets[length] + codes->counts[length];
    }
    for (uint32_t symbol = 0; symbol < symbols; symbol++) {
        if (lengths[symbol] != 0) {
            codes->symbols[offsets[lengths[symbol]]++] = (uint16_t)symbol;
        }
    }
    return true;
}

static uint32_t png_read_symbol(png_bits *from, const png_codes *codes)
{
    int32_t code = 0, first = 0, index = 0;

    for (uint32_t length = 1; length < 16 && !from->failed; length++) {
        code |= (int32_t)png_read_bits(from, 1);
        int32_t count = codes->counts[length];
        if (code - count < first) {
            return codes->symbols[index + code - first];
        }
        index += count;
        first = 2 * (first + count);
        code *= 2;
    }
    from->failed = true;
    return 0;
}

static bool png_read_codes(png_bits *from, png_codes *literals, png_codes *distances)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                      11, 4,  12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[320] = {0};
    uint32_t literal_count = png_read_bits(from, 5) + 257;
    uint32_t distance_count = png_read_bits(from, 5) + 1;
    uint32_t order_count = png_read_bits(from, 4) + 4;
    uint32_t at = 0;

    if (literal_count > 286 || distance_count > 30) {
        return false;
    }
    for (uint32_t index = 0; index < order_count; index++) {
        lengths[order[index]] = (uint8_t)png_read_bits(from, 3);
    }
    if (!png_make_codes(literals, lengths, 19)) {
        return false;
    }
    while (at < literal_count + distance_count && !from->failed) {
        uint32_t symbol = png_read_symbol(from, literals);
        uint32_t repeat = 1;
        uint8_t length = (uint8_t)symbol;
        if (symbol == 16) {
            if (at == 0) {
                return false;
            }
            length = lengths[at - 1];
            repeat = 3 + png_read_bits(from, 2);
        } else if (symbol > 16) {
            length = 0;
            repeat = symbol == 17 ? 3 + png_read_bits(from, 3) : 11 + png_read_bits(from, 7);
        }
        if (repeat > literal_count + distance_count - at) {
            return false;
        }
        while (repeat-- > 0) {
            lengths[at++] = length;
        }
    }
    return !from->failed && png_make_codes(literals, lengths, literal_count) &&
           png_make_codes(distances, lengths + literal_count, distance_count);
}

static void png_fixed_codes(png_codes *literals, png_codes *distances)
{
    uint8_t lengths[288];

    for (uint32_t symbol = 0; symbol < 288; symbol++) {
        lengths[symbol] = symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8;
    }
    png_make_codes(literals, lengths, 288);
    for (uint32_t symbol = 0; symbol < 30; symbol++) {
        lengths[symbol] = 5;
    }
    png_make_codes(distances, lengths, 30);
}

/* Unpacks to exactly `size` bytes; false when it is anything else. */
static bool png_inflate(lattice_bytes packed, uint8_t *data, size_t size)
{
    static const uint16_t bases[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                       31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t extras[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                       2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t far_bases[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                           33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                           1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    png_bits from = {packed.data, packed.data + packed.size, 0, 0, false};
    png_codes literals, distances;
    size_t at = 0;
    bool is_last = false;

    if (packed.size < 6 || (packed.data[0] & 15) != 8 || (packed.data[1] & 32) != 0) {
        return false;
    }
    from.at += 2;
    while (!is_last) {
        is_last = png_read_bits(&from, 1) != 0;
        uint32_t kind = png_read_bits(&from, 2);
        if (kind == 0) {
            from.bits = from.count = 0;
            uint32_t length = png_read_bits(&from, 16);
            uint32_t inverse = png_read_bits(&from, 16);
            if (from.failed || (length ^ inverse) != 0xffff || length > size - at ||
                length > (size_t)(from.end - from.at)) {
                return false;
            }
            while (length-- > 0) {
                data[at++] = *from.at++;
            }
            continue;
        }
        if (kind == 1) {
            png_fixed_codes(&literals, &distances);
        } else if (kind == 3 || !png_read_codes(&from, &literals, &distances)) {
            return false;
        }
        for (;;) {
            uint32_t symbol = png_read_symbol(&from, &literals);
            if (from.failed || symbol > 285 || (symbol < 256 && at == size)) {
                return false;
            }
            if (symbol == 256) {
                break;
            }
            if (symbol < 256) {
                data[at++] = (uint8_t)symbol;
                continue;
            }
            uint32_t length = bases[symbol - 257] + png_read_bits(&from, extras[symbol - 257]);
            uint32_t far = png_read_symbol(&from, &distances);
            if (from.failed || far > 29) {
                return false;
            }
            uint32_t distance = far_bases[far] + png_read_bits(&from, far < 2 ? 0 : far / 2 - 1);
            if (from.failed || distance > at || length > size - at) {
                return false;
            }
            for (; length > 0; length--, at++) {
                data[at] = data[at - distance];
            }
        }
    }
    return at == size;
}

/* What a byte most likely is, of its neighbours to the left, above and above the left. */
static uint8_t png_predict(int32_t left, int32_t above, int32_t corner)
{
    int32_t to_left = above - corner, to_above = left - corner, to_corner = to_left + to_above;

    to_left = to_left < 0 ? -to_left : to_left;
    to_above = to_above < 0 ? -to_above : to_above;
    to_corner = to_corner < 0 ? -to_corner : to_corner;
    if (to_left <= to_above && to_left <= to_corner) {
        return (uint8_t)left;
    }
    return (uint8_t)(to_above <= to_corner ? above : corner);
}

/* Makes of rows of differences, each behind the kind of them, rows of values in their place. */
static bool png_unfilter(uint8_t *rows, size_t row_bytes, uint32_t height, uint32_t step)
{
    for (uint32_t y = 0; y < height; y++) {
        uint8_t *row = rows + y * (row_bytes + 1);
        const uint8_t *before = y > 0 ? row - row_bytes : 0;
        uint8_t kind = *row++;
        for (size_t x = 0; x < row_bytes; x++) {
            uint8_t left = x >= step ? row[x - step] : 0;
            uint8_t above = before ? before[x] : 0;
            uint8_t corner = before && x >= step ? before[x - step] : 0;
            switch (kind) {
            case 0: break;
            case 1: row[x] += left; break;
            case 2: row[x] += above; break;
            case 3: row[x] += (uint8_t)((left + above) / 2); break;
            case 4: row[x] += png_predict(left, above, corner); break;
            default: return false;
            }
        }
    }
    return true;
}

static uint8_t png_on_white(uint32_t value, uint32_t opacity)
{
    return (uint8_t)((value * opacity + 255 * (255 - opacity) + 127) / 255);
}

static image read_png(lattice_bytes file)
{
    /* By the kind of colour: how many bytes a pixel has, and how many of a picture of ours. */
    static const uint8_t steps[7] = {1, 0, 3, 1, 2, 0, 4};
    static const uint8_t channels[7] = {1, 0, 3, 3, 1, 0, 3};
    image read = {0};
    lattice_buffer packed = {0};
    const uint8_t *at = file.data + 8, *end = file.data + file.size;
    lattice_bytes colours = {0}, opacities = {0};
    uint8_t kind = 7;

    for (;;) {
        if (end - at < 12 || png_read_word(at) > (size_t)(end - at) - 12) {
            return read;
        }
        lattice_bytes body = {at + 8, png_read_word(at)};
        uint32_t name = png_read_word(at + 4);
        at = body.data + body.size + 4;
        if (name == 0x49484452 && body.size == 13) { /* IHDR */
            read.width = png_read_word(body.data);
            read.height = png_read_word(body.data + 4);
            kind = body.data[8] == 8 && body.data[12] == 0 && body.data[9] < 7 ? body.data[9] : 7;
        } else if (name == 0x504c5445) { /* PLTE */
            colours = body;
        } else if (name == 0x74524e53) { /* tRNS */
            opacities = body;
        } else if (name == 0x49444154) { /* IDAT */
            lattice_append(&packed, body);
        } else if (name == 0x49454e44) { /* IEND */
            break;
        }
    }
    if (kind > 6 || steps[kind] == 0 || read.width == 0 || read.width > SIDE_MAX ||
        read.height == 0 || read.height > SIDE_MAX) {
        return read;
    }
    uint32_t step = steps[kind];
    size_t row_bytes = (size_t)read.width * step;
    size_t rows_bytes = (row_bytes + 1) * read.height;
    size_t pixels = (size_t)read.width * read.height;
    if (rows_bytes > PNG_BYTES_MAX) {
        return read;
    }
    uint8_t *rows = lattice_allocate(rows_bytes);
    uint8_t *made = lattice_allocate(pixels * channels[kind]);
    if (!rows || !made || !png_inflate(lattice_view(&packed), rows, rows_bytes) ||
        !png_unfilter(rows, row_bytes, read.height, step)) {
        return read;
    }
    read.pixels = made;
    for (uint32_t y = 0; y < read.height; y++) {
        const uint8_t *row = rows + y * (row_bytes + 1) + 1;
        for (uint32_t x = 0; x < read.width; x++, row += step) {
            const uint8_t *colour = row;
            uint32_t opacity = kind == 4 ? row[1] : kind == 6 ? row[3] : 255;
            if (kind == 3) {
                if (3 * (size_t)*row + 3 > colours.size) {
                    return read;
                }
                colour = colours.data + 3 * *row;
                opacity = *row < opacities.size ? opacities.data[*row] : 255;
            }
            for (uint32_t channel = 0; channel < channels[kind]; channel++) {
                *made++ = png_on_white(colour[channel], opacity);
            }
        }
    }
    read.channels = channels[kind];
    read.is_png = true;
    return read;
}

static void png_append_word(lattice_buffer *file, uint32_t word)
{
    for (int32_t shift = 24; shift >= 0; shift -= 8) {
        lattice_append_byte(file, (uint8_t)(word >> shift));
    }
}

static void png_append_chunk(lattice_buffer *file, lattice_bytes name, lattice_bytes body)
{
    uint32_t check = 0xffffffff;

    png_append_word(file, (uint32_t)body.size);
    lattice_append(file, name);
    lattice_append(file, body);
    for (size_t index = 0; index < 4 + body.size; index++) {
        check ^= index < 4 ? name.data[index] : body.data[index - 4];
        for (uint32_t bit = 0; bit < 8; bit++) {
            check = check >> 1 ^ (check & 1 ? 0xedb88320 : 0);
        }
    }
    png_append_word(file, ~check);
}

static lattice_bytes write_png(const image *picture)
{
    lattice_buffer file = {0}, head = {0}, rows = {0}, packed = {0};
    size_t row_bytes = (size_t)picture->width * picture->channels;
    uint32_t low = 1, high = 0;

    for (uint32_t y = 0; y < picture->height; y++) {
        lattice_append_byte(&rows, 0);
        lattice_append(&rows, (lattice_bytes){picture->pixels + y * row_bytes, row_bytes});
    }
    lattice_bytes left = lattice_view(&rows);
    for (size_t index = 0; index < left.size; index++) {
        low = (low + left.data[index]) % 65521;
        high = (high + low) % 65521;
    }
    lattice_append(&packed, LATTICE_TEXT("\x78\x01"));
    do {
        size_t size = left.size < 0xffff ? left.size : 0xffff;
        lattice_append_byte(&packed, size == left.size);
        lattice_append_byte(&packed, (uint8_t)size);
        lattice_append_byte(&packed, (uint8_t)(size >> 8));
        lattice_append_byte(&packed, (uint8_t)~size);
        lattice_append_byte(&packed, (uint8_t)(~size >> 8));
        lattice_append(&packed, (lattice_bytes){left.data, size});
        left = (lattice_bytes){left.data + size, left.size - size};
    } while (left.size > 0);
    png_append_word(&packed, high << 16 | low);

    png_append_word(&head, picture->width);
    png_append_word(&head, picture->height);
    lattice_append_byte(&head, 8);
    lattice_append_byte(&head, picture->channels == 3 ? 2 : 0);
    lattice_append(&head, (lattice_bytes){(const uint8_t *)"\0\0", 3});
    lattice_append(&file, PNG_SIGNATURE);
    png_append_chunk(&file, LATTICE_TEXT("IHDR"), lattice_view(&head));
    png_append_chunk(&file, LATTICE_TEXT("IDAT"), lattice_view(&packed));
    png_append_chunk(&file, LATTICE_TEXT("IEND"), (lattice_bytes){0});
    return lattice_view(&file);
}

#endif
