package input

import (
	"encoding"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config says what a record's value may be, and which files and URLs it may name.
// The tags are kong's. Keys in errors and documents begin with "input.".
type Config struct {
	// image is the encoded image itself, path and url name one, and json is an envelope. For models
	// of other things than images: tensor-json (a row in TensorFlow Serving's JSON format) or
	// example (a serialized tf.Example).
	Format Format `default:"auto" values:"auto,image,path,url,json,tensor-json,example" help:"What a record's value is. auto recognizes image, path, url and json by itself." common:""`
	// Larger ones become dead letters.
	MaxBytes Bytes `default:"16MiB" help:"Largest encoded image, wherever it comes from, or row."`
	Files    Files `embed:"" prefix:"files."`
	Fetch    Fetch `embed:"" prefix:"fetch."`
}

// Files says which files a record may name.
type Files struct {
	// Records name them by absolute paths, or by paths relative to it. Empty: no file is read.
	Root string `placeholder:"DIR" help:"Folder with the files that records may name." common:""`
}

// Fetch says which URLs a record may name.
type Fetch struct {
	// example.com, example.com:8443, *.example.com (below it only) or * (any). Ports other than 80
	// and 443 must be named. Empty: nothing is fetched.
	Hosts   []string      `placeholder:"HOST" help:"Hosts of the URLs that records may name." common:""`
	Private []string      `placeholder:"CIDR" help:"Networks that may be dialled although they are not public, such as 10.1.0.0/16."`
	Timeout time.Duration `default:"10s" help:"Time limit of one whole fetch, with redirects, retries and the body."`
	// Images from URLs and files that are being read or wait for the model take at most twice this
	// number times input.max-bytes of memory.
	Concurrency int `default:"16" help:"Most fetches at a time."`
}

// Validate returns every problem, each naming its key.
func (c Config) Validate() []error {
	var problems []error
	bad := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("input."+key+": "+format, args...))
	}
	if !slices.Contains(formats, c.Format) {
		bad("format", "%q is none of %s", c.Format, join(formats))
	}
	if c.MaxBytes < 1 || c.MaxBytes > 1<<30 {
		bad("max-bytes", "%d is not between 1 and 1GiB", c.MaxBytes)
	}
	if root := c.Files.Root; root != "" {
		if st, err := os.Stat(root); err != nil {
			bad("files.root", "%w", err)
		} else if !st.IsDir() {
			bad("files.root", "%s is not a folder", root)
		}
	}
	for _, s := range c.Fetch.Hosts {
		if _, err := parseHostRule(s); err != nil {
			bad("fetch.hosts", "%w", err)
		}
	}
	for _, s := range c.Fetch.Private {
		if _, err := parseNetwork(s); err != nil {
			bad("fetch.private", "%w", err)
		}
	}
	if c.Fetch.Timeout <= 0 {
		bad("fetch.timeout", "%s is not positive", c.Fetch.Timeout)
	}
	if c.Fetch.Concurrency < 1 || c.Fetch.Concurrency > 10_000 {
		bad("fetch.concurrency", "%d is not between 1 and 10000", c.Fetch.Concurrency)
	}
	if c.Format == Path && c.Files.Root == "" {
		bad("files.root", "format path needs it: no file may be read")
	}
	if c.Format == URL && len(c.Fetch.Hosts) == 0 {
		bad("fetch.hosts", "format url needs it: nothing may be fetched")
	}
	return problems
}

// parseNetwork reads a network, or an address as a network of one.
func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither a network such as 10.1.0.0/16 nor an address", s)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%q has bits beyond its mask; did you mean %s?", s, p.Masked())
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("%q: write the IPv4 network", s)
	}
	return p, nil
}

// A Format says what a record's value is.
type Format string

// The formats.
const (
	Auto Format = "auto" // recognized for each record
	Bare Format = "image"
	Path Format = "path"
	URL  Format = "url"
	JSON Format = "json"

	TensorJSON Format = "tensor-json" // this and the next are no images
	Example    Format = "example"
)

var formats = []Format{Auto, Bare, Path, URL, JSON, TensorJSON, Example}

// UnmarshalText accepts the formats, in any case.
func (f *Format) UnmarshalText(b []byte) error {
	*f = Format(strings.ToLower(string(b)))
	if !slices.Contains(formats, *f) {
		return fmt.Errorf("%q is none of %s", b, join(formats))
	}
	return nil
}

func join(formats []Format) string {
	var s []string
	for _, f := range formats {
		s = append(s, string(f))
	}
	return strings.Join(s, ", ")
}

// Bytes is a number of bytes, written with or without KiB, MiB or GiB.
type Bytes int64

var _ encoding.TextUnmarshaler = (*Bytes)(nil)

// UnmarshalText reads a number of bytes.
func (n *Bytes) UnmarshalText(b []byte) error {
	digits, shift := string(b), 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if s, ok := strings.CutSuffix(digits, unit); ok {
			digits, shift = strings.TrimSpace(s), 10*(i+1)
		}
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || v<<shift>>shift != v {
		return fmt.Errorf("%q is not %s", b, n.Form())
	}
	*n = Bytes(v << shift)
	return nil
}

// Form says how a number of bytes is written.
func (Bytes) Form() string { return "a number of bytes such as 65536, 512KiB or 16MiB" }

// MarshalText uses the largest unit of which it is a multiple.
func (n Bytes) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

func (n Bytes) String() string {
	for i, unit := range []string{"GiB", "MiB", "KiB"} {
		if shift := 30 - 10*i; n != 0 && n>>shift<<shift == n {
			return strconv.FormatInt(int64(n>>shift), 10) + unit
		}
	}
	return strconv.FormatInt(int64(n), 10)
}
