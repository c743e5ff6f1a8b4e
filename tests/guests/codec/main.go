package main

import "codec/lattice"

func handle(_ string, payload []byte) ([]byte, error) {
	reader := lattice.NewReader(payload)
	var answer lattice.Writer

	reader.Array()
	answer.Array(5)
	answer.Integer(reader.Integer())
	answer.Boolean(reader.Boolean())
	answer.Text(reader.Text())
	answer.Binary(reader.Binary())
	reader.Skip()
	pairs := reader.Map()
	answer.Map(pairs)
	for ; pairs > 0; pairs-- {
		answer.Text(reader.Text())
		answer.Nil()
		reader.Skip()
	}
	return answer.Bytes, reader.End()
}

func init() { lattice.Serve(handle) }

func main() {}
