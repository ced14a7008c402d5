package savedmodel

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
)

// TensorFlow 1 can partition a variable. Each part is a variable of the graph and has an entry of
// its own in the checkpoint.

// joinParts replaces the operations that concatenate a variable's parts by one weight, so that no
// run concatenates them again.
func (g *frozenGraph) joinParts() error {
	joined := make(map[string]bool) // join each part only once, to bound the memory
	for _, name := range slices.Clone(g.order) {
		n := g.nodes[name]
		if n.GetOp() != "ConcatV2" || g.fed[name] || g.multiOutput[name] || len(n.GetInput()) < 2 {
			continue
		}
		parts := n.GetInput()[:len(n.GetInput())-1]
		axis, ok := g.intOf(n.GetInput()[len(parts)])
		w := g.joinedWeight(parts, axis, joined)
		if !ok || w == nil {
			continue
		}
		handle := name + "/inceptor_joined"
		g.weights[handle], g.nodes[name] = w, readNode(name, handle, w.entry)
		if err := g.insert(handleNode(handle, w.entry)); err != nil {
			return err
		}
	}
	g.prune(g.roots)
	return nil
}

// joinedWeight returns the weight that the tensors form when concatenated along an axis. It returns
// nil if they are not all weights of fitting shapes.
func (g *frozenGraph) joinedWeight(tensors []string, axis int64, joined map[string]bool) *weight {
	w, handles := &weight{}, make(map[string]bool)
	for i, in := range tensors {
		handle, part := g.weightOf(in)
		if part == nil || part.parts != nil || joined[handle] || handles[handle] {
			return nil
		}
		handles[handle] = true
		e, rank := part.entry, int64(len(part.entry.shape))
		if i == 0 {
			if axis < 0 {
				axis += rank
			}
			if axis < 0 || axis >= rank {
				return nil
			}
			w.entry, w.rows = bundleEntry{key: e.key, dtype: e.dtype, shape: slices.Clone(e.shape)}, 1
			w.entry.shape[axis] = 0
			for _, d := range e.shape[:axis] {
				w.rows *= d
			}
		}
		shape := slices.Clone(w.entry.shape) // with this part's length along the axis
		if len(shape) == len(e.shape) {
			shape[axis] = e.shape[axis]
		}
		if e.dtype != w.entry.dtype || !slices.Equal(shape, e.shape) {
			return nil
		}
		w.entry.shape[axis] += e.shape[axis]
		w.entry.size += e.size
		w.parts = append(w.parts, e)
	}
	maps.Copy(joined, handles)
	return w
}

// readParts reads the parts into dst, which has the joined value's size.
func (w *weight) readParts(from *checkpoint, dst []byte) error {
	at := int64(0) // where the part begins in a row
	for _, e := range w.parts {
		part := make([]byte, e.size)
		if err := from.read(e, part); err != nil {
			return err
		}
		if w.rows == 0 || e.size == 0 {
			continue
		}
		row, length := w.entry.size/w.rows, e.size/w.rows
		for i := range w.rows {
			copy(dst[i*row+at:], part[i*length:(i+1)*length])
		}
		at += length
	}
	return nil
}

// intOf returns a constant scalar's value, if it is known.
func (g *flatGraph) intOf(tensor string) (int64, bool) {
	n := g.nodes[g.source(tensor)]
	p := n.GetAttr()["value"].GetTensor()
	if n.GetOp() != "Const" || g.fed[n.GetName()] || len(n.GetInput()) > 0 || len(p.GetTensorShape().GetDim()) > 0 {
		return 0, false
	}
	b := p.GetTensorContent()
	switch DataType(p.GetDtype()) {
	case Int32:
		switch {
		case len(b) == 4:
			return int64(int32(binary.LittleEndian.Uint32(b))), true
		case len(b) == 0 && len(p.GetIntVal()) == 1:
			return int64(p.GetIntVal()[0]), true
		}
	case Int64:
		switch {
		case len(b) == 8:
			return int64(binary.LittleEndian.Uint64(b)), true
		case len(b) == 0 && len(p.GetInt64Val()) == 1:
			return p.GetInt64Val()[0], true
		}
	}
	return 0, false
}

// sliceKey returns the checkpoint's key of a part of a variable. EncodeTensorNameSlice in
// tensorflow/core/util/saved_tensor_slice_util.cc writes it in OrderedCode
// (tensorflow/core/lib/strings/ordered_code.h).
func sliceKey(name string, slice []extent) string {
	b := []byte{0} // the number 0
	for _, c := range []byte(name) {
		switch c {
		case 0:
			b = append(b, 0, 0xff)
		case 0xff:
			b = append(b, 0xff, 0)
		default:
			b = append(b, c)
		}
	}
	b = append(b, 0, 1)
	rank := bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, uint64(len(slice))), "\x00")
	b = append(append(b, byte(len(rank))), rank...)
	for _, e := range slice {
		b = appendSigned(appendSigned(b, e.start), e.length)
	}
	return string(b)
}

// appendSigned appends a number in OrderedCode: as few bytes as possible, whose leading ones (zeros
// for a negative number) say how many bytes there are.
func appendSigned(b []byte, v int64) []byte {
	sign, x := byte(0), uint64(v)
	if v < 0 {
		sign, x = 0xff, ^x
	}
	length := bits.Len64(x)/7 + 1 // each byte loses a bit to the length, and one bit is the sign
	all := binary.BigEndian.AppendUint64([]byte{sign, sign}, uint64(v))
	number := all[len(all)-length:]
	ones := ^uint16(0) << (16 - length)
	number[0] ^= byte(ones >> 8)
	if length > 1 {
		number[1] ^= byte(ones)
	}
	return append(b, number...)
}
