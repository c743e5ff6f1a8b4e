// {{name}}: answers every request with a greeting.
//
// GET / answers "Hello, world!", GET /ada answers "Hello, ada!".
package main

import (
	"fmt"

	"{{crate}}/lattice"
)

func answer(request lattice.Request) lattice.Response {
	name := "world"
	if len(request.Path) > 1 {
		name = request.Path[1:]
	}
	return lattice.TextResponse(200, fmt.Sprintf("Hello, %s!\n", name))
}

func handle(operation string, payload []byte) ([]byte, error) {
	if operation != lattice.HandleRequest {
		return nil, lattice.UnknownOperation(operation)
	}
	request, err := lattice.ReadRequest(payload)
	if err != nil {
		return nil, err
	}
	return answer(request).Payload(), nil
}

func init() { lattice.Serve(handle) }

func main() {}
