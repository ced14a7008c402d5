package franz

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/kafkago"
)

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := New(stream.Config{Compression: "rar", DrainTimeout: -1, SASL: stream.SASL{Mechanism: "GSSAPI"}}, Transaction{}, echo)
	for _, want := range []string{`"rar"`, "brokers", "group", "input", "window", "drain", "GSSAPI", "interval", "of 0 records", "transaction timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

// If no broker listens, the driver waits, without flooding the log, and can be stopped.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	var lines lineCounter
	cfg := config("127.0.0.1:1")
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	stop := start(t, cfg, testBound, echo)
	await(t, "a line in the log", func() bool { return lines.n.Load() > 0 })
	time.Sleep(5 * time.Second) // in which it tries again and again
	stop()
	if n := lines.n.Load(); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

// If the input topic does not exist, the driver waits for it, without flooding the log.
func TestInputAppears(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "out"))
	cfg := config(c.ListenAddrs()...)
	var lines lineCounter
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	stop := start(t, cfg, testBound, echo)
	time.Sleep(3 * time.Second)
	if n := lines.n.Load(); n > 5 {
		t.Errorf("%d lines in the log", n)
	}
	if err := c.CreateTopic("in", 1, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, cfg, "x")
	if got := committed(t, cfg, 1); len(got) != 1 {
		t.Errorf("published %q", got)
	}
	stop()
}

// Members of both drivers share a group. So the processes of a group can change their
// guarantee or client one by one.
func TestSharesGroup(t *testing.T) {
	for name, newDriver := range map[string]func(stream.Config) (*Driver, error){
		"exactly once":  func(cfg stream.Config) (*Driver, error) { return New(cfg, testBound, echo) },
		"at least once": func(cfg stream.Config) (*Driver, error) { return NewAtLeastOnce(cfg, echo) },
	} {
		t.Run(name, func(t *testing.T) { sharesGroup(t, newDriver) })
	}
}

func sharesGroup(t *testing.T, newDriver func(stream.Config) (*Driver, error)) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(2, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	assigned := make(chan []stream.Partition, 10)
	cfg.Observer = observer{assigned: assigned}
	other, err := kafkago.New(cfg, echo)
	if err != nil {
		t.Fatal(err)
	}
	driver, err := newDriver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- other.Run(ctx) }()
	driver.sessionTimeout = testSession
	go func() { ended <- driver.Run(ctx) }()
	for alone := 0; alone < 2; { // one partition each
		select {
		case p := <-assigned:
			if len(p) == 1 {
				alone++
			}
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		}
	}
	client := newClient(t, cfg, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	var want []string
	for i := range 20 { // ten for each
		want = append(want, fmt.Sprintf("%02d", i))
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte(want[i])}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	got := committed(t, cfg, len(want))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("published %q", got)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

type observer struct {
	stream.Unobserved
	assigned chan []stream.Partition
}

func (o observer) Assigned(p []stream.Partition) { o.assigned <- p }
