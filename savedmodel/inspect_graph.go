package savedmodel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

const (
	maxGraphFile    = 2<<30 - 1 // bytes of saved_model.pb: protobuf's own limit
	maxParsedPart   = 4 << 20   // bytes of one signature, asset and the like
	maxCheckedNode  = 1 << 20   // bytes; larger nodes and functions hold weights and are skipped
	maxMetaGraphs   = 64
	maxDeclarations = 10_000 // signatures and assets of one graph
)

// Field numbers of the messages in saved_model.pb.
const (
	fieldMetaGraphs = 2 // SavedModel

	fieldMetaInfo     = 1 // MetaGraphDef
	fieldGraph        = 2
	fieldSaver        = 3
	fieldSignatures   = 5
	fieldAssets       = 6
	fieldObjects      = 7
	fieldNodes        = 1 // GraphDef
	fieldLibrary      = 2
	fieldLibFunctions = 1 // FunctionDefLibrary
)

// A parsedGraph is a MetaGraphDef without its GraphDef, whose size it has counted.
type parsedGraph struct {
	def       *tfpb.MetaGraphDef
	nodes     int
	functions int
	variables bool // the main graph has variables
	objects   bool // there is an object graph, as tf.saved_model.save writes it

	structure *structure // filled by a structureReader
}

// readGraphs reads a saved_model.pb of size bytes piece by piece, because a graph with weights as
// constants may take hundreds of megabytes. Errors wrap ErrMalformed unless reading failed.
func readGraphs(r io.ReadSeeker, size int64) ([]parsedGraph, error) {
	return walkGraphs(r, size, (*parsedGraph).walkGraph)
}

// walkGraphs reads a saved_model.pb as readGraphs does. It calls nodes for the GraphDef of each
// graph, which ends at the byte end.
func walkGraphs(r io.ReadSeeker, size int64, nodes func(g *parsedGraph, w *wireReader, end int64) error) ([]parsedGraph, error) {
	if size > maxGraphFile {
		return nil, malformed(0, "%d bytes, protobuf's limit is %d", size, maxGraphFile)
	}
	w := &wireReader{r: r, br: bufio.NewReaderSize(r, 64<<10)}
	var graphs []parsedGraph
	err := w.message(size, func(num protowire.Number, end int64) error {
		if num != fieldMetaGraphs || end < 0 {
			return nil
		}
		if len(graphs) == maxMetaGraphs {
			return malformed(w.off, "more than %d graphs", maxMetaGraphs)
		}
		g, err := readMetaGraph(w, end, nodes)
		if err != nil {
			return err
		}
		graphs = append(graphs, g)
		return nil
	})
	return graphs, err
}

func readMetaGraph(w *wireReader, end int64, nodes func(g *parsedGraph, w *wireReader, end int64) error) (parsedGraph, error) {
	g := parsedGraph{def: new(tfpb.MetaGraphDef)}
	declared := 0
	err := w.message(end, func(num protowire.Number, end int64) error {
		if end < 0 {
			return nil
		}
		switch num {
		case fieldGraph:
			return nodes(&g, w, end)
		case fieldObjects:
			g.objects = true
		case fieldMetaInfo, fieldSaver, fieldSignatures, fieldAssets:
			if declared++; declared > maxDeclarations {
				return malformed(w.off, "more than %d signatures and assets", maxDeclarations)
			}
			if end-w.off > maxParsedPart {
				return malformed(w.off, "field %d of a graph has %d bytes, the limit is %d", num, end-w.off, maxParsedPart)
			}
			at := w.off
			b, err := w.bytes(end)
			if err != nil {
				return err
			}
			field := protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
			if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(field, g.def); err != nil {
				return malformed(at, "field %d of a graph: %v", num, err)
			}
		}
		return nil
	})
	return g, err
}

// variableOps are the operations that own a variable.
var variableOps = []string{"VarHandleOp", "VariableV2", "Variable"}

func (g *parsedGraph) walkGraph(w *wireReader, end int64) error {
	var (
		node     tfpb.NodeDef
		function tfpb.FunctionDef
	)
	return w.message(end, func(num protowire.Number, end int64) error {
		switch {
		case num == fieldNodes && end >= 0:
			g.nodes++
			ok, err := w.check(end, &node)
			if ok && slices.Contains(variableOps, node.GetOp()) {
				g.variables = true
			}
			return err
		case num == fieldLibrary && end >= 0:
			return w.message(end, func(num protowire.Number, end int64) error {
				if num != fieldLibFunctions || end < 0 {
					return nil
				}
				g.functions++
				_, err := w.check(end, &function)
				return err
			})
		}
		return nil
	})
}

// A wireReader reads protocol buffer messages field by field from a file
// (protobuf.dev/programming-guides/encoding).
type wireReader struct {
	r   io.ReadSeeker
	br  *bufio.Reader // of r
	off int64         // in r
	buf []byte
}

// message calls visit for each field up to the byte end. A field with a length ends at fieldEnd.
// Visit may read up to there; message skips the rest. For any other field, which message skips,
// fieldEnd is -1.
func (w *wireReader) message(end int64, visit func(num protowire.Number, fieldEnd int64) error) error {
	for w.off < end {
		at := w.off
		tag, err := w.varint(end)
		if err != nil {
			return err
		}
		num, typ := protowire.DecodeTag(tag)
		if num < 1 {
			return malformed(at, "invalid tag of a field: %#x", tag)
		}
		fieldEnd := int64(-1)
		switch typ {
		case protowire.VarintType:
			_, err = w.varint(end)
		case protowire.Fixed32Type:
			err = w.skip(w.off+4, end)
		case protowire.Fixed64Type:
			err = w.skip(w.off+8, end)
		case protowire.BytesType:
			var n uint64
			if n, err = w.varint(end); err == nil && n > uint64(end-w.off) {
				return malformed(at, "field %d has %d bytes, but only %d are left", num, n, end-w.off)
			}
			fieldEnd = w.off + int64(n)
		default:
			return malformed(at, "field %d has wire type %d", num, typ)
		}
		if err != nil {
			return err
		}
		if err := visit(num, fieldEnd); err != nil {
			return err
		}
		if fieldEnd >= 0 {
			if err := w.skip(fieldEnd, end); err != nil {
				return err
			}
		}
	}
	return nil
}

// check reads a message that ends at the byte end into m. It returns false for a message of more
// than maxCheckedNode bytes, which it does not read.
func (w *wireReader) check(end int64, m proto.Message) (ok bool, err error) {
	if end-w.off > maxCheckedNode {
		return false, nil
	}
	at := w.off
	b, err := w.bytes(end)
	if err != nil {
		return false, err
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return false, malformed(at, "%s: %v", m.ProtoReflect().Descriptor().Name(), err)
	}
	return true, nil
}

func (w *wireReader) varint(end int64) (uint64, error) {
	var v uint64
	for shift, at := 0, w.off; ; shift += 7 {
		if w.off == end {
			return 0, malformed(at, "a number goes beyond the end of its message, byte %d", end)
		}
		b, err := w.br.ReadByte()
		if err != nil {
			return 0, w.fail(err)
		}
		w.off++
		if shift == 63 && b > 1 {
			return 0, malformed(at, "a number of more than 64 bits")
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
}

// bytes reads up to the byte end. The result is valid until the next call.
func (w *wireReader) bytes(end int64) ([]byte, error) {
	w.buf = slices.Grow(w.buf[:0], int(end-w.off))[:end-w.off]
	n, err := io.ReadFull(w.br, w.buf)
	w.off += int64(n)
	if err != nil {
		return nil, w.fail(err)
	}
	return w.buf, nil
}

func (w *wireReader) skip(to, end int64) error {
	n := to - w.off
	switch {
	case to > end:
		return malformed(w.off, "a field of %d bytes, but only %d are left", n, end-w.off)
	case n == 0:
		return nil
	case n <= int64(w.br.Buffered()):
		if _, err := w.br.Discard(int(n)); err != nil {
			return w.fail(err)
		}
	default:
		// Reading the last byte shows that it exists.
		if _, err := w.r.Seek(to-1, io.SeekStart); err != nil {
			return w.fail(err)
		}
		w.br.Reset(w.r)
		if _, err := w.br.ReadByte(); err != nil {
			return w.fail(err)
		}
	}
	w.off = to
	return nil
}

// fail turns an early end of the file into an ErrMalformed.
func (w *wireReader) fail(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed(w.off, "the file ends")
	}
	return fmt.Errorf("byte %d: %w", w.off, err)
}
