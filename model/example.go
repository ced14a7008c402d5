package model

import "google.golang.org/protobuf/encoding/protowire"

// exampleOf is a serialized tf.Example with one feature, a string
// (tensorflow/core/example/example.proto).
func exampleOf(feature string, value []byte) []byte {
	const (
		features   = 1 // of an Example
		entry      = 1 // of Features: a map
		mapKey     = 1
		mapValue   = 2
		bytesList  = 1 // of a Feature
		bytesValue = 1 // of a BytesList
	)
	list := fieldSize(bytesValue, len(value))
	feat := fieldSize(bytesList, list)
	pair := fieldSize(mapKey, len(feature)) + fieldSize(mapValue, feat)
	all := fieldSize(entry, pair)
	b := make([]byte, 0, fieldSize(features, all))
	head := func(num protowire.Number, size int) {
		b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(size))
	}
	head(features, all)
	head(entry, pair)
	head(mapKey, len(feature))
	b = append(b, feature...)
	head(mapValue, feat)
	head(bytesList, list)
	head(bytesValue, len(value))
	return append(b, value...)
}

// fieldSize is the bytes of a field that holds so many.
func fieldSize(num protowire.Number, n int) int {
	return protowire.SizeTag(num) + protowire.SizeBytes(n)
}
