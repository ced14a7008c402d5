package kafkago

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"inceptor/service/stream"
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

// run runs a driver until it ends or d has passed.
func run(t *testing.T, cfg stream.Config, d time.Duration) error {
	t.Helper()
	driver, err := New(cfg, echo)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return driver.Run(ctx)
}

// start runs a driver until stop is called.
func start(t *testing.T, cfg stream.Config) (stop func()) {
	t.Helper()
	driver, err := New(cfg, echo)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- driver.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
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

func cluster4test(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

type lineCounter struct{ n atomic.Int64 }

func (l *lineCounter) Write(p []byte) (int, error) {
	l.n.Add(1)
	return len(p), nil
}
