package infer

import "google.golang.org/protobuf/encoding/protowire"

// Numbers of the fields of a tf.Example (tensorflow/core/example/example.proto).
const (
	exampleFeatures = 1 // of an Example
	featuresEntry   = 1 // of Features: a map
	entryKey        = 1
	entryValue      = 2
	featureBytes    = 1 // of a Feature: a BytesList
	bytesValue      = 1 // of a BytesList
)

// exampleOf returns a serialized tf.Example with one feature, a string.
func exampleOf(feature string, value []byte) []byte {
	list := fieldSize(bytesValue, len(value))
	feat := fieldSize(featureBytes, list)
	pair := fieldSize(entryKey, len(feature)) + fieldSize(entryValue, feat)
	all := fieldSize(featuresEntry, pair)
	b := make([]byte, 0, fieldSize(exampleFeatures, all))
	head := func(num protowire.Number, size int) {
		b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(size))
	}
	head(exampleFeatures, all)
	head(featuresEntry, pair)
	head(entryKey, len(feature))
	b = append(b, feature...)
	head(entryValue, feat)
	head(featureBytes, list)
	head(bytesValue, len(value))
	return append(b, value...)
}

// fieldSize returns the size of a field with n bytes of content.
func fieldSize(num protowire.Number, n int) int {
	return protowire.SizeTag(num) + protowire.SizeBytes(n)
}
