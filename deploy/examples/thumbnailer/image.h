/* A picture, unpacked. */
#ifndef THUMBNAILER_IMAGE_H
#define THUMBNAILER_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define SIDE_MAX 10000

typedef struct {
    uint32_t width;
    uint32_t height;
    /* 1: grey, 3: red, green and blue. 0: it is no such picture. */
    uint32_t channels;
    const uint8_t *pixels;
    /* Whether it came as PNG, and goes as such. */
    bool is_png;
} image;

#endif
