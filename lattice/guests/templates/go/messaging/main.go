// {{name}}: answers every message whose sender waits with a greeting.
package main

import (
	"fmt"

	"{{crate}}/lattice"
)

func answer(message lattice.Message) error {
	lattice.Log(message.Subject)
	if message.ReplyTo == "" {
		return nil
	}
	greeting := fmt.Sprintf("Hello, %s!", message.Body)
	return lattice.Message{Subject: message.ReplyTo, Body: []byte(greeting)}.Publish()
}

func handle(operation string, payload []byte) ([]byte, error) {
	if operation != lattice.HandleMessage {
		return nil, lattice.UnknownOperation(operation)
	}
	message, err := lattice.ReadMessage(payload)
	if err != nil {
		return nil, err
	}
	return nil, answer(message)
}

func init() { lattice.Serve(handle) }

func main() {}
