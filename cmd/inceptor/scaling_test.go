package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// A group under load grows from one process to four and shrinks to two. With one process the
// consumer lag rises, and with four it falls. With two, half the load, and more records than would
// make it high, it gets low. No record is lost, and with exactly once none is answered twice. The
// test logs the time from a record to its answer by phase. With -nightly it does so for each
// guarantee, and each phase lasts a minute.
func TestScaling(t *testing.T) {
	t.Parallel()
	deliveries := []string{"exactly_once"}
	if *nightly {
		deliveries = append(deliveries, "at_least_once")
	}
	for _, delivery := range deliveries {
		t.Run(delivery, func(t *testing.T) {
			t.Parallel()
			testScaling(t, delivery)
		})
	}
}

const (
	scalingPartitions = 8
	scalingHigh       = 20              // records of lag that call for more processes
	scalingLow        = 8               // and that do not
	scalingLimit      = 3 * time.Minute // for the lag to get there
)

// scalingFetch is how long the service waits for one image, and it waits for one at a time: the
// work of a record, which takes no processor. So four processes do four times as much as one even
// where there are two processors. While a process does one record, 1.6 are sent.
func scalingFetch() time.Duration {
	if *nightly {
		return 100 * time.Millisecond
	}
	return 500 * time.Millisecond // longer than what a busy machine adds
}

func testScaling(t *testing.T, delivery string) {
	s := newScalingRun(t, delivery)
	low := func(lag int64) bool { return lag < scalingLow }
	pause := scalingFetch() * 10 / 16
	s.phase("1 process", pause, 1, func(lag int64) bool { return lag > scalingHigh })
	s.phase("4 processes", pause, 4, low)
	s.phase("2 processes", 2*pause, 2, low)
	s.finish()
}

// A scalingRun is a group of processes and what is sent to it. Only the test's goroutine uses it.
type scalingRun struct {
	*testing.T
	delivery  string
	broker    string
	images    *httptest.Server
	args      []string
	client    *kgo.Client
	answers   *watcher
	processes []*process
	sent      map[string][]*kgo.Record // by phase
	phases    []string
	lines     []string
}

func newScalingRun(t *testing.T, delivery string) *scalingRun {
	broker := testenv.StartBroker(t).Addr()
	createTopics(t, broker, scalingPartitions, nil, inputTopic, outputTopic, deadLetterTopic)
	var small bytes.Buffer // decoding it takes no time
	if err := jpeg.Encode(&small, image.NewGray(image.Rect(0, 0, 16, 16)), nil); err != nil {
		t.Fatal(err)
	}
	images := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(scalingFetch())
		_, _ = w.Write(small.Bytes())
	}))
	t.Cleanup(images.Close)
	s := &scalingRun{
		T: t, delivery: delivery, broker: broker, images: images, client: newClient(t, broker, kgo.RecordPartitioner(kgo.ManualPartitioner())), sent: map[string][]*kgo.Record{},
		answers: watch(t, broker, delivery == "exactly_once", []string{outputTopic, deadLetterTopic}),
		lines:   []string{"", "| phase | records | p50 | p99 | lag, most | lag at the end |", "| --- | ---: | ---: | ---: | ---: | ---: |"},
	}
	s.args = runArgs(t, broker, "--model.dir", testenv.Tiny(t), "--kafka.delivery", delivery, "--crash.journal", t.TempDir(),
		"--input.fetch.hosts", images.Listener.Addr().String(), "--input.fetch.private", "127.0.0.0/8", "--input.fetch.concurrency", "1")
	return s
}

// scale starts or terminates processes until there are n, and waits until they have partitions.
func (s *scalingRun) scale(n int) {
	s.Helper()
	before := min(n, len(s.processes))
	for len(s.processes) < n {
		s.processes = append(s.processes, start(s.T, s.args...))
	}
	for _, p := range s.processes[before:n] {
		p.await("msg=assigned", scalingLimit)
	}
	for _, p := range s.processes[n:] {
		if code := p.terminate(); code != 0 {
			s.Errorf("SIGTERM: exit status %d", code)
		}
	}
	s.processes = s.processes[:n]
}

// phase sends a record each pause to so many processes until the lag is as it should be, after more
// than scalingHigh records: if none of them were answered, the lag would not be low.
func (s *scalingRun) phase(name string, pause time.Duration, processes int, done func(lag int64) bool) {
	s.Helper()
	var sending sync.WaitGroup
	ctx, stop := context.WithCancel(s.Context())
	defer stop()
	records := make(chan *kgo.Record, 1<<16)
	sending.Go(func() { s.send(ctx, pause, records) })
	s.scale(processes)
	begin, most := time.Now(), int64(0)
	lag := s.lag()
	for ; !done(lag) || len(records) <= scalingHigh || *nightly && time.Since(begin) < time.Minute; lag = s.lag() {
		if most = max(most, lag); time.Since(begin) > scalingLimit {
			s.Fatalf("%s: the lag is %d after %v", name, lag, scalingLimit)
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	sending.Wait()
	close(records)
	for r := range records {
		s.sent[name] = append(s.sent[name], r)
	}
	s.phases = append(s.phases, name)
	s.lines = append(s.lines, fmt.Sprintf("| %s | %d | %%v | %%v | %d | %d |", name, len(s.sent[name]), max(most, lag), lag))
}

func (s *scalingRun) send(ctx context.Context, pause time.Duration, records chan<- *kgo.Record) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := int32(0); ctx.Err() == nil; i++ {
		r := &kgo.Record{Topic: inputTopic, Partition: i % scalingPartitions, Value: []byte(s.images.URL + "/photo.jpg"), Timestamp: time.Now()}
		if err := s.client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			s.Errorf("send: %v", err)
			return
		}
		records <- r
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// lag is what a scaler on Kafka lag reads: the records after the offsets that the group has
// committed.
func (s *scalingRun) lag() int64 {
	s.Helper()
	const group = "inceptor"
	for end := time.Now().Add(scalingLimit); ; time.Sleep(100 * time.Millisecond) {
		lags, err := kadm.NewClient(s.client).Lag(s.Context(), group)
		if err == nil {
			err = lags.Error()
		}
		if err == nil {
			return lags[group].Lag.Total()
		}
		if time.Now().After(end) {
			s.Fatalf("lag: %v", err)
		}
	}
}

// finish waits until all is answered and committed, and logs the times.
func (s *scalingRun) finish() {
	s.Helper()
	var times []any
	for _, phase := range s.phases {
		var ids []string
		for _, r := range s.sent[phase] {
			ids = append(ids, fmt.Sprintf("%s-%d-%d", inputTopic, r.Partition, r.Offset))
		}
		for end := time.Now().Add(scalingLimit); len(s.answers.without(slices.Clone(ids))) > 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				s.Fatalf("%s: %d records are lost", phase, len(s.answers.without(ids)))
			}
		}
		took := make([]time.Duration, len(ids))
		for i, id := range ids {
			took[i] = s.answers.first(id).Sub(s.sent[phase][i].Timestamp)
		}
		slices.Sort(took)
		for _, part := range []int{50, 99} {
			times = append(times, took[len(took)*part/100].Round(10*time.Millisecond))
		}
	}
	for end := time.Now().Add(scalingLimit); s.lag() != 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("all is answered, but the lag is %d", s.lag())
		}
	}
	s.scale(0)
	s.Logf(strings.Join(s.lines, "\n"), times...)
	s.judge()
}

// judge reads all answers again. Those of aborted transactions do not count.
func (s *scalingRun) judge() {
	s.Helper()
	sent := 0
	for _, records := range s.sent {
		sent += len(records)
	}
	out := follow(s.T, s.broker, outputTopic, deadLetterTopic)
	if s.delivery == "exactly_once" {
		out = followCommitted(s.T, s.broker, outputTopic, deadLetterTopic)
	}
	out.awaitDistinct(s.T, sent, scalingLimit, outputTopic, deadLetterTopic)
	answers, dead := len(out.from(outputTopic)), len(out.from(deadLetterTopic))
	s.Logf("%d records, %d answers, %d dead letters", sent, answers, dead)
	if dead > 0 || s.delivery == "exactly_once" && answers != sent {
		s.Errorf("%d answers and %d dead letters to %d records", answers, dead, sent)
	}
}
