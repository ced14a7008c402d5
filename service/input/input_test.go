package input

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"inceptor/internal/settings"
	"inceptor/testenv"
	"inceptor/testenv/corpus"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func newReader(t testing.TB, change func(*Config)) *Reader {
	t.Helper()
	c := settings.Default[Config]()
	if change != nil {
		change(&c)
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// reasonOf is the reason of an *Error, "" of none; any other error fails.
func reasonOf(t testing.TB, err error) Reason {
	t.Helper()
	if bad := new(Error); errors.As(err, &bad) {
		return bad.Reason
	} else if err != nil {
		t.Errorf("not an *Error: %v", err)
	}
	return ""
}

func TestRead(t *testing.T) {
	root := t.TempDir()
	corpus.Files(t, root)
	site := corpus.Serve(t)
	jpeg, png := corpus.Good()["jpeg"], corpus.Good()["png"]
	std := base64.StdEncoding.EncodeToString(jpeg)
	url := base64.RawURLEncoding.EncodeToString(jpeg)
	const record = "record"
	for _, c := range []struct {
		name   string
		format Format
		value  string
		want   []byte
		source string
		reason Reason
	}{
		{name: "image", format: Auto, value: string(jpeg), want: jpeg, source: record},
		{name: "image, forced", format: Bare, value: string(jpeg), want: jpeg, source: record},
		{name: "anything, forced to be an image", format: Bare, value: "abc", want: []byte("abc"), source: record},
		{name: "envelope", format: Auto, value: ` {"image":"` + std + `"} `, want: jpeg, source: record},
		{name: "envelope, forced", format: JSON, value: `{"image":"` + std + `"}`, want: jpeg, source: record},
		{name: "envelope, URL alphabet", format: Auto, value: `{"image":"` + url + `"}`, want: jpeg, source: record},
		{name: "envelope, no padding", format: Auto, value: `{"image":"` + strings.TrimRight(std, "=") + `"}`, want: jpeg, source: record},
		{name: "envelope, lines", format: Auto, value: `{"image":"` + std[:76] + `\r\n` + std[76:] + `\n"}`, want: jpeg, source: record},
		{name: "envelope, escaped slashes", format: Auto, value: `{"image":"` + strings.ReplaceAll(std, "/", `\/`) + `"}`, want: jpeg, source: record},
		{name: "envelope, data URL", format: Auto, value: `{"image":"data:image/jpeg;base64,` + std + `"}`, want: jpeg, source: record},
		{name: "envelope, other keys", format: Auto, value: `{"id":[1,{"url":2}],"image":"` + std + `","url":null,"id":3}`, want: jpeg, source: record},
		{name: "envelope, path", format: JSON, value: `{"path":"sub/good.png"}`, want: png, source: "path:sub/good.png"},
		{name: "envelope, url", format: JSON, value: `{"url":"` + site.URL + `/good.png"}`, want: png, source: "url:" + site.URL + "/good.png"},
		{name: "path", format: Auto, value: "sub/good.png\n", want: png, source: "path:sub/good.png"},
		{name: "path, spaces around", format: Auto, value: " \t sub/good.png \r\n", want: png, source: "path:sub/good.png"},
		{name: "path, spaces around, forced", format: Path, value: "\tgood.jpg ", want: jpeg, source: "path:good.jpg"},
		{name: "path, spaces around, absolute", format: Auto, value: " " + filepath.Join(root, "good.jpg") + " ", want: jpeg, source: "path:good.jpg"},
		{name: "path, spaces around, in an envelope", format: Auto, value: `{"path":" good.jpg\t\n"}`, want: jpeg, source: "path:good.jpg"},
		{name: "url, spaces around", format: Auto, value: " \t" + site.URL + "/good.jpg \n", want: jpeg, source: "url:" + site.URL + "/good.jpg"},
		{name: "url, spaces around, in an envelope", format: Auto, value: `{"url":" ` + site.URL + `/good.jpg\t"}`, want: jpeg, source: "url:" + site.URL + "/good.jpg"},
		{name: "spaces alone", format: Auto, value: " \t\n", reason: UnknownFormat},
		{name: "spaces alone for a path", format: Path, value: " \n", reason: BadPath},
		{name: "spaces alone in an envelope", format: Auto, value: `{"path":" "}`, reason: BadPath},
		{name: "dots behind a space", format: Auto, value: " ../good.jpg", reason: PathNotAllowed},
		{name: "path, forced", format: Path, value: "./good.jpg", want: jpeg, source: "path:good.jpg"},
		{name: "path, absolute", format: Auto, value: filepath.Join(root, "good.jpg"), want: jpeg, source: "path:good.jpg"},
		{name: "url", format: Auto, value: site.URL + "/good.jpg?token=abc#x", want: jpeg, source: "url:" + site.URL + "/good.jpg"},
		{name: "url, forced", format: URL, value: " " + site.URL + "/moved\r\n", want: jpeg, source: "url:" + site.URL + "/moved"},
		{name: "url, capitals", format: Auto, value: "HTTP" + site.URL[4:] + "/good.jpg", want: jpeg, source: "url:" + site.URL + "/good.jpg"},
		{name: "nothing", format: Auto, reason: Empty},
		{name: "nothing, forced", format: Bare, reason: Empty},
		{name: "path for an envelope", format: JSON, value: "good.jpg", reason: BadEnvelope},
		{name: "array for an envelope", format: JSON, value: "[]", reason: BadEnvelope},
		{name: "URL without a host", format: Auto, value: "http:///good.jpg", reason: BadURL},
		{name: "path for a URL", format: URL, value: "good.jpg", reason: URLNotAllowed},
		{name: "URL for a path", format: Path, value: site.URL + "/good.jpg", reason: PathNotFound},
		{name: "NUL in a forced path", format: Path, value: "good.jpg\x00", reason: BadPath},
		{name: "colon in a path", format: Auto, value: "http.jpg:1", reason: PathNotFound},
		{name: "other scheme", format: Auto, value: "s3://bucket/key", reason: URLNotAllowed},
		{name: "too large", format: Auto, value: string(jpeg) + strings.Repeat("x", 4096), reason: TooLarge},
		{name: "too large in an envelope", format: Auto, value: `{"image":"` + strings.Repeat("A", 6000) + `"}`, reason: TooLarge},
		{name: "too large an envelope", format: Auto, value: `{"x":"` + strings.Repeat("A", 80_000) + `","image":"` + std + `"}`, reason: TooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReader(t, func(cfg *Config) {
				cfg.Format, cfg.MaxBytes, cfg.Files.Root = c.format, 4096, root
				cfg.Fetch.Hosts, cfg.Fetch.Private = []string{site.Host}, []string{site.Network}
			})
			got, err := r.Read(t.Context(), []byte(c.value))
			if reason := reasonOf(t, err); reason != c.reason {
				t.Errorf("reason %q (%v), want %q", reason, err, c.reason)
			}
			if !bytes.Equal(got.Bytes, c.want) || got.Source != c.source {
				t.Errorf("%d bytes of %q, want %d of %q", len(got.Bytes), got.Source, len(c.want), c.source)
			}
		})
	}
}

// Nothing but the record is read unless it is allowed.
func TestDenyByDefault(t *testing.T) {
	r := newReader(t, nil)
	for value, want := range map[string]Reason{
		"a.jpg": PathNotAllowed, "/etc/hostname": PathNotAllowed, "http://example.com/a.jpg": URLNotAllowed, "https://127.0.0.1/": URLNotAllowed,
	} {
		if _, err := r.Read(t.Context(), []byte(value)); reasonOf(t, err) != want {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}
}

// The root may come, go, and be another folder: records are not to blame.
func TestRootChanges(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	write := func(s string) {
		t.Helper()
		if err := errors.Join(os.Mkdir(root, 0o700), os.WriteFile(filepath.Join(root, "a"), []byte(s), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	r := newReader(t, func(c *Config) { c.Files.Root = root })
	read := func() (string, error) {
		image, err := r.Read(t.Context(), []byte("a"))
		return string(image.Bytes), err
	}
	if s, err := read(); s != "one" {
		t.Errorf("%q, %v", s, err)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if _, err := read(); err == nil || errors.As(err, new(*Error)) || !strings.Contains(err.Error(), "input.files.root") {
		t.Errorf("root is gone: %v", err)
	}
	write("two")
	if s, err := read(); s != "two" {
		t.Errorf("%q, %v", s, err)
	}
}

// What was read takes room until it is released, however many records name
// it: the window of a partition counts only their names.
func TestRoom(t *testing.T) {
	root, image := t.TempDir(), bytes.Repeat([]byte("x"), 100)
	for name, content := range map[string][]byte{"full": image, "half": image[:50], "empty": nil} {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, url := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(image) }, func(c *Config) {
		c.Files.Root, c.MaxBytes, c.Fetch.Concurrency = root, 100, 1
	})
	read := func(value string) (Image, error) { return r.Read(t.Context(), []byte(value)) }
	for range 3 { // what is refused takes none
		if _, err := read("empty"); reasonOf(t, err) != Empty {
			t.Fatal(err)
		}
		if _, err := read(url + "x/"); reasonOf(t, err) == "" {
			t.Fatal("a URL that is not allowed is fetched")
		}
	}
	half, err := read("half")
	if err != nil {
		t.Fatal(err)
	}
	fetched, err := read(url)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"full", url} { // 150 bytes of 200 are taken
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := r.Read(ctx, []byte(value)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s finds room: %v", value, err)
		}
		cancel()
	}
	if _, err := read(string(corpus.Good()["gif"][:20])); err != nil {
		t.Errorf("a record that is an image needs no room: %v", err)
	}
	half.Release()
	full, err := read("full")
	if err != nil {
		t.Fatal(err)
	}
	full.Release()
	fetched.Release()
	if !r.memory.TryAcquire(200) {
		t.Error("not all room was given back")
	}
}

func TestPathError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Reason // "": not the record's fault
	}{
		{syscall.ENOENT, PathNotFound}, {syscall.ENOTDIR, PathNotFound}, {syscall.EACCES, PathUnreadable}, {syscall.EIO, PathUnreadable},
		{syscall.ESTALE, PathUnreadable}, {syscall.ENAMETOOLONG, BadPath}, {syscall.ELOOP, PathNotFile}, {errors.New("path escapes"), PathNotAllowed},
		{syscall.EMFILE, ""}, {syscall.ENFILE, ""}, {syscall.ENOMEM, ""}, {refuse(Empty, "x"), Empty},
	} {
		err := pathError("a.jpg", &fs.PathError{Op: "openat", Path: "a.jpg", Err: c.err})
		got := Reason("")
		if bad := new(Error); errors.As(err, &bad) {
			got = bad.Reason
		}
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v: %q (%v), want %q", c.err, got, err, c.want)
		}
	}
}

func TestReasonsAreListed(t *testing.T) {
	listed := map[Reason]bool{}
	for _, r := range Reasons() {
		if r == "" || listed[r] {
			t.Errorf("%q is empty or occurs twice", r)
		}
		listed[r] = true
	}
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(source, []byte(" Reason = \"")) + bytes.Count(source, []byte(" Reason  = \"")); n > len(listed) {
		t.Errorf("%d constants, %d listed", n, len(listed))
	}
}

func FuzzRead(f *testing.F) {
	for _, c := range corpus.Bad(2) {
		if len(c.Value) < 4096 {
			f.Add(c.Value)
		}
	}
	for _, b := range corpus.Good() {
		f.Add(b)
	}
	var readers []*Reader
	for _, format := range formats {
		readers = append(readers, newReader(f, func(c *Config) {
			c.Format, c.MaxBytes, c.Files.Root = format, 1000, f.TempDir()
			c.Fetch.Hosts = []string{"example.invalid:1"}
		}))
	}
	// No name may be looked up: a context that has ended stops the fetch of
	// what is allowed.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, r := range readers {
			image, err := r.Read(ctx, value)
			switch {
			case errors.Is(err, context.Canceled):
			case err != nil:
				if reasonOf(t, err) == "" || image.Bytes != nil || len(err.Error()) > 1500 {
					t.Fatalf("%s: %d bytes, %v", r.config.Format, len(image.Bytes), err)
				}
			case image.Source != "record" || len(image.Bytes) == 0 || len(image.Bytes) > 1000:
				t.Fatalf("%s: %d bytes of %s", r.config.Format, len(image.Bytes), image.Source)
			}
		}
	})
}

// What is taken from an envelope is what encoding/json takes from it.
func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"image":"AAAA"}`))
	f.Add([]byte(`{"p\u0061th":"a\/b\u00e9","x":[{}],"url":null}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		kind, content, err := parseEnvelope(value)
		if err != nil {
			return
		}
		var all map[string]any
		if err := json.Unmarshal(value, &all); err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		if all[kind] != string(content) {
			t.Fatalf("%q: %s is %q, want %v", value, kind, content, all[kind])
		}
	})
}

func ExampleReader_Read() {
	c := settings.Default[Config]()
	c.Fetch.Hosts = []string{"images.example.com"}
	r, err := New(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()

	for _, value := range []string{
		"GIF89a…", `{"image": "R0lGODlh"}`, "/etc/passwd", "http://169.254.169.254/latest/meta-data",
	} {
		image, err := r.Read(context.Background(), []byte(value))
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%d bytes from the %s\n", len(image.Bytes), image.Source)
	}
	// Output:
	// 9 bytes from the record
	// 6 bytes from the record
	// path-not-allowed: "/etc/passwd": input.files.root is not set, so no file is read
	// url-not-allowed: "169.254.169.254:80" is not in input.fetch.hosts
}
