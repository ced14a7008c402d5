package service

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"image"
	"image/jpeg"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service/internal/recent"
	"inceptor/service/internal/thumbnail"
	"inceptor/service/stream"
)

// hardWorking takes the same processor time for each image.
type hardWorking struct {
	fakeModel
	observer model.Observer
}

func (h hardWorking) Classify(ctx context.Context, key, content []byte) (infer.Prediction, error) {
	begin := time.Now()
	defer func() { h.observer.BatchRun(3, infer.Run{Size: 1, Took: time.Since(begin)}) }()
	block := make([]byte, 64<<10)
	for range 200 {
		sum := sha256.Sum256(block)
		copy(block, sum[:])
	}
	p, err := h.fakeModel.Classify(ctx, key, content)
	p.Image.Format = "jpeg"
	return p, err
}

// BenchmarkViewer compares the images a second of a busy process while somebody looks at the page,
// with thumbnails, and while nobody does. The model is a stand-in that keeps every processor busy.
//
//	go test ./service -run '^$' -bench Viewer -benchtime 1x
//
// It takes two minutes. The viewer is in the same process, so its work counts too. cost-% says
// little on a machine with other work; of-processors-% is the processor time that a viewer takes.
func BenchmarkViewer(b *testing.B) {
	const rounds, period = 12, 5 * time.Second
	registry := prometheus.NewRegistry()
	metrics := NewMetrics(registry)
	m := hardWorking{observer: metrics}
	s := &Service{
		config:  Config{Kafka: Kafka{Brokers: []string{"b:9092"}, Input: []string{"in"}, Output: "out", DeadLetter: "dead"}},
		metrics: metrics, recent: &recent.Records{Shorten: shortAnswer}, registry: registry, classifier: m, versions: m,
		started: time.Now(), log: slog.New(slog.DiscardHandler), thumbnails: thumbnail.New(metrics.modelRan, slog.New(slog.DiscardHandler)),
	}
	defer s.thumbnails.Close()
	h := newHandler(b, m)
	h.metrics, h.recent, h.thumbnails = metrics.records, s.recent, s.thumbnails
	driver := observing(metrics, nil)
	driver.recent = s.recent
	driver.Assigned([]stream.Partition{of(2)})
	server := httptest.NewServer(s.routes())
	defer server.Close()
	ctx, cancel := context.WithCancel(b.Context())
	var work sync.WaitGroup
	work.Go(func() { s.remember(ctx) })

	photo := noisyPhoto(b)
	var answered atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for ctx.Err() == nil {
				r := record(photo)
				r.Offset = answered.Add(1)
				if _, err := h.handle(ctx, r); err != nil && ctx.Err() == nil {
					b.Error(err)
					return
				}
				driver.Delivered(of(2), r.Offset, r.Offset)
			}
		})
	}
	// measure returns the images a second, and the processor time of each.
	measure := func() (rate, each float64) {
		before, used, begin := answered.Load(), processorTime(), time.Now()
		time.Sleep(period)
		n := float64(answered.Load() - before)
		return n / time.Since(begin).Seconds(), (processorTime() - used).Seconds() / n
	}
	measure() // the first thumbnails
	for b.Loop() {
		var slower, dearer, alone []float64 // slower and dearer in percent
		events := 0
		for i := range rounds {
			var rate, each [2]float64
			for _, viewed := range [][]int{{0, 1}, {1, 0}}[i%2] { // in turns, for the machine may get slower
				if viewed == 0 {
					rate[0], each[0] = measure()
					continue
				}
				stop := view(b, server.URL)
				time.Sleep(time.Second)
				rate[1], each[1] = measure()
				events += stop()
			}
			slower, dearer = append(slower, 100*(1-rate[1]/rate[0])), append(dearer, 100*(each[1]-each[0])*rate[1]/float64(runtime.GOMAXPROCS(0)))
			alone = append(alone, rate[0])
			b.Logf("%.1f images/s, %.2f %% less with a viewer, who costs %.2f %% of the processors", rate[0], slower[i], dearer[i])
		}
		b.ReportMetric(median(alone), "images/s")
		b.ReportMetric(median(slower), "cost-%")
		b.ReportMetric(median(dearer), "of-processors-%")
		b.ReportMetric(float64(events)/rounds, "events/round")
	}
	cancel()
	work.Wait()
}

// processorTime is that of this process. It depends less on other processes than the time that
// passes.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// view looks at the page as a browser does, until stop is called, which returns how many events
// came.
func view(b *testing.B, address string) (stop func() int) {
	ctx, cancel := context.WithCancel(b.Context())
	get := func(path string) io.ReadCloser {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+path, nil)
		if err != nil {
			b.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return io.NopCloser(bytes.NewReader(nil))
		}
		return res.Body
	}
	events := 0
	var looking sync.WaitGroup
	looking.Go(func() {
		body := get("/events")
		defer body.Close()
		seen := map[string]bool{}
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if bytes.HasPrefix(lines.Bytes(), []byte("event:")) {
				events++
			}
			for _, picture := range thumbnailPath.FindAllString(lines.Text(), -1) {
				if !seen[picture] {
					seen[picture] = true
					picture := get("/" + picture)
					_, _ = io.Copy(io.Discard, picture)
					picture.Close()
				}
			}
		}
	})
	return func() int {
		cancel()
		looking.Wait()
		return events
	}
}

func median(list []float64) float64 {
	slices.Sort(list)
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

var thumbnailPath = regexp.MustCompile(`thumbnails/[\w-]+`)

// noisyPhoto is as hard to decode as a photo of 640 × 480 pixels.
func noisyPhoto(b *testing.B) []byte {
	m := image.NewRGBA(image.Rect(0, 0, 640, 480))
	for i := range m.Pix {
		m.Pix[i] = byte(i/2560) + byte(rand.IntN(32))
	}
	var buffer bytes.Buffer
	if err := jpeg.Encode(&buffer, m, nil); err != nil {
		b.Fatal(err)
	}
	return buffer.Bytes()
}
