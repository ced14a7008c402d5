package franz

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/wire"
)

func config(brokers ...string) stream.Config {
	return stream.Config{
		Brokers:       brokers,
		Group:         "g",
		Inputs:        []string{"in"},
		Outputs:       []string{"out"},
		Window:        stream.Window{Records: 4},
		ReplaceUnread: func(stream.Batch) []stream.Record { return nil },
		DrainTimeout:  5 * time.Second,
	}
}

func echo(_ context.Context, r stream.Record) ([]stream.Record, error) {
	return []stream.Record{{Topic: "out", Value: r.Value}}, nil
}

// run runs a driver that delivers exactly once until it ends or d has passed.
func run(t *testing.T, cfg stream.Config, h stream.Handler, d time.Duration) error {
	t.Helper()
	driver, err := New(cfg, testBound, h)
	if err != nil {
		t.Fatal(err)
	}
	return runDriver(driver, d)
}

func runDriver(driver *Driver, d time.Duration) error {
	driver.sessionTimeout = testSession
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return driver.Run(ctx)
}

// start runs a driver that delivers exactly once until stop is called.
func start(t *testing.T, cfg stream.Config, bound Transaction, h stream.Handler, hooks ...kgo.Hook) (stop func()) {
	t.Helper()
	d, err := New(cfg, bound, h)
	if err != nil {
		t.Fatal(err)
	}
	d.hooks = hooks
	return running(t, d)
}

// running runs d until stop is called.
func running(t *testing.T, d *Driver) (stop func()) {
	t.Helper()
	d.sessionTimeout = testSession
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func newCluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newClient(t *testing.T, cfg stream.Config, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(connection(cfg, wire.NewConnections(cfg)), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func produce(t *testing.T, cfg stream.Config, values ...string) {
	t.Helper()
	c := newClient(t, cfg)
	for _, v := range values {
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: cfg.Inputs[0], Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// committed returns the committed values of the output: it reads until there are n, and a little
// longer. An error, such as that of a broker that has just started, does not end it.
func committed(t *testing.T, cfg stream.Config, n int) (values []string) {
	t.Helper()
	c := newClient(t, cfg, kgo.ConsumeTopics(cfg.Outputs...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	for end := time.Now().Add(patience); ; {
		limit := time.Until(end)
		if len(values) >= n {
			limit = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		fetches := c.PollFetches(ctx)
		late := ctx.Err() != nil
		cancel()
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
		if late || time.Now().After(end) {
			return values
		}
		if fetches.NumRecords() > 0 {
			end = time.Now().Add(patience)
		}
	}
}

type lineCounter struct{ n atomic.Int64 }

func (l *lineCounter) Write(p []byte) (int, error) {
	l.n.Add(1)
	return len(p), nil
}

type logWriter struct{ testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// lines are the lines of a log.
type lines chan string

// await waits for a line with some text in it.
func (l lines) await(t *testing.T, text string) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			t.Fatalf("no line with %s", text)
		}
	}
}

// A writer is called for each line of a log.
type writer func(line string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

// patience is for what must happen in the end, on a busy machine too.
const patience = 3 * time.Minute

// await waits until f returns true.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}
