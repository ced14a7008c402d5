package service

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/service/stream/embedded"
)

// A buffer takes the log of a service that runs.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// patience is for what must happen in the end, on a busy machine too.
const patience = 3 * time.Minute

// await waits until the log matches, and returns the last submatch.
func (b *buffer) await(t *testing.T, pattern string) string {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		b.mu.Lock()
		m := regexp.MustCompile(pattern).FindStringSubmatch(b.b.String())
		b.mu.Unlock()
		if m != nil {
			return m[len(m)-1]
		}
	}
	t.Fatalf("nothing matches %q", pattern)
	return ""
}

// newService is a service without a broker.
func newService(t *testing.T, listen string) (*Service, *buffer) {
	t.Helper()
	c := goodConfig()
	c.Kafka.Brokers, c.HTTP.Listen = []string{"127.0.0.1:1"}, listen
	registry, log := prometheus.NewRegistry(), &buffer{}
	s, err := New(c, fakeModel{}, NewMetrics(registry), registry, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, log
}

// A service that waits for its broker says so, is alive and not ready, and can
// be stopped.
func TestNoBroker(t *testing.T) {
	s, log := newService(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	address := log.await(t, `listening address=(\S+)`)
	log.await(t, `level=WARN .*operation="check topics" .*refused`)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/metrics": 200} {
		res, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, res.StatusCode, want)
		}
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("it cannot be stopped")
	}
}

// A port that is taken is told at once, broker or not.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, _ := newService(t, l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Run(ctx); err == nil || !strings.HasPrefix(err.Error(), "http.listen: ") || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}

// Missing topics: what can be done is told, or what run will do.
func TestCheckMissingTopics(t *testing.T) {
	broker, err := embedded.Start(0, 1, "in")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c := goodConfig()
	c.Kafka.Brokers = []string{broker.Addr()}
	check := func() (about map[string]string) {
		about = map[string]string{}
		for _, f := range CheckKafka(t.Context(), c, slog.New(slog.DiscardHandler)) {
			about[f.Thing] += string(f.Status) + " " + f.Text + "\n"
		}
		return about
	}
	if got, want := check()["topic out"], "fail does not exist: create it, or set kafka.create-topics\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.Kafka.CreateTopics = true
	for _, topic := range []string{"topic out", "topic dead"} {
		if got, want := check()[topic], "warn does not exist: run will create it, as kafka.create-topics is set\n"; got != want {
			t.Errorf("%s: got %q, want %q", topic, got, want)
		}
	}
}
