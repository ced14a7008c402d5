package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/model/remote/remotetest"
	"inceptor/service"
	"inceptor/testenv"
)

// One record that always hangs the model waits out four times the 30 s that a
// run may take.
var nightly = flag.Bool("nightly", false, "TestVersionHangs and TestCluster in full, for many minutes")

// A hanging is a service whose model needs a file, on topics of its own. While
// the file is a pipe that nobody writes to, its runs hang in native code.
type hanging struct {
	t      *testing.T
	broker string
	prefix string // of its topics
	dir    string // of its versions
	needed string
	out    *follower
	args   []string
	sent   int
}

func newHanging(t *testing.T, broker, prefix string, args ...string) *hanging {
	t.Helper()
	h := &hanging{t: t, broker: broker, prefix: prefix, needed: filepath.Join(t.TempDir(), "file")}
	topics := []string{prefix + "-in", prefix + "-out", prefix + "-dead"}
	createTopics(t, broker, 1, nil, topics...)
	h.out = follow(t, broker, topics[1:]...)
	runOn(t, h.needed)
	h.dir = testenv.Tiny(t, "--needs", h.needed)
	h.args = append(runArgs(t, broker, "--model.dir", h.dir, "--kafka.group", prefix,
		"--kafka.input", topics[0], "--kafka.output", topics[1], "--kafka.dead-letter", topics[2]), args...)
	return h
}

// hangOn lets the runs of a model that needs the file hang.
func hangOn(t *testing.T, needed string) {
	t.Helper()
	if err := errors.Join(os.Remove(needed+"0"), syscall.Mkfifo(needed+"0", 0o600)); err != nil {
		t.Fatal(err)
	}
}

// runOn helps the runs of later; those that hang go on to do so.
func runOn(t *testing.T, needed string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(needed+"new", nil, 0o600), os.Rename(needed+"new", needed+"0")); err != nil {
		t.Fatal(err)
	}
}

func (h *hanging) send(n int) {
	h.t.Helper()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: h.prefix + "-in", Key: fmt.Append(nil, h.sent), Value: bitmap(byte(h.sent))}
		h.sent++
	}
	produce(h.t, h.broker, records...)
}

// answered waits until everything that was sent is answered, and returns the
// last answers.
func (h *hanging) answered(last int) []service.Answer {
	h.t.Helper()
	topic := h.prefix + "-out"
	h.out.awaitDistinct(h.t, h.sent, 2*time.Minute, topic)
	records := h.out.of(topic)
	if dead := h.out.of(h.prefix + "-dead"); len(records) != h.sent || len(dead) > 0 {
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

// awaitPage waits until a page has a status and a text.
func awaitPage(t *testing.T, url string, status int, text string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		got, body := get(t, url)
		if got == status && strings.Contains(body, text) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: want %d and %q, got %d: %s", url, status, text, got, body)
		}
	}
}

// A model that hangs is found out, and told. Another version answers, or a
// model server, or the process ends, although the call into TensorFlow does not.
func TestVersionHangs(t *testing.T) {
	t.Parallel() // it mostly waits
	broker := testenv.StartBroker(t)
	t.Run("cases", func(t *testing.T) { // the broker outlives them
		t.Run("stop", func(t *testing.T) {
			t.Parallel()
			h := newHanging(t, broker.Addr(), "stop")
			p := start(t, append(h.args, "--kafka.on-error", "stop", "--kafka.on-error-after", "5s")...)
			address := p.await(`listening address=(\S+)`, time.Minute)
			h.send(5)
			h.answered(5)
			hangOn(t, h.needed)
			h.send(5)
			awaitPage(t, address+"/readyz", 503, "version 1 hangs: a run of ")
			awaitPage(t, address+"/metrics", 200, "\ninceptor_stuck_partitions 1\n")
			awaitPage(t, address+"/metrics", 200, "\ninceptor_model_overdue_runs ")
			code := p.wait(3 * time.Minute)
			if output := p.output(); code != 1 || !strings.Contains(output, "kafka.on-error: record stop-in-0-") ||
				!strings.Contains(output, "version 1 hangs") || !strings.Contains(output, "It cannot be cancelled") {
				t.Errorf("exit status %d", code)
			}
			runOn(t, h.needed)
			again := start(t, h.args...)
			h.answered(10)
			if code := again.terminate(30 * time.Second); code != 0 {
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
			h := newHanging(t, broker.Addr(), "another")
			p := start(t, h.args...)
			address := p.await(`listening address=(\S+)`, time.Minute)
			h.send(5)
			h.answered(5)
			hangOn(t, h.needed)
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
			if code := p.terminate(time.Minute); code != 0 {
				t.Errorf("SIGTERM: exit status %d", code)
			}
		})
		t.Run("model server", func(t *testing.T) {
			t.Parallel()
			fake := remotetest.NewFake("inception")
			fake.Classes = 2
			server := remotetest.Serve(t, fake)
			h := newHanging(t, broker.Addr(), "server", "--model.backend", "local-then-remote", "--fallback.address", server.Addr())
			p := start(t, h.args...)
			address := p.await(`listening address=(\S+)`, time.Minute)
			p.await(`msg=serving`, time.Minute) // before, the server answers
			h.send(5)
			for _, a := range h.answered(5) {
				if a.Backend != "local" {
					t.Errorf("got %+v", a)
				}
			}
			hangOn(t, h.needed)
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
			if code := p.terminate(time.Minute); code != 0 {
				t.Errorf("SIGTERM: exit status %d", code)
			}
		})
	})
}

// A record that always hangs the model is found out over two starts: it blocks
// both lanes of the first process, and both of the second one.
func recordHangs(t *testing.T, broker string) {
	t.Helper()
	h := newHanging(t, broker, "record", "--crash.journal", t.TempDir(),
		"--kafka.on-error", "stop", "--kafka.on-error-after", "35s")
	pipe := filepath.Join(t.TempDir(), "pipe") // the model waits for somebody to read what it writes
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	h.args = append(h.args, "--model.dir", testenv.Tiny(t, "--hang", pipe))
	p := start(t, h.args...)
	p.await("assigned", time.Minute)
	h.send(3)
	produce(t, broker, &kgo.Record{Topic: "record-in", Key: []byte("white"), Value: bitmap(255)})
	h.send(3)
	starts := 1
	for end := time.Now().Add(6 * time.Minute); len(h.out.of("record-dead")) == 0; time.Sleep(100 * time.Millisecond) {
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
	letter := h.out.of("record-dead")[0]
	if reason := lastHeader(letter, "inceptor-reason"); string(letter.Key) != "white" || reason != "crashed" {
		t.Errorf("%q is a dead letter for %q", letter.Key, reason)
	}
	if starts != 2 {
		t.Errorf("%d starts, want 2: a version has two lanes, and a record is tried three times alone", starts)
	}
	h.out.awaitDistinct(t, h.sent, time.Minute, "record-out")
	if n := len(h.out.of("record-dead")); n != 1 {
		t.Errorf("%d dead letters", n)
	}
	if code := p.terminate(time.Minute); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
