package model

import (
	"encoding/base64"
	"slices"
	"strconv"

	"inceptor/savedmodel"
)

// A source says what an input of a signature is fed from.
type source int

const (
	fromRow   source = iota // a part of the record
	fromImage               // the image: its pixels, or as it came, also in a tf.Example; or a record that is one
	fromPlace               // the record's place in its batch, which comes back: so a model that mixes records up is found out
	fromFile                // inceptor.yaml
)

// A feed is an input of a signature that is fed.
type feed struct {
	key   string
	dtype savedmodel.DataType
	shape savedmodel.Shape // of what one record feeds: without the batch, and all known
	from  source

	// fromRow and fromFile.
	n  int // elements for a record
	at int // where they begin in row.numbers or row.strings

	base64  bool   // fromImage: the image is put into web-safe base64
	feature string // fromImage: of the tf.Example that the image is put into; empty: into none
	value   *row   // fromFile
	once    bool   // fromFile: the value is for the whole batch, and shape is all of its shape
}

// size is the bytes of a row's numbers; 0: they are strings.
func (f feed) size() int { return f.n * f.dtype.Size() }

// values are what a row feeds: all its numbers as one value, or each string.
func (f feed) values(to [][]byte, r *row) [][]byte {
	if f.dtype == savedmodel.String {
		return append(to, r.strings[f.at:][:f.n]...)
	}
	return append(to, r.numbers[f.at:][:f.size()])
}

// parts are what a batch feeds: of each record all numbers as one value, or each
// string.
func (f feed) parts(batch []item) [][]byte {
	if f.once {
		return f.values(nil, f.value)
	}
	parts := make([][]byte, 0, len(batch)*max(1, f.n))
	for place, it := range batch {
		switch {
		case f.from == fromRow:
			parts = f.values(parts, it.row)
		case f.from == fromFile:
			parts = f.values(parts, f.value)
		case f.from == fromPlace && f.dtype == savedmodel.String:
			parts = append(parts, strconv.AppendInt(nil, int64(place), 10))
		case f.from == fromPlace:
			parts = append(parts, order.AppendUint64(nil, uint64(place)))
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

// join makes the tensor to feed of a batch. A single image's pixels are that
// already, where the input's shape is theirs.
func (f feed) join(batch []item) (*savedmodel.Tensor, error) {
	if one := batch[0].pixels; len(batch) == 1 && f.from == fromImage && one != nil && slices.Equal(one.Shape()[1:], f.shape) {
		return one, nil
	}
	parts, shape := f.parts(batch), f.shape
	if !f.once {
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

// rowFeeds are those that a row must have.
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
