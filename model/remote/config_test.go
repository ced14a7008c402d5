package remote

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"inceptor/internal/settings"
)

// The defaults are in the tags alone.
func TestDefault(t *testing.T) {
	var flags struct {
		Fallback Config `embed:"" prefix:"fallback."`
	}
	parser, err := kong.New(&flags)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Version: SameVersion, Timeout: 5 * time.Second, Budget: 15 * time.Second, Concurrency: 4,
		Breaker: Breaker{Failures: 5, Open: 10 * time.Second},
	}
	if got := settings.Default[Config](); got != want {
		t.Errorf("the defaults are %+v, want %+v", got, want)
	}
	args := []string{"--fallback.address=models:8500", "--fallback.tls.enabled", "--fallback.tls.server-name=x", "--fallback.breaker.failures=3", "--fallback.token-file=f", "--fallback.version=any"}
	if _, err := parser.Parse(args); err != nil {
		t.Error(err)
	}
	for _, flag := range parser.Model.AllFlags(false)[0] {
		if flag.Name != "help" && flag.Help == "" {
			t.Errorf("%s has no help", flag.Name)
		}
	}
}

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	ours := newAuthority(t, "ours")
	cert, key := ours.issue("client", time.Now().Add(time.Hour), "client")
	_, otherKey := ours.issue("client", time.Now().Add(time.Hour), "client")
	noPEM := filepath.Join(dir, "none.pem")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"good", func(*Config) {}, nil},
		{"IPv6", func(c *Config) { c.Address = "[::1]:8500" }, nil},
		{"DNS", func(c *Config) { c.Address = "dns:///models.example:8500" }, nil},
		{"mutual", func(c *Config) { c.TLS = TLS{Enabled: true, CA: ours.file, Cert: cert, Key: key} }, nil},
		{"no address", func(c *Config) { c.Address = "" }, []string{"fallback.address: "}},
		{"no port", func(c *Config) { c.Address = "models" }, []string{"fallback.address: "}},
		{"port 0", func(c *Config) { c.Address = "models:0" }, []string{"fallback.address: "}},
		{"named port", func(c *Config) { c.Address = "models:grpc" }, []string{"fallback.address: "}},
		{"no host", func(c *Config) { c.Address = ":8500" }, []string{"fallback.address: "}},
		{"URL", func(c *Config) { c.Address = "http://models:8500" }, []string{"fallback.address: "}},
		{"other resolver", func(c *Config) { c.Address = "passthrough:///models:8500" }, []string{"fallback.address: "}},
		{"numbers", func(c *Config) {
			c.Timeout, c.Budget, c.Concurrency, c.Breaker = 0, -1, 0, Breaker{}
		}, []string{"fallback.timeout: ", "fallback.budget: ", "fallback.concurrency: ", "fallback.breaker.failures: ", "fallback.breaker.open: "}},
		{"budget below timeout", func(c *Config) { c.Timeout, c.Budget = 2*time.Second, time.Second }, []string{"fallback.budget: "}},
		{"words", func(c *Config) { c.Version = "newest" }, []string{"fallback.version: "}},
		{"TLS off", func(c *Config) { c.TLS = TLS{CA: ours.file} }, []string{"fallback.tls.ca: has no effect"}},
		{"no such CA", func(c *Config) { c.TLS = TLS{Enabled: true, CA: filepath.Join(dir, "no")} }, []string{"fallback.tls.ca: "}},
		{"no PEM", func(c *Config) { c.TLS = TLS{Enabled: true, CA: noPEM} }, []string{"fallback.tls.ca: "}},
		{"no key", func(c *Config) { c.TLS = TLS{Enabled: true, Cert: cert} }, []string{"fallback.tls.key: "}},
		{"no certificate", func(c *Config) { c.TLS = TLS{Enabled: true, Key: key} }, []string{"fallback.tls.cert: "}},
		{"another key", func(c *Config) { c.TLS = TLS{Enabled: true, Cert: cert, Key: otherKey} }, []string{"fallback.tls.cert: "}},
		{"token", func(c *Config) { c.TokenFile = filepath.Join(dir, "no") }, []string{"fallback.token-file: needs", "fallback.token-file: open"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := testConfig("127.0.0.1:8500")
			test.change(&c)
			problems := c.Validate()
			if len(problems) != len(test.want) {
				t.Fatalf("got %q, want %q", problems, test.want)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(problems[i].Error(), want) {
					t.Errorf("got %q, want %q", problems[i], want)
				}
			}
			client, err := New(c, slog.New(slog.DiscardHandler), Unobserved{})
			if err == nil {
				_ = client.Close()
			}
			if (err == nil) != (len(problems) == 0) || err != nil && !strings.Contains(err.Error(), errors.Join(problems...).Error()) {
				t.Errorf("New: %v", err)
			}
		})
	}
	c := testConfig("127.0.0.1:8500")
	c.Model = ""
	if _, err := New(c, slog.New(slog.DiscardHandler), Unobserved{}); err == nil || !strings.Contains(err.Error(), "fallback.model") {
		t.Errorf("no model: got %v", err)
	}
}
