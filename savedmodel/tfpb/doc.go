// Package tfpb holds TensorFlow's and TensorFlow Serving's protocol buffer
// messages, one copy for the whole module.
//
// The .proto files were written for this module and hold only the fields that it reads or writes.
// The names, numbers and types are TensorFlow's, so the messages are the same on the wire. Other
// fields are kept as unknown fields. So a message can be read, changed and written again without
// loss.
//
// After a change to a .proto file run go generate. generate.sh says what it needs.
package tfpb

//go:generate ./generate.sh
