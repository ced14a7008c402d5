//go:build !race

package service

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/service/input"
	"inceptor/service/stream"
	"inceptor/testenv"
)

// maxAllocs is what the way of a record may allocate, from the window in,
// through the model, and out of the window: the output record, and its value.
// The rest is that of batches.
const maxAllocs = 3

// An answer takes two: the output record, and its value with its headers.
func TestAnswerAllocates(t *testing.T) {
	p, r := kinds()[0].p, record(png)
	image := input.Image{Bytes: png, Source: "record"}
	if n := testing.AllocsPerRun(1000, func() { answerRecord(r, image, p, "out") }); n > 2 {
		t.Errorf("%v allocations an answer, want 2", n)
	}
}

func BenchmarkAnswer(b *testing.B) {
	p, r := kinds()[0].p, record(png)
	b.ReportAllocs()
	for b.Loop() {
		answerRecord(r, input.Image{Bytes: png, Source: "record"}, p, "out")
	}
}

func TestRecordAllocates(t *testing.T) {
	// The size of the batches depends on it, and what a batch allocates is shared.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	c := goodConfig()
	c.Input.Format, c.Model.Dir, c.Model.Content = input.TensorJSON, testenv.Tiny(t, "--kind", "dense"), model.Rows
	c.Model.Batch.Max = 0
	m, err := model.New(c.Model, slog.New(slog.DiscardHandler), model.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := newHandler(t, m)
	reader, err := input.New(c.Input)
	if err != nil {
		t.Fatal(err)
	}
	h.input = reader
	h.journal = openJournal(Crash{Journal: t.TempDir()}, c.Kafka, m.Blame, slog.New(slog.DiscardHandler))
	defer h.journal.close()
	metrics := NewMetrics(prometheus.NewRegistry())
	worker := stream.NewWorker(h.handle, stream.Config{Observer: metrics}, nil)
	flight := stream.NewFlight(stream.Window{Records: 512}, 0)

	value, key := []byte("[0"), []byte("key")
	for i := range 31 {
		value = fmt.Appendf(value, ",0.%d", i)
	}
	value = append(value, ']')
	next, answered := int64(0), 0
	work := func(n int) {
		go func() {
			for range n {
				s, err := flight.Admit(context.Background(), stream.Record{Topic: "in", Offset: next, Key: key, Value: value})
				if err != nil {
					panic(err)
				}
				next++
				worker.Begin(context.Background(), nil, s, nil)
			}
		}()
		for end := answered + n; answered < end; {
			run, err := flight.Take(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range run.Slots {
				if len(s.Outputs) != 1 || s.Outputs[0].Topic != "out" {
					t.Fatalf("got %v", s.Outputs)
				}
			}
			answered += len(run.Slots)
			flight.Release(run)
		}
	}
	work(5000)
	const n = 50_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	work(n)
	runtime.ReadMemStats(&after)
	each := float64(after.Mallocs-before.Mallocs) / n
	if each >= maxAllocs {
		t.Errorf("%.2f allocations a record, want fewer than %d", each, maxAllocs)
	}
	t.Logf("%.2f allocations of %d bytes a record", each, (after.TotalAlloc-before.TotalAlloc)/n)
}
