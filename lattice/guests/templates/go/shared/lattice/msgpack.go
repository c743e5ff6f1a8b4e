package lattice

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// A Reader reads MessagePack from front to end. Its first error sticks: from then on every read
// returns a zero or nothing. Read all fields, and look at End once.
//
// Format: https://github.com/msgpack/msgpack/blob/master/spec.md
type Reader struct {
	bytes []byte
	at    int
	err   error
}

// NewReader passes over a byte 0xc1, which no value starts with: the newer wasmbus SDKs put it
// before the payload.
func NewReader(payload []byte) *Reader {
	reader := &Reader{bytes: payload}
	if len(payload) > 0 && payload[0] == 0xc1 {
		reader.at = 1
	}
	return reader
}

// End tells what was wrong first: nil if everything was read, to the last byte, and as expected.
func (reader *Reader) End() error {
	if reader.at != len(reader.bytes) {
		reader.fail("trailing data", reader.at)
	}
	return reader.err
}

// Map tells how many pairs follow; nil is an empty map.
func (reader *Reader) Map() int {
	start := reader.at
	tag := reader.tag()
	switch {
	case tag >= 0x80 && tag <= 0x8f:
		return reader.bounded(uint64(tag&0x0f), 2)
	case tag == 0xde || tag == 0xdf:
		return reader.bounded(reader.unsigned(2<<(tag-0xde)), 2)
	case tag != 0xc0:
		reader.fail("want a map", start)
	}
	return 0
}

// Array tells how many elements follow; nil is an empty array.
func (reader *Reader) Array() int {
	start := reader.at
	tag := reader.tag()
	switch {
	case tag >= 0x90 && tag <= 0x9f:
		return reader.bounded(uint64(tag&0x0f), 1)
	case tag == 0xdc || tag == 0xdd:
		return reader.bounded(reader.unsigned(2<<(tag-0xdc)), 1)
	case tag != 0xc0:
		reader.fail("want an array", start)
	}
	return 0
}

// Text reads valid UTF-8; nil is empty.
func (reader *Reader) Text() string {
	start := reader.at
	tag := reader.tag()
	var text []byte
	switch {
	case tag >= 0xa0 && tag <= 0xbf:
		text = reader.take(uint64(tag & 0x1f))
	case tag >= 0xd9 && tag <= 0xdb:
		text = reader.take(reader.unsigned(1 << (tag - 0xd9)))
	case tag != 0xc0:
		reader.fail("want text", start)
	}
	if !utf8.Valid(text) {
		reader.fail("want UTF-8", start)
		return ""
	}
	return string(text)
}

// Binary reads binary data, or the bytes of text; nil is empty. It is part of the payload.
func (reader *Reader) Binary() []byte {
	start := reader.at
	tag := reader.tag()
	switch {
	case tag >= 0xc4 && tag <= 0xc6:
		return reader.take(reader.unsigned(1 << (tag - 0xc4)))
	case tag >= 0xa0 && tag <= 0xbf:
		return reader.take(uint64(tag & 0x1f))
	case tag >= 0xd9 && tag <= 0xdb:
		return reader.take(reader.unsigned(1 << (tag - 0xd9)))
	case tag != 0xc0:
		reader.fail("want binary data", start)
	}
	return nil
}

// Integer reads a number that an int64 holds.
func (reader *Reader) Integer() int64 {
	start := reader.at
	tag := reader.tag()
	switch {
	case tag <= 0x7f || tag >= 0xe0:
		return int64(int8(tag))
	case tag >= 0xcc && tag <= 0xcf:
		if number := int64(reader.unsigned(1 << (tag - 0xcc))); number >= 0 {
			return number
		}
	case tag == 0xd0:
		return int64(int8(reader.unsigned(1)))
	case tag == 0xd1:
		return int64(int16(reader.unsigned(2)))
	case tag == 0xd2:
		return int64(int32(reader.unsigned(4)))
	case tag == 0xd3:
		return int64(reader.unsigned(8))
	}
	reader.fail("want an integer", start)
	return 0
}

// Boolean reads true or false.
func (reader *Reader) Boolean() bool {
	start := reader.at
	tag := reader.tag()
	if tag != 0xc2 && tag != 0xc3 {
		reader.fail("want a boolean", start)
	}
	return tag == 0xc3
}

// Skip passes over one value and all that is inside it, however deep.
func (reader *Reader) Skip() {
	for pending := uint64(1); pending > 0 && reader.err == nil; pending-- {
		start := reader.at
		tag := reader.tag()
		switch {
		case tag <= 0x7f || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3:
		case tag <= 0x8f:
			pending += 2 * uint64(reader.bounded(uint64(tag&0x0f), 2))
		case tag <= 0x9f:
			pending += uint64(reader.bounded(uint64(tag&0x0f), 1))
		case tag <= 0xbf:
			reader.take(uint64(tag & 0x1f))
		case tag >= 0xc4 && tag <= 0xc6:
			reader.take(reader.unsigned(1 << (tag - 0xc4)))
		case tag >= 0xc7 && tag <= 0xc9:
			// An extension of any size; its type is one byte more.
			reader.take(reader.unsigned(1<<(tag-0xc7)) + 1)
		case tag == 0xca || tag == 0xcb:
			reader.take(4 << (tag - 0xca))
		case tag >= 0xcc && tag <= 0xcf:
			reader.take(1 << (tag - 0xcc))
		case tag >= 0xd0 && tag <= 0xd3:
			reader.take(1 << (tag - 0xd0))
		case tag >= 0xd4 && tag <= 0xd8:
			reader.take(1<<(tag-0xd4) + 1)
		case tag >= 0xd9 && tag <= 0xdb:
			reader.take(reader.unsigned(1 << (tag - 0xd9)))
		case tag == 0xdc || tag == 0xdd:
			pending += uint64(reader.bounded(reader.unsigned(2<<(tag-0xdc)), 1))
		case tag >= 0xde:
			pending += 2 * uint64(reader.bounded(reader.unsigned(2<<(tag-0xde)), 2))
		default:
			reader.fail("want a value", start)
		}
	}
}

func (reader *Reader) fail(why string, at int) {
	if reader.err == nil {
		reader.err = fmt.Errorf("malformed payload: %s at byte %d", why, at)
	}
	reader.at = len(reader.bytes)
}

func (reader *Reader) tag() byte { return byte(reader.unsigned(1)) }

// unsigned reads a number of width bytes, most significant first.
func (reader *Reader) unsigned(width int) uint64 {
	var number uint64
	for _, value := range reader.take(uint64(width)) {
		number = number<<8 | uint64(value)
	}
	return number
}

// bounded is a count, if the rest of the payload can hold that many: a loop over it is never longer.
func (reader *Reader) bounded(count uint64, values int) int {
	if count > uint64((len(reader.bytes)-reader.at)/values) {
		reader.fail("truncated", len(reader.bytes))
		return 0
	}
	return int(count)
}

func (reader *Reader) take(size uint64) []byte {
	if size > uint64(len(reader.bytes)-reader.at) {
		reader.fail("truncated", len(reader.bytes))
		return nil
	}
	start := reader.at
	reader.at += int(size)
	return reader.bytes[start:reader.at]
}

// A Writer appends values, each number and length in its shortest form.
type Writer struct{ Bytes []byte }

// Map announces that many pairs, each a name and a value.
func (writer *Writer) Map(pairs int) { writer.counted(pairs, 16, 0x80, 0xde) }

// Array announces that many elements.
func (writer *Writer) Array(elements int) { writer.counted(elements, 16, 0x90, 0xdc) }

// Text appends UTF-8.
func (writer *Writer) Text(text string) {
	if len(text) < 32 {
		writer.tagged(0xa0|byte(len(text)), 0, 0)
	} else {
		writer.sized(0xd9, len(text))
	}
	writer.Bytes = append(writer.Bytes, text...)
}

// Binary appends bytes.
func (writer *Writer) Binary(bytes []byte) {
	writer.sized(0xc4, len(bytes))
	writer.Bytes = append(writer.Bytes, bytes...)
}

// Integer appends a number.
func (writer *Writer) Integer(number int64) {
	bits := uint64(number)
	switch {
	case number >= -32 && number <= 0x7f:
		writer.tagged(byte(number), 0, 0)
	case number >= 0 && number <= 0xff:
		writer.tagged(0xcc, bits, 1)
	case number >= 0 && number <= 0xffff:
		writer.tagged(0xcd, bits, 2)
	case number >= 0 && number <= 0xffffffff:
		writer.tagged(0xce, bits, 4)
	case number >= 0:
		writer.tagged(0xcf, bits, 8)
	case number >= -0x80:
		writer.tagged(0xd0, bits, 1)
	case number >= -0x8000:
		writer.tagged(0xd1, bits, 2)
	case number >= -0x80000000:
		writer.tagged(0xd2, bits, 4)
	default:
		writer.tagged(0xd3, bits, 8)
	}
}

// Boolean appends true or false.
func (writer *Writer) Boolean(value bool) {
	if value {
		writer.tagged(0xc3, 0, 0)
	} else {
		writer.tagged(0xc2, 0, 0)
	}
}

// Nil appends nothing at all, as a value.
func (writer *Writer) Nil() { writer.tagged(0xc0, 0, 0) }

func (writer *Writer) counted(count, small int, tag, wide byte) {
	switch {
	case count < small:
		writer.tagged(tag|byte(count), 0, 0)
	case count <= 0xffff:
		writer.tagged(wide, uint64(count), 2)
	default:
		writer.tagged(wide+1, uint64(count), 4)
	}
}

func (writer *Writer) sized(tag byte, size int) {
	switch {
	case size <= 0xff:
		writer.tagged(tag, uint64(size), 1)
	case size <= 0xffff:
		writer.tagged(tag+1, uint64(size), 2)
	default:
		writer.tagged(tag+2, uint64(size), 4)
	}
}

func (writer *Writer) tagged(tag byte, number uint64, width int) {
	wide := binary.BigEndian.AppendUint64(nil, number)
	writer.Bytes = append(append(writer.Bytes, tag), wide[8-width:]...)
}
