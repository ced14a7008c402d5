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

	"inceptor/model"
)

// An Image is an encoded image, or what stands for one with the formats that
// are none; whether it can be decoded is not known yet.
type Image struct {
	Bytes  []byte // of the record's own value, where Source is "record": not to be changed
	Source string // "record", "path:" and the path, or "url:" and the URL without its query

	release func() // nil: holds nothing of the reader's
}

// Release makes room for others: call it once, when Bytes are no longer used.
func (i Image) Release() {
	if i.release != nil {
		i.release()
	}
}

// A Reader reads what records name. It is safe for concurrent use.
type Reader struct {
	config  Config
	root    string // absolute; "": no files
	hosts   []hostRule
	private []netip.Prefix
	client  *http.Client
	slots   chan struct{}       // one for each fetch that may run
	room    *semaphore.Weighted // bytes of files and responses, being read or not yet released
}

// New checks the configuration and returns a Reader for it.
func New(c Config) (*Reader, error) {
	if problems := c.Validate(); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	r := &Reader{
		config: c,
		slots:  make(chan struct{}, c.Fetch.Concurrency),
		room:   semaphore.NewWeighted(roomFor * int64(c.Fetch.Concurrency) * int64(c.MaxBytes)),
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

// roomFor is how many times the largest image there is room for, for each fetch
// at once: one that is fetched, and as much for files, and for what waits to be
// released. Records that name images are small, so no window bounds these.
const roomFor = 2

// reserve waits for room for the largest image. give returns the image in the
// room that it takes; free, to be called in any case, gives up what was not given.
func (r *Reader) reserve(ctx context.Context) (give func(b []byte, source string) Image, free func(), err error) {
	most := int64(r.config.MaxBytes)
	if err := r.room.Acquire(ctx, most); err != nil {
		return nil, nil, err
	}
	left := most
	give = func(b []byte, source string) Image {
		n := int64(len(b))
		left -= n
		return Image{Bytes: b, Source: source, release: func() { r.room.Release(n) }}
	}
	return give, func() { r.room.Release(left) }, nil
}

// Close drops idle connections. Calls of Read that still run go on.
func (r *Reader) Close() error {
	r.client.CloseIdleConnections()
	return nil
}

// Read returns the encoded image that a record's value is, holds or names.
// An *Error is the record's fault; when ctx ends, its error is returned.
// Release the image.
func (r *Reader) Read(ctx context.Context, value []byte) (Image, error) {
	if len(value) == 0 {
		return Image{}, refuse(Empty, "the record has no value")
	}
	switch r.config.Format {
	case Bare, TensorJSON, Example:
		return r.record(value)
	case Path:
		return r.file(ctx, line(value))
	case URL:
		return r.fetch(ctx, line(value))
	case JSON:
		return r.envelope(ctx, value)
	}
	// What begins like an image is one, of whatever format: package model says
	// what is wrong with it.
	format, _ := model.FormatOf(value)
	switch {
	case format != "":
		return r.record(value)
	case bytes.HasPrefix(bytes.TrimLeft(value, " \t\r\n"), []byte("{")):
		return r.envelope(ctx, value)
	}
	text := line(value)
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

// line is a value as text, without the line ends that some producers leave.
func line(value []byte) string {
	const most = 64 << 10 // nothing longer is ever a path or URL; do not copy it
	return string(bytes.TrimRight(value[:min(len(value), most)], "\r\n"))
}

// isText tells one line of text from everything else.
func isText(s string) bool {
	return s != "" && len(s) <= maxURL && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// urlScheme is the scheme of what looks like a URL, else "". A colon alone is
// not enough: names of files have them.
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
