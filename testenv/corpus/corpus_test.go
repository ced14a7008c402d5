package corpus_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"inceptor/internal/settings"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/testenv"
	"inceptor/testenv/corpus"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// pixels is a limit such as a configuration has.
const pixels = 100_000_000

// reason is how far a record gets before the decoder: the word why it ends
// there, or "".
func reason(t *testing.T, r *input.Reader, value []byte) (string, error) {
	t.Helper()
	image, err := r.Read(t.Context(), value)
	if bad := new(input.Error); errors.As(err, &bad) {
		return string(bad.Reason), err
	} else if err != nil {
		t.Errorf("not the record's fault: %v", err)
		return "", err
	}
	h, err := infer.ParseHeader(image.Bytes)
	if bad := new(infer.InputError); errors.As(err, &bad) {
		return bad.Reason, err
	} else if err != nil {
		t.Errorf("header: %T: %v", err, err)
	}
	if h.Pixels > pixels {
		return infer.ReasonTooManyPixels, nil
	}
	return "", nil
}

// judge checks that a case ends with a true reason, or gets to the decoder if
// that may be.
func judge(t *testing.T, r *input.Reader, c corpus.Case) {
	t.Helper()
	got, err := reason(t, r, c.Value)
	switch {
	case got == "" && (c.Either || slices.Contains(c.Reasons, infer.ReasonUndecodable)):
	case got == "":
		t.Errorf("%s: read without an error, want one of %s", c.Name, c.Reasons)
	case !slices.Contains(c.Reasons, got):
		t.Errorf("%s: reason %q (%v), want one of %s", c.Name, got, err, c.Reasons)
	}
	if err != nil && (strings.Contains(err.Error(), "secret-of-the-response") || len(err.Error()) > 500) {
		t.Errorf("%s: error tells too much: %.600s", c.Name, err)
	}
}

// judgeAll judges side by side, as records come: most of the slow ones wait.
func judgeAll(t *testing.T, r *input.Reader, cases []corpus.Case) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(32)
	for _, c := range cases {
		g.Go(func() error {
			judge(t, r, c)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func reader(t *testing.T, change func(*input.Config)) *input.Reader {
	t.Helper()
	c := settings.Default[input.Config]()
	c.Fetch.Timeout = time.Minute // longer than what a busy machine adds
	change(&c)
	r, err := input.New(c)
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

func TestBad(t *testing.T) {
	all := corpus.Bad(1)
	if len(all) < 500 {
		t.Errorf("only %d cases", len(all))
	}
	root := t.TempDir()
	for name, change := range map[string]func(*input.Config){
		"deny": func(*input.Config) {},
		"allow": func(c *input.Config) {
			c.Files.Root = root
			c.Fetch.Hosts = append(corpus.ForbiddenHosts(), "127.0.0.1:1")
			c.Fetch.Private = []string{"127.0.0.1"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := reader(t, change)
			judgeAll(t, r, all)
		})
	}
}

// With every name allowed it is the address that is refused.
func TestForbiddenAddresses(t *testing.T) {
	r := reader(t, func(c *input.Config) { c.Fetch.Hosts = []string{"*"} })
	for _, host := range corpus.ForbiddenHosts() {
		got, err := reason(t, r, []byte("http://"+host+"/"))
		if got != string(input.URLForbidden) {
			t.Errorf("%s: reason %q (%v)", host, got, err)
		}
	}
}

func TestSeed(t *testing.T) {
	sum := func(seed uint64) (n int, digest [32]byte) {
		h := sha256.New()
		names := map[string]bool{}
		for _, c := range corpus.Bad(seed) {
			if names[c.Name] {
				t.Errorf("%s occurs twice", c.Name)
			}
			names[c.Name] = true
			h.Write([]byte(c.Name))
			h.Write(c.Value)
			n++
		}
		return n, [32]byte(h.Sum(nil))
	}
	n, first := sum(1)
	if _, again := sum(1); first != again {
		t.Error("the same seed gives other cases")
	}
	if _, other := sum(2); first == other {
		t.Error("another seed gives the same cases")
	}
	t.Logf("%d cases", n)
}

func TestGood(t *testing.T) {
	r := reader(t, func(*input.Config) {})
	for name, b := range corpus.Good() {
		if got, err := reason(t, r, b); got != "" {
			t.Errorf("%s: %s (%v)", name, got, err)
		}
		h, err := infer.ParseHeader(b)
		if err != nil || h.Width != 24 || h.Height != 16 {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

func TestFiles(t *testing.T) {
	root := t.TempDir()
	cases := corpus.Files(t, root)
	r := reader(t, func(c *input.Config) { c.Files.Root = root })
	judgeAll(t, r, cases)
	for _, path := range []string{
		"good.jpg", "./good.jpg", "sub//good.png", "sub/link.jpg", "folder.jpg/good.png", "good.jpg\n", "good.jpg\r\n",
		filepath.Join(root, "good.jpg"), root + "/./sub/good.png", `{"path":"good.jpg","camera":7,"url":null}`,
	} {
		if got, err := reason(t, r, []byte(path)); got != "" {
			t.Errorf("%s: %s (%v)", path, got, err)
		}
	}
}

func TestSite(t *testing.T) {
	site := corpus.Serve(t)
	r := reader(t, func(c *input.Config) {
		c.Fetch.Hosts, c.Fetch.Private = append(corpus.ForbiddenHosts(), site.Host), []string{site.Network}
		c.Fetch.Timeout = 20 * time.Second // the four tries of what may pass take about two, without other work
	})
	judgeAll(t, r, site.Cases())
	for _, url := range []string{"/good.jpg", "/good.png?secret=1", "/moved", "/flaky?a", "/good.jpg#x"} {
		if got, err := reason(t, r, []byte(site.URL+url+"\n")); got != "" {
			t.Errorf("%s: %s (%v)", url, got, err)
		}
	}
}

func TestRefused(t *testing.T) {
	url := corpus.Refused(t)
	r := reader(t, func(c *input.Config) {
		c.Fetch.Hosts, c.Fetch.Private = []string{strings.Trim(strings.TrimPrefix(url, "http:"), "/")}, []string{"127.0.0.1"}
		c.Fetch.Timeout = time.Minute
	})
	got, err := reason(t, r, []byte(url))
	if got != string(input.URLUnreachable) || !strings.Contains(err.Error(), "tried 4 times") {
		t.Errorf("%s: %v", got, err)
	}
}

// A record that is being read when the service stops is not blamed.
func TestCancelled(t *testing.T) {
	site := corpus.Serve(t)
	r := reader(t, func(c *input.Config) {
		c.Fetch.Hosts, c.Fetch.Private = []string{site.Host}, []string{site.Network}
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := r.Read(ctx, []byte(site.URL+"/silent")); !errors.Is(err, context.Canceled) || errors.As(err, new(*input.Error)) {
		t.Errorf("%v", err)
	}
}
