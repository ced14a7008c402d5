package input

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"inceptor/internal/settings"
)

func parse(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	var cli struct {
		Input Config `embed:"" prefix:"input."`
	}
	p, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Parse(args)
	return cli.Input, err
}

func TestFlags(t *testing.T) {
	got, err := parse(t)
	if diff := cmp.Diff(Config{Format: Auto, MaxBytes: 16 << 20, Fetch: Fetch{Timeout: 10e9, Concurrency: 16}}, got); err != nil || diff != "" {
		t.Errorf("defaults (-want +flags): %v\n%s", err, diff)
	}
	got, err = parse(t, "--input.format=JSON", "--input.max-bytes=1KiB", "--input.files.root=/srv", "--input.fetch.hosts=a,*.b:81",
		"--input.fetch.private=10.0.0.0/8", "--input.fetch.timeout=3s", "--input.fetch.concurrency=2")
	want := Config{JSON, 1024, Files{"/srv"}, Fetch{[]string{"a", "*.b:81"}, []string{"10.0.0.0/8"}, 3e9, 2}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("flags (-want +got): %v\n%s", err, diff)
	}
	for _, bad := range []string{"--input.format=xml", "--input.max-bytes=many", "--input.max-bytes=99999999999GiB"} {
		if _, err := parse(t, bad); err == nil || !strings.Contains(err.Error(), bad[2:strings.Index(bad, "=")]) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestValidate(t *testing.T) {
	if problems := settings.Default[Config]().Validate(); len(problems) > 0 {
		t.Errorf("default: %v", problems)
	}
	bad := Config{
		Format: "xml", MaxBytes: -1, Files: Files{"/no/such/folder"},
		Fetch: Fetch{
			Hosts:   []string{"http://a/", "a:b", "*a.b", "", "a b", "1.2.3", "*.*", "a:0"},
			Private: []string{"10.0.0.1/8", "private", "10.0.0.0/33", "::ffff:10.0.0.0/104", "fe80::1%eth0"}, Timeout: -1,
		},
	}
	var got []string
	for _, err := range bad.Validate() {
		key, _, _ := strings.Cut(err.Error(), ":")
		got = append(got, key)
	}
	want := []string{"input.format", "input.max-bytes", "input.files.root"}
	for range bad.Fetch.Hosts {
		want = append(want, "input.fetch.hosts")
	}
	for range bad.Fetch.Private {
		want = append(want, "input.fetch.private")
	}
	want = append(want, "input.fetch.timeout", "input.fetch.concurrency")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s\n%v", diff, bad.Validate())
	}
	if _, err := New(bad); err == nil || strings.Count(err.Error(), "\n") != len(want)-1 {
		t.Errorf("New: %v", err)
	}
	useless := settings.Default[Config]()
	useless.Format = Path
	if problems := useless.Validate(); len(problems) != 1 || !strings.Contains(problems[0].Error(), "input.files.root") {
		t.Errorf("format path without a root: %v", problems)
	}
}

func TestBytesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Bytes(rapid.Int64Range(0, 1<<40).Draw(t, "n") << rapid.IntRange(0, 20).Draw(t, "shift"))
		text, err := n.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Bytes
		if err := back.UnmarshalText(text); err != nil || back != n {
			t.Fatalf("%d as %s came back as %d, %v", n, text, back, err)
		}
	})
}
