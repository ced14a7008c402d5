package infer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"inceptor/savedmodel"
)

// ReasonBadRow is the reason of an InputError about a row that does not fit the model.
const ReasonBadRow = "bad-row"

// A row holds the values of one record for all feeds.
type row struct {
	numbers []byte // in the layout of tensors
	strings [][]byte

	// For the reader.
	seen   []bool // feeds that an object has
	json   bytes.Buffer
	parser jsontext.Decoder
	pool   *sync.Pool // to which close returns the row; nil: none
}

func (r *row) close() {
	clear(r.strings)
	r.json = bytes.Buffer{} // drop the record
	r.parser.Reset(&r.json)
	if r.pool != nil {
		r.pool.Put(r)
	}
}

// A rowReader reads rows in the form of "instances" of TensorFlow Serving's REST API (row
// format, https://www.tensorflow.org/tfx/serving/api_rest): an object with a value for each
// input of the signature or, if there is only one input, its value alone. A tensor is nested
// lists, and a string may be {"b64": "…"}. Inputs with a value in inceptor.yaml are not in a
// row. Safe for concurrent use.
type rowReader struct {
	feeds  []feed
	quoted [][]byte // their names in JSON, in the usual form
	rows   sync.Pool
}

func newRowReader(feeds []feed) *rowReader {
	feeds = rowFeeds(feeds)
	p := &rowReader{feeds: feeds}
	for _, f := range feeds {
		name, _ := jsontext.AppendQuote(nil, f.key) // a name that is not UTF-8 matches nothing
		p.quoted = append(p.quoted, name)
	}
	p.rows.New = func() any { return blankRow(feeds, &p.rows) }
	return p
}

// blankRow returns a row of zeros and empty strings.
func blankRow(feeds []feed, pool *sync.Pool) *row {
	r := &row{pool: pool}
	for _, f := range rowFeeds(feeds) {
		if f.dtype == savedmodel.String {
			r.strings = append(r.strings, make([][]byte, f.count)...)
		} else {
			r.numbers = append(r.numbers, make([]byte, f.size())...)
		}
	}
	return r
}

// item reads a row. The error is an *InputError, which names the place of the fault by a JSON
// pointer (RFC 6901).
func (p *rowReader) item(_ context.Context, content []byte, _ Header) (item, error) {
	r := p.rows.Get().(*row)
	r.json = *bytes.NewBuffer(content)
	r.parser.Reset(&r.json)
	if err := p.read(r); err != nil {
		if pointer := r.parser.StackPointer(); pointer != "" && !errors.As(err, new(*jsontext.SyntacticError)) {
			err = fmt.Errorf("%s: %w", pointer, err)
		}
		r.close()
		return item{}, &InputError{ReasonBadRow, err}
	}
	return item{row: r}, nil
}

func (p *rowReader) read(r *row) error {
	var err error
	switch kind := r.parser.PeekKind(); {
	case kind == '{':
		err = p.readObject(r)
	case len(p.feeds) == 1:
		err = r.read(p.feeds[0], p.feeds[0].shape, 0)
	default:
		err = fmt.Errorf("want an object with the inputs %q", keysOf(p.feeds))
	}
	if err != nil {
		return err
	}
	if _, err := r.parser.ReadToken(); err == nil {
		return errors.New("more JSON after the row")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (p *rowReader) readObject(r *row) error {
	d := &r.parser
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	r.seen = append(r.seen[:0], make([]bool, len(p.feeds))...)
	for d.PeekKind() != '}' {
		name, err := d.ReadValue() // quoted; the parser refuses duplicates
		if err != nil {
			return err
		}
		i, one := p.feed(name), p.feeds[0]
		switch {
		case i >= 0:
			err = r.read(p.feeds[i], p.feeds[i].shape, 0)
		case string(name) == `"b64"` && len(p.feeds) == 1 && one.dtype == savedmodel.String && one.count == 1:
			i, err = 0, r.readBase64(one.offset)
		default:
			err = fmt.Errorf("the model has no such input, only %q", keysOf(p.feeds))
		}
		if err != nil {
			return err
		}
		r.seen[i] = true
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if i := slices.Index(r.seen, false); i >= 0 {
		return fmt.Errorf("the input %q is missing", p.feeds[i].key)
	}
	return nil
}

// feed returns the index of the feed that a JSON string names; -1: none.
func (p *rowReader) feed(quoted []byte) int {
	if i := slices.IndexFunc(p.quoted, func(name []byte) bool { return bytes.Equal(name, quoted) }); i >= 0 {
		return i
	}
	name, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return -1
	}
	return slices.IndexFunc(p.feeds, func(f feed) bool { return f.key == string(name) })
}

// read reads a value of this shape into the elements of f from index i on.
func (r *row) read(f feed, shape savedmodel.Shape, i int) error {
	if len(shape) == 0 {
		return r.readElement(f, i)
	}
	d := &r.parser
	if d.PeekKind() != '[' {
		return r.unexpected("a list of %d", shape[0])
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	each := 1
	for _, dim := range shape[1:] {
		each *= int(dim)
	}
	for n := range int(shape[0]) {
		if d.PeekKind() == ']' {
			return fmt.Errorf("a list of %d, want %d", n, shape[0])
		}
		if err := r.read(f, shape[1:], i+n*each); err != nil {
			return err
		}
	}
	if kind := d.PeekKind(); kind != ']' && kind != 0 {
		return fmt.Errorf("a list of more than %d", shape[0])
	}
	_, err := d.ReadToken()
	return err
}

// unexpected returns the error of a value of another kind than the wanted one.
func (r *row) unexpected(want string, args ...any) error {
	v, err := r.parser.ReadValue()
	if err != nil {
		return err
	}
	const most = 40
	if len(v) > most {
		v = append(slices.Clone(v[:most]), "…"...)
	}
	return fmt.Errorf("%s, want "+want, append([]any{v}, args...)...)
}

func (r *row) readElement(f feed, i int) error {
	d := &r.parser
	kind := d.PeekKind()
	switch {
	case f.dtype == savedmodel.String && kind == '{':
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		if name, err := d.ReadValue(); err != nil || string(name) != `"b64"` {
			return cmp.Or(err, errors.New(`an object, want a string or {"b64": "…"}`))
		}
		if err := r.readBase64(f.offset + i); err != nil {
			return err
		}
		if d.PeekKind() != '}' {
			return errors.New(`more keys after "b64"`)
		}
		_, err := d.ReadToken()
		return err
	case f.dtype == savedmodel.String && kind == '"':
		v, err := d.ReadValue()
		if err != nil {
			return err
		}
		r.strings[f.offset+i], err = jsontext.AppendUnquote(nil, v)
		return err
	case f.dtype == savedmodel.Bool && (kind == 't' || kind == 'f'), f.dtype != savedmodel.String && f.dtype != savedmodel.Bool && kind == '0':
		v, err := d.ReadValue()
		if err != nil {
			return err
		}
		size := f.dtype.Size()
		if !putElement(r.numbers[f.offset+i*size:][:size], f.dtype, v) {
			return fmt.Errorf("%s is not %v", v, f.dtype)
		}
		return nil
	}
	return r.unexpected("%v", f.dtype)
}

func (r *row) readBase64(at int) error {
	if r.parser.PeekKind() != '"' {
		return r.unexpected("base64")
	}
	v, err := r.parser.ReadValue()
	if err != nil {
		return err
	}
	text, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return err
	}
	if r.strings[at], err = base64.StdEncoding.AppendDecode(nil, text); err != nil {
		return fmt.Errorf("base64: %w", err)
	}
	return nil
}

// order is the byte order in tensors.
var order = binary.NativeEndian
