package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// The demo names what is on the photos, with PyTorch's scores. It opens the page, takes a photo
// that is named with spaces around the name, and ends when it is interrupted. Standard error stays
// empty.
func TestDemoOfThings(t *testing.T) {
	t.Parallel()
	testenv.TensorFlow(t)
	opened := fakeOpener(t)
	stderr := &process{}
	cmd := program("demo", "--browser", "--port", "0", "--http.listen", "127.0.0.1:0",
		"--model.name", "things", "--model.dir", testenv.EfficientNet(t), "--photos", testenv.Photos(t))
	cmd.Dir = testenv.Root(t)
	cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(opened)+":"+os.Getenv("PATH"))
	p := startCommand(t, cmd, stderr)
	t.Cleanup(func() {
		if text := stderr.output(); text != "" {
			t.Errorf("standard error:\n%s", text)
		}
	})
	p.await("Ctrl-C ends the demo", patience)
	broker := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(p.output())
	produce(t, broker, &kgo.Record{Topic: inputTopic, Value: []byte(" chelsea.png \n")})
	p.await("Ctrl-C ends the demo.\n\nchelsea.png ", patience)
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-p.done; err != nil {
		t.Error(err)
	}
	screen := p.output()
	page := regexp.MustCompile(`http://\S+`).FindString(screen)
	if got, err := os.ReadFile(opened); err != nil || string(got) != page+"\n" {
		t.Errorf("opened %q (%v), want %q", got, err, page)
	}
	compareWithPyTorch(t, screen)
	want, err := os.ReadFile("testdata/demo-things.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := stableScreen(screen); got != string(want) {
		t.Errorf("the screen:\n%s\nwant\n%s", got, want)
	}
}

// fakeOpener returns a file that gets what is opened in a browser.
func fakeOpener(t *testing.T) string {
	t.Helper()
	opened := filepath.Join(t.TempDir(), "opened")
	for _, name := range []string{"open", "xdg-open"} {
		script := "#!/bin/sh\necho \"$@\" >>" + opened + "\n"
		if err := os.WriteFile(filepath.Join(filepath.Dir(opened), name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return opened
}

// stableScreen returns a screen with the records in the order of their lines, and without what
// differs from run to run and from processor to processor: ports, times and scores.
func stableScreen(screen string) string {
	for _, mask := range []struct{ old, new string }{
		{`127\.0\.0\.1:\d+`, "HOST:PORT"}, {` +\d+ ms\n`, " MS\n"}, {`\b\d\.\d{4}\b`, "SCORE"},
	} {
		screen = regexp.MustCompile(mask.old).ReplaceAllString(screen, mask.new)
	}
	lines := strings.SplitAfter(screen, "\n")
	first := slices.IndexFunc(lines, func(line string) bool { return strings.HasSuffix(line, " MS\n") })
	last := first
	for last < len(lines) && strings.HasSuffix(lines[last], " MS\n") {
		last++
	}
	if first >= 0 {
		slices.Sort(lines[first:last])
	}
	return strings.Join(lines, "")
}

// compareWithPyTorch compares the labels and scores of a screen with those that PyTorch 1.13.1 gave
// for the same pixels, with the network and weights that convert.py reads. The pixels of JPEGs
// depend on the decoder.
func compareWithPyTorch(t *testing.T, screen string) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(testenv.Root(t), "savedmodel/efficientnet/testdata/pytorch.json"))
	if err != nil {
		t.Fatal(err)
	}
	var answers map[string][]struct {
		Label string
		Score float64
	}
	if err := json.Unmarshal(file, &answers); err != nil {
		t.Fatal(err)
	}
	for photo, want := range answers {
		line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(photo) + ` +(.+?) (\d\.\d+)`).FindStringSubmatch(screen)
		if line == nil {
			t.Errorf("%s: no answer", photo)
			continue
		}
		tolerance := 1e-3
		if filepath.Ext(photo) == ".jpg" {
			tolerance = 5e-3
		}
		score, _ := strconv.ParseFloat(line[2], 64)
		if line[1] != want[0].Label || math.Abs(score-want[0].Score) > tolerance {
			t.Errorf("%s: %s %v, PyTorch says %s %v", photo, line[1], score, want[0].Label, want[0].Score)
		}
	}
	if len(answers) < 7 || answers["chelsea.png"][0].Label != "Egyptian cat" {
		t.Errorf("%d of PyTorch's answers", len(answers))
	}
}

// With -v the demo's log is the service's.
func TestDemoVerbose(t *testing.T) {
	t.Parallel()
	testenv.TensorFlow(t)
	out, err := program("demo", "-v", "--once", "--port", "0", "--http.listen", "",
		"--model.dir", testenv.EfficientNet(t), "--photos", testenv.Photos(t)).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(`level=INFO msg="version serving"`)) || bytes.Contains(out, []byte("Ctrl-C")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// A notice is a line without the time; what is no warning is not shown.
func TestNotices(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	log := slog.New(newNotices(&out, slog.NewTextHandler(nil, &slog.HandlerOptions{Level: level})))
	log.Info("listening")
	log.Warn("no journal")
	log.With("model", "m").WithGroup("g").Warn("slow\nerror: forged", "takes", 1500*time.Millisecond, "msg", "two words")
	log.Error("broker is away", "err", "EOF")
	level.Set(slog.LevelError)
	log.Warn("below log.level")
	const want = `warning: no journal
warning: slow\nerror: forged (model=m g.takes=1.5s g.msg="two words")
error: broker is away (err=EOF)
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

// Of what TensorFlow's library writes while it is opened, only the greetings are left out.
func TestGreetings(t *testing.T) {
	const written = `WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1796003837.243048   31300 port.cc:153] oneDNN custom operations are on.
F0000 00:00:1796003837.243048   31300 cpu_feature_guard.cc:1] The TensorFlow library was compiled to use AVX.
WARNING: something else
`
	if got := string(greeting.ReplaceAll([]byte(written), nil)); got != strings.Join(strings.SplitAfter(written, "\n")[2:], "") {
		t.Errorf("shown:\n%s", got)
	}
}

// A browser that stays open, as some openers wait for, does not keep the demo from ending.
func TestBrowserStays(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	for _, name := range []string{"open", "xdg-open"} {
		script := "#!/bin/sh\necho $$ >" + pid + ".new && mv " + pid + ".new " + pid + "\nexec sleep 600\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error, 1)
	go func() { opened <- openPage(ctx, l.Addr().String(), &app{stderr: io.Discard}) }()
	var text []byte
	for {
		if text, err = os.ReadFile(pid); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	browser, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if group, err := syscall.Getpgid(browser); err != nil || group != browser {
		t.Errorf("the browser is in the process group %d (%v), want one of its own", group, err)
	}
	cancel()
	if err := <-opened; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := syscall.Kill(browser, syscall.SIGKILL); err != nil {
		t.Errorf("the browser has ended: %v", err)
	}
}

// Where no browser can be opened the demo says so, with the address.
func TestNoBrowser(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("PATH", t.TempDir())
	for listen, want := range map[string]string{
		"":                "inceptor: no browser was opened: http.listen is empty, so there is no page\n",
		l.Addr().String(): "executable file not found in $PATH): open http://" + l.Addr().String() + " yourself\n",
	} {
		var stderr bytes.Buffer
		if err := openPage(t.Context(), listen, &app{stderr: &stderr}); err != nil || !strings.HasSuffix(stderr.String(), want) {
			t.Errorf("%q: %v, %q, want %q", listen, err, &stderr, want)
		}
	}
}
