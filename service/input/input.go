package input

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"

	"inceptor/model/infer"
)

// An Image is an encoded image, or a row with the formats that are no images. It is
// not known yet whether it can be decoded.
type Image struct {
	Bytes  []byte // do not change them: with Source "record" they may be the record's value
	Source string // "record", "path:" and the path, or "url:" and the URL without its query

	release func() // nil: no memory of the reader is in use
}

// Release lets the reader read other images. Call it once, when Bytes are no longer
// used.
func (i Image) Release() {
	if i.release != nil {
		i.release()
	}
}

// A Reader reads the images of records. All fields are set once. Safe for concurrent
// use.
type Reader struct {
	config  Config
	root    string // absolute; "": no files
	hosts   []hostRule
	private []netip.Prefix
	client  *http.Client
	slots   chan struct{}       // holds one element for each fetch that runs
	memory  *semaphore.Weighted // for bytes of files and responses that are being read or not released yet
}

// New checks the configuration and returns a Reader for it.
func New(c Config) (*Reader, error) {
	if problems := c.Validate(); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	r := &Reader{
		config: c,
		slots:  make(chan struct{}, c.Fetch.Concurrency),
		memory: semaphore.NewWeighted(imagesPerFetch * int64(c.Fetch.Concurrency) * int64(c.MaxBytes)),
	}
	if c.Files.Root != "" {
		root, err := filepath.Abs(c.Files.Root)
		if err != nil {
			return nil, err
		}
		r.root = root
	}
	for _, s := range c.Fetch.Hosts {
		rule, err := parseHostRule(s)
		if err != nil {
			return nil, err
		}
		r.hosts = append(r.hosts, rule)
	}
	for _, s := range c.Fetch.Private {
		network, err := parseNetwork(s)
		if err != nil {
			return nil, err
		}
		r.private = append(r.private, network)
	}
	r.client = r.newClient()
	return r, nil
}

// imagesPerFetch is how many images of the largest size there is memory for, for each
// concurrent fetch: one that is fetched, and one for files and for images that are
// not released yet. The window does not bound this memory, because records that name
// images are small.
const imagesPerFetch = 2

// reserve waits for memory for the largest image. keep makes the image of the bytes
// that were read, and keeps their share of the memory until the image is released.
// Call free in any case: it returns the rest.
func (r *Reader) reserve(ctx context.Context) (keep func(b []byte, source string) Image, free func(), err error) {
	most := int64(r.config.MaxBytes)
	if err := r.memory.Acquire(ctx, most); err != nil {
		return nil, nil, err
	}
	left := most
	keep = func(b []byte, source string) Image {
		n := int64(len(b))
		left -= n
		return Image{Bytes: b, Source: source, release: func() { r.memory.Release(n) }}
	}
	return keep, func() { r.memory.Release(left) }, nil
}

// Close closes idle connections. Calls of Read that run are not affected.
func (r *Reader) Close() error {
	r.client.CloseIdleConnections()
	return nil
}

// Read returns the encoded image that a record's value is, holds or names. Release
// the image. An *Error blames the record; after any other error, such as ctx's, the
// record can be read again.
func (r *Reader) Read(ctx context.Context, value []byte) (Image, error) {
	if len(value) == 0 {
		return Image{}, refuse(Empty, "the record has no value")
	}
	switch r.config.Format {
	case Bare, TensorJSON, Example:
		return r.record(value)
	case Path:
		return r.file(ctx, asLine(value))
	case URL:
		return r.fetch(ctx, asLine(value))
	case JSON:
		return r.envelope(ctx, value)
	}
	// A value that begins like an image is one, in any format: package infer checks
	// whether it can be decoded.
	format, _ := infer.FormatOf(value)
	switch {
	case format != "":
		return r.record(value)
	case bytes.HasPrefix(bytes.TrimLeft(value, " \t\r\n"), []byte("{")):
		return r.envelope(ctx, value)
	}
	text := asLine(value)
	if !isText(text) {
		return Image{}, refuse(UnknownFormat, "%d bytes that are neither an image nor an envelope nor one line of text", len(value))
	}
	if scheme := urlScheme(text); scheme != "" {
		return r.fetch(ctx, text)
	}
	return r.file(ctx, text)
}

func (r *Reader) record(value []byte) (Image, error) {
	if err := r.checkSize(int64(len(value)), "the record"); err != nil {
		return Image{}, err
	}
	return Image{Bytes: value, Source: "record"}, nil
}

func (r *Reader) checkSize(n int64, what string) error {
	switch limit := int64(r.config.MaxBytes); {
	case n == 0:
		return refuse(Empty, "%s is empty", what)
	case n > limit:
		return refuse(TooLarge, "%s has %d bytes, over input.max-bytes of %s", what, n, r.config.MaxBytes)
	}
	return nil
}

// asLine returns a value as text, without spaces and line ends around it, which
// producers such as echo, and people, add.
func asLine(value []byte) string {
	const most = 64 << 10 // a longer value is no path or URL: do not copy it whole
	return string(bytes.TrimSpace(value[:min(len(value), most)]))
}

// isText tells whether s is one line of text.
func isText(s string) bool {
	return s != "" && len(s) <= maxURL && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// urlScheme returns the scheme of a text that looks like a URL; else "". A colon
// alone is not enough, since names of files have colons.
func urlScheme(s string) string {
	scheme, rest, found := strings.Cut(strings.TrimSpace(s), ":")
	scheme = strings.ToLower(scheme)
	if !found || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" {
		return ""
	}
	if strings.HasPrefix(rest, "//") || scheme == "data" || scheme == "file" || scheme == "javascript" ||
		scheme == "http" || scheme == "https" {
		return scheme
	}
	return ""
}
