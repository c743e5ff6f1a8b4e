package lattice

// HandleRequest is the operation of the contract wasmcloud:httpserver.
const HandleRequest = "HttpServer.HandleRequest"

// A Request is without its headers.
type Request struct {
	Method, Path string
	// What follows the question mark, as the client sent it.
	Query string
	Body  []byte
}

// ReadRequest reads the payload of HandleRequest.
func ReadRequest(payload []byte) (Request, error) {
	var request Request
	reader := NewReader(payload)
	for left := reader.Map(); left > 0; left-- {
		switch reader.Text() {
		case "method":
			request.Method = reader.Text()
		case "path":
			request.Path = reader.Text()
		case "queryString":
			request.Query = reader.Text()
		case "body":
			request.Body = reader.Binary()
		default:
			reader.Skip()
		}
	}
	return request, reader.End()
}

// A Response is what the client gets.
type Response struct {
	Status  int
	Headers map[string][]string
	Body    []byte
}

// TextResponse answers with plain text.
func TextResponse(status int, text string) Response {
	plain := map[string][]string{"content-type": {"text/plain; charset=utf-8"}}
	return Response{Status: status, Headers: plain, Body: []byte(text)}
}

// Payload is the answer to HandleRequest.
func (response Response) Payload() []byte {
	var writer Writer
	writer.Map(3)
	writer.Text("statusCode")
	writer.Integer(int64(response.Status))
	writer.Text("header")
	writer.Map(len(response.Headers))
	for name, values := range response.Headers {
		writer.Text(name)
		writer.Array(len(values))
		for _, value := range values {
			writer.Text(value)
		}
	}
	writer.Text("body")
	writer.Binary(response.Body)
	return writer.Bytes
}
