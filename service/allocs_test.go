//go:build !race

package service

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/service/input"
	"inceptor/service/stream"
	"inceptor/service/stream/streamtest"
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

// newPath returns a function that passes records through the whole way of one: from the window in,
// through a cheap model, and out of the window.
func newPath(t testing.TB) (pass func(n int)) {
	t.Helper()
	// The size of the batches depends on it, and what a batch allocates is shared.
	processors := runtime.GOMAXPROCS(2)
	t.Cleanup(func() { runtime.GOMAXPROCS(processors) })
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	c := goodConfig()
	c.Input.Format, c.Model.Dir, c.Model.Content = input.TensorJSON, testenv.Tiny(t, "--kind", "dense"), infer.Rows
	c.Model.Batch.Max = 0
	m, err := model.New(c.Model, slog.New(slog.DiscardHandler), model.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
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
	t.Cleanup(func() { _ = h.journal.close() })
	observer := observing(NewMetrics(prometheus.NewRegistry()), h.journal)
	pipe := streamtest.NewPipe(h.handle, stream.Config{Observer: observer, Window: stream.Window{Records: 512}})

	value, key := []byte("[0"), []byte("key")
	for i := range 31 {
		value = fmt.Appendf(value, ",0.%d", i)
	}
	value = append(value, ']')
	return func(n int) {
		err := pipe.Pass(n, stream.Record{Topic: "in", Key: key, Value: value}, func(outputs []stream.Record) {
			if len(outputs) != 1 || outputs[0].Topic != "out" {
				t.Fatalf("got %v", outputs)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Traces are off.
func TestRecordAllocates(t *testing.T) {
	pass := newPath(t)
	pass(5000)
	const n = 50_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	pass(n)
	runtime.ReadMemStats(&after)
	each := float64(after.Mallocs-before.Mallocs) / n
	if each >= maxAllocs {
		t.Errorf("%.2f allocations a record, want fewer than %d", each, maxAllocs)
	}
	t.Logf("%.2f allocations of %d bytes a record", each, (after.TotalAlloc-before.TotalAlloc)/n)
}

// BenchmarkRecord measures the processor time of a record, which other work on the machine hardly
// changes.
func BenchmarkRecord(b *testing.B) {
	pass := newPath(b)
	pass(5000)
	begin := processorTime()
	b.ResetTimer()
	pass(b.N)
	b.ReportMetric(float64(processorTime()-begin)/float64(b.N), "cpu-ns/op")
}
