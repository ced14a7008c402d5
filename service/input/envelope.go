package input

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// envelope reads {"image": base64}, {"url": "…"} or {"path": "…"}.
func (r *Reader) envelope(ctx context.Context, value []byte) (Image, error) {
	// Base64 adds a third, its line ends a 38th; 64 KiB are for the other keys.
	if limit := int64(r.config.MaxBytes)/3*4/37*38 + 64<<10; int64(len(value)) > limit {
		return Image{}, refuse(TooLarge, "the envelope has %d bytes; an image of input.max-bytes, %s, takes at most %d",
			len(value), r.config.MaxBytes, limit)
	}
	kind, content, err := parseEnvelope(value)
	if err != nil {
		return Image{}, &Error{BadEnvelope, err}
	}
	switch kind {
	case "url":
		return r.fetch(ctx, string(content))
	case "path":
		return r.file(ctx, string(content))
	}
	b, err := decodeBase64(content)
	if err != nil {
		return Image{}, &Error{BadEnvelope, err}
	}
	if err := r.checkSize(int64(len(b)), "the envelope's image"); err != nil {
		return Image{}, err
	}
	return Image{Bytes: b, Source: "record"}, nil
}

// parseEnvelope returns which of image, url and path an object has, and its value.
// Unlike encoding/json it is case-sensitive, and rejects a key that occurs twice.
func parseEnvelope(value []byte) (kind string, content []byte, err error) {
	if !utf8.Valid(value) {
		return "", nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(value))
	if t, err := d.Token(); err != nil {
		return "", nil, jsonError(err)
	} else if t != json.Delim('{') {
		return "", nil, errors.New("not a JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", nil, jsonError(err)
		}
		name, _ := key.(string)
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return "", nil, jsonError(err)
		}
		if name != "image" && name != "url" && name != "path" {
			continue
		}
		if seen[name] {
			return "", nil, fmt.Errorf("%q occurs twice", name)
		}
		seen[name] = true
		if string(v) == "null" {
			continue
		}
		if kind != "" {
			return "", nil, fmt.Errorf("both %q and %q", kind, name)
		}
		if v[0] != '"' {
			return "", nil, fmt.Errorf("%q is not a string", name)
		}
		kind, content = name, v[1:len(v)-1]
		if bytes.ContainsRune(content, '\\') {
			var s string
			if err := json.Unmarshal(v, &s); err != nil {
				return "", nil, jsonError(err)
			}
			content = []byte(s)
		}
	}
	if _, err := d.Token(); err != nil {
		return "", nil, jsonError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", nil, errors.New("something follows the JSON object")
	}
	if kind == "" {
		return "", nil, errors.New(`none of "image", "url" and "path"`)
	}
	return kind, content, nil
}

func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("JSON ends early")
	}
	return fmt.Errorf("broken JSON: %w", err)
}

// decodeBase64 accepts both alphabets, with and without padding, and also a data
// URL.
func decodeBase64(s []byte) ([]byte, error) {
	if start := strings.ToLower(string(s[:min(len(s), 256)])); strings.HasPrefix(start, "data:") {
		media, _, found := strings.Cut(start, ",")
		if !found || !strings.HasPrefix(media, "data:image/") || !strings.HasSuffix(media, ";base64") {
			return nil, errors.New("it is a data URL, but not of an image in base64")
		}
		s = s[len(media)+1:]
	}
	encoding := base64.RawStdEncoding
	if bytes.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	s = bytes.TrimRight(s, "\r\n")
	for range 2 {
		s = bytes.TrimSuffix(s, []byte("="))
	}
	b, err := encoding.AppendDecode(nil, s)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return b, nil
}
