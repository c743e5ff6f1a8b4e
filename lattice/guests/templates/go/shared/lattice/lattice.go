// Package lattice is what an actor in Go needs: it answers operations, sends messages, and writes
// log lines.
//
// Underneath is the waPC protocol: a guest exports __guest_call and imports these functions.
package lattice

import (
	"errors"
	"fmt"
	"unsafe"
)

//go:wasmimport wapc __guest_request
func guestRequest(operation, payload unsafe.Pointer)

//go:wasmimport wapc __guest_response
func guestResponse(response unsafe.Pointer, size uint32)

//go:wasmimport wapc __guest_error
func guestError(text unsafe.Pointer, size uint32)

//go:wasmimport wapc __host_call
func hostCall(
	link unsafe.Pointer, linkSize uint32,
	contract unsafe.Pointer, contractSize uint32,
	operation unsafe.Pointer, operationSize uint32,
	payload unsafe.Pointer, payloadSize uint32,
) uint32

//go:wasmimport wapc __host_response_len
func hostResponseSize() uint32

//go:wasmimport wapc __host_response
func hostResponse(response unsafe.Pointer)

//go:wasmimport wapc __host_error_len
func hostErrorSize() uint32

//go:wasmimport wapc __host_error
func hostError(text unsafe.Pointer)

//go:wasmimport wapc __console_log
func consoleLog(line unsafe.Pointer, size uint32)

// A Handler answers one operation. The caller sees an error's text as an actor_error.
type Handler func(operation string, payload []byte) ([]byte, error)

var handler Handler

// Serve makes handle the actor of this module. Call it once, in init: main is never run.
func Serve(handle Handler) { handler = handle }

// UnknownOperation is the error for an operation that the actor does not know.
func UnknownOperation(operation string) error {
	return fmt.Errorf("unknown operation: %s", operation)
}

// Call sends a message along the link named link for contract and waits for the answer.
//
// An error's text starts with a code of the lattice, such as "no_link: ".
func Call(link, contract, operation string, payload []byte) ([]byte, error) {
	isOk := hostCall(
		textPointer(link), uint32(len(link)),
		textPointer(contract), uint32(len(contract)),
		textPointer(operation), uint32(len(operation)),
		pointer(payload), uint32(len(payload)),
	)
	if isOk != 0 {
		response := make([]byte, hostResponseSize())
		hostResponse(pointer(response))
		return response, nil
	}
	text := make([]byte, hostErrorSize())
	hostError(pointer(text))
	return nil, errors.New(string(text))
}

// Log writes one line to the host's log; long lines and too many of them are cut there.
func Log(line string) { consoleLog(textPointer(line), uint32(len(line))) }

//go:wasmexport __guest_call
func guestCall(operationSize, payloadSize uint32) uint32 {
	operation := make([]byte, operationSize)
	payload := make([]byte, payloadSize)
	guestRequest(pointer(operation), pointer(payload))
	response, err := handler(string(operation), payload)
	if err != nil {
		text := err.Error()
		guestError(textPointer(text), uint32(len(text)))
		return 0
	}
	guestResponse(pointer(response), uint32(len(response)))
	return 1
}

func pointer(bytes []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(bytes)) }

func textPointer(text string) unsafe.Pointer { return unsafe.Pointer(unsafe.StringData(text)) }
