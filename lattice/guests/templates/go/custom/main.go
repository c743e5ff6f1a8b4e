// {{name}}: the interface example:greeter/greeter, whose one function greets.
//
// An operation is interface.function; its arguments are a MessagePack array, its result is one
// MessagePack value. So a component that imports the interface can call this module, and be
// replaced by it.
package main

import (
	"errors"

	"{{crate}}/lattice"
)

// greet: func(name: string) -> string
func greet(payload []byte) ([]byte, error) {
	reader := lattice.NewReader(payload)
	if reader.Array() != 1 {
		return nil, errors.New("greeter.greet takes one argument: a name")
	}
	name := reader.Text()
	if err := reader.End(); err != nil {
		return nil, err
	}
	var writer lattice.Writer
	writer.Text("Hello, " + name + "!")
	return writer.Bytes, nil
}

func handle(operation string, payload []byte) ([]byte, error) {
	if operation == "greeter.greet" {
		return greet(payload)
	}
	return nil, lattice.UnknownOperation(operation)
}

func init() { lattice.Serve(handle) }

func main() {}
