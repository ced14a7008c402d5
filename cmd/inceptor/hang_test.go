package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/model/remote/remotetest"
	"inceptor/service"
	"inceptor/testenv"
)

// With -nightly, one record that always hangs the model waits four times for the 30 s that a run
// may take.
var nightly = flag.Bool("nightly", false, "TestVersionHangs and TestCluster in full, and TestPrecisionFromTheStream with the Inception, for many minutes")

// A hangHarness is a service with topics of its own, whose model reads a file. While the file is a
// pipe without a writer, the model's runs hang in native code.
type hangHarness struct {
	t      *testing.T
	broker string
	topics topicSet
	dir    string // of its versions
	needed string
	out    *follower
	args   []string
	sent   int
}

func newHangHarness(t *testing.T, broker, name string, args ...string) *hangHarness {
	t.Helper()
	h := &hangHarness{t: t, broker: broker, topics: topicsOf(name), needed: filepath.Join(t.TempDir(), "file")}
	createTopics(t, broker, 1, nil, h.topics.input, h.topics.output, h.topics.deadLetter)
	h.out = follow(t, broker, h.topics.output, h.topics.deadLetter)
	unblockRuns(t, h.needed)
	h.dir = testenv.Tiny(t, "--needs", h.needed)
	h.args = slices.Concat(runArgs(t, broker, "--model.dir", h.dir), h.topics.args(), args)
	return h
}

// blockRuns makes the runs of a model that reads the file hang.
func blockRuns(t *testing.T, needed string) {
	t.Helper()
	if err := errors.Join(os.Remove(needed+"0"), syscall.Mkfifo(needed+"0", 0o600)); err != nil {
		t.Fatal(err)
	}
}

// unblockRuns lets later runs end. Those that hang do not end.
func unblockRuns(t *testing.T, needed string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(needed+"new", nil, 0o600), os.Rename(needed+"new", needed+"0")); err != nil {
		t.Fatal(err)
	}
}

func (h *hangHarness) send(n int) {
	h.t.Helper()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: h.topics.input, Key: fmt.Append(nil, h.sent), Value: bitmap(byte(h.sent))}
		h.sent++
	}
	produce(h.t, h.broker, records...)
}

// answered waits until everything that was sent is answered, and returns the last answers.
func (h *hangHarness) answered(last int) []service.Answer {
	h.t.Helper()
	h.out.awaitDistinct(h.t, h.sent, patience, h.topics.output)
	records := h.out.from(h.topics.output)
	if dead := h.out.from(h.topics.deadLetter); len(records) != h.sent || len(dead) > 0 {
		h.t.Errorf("%d records, %d answers, %d dead letters", h.sent, len(records), len(dead))
	}
	answers := make([]service.Answer, last)
	for i, r := range records[len(records)-last:] {
		if err := json.Unmarshal(r.Value, &answers[i]); err != nil {
			h.t.Fatal(err)
		}
	}
	return answers
}

// awaitPage waits until a page has this status and contains this text.
func awaitPage(t *testing.T, url string, status int, text string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		got, body := get(t, url)
		if got == status && strings.Contains(body, text) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: want %d and %q, got %d: %s", url, status, text, got, body)
		}
	}
}

// awaitMetrics waits until the metrics have these lines.
func awaitMetrics(t *testing.T, address string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		awaitPage(t, address+"/metrics", 200, "\n"+line+"\n")
	}
}

// A hanging model is detected and reported. Another version answers, or a model server, or the
// process ends, although the call into TensorFlow does not return.
func TestVersionHangs(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	t.Run("cases", func(t *testing.T) { // the broker outlives them
		t.Run("stop", func(t *testing.T) {
			t.Parallel()
			h := newHangHarness(t, broker.Addr(), "stop")
			p := start(t, append(h.args, "--kafka.on-error", "stop", "--kafka.on-error-after", "5s")...)
			address := p.await(`listening address=(\S+)`, patience)
			h.send(5)
			h.answered(5)
			blockRuns(t, h.needed)
			h.send(5)
			awaitPage(t, address+"/readyz", 503, "version 1 hangs: a run of ")
			awaitPage(t, address+"/metrics", 200, "\ninceptor_stuck_partitions 1\n")
			awaitPage(t, address+"/metrics", 200, "\ninceptor_model_overdue_runs ")
			code := p.wait()
			if output := p.output(); code != 1 || !strings.Contains(output, "kafka.on-error: record stop-in-0-") ||
				!strings.Contains(output, "version 1 hangs") || !strings.Contains(output, "it keeps its memory until it ends") {
				t.Errorf("exit status %d", code)
			}
			unblockRuns(t, h.needed)
			again := start(t, h.args...)
			h.answered(10)
			if code := again.terminate(); code != 0 {
				t.Errorf("SIGTERM: exit status %d", code)
			}
		})
		if *nightly {
			t.Run("one record", func(t *testing.T) {
				t.Parallel()
				recordHangs(t, broker.Addr())
			})
		}
		t.Run("another version", func(t *testing.T) {
			t.Parallel()
			h := newHangHarness(t, broker.Addr(), "another")
			p := start(t, h.args...)
			address := p.await(`listening address=(\S+)`, patience)
			h.send(5)
			h.answered(5)
			blockRuns(t, h.needed)
			h.send(5)
			awaitPage(t, address+"/readyz", 503, "version 1 hangs: a run of ")
			next := testenv.Tiny(t, "--version", "2")
			if err := os.Rename(filepath.Join(next, "2"), filepath.Join(h.dir, "2")); err != nil {
				t.Fatal(err)
			}
			for _, a := range h.answered(5) {
				if versionOf(a) != 2 {
					t.Errorf("got %+v", a)
				}
			}
			awaitPage(t, address+"/readyz", 200, `"ready":true`)
			if code := p.terminate(); code != 0 {
				t.Errorf("SIGTERM: exit status %d", code)
			}
		})
		t.Run("model server", func(t *testing.T) {
			t.Parallel()
			fake := remotetest.NewFake("inception")
			fake.Classes = 2
			server := remotetest.Serve(t, fake)
			h := newHangHarness(t, broker.Addr(), "server", "--model.backend", "local-then-remote", "--fallback.address", server.Addr())
			p := start(t, h.args...)
			address := p.await(`listening address=(\S+)`, patience)
			p.await(`msg="version serving"`, patience) // before, the server answers
			h.send(5)
			for _, a := range h.answered(5) {
				if a.Backend != "local" {
					t.Errorf("got %+v", a)
				}
			}
			blockRuns(t, h.needed)
			h.send(5)
			h.answered(5)
			h.send(20)
			for _, a := range h.answered(25) {
				if a.Backend != "remote" || !strings.Contains(a.FallbackReason, "version 1 hangs") {
					t.Errorf("got %+v", a)
				}
			}
			awaitPage(t, address+"/readyz", 200, `"ready":true`)
			awaitPage(t, address+"/metrics", 200, "\ninceptor_fallback_active 1\n")
			if code := p.terminate(); code != 0 {
				t.Errorf("SIGTERM: exit status %d", code)
			}
		})
	})
}

// A record that always hangs the model is found after two starts: it blocks both lanes of the first
// process, and both of the second one.
func recordHangs(t *testing.T, broker string) {
	t.Helper()
	h := newHangHarness(t, broker, "record", "--crash.journal", t.TempDir(),
		"--kafka.on-error", "stop", "--kafka.on-error-after", "35s")
	pipe := filepath.Join(t.TempDir(), "pipe") // the model waits for somebody to read what it writes
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	h.args = append(h.args, "--model.dir", testenv.Tiny(t, "--hang", pipe))
	p := start(t, h.args...)
	p.await("assigned", patience)
	h.send(3)
	produce(t, broker, &kgo.Record{Topic: h.topics.input, Key: []byte("white"), Value: bitmap(255)})
	h.send(3)
	starts := 1
	for end := time.Now().Add(patience); len(h.out.from(h.topics.deadLetter)) == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no dead letter after %d starts", starts)
		}
		select {
		case <-p.done:
			if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.output(), "hangs: a run of ") {
				t.Fatalf("it ended for another reason, with status %d", code)
			}
			starts++
			p = start(t, h.args...)
		default:
		}
	}
	letter := h.out.from(h.topics.deadLetter)[0]
	if reason := lastHeader(letter, "inceptor-reason"); string(letter.Key) != "white" || reason != "crashed" {
		t.Errorf("%q is a dead letter for %q", letter.Key, reason)
	}
	if starts != 2 {
		t.Errorf("%d starts, want 2: a version has two lanes, and a record is tried three times alone", starts)
	}
	h.out.awaitDistinct(t, h.sent, patience, h.topics.output)
	if n := len(h.out.from(h.topics.deadLetter)); n != 1 {
		t.Errorf("%d dead letters", n)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
