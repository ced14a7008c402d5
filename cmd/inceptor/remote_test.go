package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service"
	"inceptor/testenv"
)

// startWithoutLibrary starts a process that finds no TensorFlow library.
func startWithoutLibrary(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := program(args...)
	cmd.Dir = t.TempDir() // not the checkout
	return startCommand(t, cmd)
}

// With only a model server, everything works without TensorFlow's library: with encoded images, and
// with pixels that are decoded in Go.
func TestRemote(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	photos := photos(t)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	sent := 0
	for _, test := range []struct {
		name      string
		tolerance float64
		options   []string
	}{
		{"encoded", 1e-4, nil},
		{"pixels", 0.03, []string{"--signature", "serving_default"}}, // see package pixels
	} {
		t.Run(test.name, func(t *testing.T) {
			server := testenv.StartServing(t, "inception", testenv.Model(t), test.options...)
			args := []string{
				"run", "--kafka.brokers", broker.Addr(), "--http.listen", "127.0.0.1:0",
				"--model.backend", "remote", "--fallback.address", server.Addr(), "--model.dir", testenv.Model(t),
				"--fallback.timeout", "1m", "--fallback.budget", "2m", // Python is slow on a busy machine
			}
			if code, stdout, stderr := execute(t, append([]string{"check"}, args[1:]...)...); code != 0 || !strings.Contains(stdout, "ok    model server "+server.Addr()) || strings.Contains(stdout, "TensorFlow") {
				t.Errorf("check: exit status %d\n%s%s", code, stdout, stderr)
			}
			p := startWithoutLibrary(t, args...)
			before := len(out.from(outputTopic))
			produce(t, broker.Addr(), numbered(photos, sent, len(photos))...)
			sent += len(photos)
			out.awaitDistinct(t, sent, patience, outputTopic)
			for _, r := range out.from(outputTopic)[before:] {
				checkRemote(t, photos, r, server.Addr(), test.tolerance)
			}
			if maps, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "maps")); err != nil || strings.Contains(string(maps), "libtensorflow") {
				t.Errorf("TensorFlow is in the process: %v", err)
			}
			if code := p.terminate(); code != 0 {
				t.Errorf("SIGTERM: exit status %d", code)
			}
		})
	}
	if dead := out.from(deadLetterTopic); len(dead) > 0 {
		t.Errorf("%d dead letters, the first: %v", len(dead), dead[0].Headers)
	}
}

func checkRemote(t *testing.T, photos []photo, r *kgo.Record, server string, tolerance float64) {
	t.Helper()
	var a service.Answer
	if err := json.Unmarshal(r.Value, &a); err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(string(r.Key))
	if err != nil {
		t.Fatal(err)
	}
	want := photos[number%len(photos)]
	if a.Backend != "remote" || a.Server != server || a.FallbackReason != "" || versionOf(a) != 1 || len(a.Predictions) != len(want.scores) {
		t.Errorf("%s: got %+v", want.name, a)
	}
	for _, c := range a.Predictions {
		if c.Label == "" || math.Abs(float64(c.Score)-want.scores[*c.Index]) > tolerance {
			t.Errorf("%s: class %d %q scores %v, want %v", want.name, *c.Index, c.Label, c.Score, want.scores[*c.Index])
		}
	}
}

// While no local version can answer, the model server does. Its failures cost only time. As soon as
// the library is there, the local version answers. No record is lost, answered twice or out of
// order.
func TestFallback(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	photos := photos(t)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	server := testenv.StartServing(t, "inception", testenv.Model(t))
	library := filepath.Join(t.TempDir(), "tensorflow") // to come
	p := startWithoutLibrary(t, "run", "--kafka.brokers", broker.Addr(), "--http.listen", "127.0.0.1:0", "--model.dir", testenv.Model(t),
		"--tensorflow.library", library, "--model.backend", "local-then-remote", "--fallback.address", server.Addr(),
		"--fallback.timeout", "8s", "--fallback.budget", "10s", "--fallback.breaker.open", "1s")
	address := p.await(`listening address=(\S+)`, patience)
	p.await("falling back to the model server", patience)
	sent := 0
	send := func(n int) {
		t.Helper()
		produce(t, broker.Addr(), numbered(photos, sent, n)...)
		sent += n
	}
	answered := func() {
		t.Helper()
		out.awaitDistinct(t, sent, patience, outputTopic)
	}
	metric := func(line string) {
		t.Helper()
		awaitMetrics(t, address, line)
	}
	send(8)
	answered()
	metric("inceptor_fallback_active 1")
	metric(`inceptor_answers_total{backend="remote"} 8`)
	if status, body := get(t, address+"/readyz"); status != 200 {
		t.Errorf("while the server answers: /readyz says %d %s", status, body)
	}

	server.Kill()
	send(8)
	metric(`inceptor_fallback_breaker{state="open"} 1`)
	if status, body := get(t, address+"/readyz"); status != 503 || !strings.Contains(body, "no version is serving") {
		t.Errorf("without any server: /readyz says %d %s", status, body)
	}
	server.Restart()
	answered()
	metric(`inceptor_fallback_breaker{state="closed"} 1`)

	late := func() string {
		_, body := get(t, address+"/metrics")
		return regexp.MustCompile(`inceptor_fallback_calls_total{code="DeadlineExceeded",op="predict"} \d+`).FindString(body)
	}
	before := late()
	server.Freeze()
	send(8)
	for end := time.Now().Add(patience); late() == before; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no call to the frozen server has ended")
		}
	}
	server.Thaw()
	answered()

	if err := os.Symlink(testenv.TensorFlow(t), library); err != nil {
		t.Fatal(err)
	}
	p.await("a local version answers again", patience)
	send(8)
	answered()
	metric("inceptor_fallback_active 0")
	server.Kill() // it is no longer needed
	send(8)
	answered()

	answers := out.from(outputTopic)
	if repeats := checkAnswers(t, photos, answers); repeats > 0 || len(answers) != sent || len(out.from(deadLetterTopic)) > 0 {
		t.Errorf("%d records, %d answers, %d of them repeats, %d dead letters", sent, len(answers), repeats, len(out.from(deadLetterTopic)))
	}
	checkFormat(t, answers)
	by := map[string]int{}
	for _, r := range answers {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		by[a.Backend]++
		if remote := a.Backend == "remote"; remote != strings.Contains(a.FallbackReason, "no TensorFlow runtime") {
			t.Errorf("%s answered for the reason %q", a.Backend, a.FallbackReason)
		}
	}
	if by["remote"] != 24 || by["local"] != 16 {
		t.Errorf("answers by %v, want 24 by the server and 16 here", by)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
