package lattice

// HandleMessage is the operation of the contract wasmcloud:messaging.
const HandleMessage = "MessageSubscriber.HandleMessage"

// A Message came, or is to be published.
type Message struct {
	Subject string
	// The subject that the sender waits for an answer on; empty when nobody waits.
	ReplyTo string
	Body    []byte
}

// ReadMessage reads the payload of HandleMessage.
func ReadMessage(payload []byte) (Message, error) {
	var message Message
	reader := NewReader(payload)
	for left := reader.Map(); left > 0; left-- {
		switch reader.Text() {
		case "subject":
			message.Subject = reader.Text()
		case "replyTo":
			message.ReplyTo = reader.Text()
		case "body":
			message.Body = reader.Binary()
		default:
			reader.Skip()
		}
	}
	return message, reader.End()
}

// Publish sends the message along the default link for wasmcloud:messaging.
func (message Message) Publish() error {
	var writer Writer
	writer.Map(3)
	writer.Text("subject")
	writer.Text(message.Subject)
	writer.Text("replyTo")
	if message.ReplyTo == "" {
		writer.Nil()
	} else {
		writer.Text(message.ReplyTo)
	}
	writer.Text("body")
	writer.Binary(message.Body)
	_, err := Call("default", "wasmcloud:messaging", "Messaging.Publish", writer.Bytes)
	return err
}
