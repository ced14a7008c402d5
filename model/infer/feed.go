package infer

import (
	"encoding/base64"
	"slices"
	"strconv"

	"inceptor/savedmodel"
)

// A source says where the value of an input comes from.
type source int

const (
	fromRow   source = iota // a part of the record
	fromImage               // the image: its pixels, its bytes, or a tf.Example with its bytes; or a record that is a tf.Example
	fromIndex               // the record's index in its batch, which the model returns: shows that it keeps the order
	fromFile                // inceptor.yaml
)

// A feed is an input of a signature, and where its value comes from.
type feed struct {
	key   string
	dtype savedmodel.DataType
	shape savedmodel.Shape // of one record's value, without the batch; all dimensions are known
	from  source

	// For fromRow and fromFile.
	count  int // elements of one record
	offset int // of the first one in row.numbers or row.strings

	base64   bool   // fromImage: the image is encoded in web-safe base64
	feature  string // fromImage: of the tf.Example that holds the image; empty: there is none
	value    *row   // fromFile
	perBatch bool   // fromFile: there is one value for the whole batch, and shape is all of its shape
}

// size returns the bytes of a row's numbers; 0: they are strings.
func (f feed) size() int { return f.count * f.dtype.Size() }

// values appends a row's value: all its numbers as one element, or each string.
func (f feed) values(to [][]byte, r *row) [][]byte {
	if f.dtype == savedmodel.String {
		return append(to, r.strings[f.offset:][:f.count]...)
	}
	return append(to, r.numbers[f.offset:][:f.size()])
}

// parts returns the value for a batch: all numbers of each record as one element, or each
// string.
func (f feed) parts(batch []item) [][]byte {
	if f.perBatch {
		return f.values(nil, f.value)
	}
	parts := make([][]byte, 0, len(batch)*max(1, f.count))
	for index, it := range batch {
		switch {
		case f.from == fromRow:
			parts = f.values(parts, it.row)
		case f.from == fromFile:
			parts = f.values(parts, f.value)
		case f.from == fromIndex && f.dtype == savedmodel.String:
			parts = append(parts, strconv.AppendInt(nil, int64(index), 10))
		case f.from == fromIndex:
			parts = append(parts, order.AppendUint64(nil, uint64(index)))
		case it.pixels != nil:
			parts = append(parts, it.pixels.Bytes())
		case it.plain != nil:
			parts = append(parts, it.plain)
		case f.base64:
			parts = append(parts, base64.RawURLEncoding.AppendEncode(nil, it.encoded))
		case f.feature != "":
			parts = append(parts, exampleOf(f.feature, it.encoded))
		default:
			parts = append(parts, it.encoded)
		}
	}
	return parts
}

// join returns the tensor for a batch. For a single image it is the tensor of its pixels, if the
// shape is the same.
func (f feed) join(batch []item) (*savedmodel.Tensor, error) {
	if one := batch[0].pixels; len(batch) == 1 && f.from == fromImage && one != nil && slices.Equal(one.Shape()[1:], f.shape) {
		return one, nil
	}
	parts, shape := f.parts(batch), f.shape
	if !f.perBatch {
		shape = append(savedmodel.Shape{int64(len(batch))}, shape...)
	}
	if f.dtype == savedmodel.String {
		return savedmodel.NewStringTensor(parts, shape...)
	}
	t, err := savedmodel.NewTensor(f.dtype, shape...)
	if err != nil {
		return nil, err
	}
	to := t.Bytes()
	for _, part := range parts {
		to = to[copy(to, part):]
	}
	return t, nil
}

// rowFeeds returns the feeds that a row must have.
func rowFeeds(feeds []feed) (rows []feed) {
	for _, f := range feeds {
		if f.from == fromRow {
			rows = append(rows, f)
		}
	}
	return rows
}

func keysOf(feeds []feed) (keys []string) {
	for _, f := range feeds {
		keys = append(keys, f.key)
	}
	return keys
}
