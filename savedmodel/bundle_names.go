package savedmodel

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

const (
	// objectGraphKey is the key of the checkpoint's TrackableObjectGraph, which is a string tensor.
	objectGraphKey = "_CHECKPOINTABLE_OBJECT_GRAPH"
	// attributeSuffix ends the key of a variable in an object-based checkpoint.
	attributeSuffix = "/.ATTRIBUTES/VARIABLE_VALUE"

	maxObjectGraph = 16 << 20 // bytes
)

// variableNames returns the variables' names by checkpoint key. It reads the object graph, the
// entry e, from shard. The error wraps ErrMalformed if the bytes do not match the index.
func variableNames(e bundleEntry, shard io.ReaderAt) (map[string]string, error) {
	if e.dtype != String || e.size > maxObjectGraph {
		return nil, malformed(e.offset, "entry %q is %v of %d bytes", e.key, e.dtype, e.size)
	}
	b := make([]byte, e.size)
	if _, err := shard.ReadAt(b, e.offset); err != nil {
		return nil, fmt.Errorf("%d bytes at byte %d: %w", e.size, e.offset, err)
	}
	value, err := stringScalar(b, e.crc32c)
	if err != nil {
		return nil, malformed(e.offset, "entry %q: %v", e.key, err)
	}
	var graph tfpb.TrackableObjectGraph
	if err := proto.Unmarshal(value, &graph); err != nil {
		return nil, malformed(e.offset, "entry %q: %v", e.key, err)
	}
	names := make(map[string]string)
	for _, node := range graph.GetNodes() {
		for _, a := range node.GetAttributes() {
			if a.GetFullName() != "" {
				names[a.GetCheckpointKey()] = a.GetFullName()
			}
		}
	}
	return names, nil
}

// stringScalar returns the element of a string tensor with one element. A bundle stores the length
// as a varint, the length's checksum and the bytes (WriteStringTensor in
// tensorflow/core/util/tensor_bundle/tensor_bundle.cc). The entry's checksum covers the length as a
// uint32, or as a uint64 if it does not fit, the length's checksum and the bytes.
func stringScalar(b []byte, want uint32) ([]byte, error) {
	length, n := binary.Uvarint(b)
	if n <= 0 || len(b) < n+4 || length != uint64(len(b)-n-4) {
		return nil, fmt.Errorf("a string of %d bytes in %d", length, len(b))
	}
	var raw []byte
	if length <= math.MaxUint32 {
		raw = binary.LittleEndian.AppendUint32(nil, uint32(length))
	} else {
		raw = binary.LittleEndian.AppendUint64(nil, length)
	}
	crc := crc32.Checksum(raw, castagnoli)
	if got, want := maskCRC(crc), binary.LittleEndian.Uint32(b[n:]); got != want {
		return nil, fmt.Errorf("the length's checksum is %08x, stored is %08x", got, want)
	}
	if crc = crc32.Update(crc, castagnoli, b[n:]); maskCRC(crc) != want {
		return nil, fmt.Errorf("the checksum is %08x, the index says %08x", maskCRC(crc), want)
	}
	return b[n+4:], nil
}

// plainName returns a short name for a key that the object graph does not name.
func plainName(key string) string {
	return strings.TrimSuffix(key, attributeSuffix)
}
