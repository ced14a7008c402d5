package streamtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

const patience = 3 * time.Minute // for what must happen in the end, on a busy machine too

// A harness is one test's topics and group, with a client other than the driver's that fills and
// reads them.
type harness struct {
	testing.TB
	Suite
	input, output, dead, group string
	client                     *kgo.Client
}

func newHarness(t testing.TB, s Suite) *harness {
	name := fmt.Sprintf("%s-%06x", strings.ToLower(t.Name()[strings.LastIndex(t.Name(), "/")+1:]), rand.IntN(1<<24))
	b := &harness{TB: t, Suite: s, input: name + ".in", output: name + ".out", dead: name + ".dead", group: name}
	b.client = b.newClient()
	return b
}

func (b *harness) newClient(opts ...kgo.Opt) *kgo.Client {
	b.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.Brokers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.UnknownTopicRetries(-1),
	}, opts...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// newReader returns a client that reads a topic from its beginning, as readers do who rely on the
// driver's guarantee.
func (b *harness) newReader(topic string) *kgo.Client {
	b.Helper()
	isolation := kgo.ReadUncommitted()
	if b.ExactlyOnce {
		isolation = kgo.ReadCommitted()
	}
	return b.newClient(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.FetchIsolationLevel(isolation))
}

func (b *harness) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.Cleanup(cancel)
	return ctx
}

// topic creates a topic; configs are "key=value".
func (b *harness) topic(name string, partitions int32, configs ...string) {
	b.Helper()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	for _, c := range configs {
		k, v, _ := strings.Cut(c, "=")
		tc := kmsg.NewCreateTopicsRequestTopicConfig()
		tc.Name, tc.Value = k, &v
		t.Configs = append(t.Configs, tc)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(b.context(), b.client)
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].ErrorCode)
	}
	if err != nil {
		b.Fatalf("create %s: %v", name, err)
	}
}

// configure changes a topic's configuration.
func (b *harness) configure(topic, key, value string) {
	b.Helper()
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = key, &value
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	r.Configs = append(r.Configs, c)
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, r)
	res, err := req.RequestWith(b.context(), b.client)
	if err == nil {
		err = kerr.ErrorForCode(res.Resources[0].ErrorCode)
	}
	if err != nil {
		b.Fatalf("configure %s: %v", topic, err)
	}
}

// fill sends n records to each partition of the input. Their values are PARTITION-NUMBER, from
// from on.
func (b *harness) fill(partitions, from, n int) {
	b.Helper()
	var rs []*kgo.Record
	for i := from; i < from+n; i++ {
		for p := range partitions {
			rs = append(rs, &kgo.Record{Topic: b.input, Partition: int32(p), Value: fmt.Appendf(nil, "%d-%d", p, i)})
		}
	}
	b.send(rs...)
}

func (b *harness) send(rs ...*kgo.Record) {
	b.Helper()
	if err := b.client.ProduceSync(b.context(), rs...).FirstErr(); err != nil {
		b.Fatalf("produce: %v", err)
	}
}

// config returns the configuration that a test begins with. Its session outlasts the time for which
// a busy machine may keep this process or the broker waiting.
func (b *harness) config() stream.Config {
	return stream.Config{
		Brokers:       b.Brokers,
		Group:         b.group,
		Session:       10 * time.Second,
		Inputs:        []string{b.input},
		Outputs:       []string{b.output, b.dead},
		Window:        stream.Window{Records: 16, Bytes: 64 << 20},
		ReplaceUnread: func(stream.Batch) []stream.Record { return nil },
		DrainTimeout:  20 * time.Second,
		Log:           slog.New(slog.NewTextHandler(logWriter{b}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

// briefly returns the configuration with the suite's session, for a test of what lasts longer.
func (b *harness) briefly(cfg stream.Config) stream.Config {
	cfg.Session = b.Session
	return cfg
}

type logWriter struct{ testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// echo publishes its record as it is.
func (b *harness) echo(_ context.Context, r stream.Record) ([]stream.Record, error) {
	return []stream.Record{{Topic: b.output, Key: r.Key, Value: r.Value, Headers: r.Headers, Time: r.Time}}, nil
}

// A running is a driver that runs, with what it tells its observer.
type running struct {
	*harness
	*recorder
	cancel context.CancelFunc
	result chan error
}

func (b *harness) start(cfg stream.Config, h stream.Handler) *running {
	b.Helper()
	r := &running{harness: b, recorder: &recorder{
		next: map[stream.Partition]int64{}, delivered: map[stream.Partition][]int64{}, acknowledged: map[stream.Partition][]int64{},
		committed: map[int]int64{}, lag: map[int]int64{}, failing: map[stream.Partition]map[stream.Stage]error{},
	}, result: make(chan error, 1)}
	cfg.Observer = r.recorder
	d, err := b.New(cfg, func(ctx context.Context, record stream.Record) ([]stream.Record, error) {
		r.contexts.LoadOrStore(ctx, nil)
		return h(ctx, record)
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.result <- d.Run(ctx)
	}()
	b.Cleanup(func() {
		cancel()
		<-ended
	})
	return r
}

// stop stops the driver, which must end without an error, and with no record in flight.
func (r *running) stop() {
	r.Helper()
	r.cancel()
	if err := r.ended(); err != nil {
		r.Fatalf("run: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outlasted {
		r.Error("a generation was revoked before the context of its handlers ended")
	}
	if r.records != 0 || r.bytes != 0 || r.buffered != 0 || len(r.assigned) > 0 {
		r.Errorf("after the end: %d records, %d bytes in flight, %d bytes buffered, partitions %v", r.records, r.bytes, r.buffered, r.assigned)
	}
}

func (r *running) ended() error {
	r.Helper()
	select {
	case err := <-r.result:
		return err
	case <-time.After(patience):
		r.Fatal("the driver does not end")
		return nil
	}
}

// A recorder is an Observer that remembers what the driver tells.
type recorder struct {
	contexts sync.Map // context.Context: those of the generation's handlers

	mu           sync.Mutex // guards the fields below
	assigned     []stream.Partition
	generations  int
	outlasted    bool // some of contexts had not ended when their generation was revoked
	records      int
	bytes        int64
	buffered     int64 // bytes that count against TotalBytes
	mostBytes    int64 // maximum of buffered
	waited       int   // maximum of partitions that waited for TotalBytes
	published    int
	delivered    map[stream.Partition][]int64 // offsets, in the order in which they were told
	acknowledged map[stream.Partition][]int64 // offsets of the records whose outputs were acknowledged
	early        []string                     // commits of records that were not delivered before
	next         map[stream.Partition]int64   // offset to go on with
	committed    map[int]int64                // by the number of the partition
	lag          map[int]int64
	retries      []error                                     // but for Committing
	failing      map[stream.Partition]map[stream.Stage]error // what has not recovered
	resets       []stream.Reset

	authentication error // of the last handshake
}

func (r *recorder) Reset(reset stream.Reset) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resets = append(r.resets, reset)
}

func (r *recorder) Assigned(p []stream.Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.assigned = append([]stream.Partition{}, p...) // not nil, as after Revoked
	r.generations++
}

func (r *recorder) Revoked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.assigned = nil
	clear(r.failing)
	r.contexts.Range(func(ctx, _ any) bool {
		r.outlasted = r.outlasted || ctx.(context.Context).Err() == nil
		return true
	})
	r.contexts.Clear()
}

func (r *recorder) InFlight(_ stream.Partition, records int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records += records
	r.bytes += bytes
}

func (r *recorder) Buffered(bytes int64, waiting int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffered, r.mostBytes, r.waited = bytes, max(r.mostBytes, bytes), max(r.waited, waiting)
}

func (r *recorder) Published(n int, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published += n
}

func (r *recorder) Delivered(partition stream.Partition, first, last int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for offset := first; offset <= last; offset++ {
		r.delivered[partition] = append(r.delivered[partition], offset)
	}
}

func (r *recorder) Acknowledged(source stream.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if source.Time.UnixMilli() > 0 {
		r.acknowledged[source.Source()] = append(r.acknowledged[source.Source()], source.Offset)
	}
}

func (r *recorder) Committed(partition stream.Partition, next, lag int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, told := r.next[partition]; told && next > before && !slices.Contains(r.delivered[partition], next-1) {
		r.early = append(r.early, fmt.Sprintf("%v to %d", partition, next))
	}
	r.next[partition] = next
	r.committed[partition.ID], r.lag[partition.ID] = next, lag
}

func (r *recorder) Retrying(partition stream.Partition, stage stream.Stage, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stage != stream.Committing {
		r.retries = append(r.retries, err)
	}
	of := r.failing[partition]
	if of == nil {
		of = map[stream.Stage]error{}
		r.failing[partition] = of
	}
	if of[stage] = err; err == nil {
		delete(of, stage)
	}
	if len(of) == 0 {
		delete(r.failing, partition)
	}
}

func (r *recorder) Authentication(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.authentication = err
}

// retried tells whether the driver has tried again after an error with all these texts. The caller
// holds mu.
func (r *recorder) retried(texts ...string) bool {
	return slices.ContainsFunc(r.retries, func(err error) bool {
		return err != nil && !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(err.Error(), text) })
	})
}

func (r *recorder) check(f func(*recorder) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f(r)
}

// until waits until f returns true, which must happen; what names it.
func (b *harness) until(what string, f func() bool) {
	b.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// read reads a topic from its beginning until it has n records, and a little longer to see any that
// should not be there.
func (b *harness) read(topic string, n int) []*kgo.Record {
	b.Helper()
	c := b.newReader(topic)
	defer c.Close()
	var got []*kgo.Record
	last := map[int32]int64{} // offset of each partition
	limit := patience
	for {
		if len(got) >= n {
			limit = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		f := c.PollFetches(ctx)
		cancel()
		for _, r := range f.Records() {
			if before, ok := last[r.Partition]; ok && r.Offset <= before {
				// The client has gone back, as after a change of leaders: a record that it reads
				// twice is not two.
				b.Logf("%s-%d: offset %d is read after %d", topic, r.Partition, r.Offset, before)
				continue
			}
			last[r.Partition] = r.Offset
			got = append(got, r)
		}
		for _, e := range f.Errors() {
			switch {
			case !errors.Is(e.Err, context.DeadlineExceeded):
				b.Fatalf("read %s: %v", topic, e.Err)
			case len(got) >= n:
				return got
			default:
				b.Fatalf("%s holds %d records, want %d", topic, len(got), n)
			}
		}
	}
}

// values returns the values of records, by partition.
func values(rs []*kgo.Record) map[int][]string {
	m := map[int][]string{}
	for _, r := range rs {
		m[int(r.Partition)] = append(m[int(r.Partition)], string(r.Value))
	}
	return m
}

// sequence returns the values that fill(partitions, 0, n) sends to one partition.
func sequence(partition, n int) []string {
	var s []string
	for i := range n {
		s = append(s, fmt.Sprintf("%d-%d", partition, i))
	}
	return s
}

// offsets asks the broker what the group has committed.
func (b *harness) offsets(partitions ...int32) map[int32]int64 {
	b.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = b.group
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = b.input, partitions
	req.Topics = append(req.Topics, rt)
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = b.group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = b.input, partitions
	g.Topics = append(g.Topics, gt)
	req.Groups = append(req.Groups, g)
	var res *kmsg.OffsetFetchResponse
	b.until("the group's offsets", func() bool { // a broker that has just started may need more time
		var err error
		res, err = req.RequestWith(b.context(), b.client)
		return err == nil
	})
	m := map[int32]int64{}
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			m[p.Partition] = p.Offset
		}
	}
	for _, g := range res.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				m[p.Partition] = p.Offset
			}
		}
	}
	return m
}
