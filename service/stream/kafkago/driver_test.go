package kafkago

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
	"inceptor/service/stream/internal/flight"
)

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := New(stream.Config{Compression: "rar", DrainTimeout: -1}, echo)
	for _, want := range []string{`"rar"`, "brokers", "group", "input", "window", "drain"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	cfg := config("x:1")
	cfg.SASL.Mechanism = "GSSAPI"
	if _, err := New(cfg, echo); err == nil || !strings.Contains(err.Error(), "GSSAPI") {
		t.Error(err)
	}
}

func TestLogin(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			c := cluster4test(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "me", "secret"), kfake.SeedTopics(1, "in", "out"))
			cfg := config(c.ListenAddrs()...)
			cfg.SASL = stream.SASL{Mechanism: mechanism, Login: stream.Always(stream.Login{User: "me", Password: "secret"})}
			if err := run(t, cfg, time.Second); err != nil {
				t.Error(err)
			}
			// kfake closes the connection; Kafka answers.
			c.ControlKey(kmsg.SASLAuthenticate.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				res.ErrorCode = int16(kafka.SASLAuthenticationFailed)
				return res, nil, true
			})
			if err := run(t, cfg, patience); !errors.Is(err, kafka.SASLAuthenticationFailed) {
				t.Errorf("run: %v", err)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(nil) // for its certificate
	s.StartTLS()
	defer s.Close()
	c := cluster4test(t, kfake.TLS(&tls.Config{Certificates: s.TLS.Certificates}), kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	cfg.TLS = &tls.Config{RootCAs: pool}
	if err := run(t, cfg, time.Second); err != nil {
		t.Error(err)
	}
	cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	var unknown x509.UnknownAuthorityError
	cluster := connect(cfg)
	defer cluster.close()
	if _, err := cluster.partitions(t.Context(), "in"); !errors.As(err, &unknown) {
		t.Errorf("ask for the topic: %v", err)
	}
}

// A missing permission ends the driver, and the error names the topic or group.
func TestForbidden(t *testing.T) {
	topic := func(name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Name: name, Operation: op, Allow: true}
	}
	group := kfake.ACL{Resource: kmsg.ACLResourceTypeGroup, Pattern: kmsg.ACLResourcePatternTypeLiteral, Name: "g", Operation: kmsg.ACLOperationRead, Allow: true}
	read, write := topic("in", kmsg.ACLOperationRead), topic("out", kmsg.ACLOperationWrite)
	for name, test := range map[string]struct {
		acls []kfake.ACL
		err  error
		want string
	}{
		"group": {[]kfake.ACL{read, write}, kafka.GroupAuthorizationFailed, "group g"},
		"input": {[]kfake.ACL{group, write}, kafka.TopicAuthorizationFailed, "in"},
		"none":  {[]kfake.ACL{group, read, write}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster4test(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(1, "in", "out"),
				kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "me", "secret", test.acls...))
			admin := config(c.ListenAddrs()...)
			admin.SASL = stream.SASL{Mechanism: "PLAIN", Login: stream.Always(stream.Login{User: "admin", Password: "admin"})}
			produce(t, admin, "in", "x")
			cfg := config(c.ListenAddrs()...)
			cfg.SASL = stream.SASL{Mechanism: "PLAIN", Login: stream.Always(stream.Login{User: "me", Password: "secret"})}
			limit := patience
			if test.err == nil {
				limit = time.Second
			}
			if err := run(t, cfg, limit); !errors.Is(err, test.err) || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("run: %v", err)
			}
		})
	}
}

func produce(t *testing.T, cfg stream.Config, topic, value string) {
	t.Helper()
	c := connect(cfg)
	defer c.close()
	res, err := c.client.Produce(t.Context(), &kafka.ProduceRequest{Topic: topic, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte(value))})})
	if err != nil || res.Error != nil {
		t.Fatal(err, res)
	}
}

// Without a broker the driver waits, does not flood the log, and can be stopped.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	var lines lineCounter
	cfg := config("127.0.0.1:1")
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	stop := start(t, cfg)
	await(t, "a line in the log", func() bool { return lines.n.Load() > 0 })
	time.Sleep(3 * time.Second) // in which it tries again and again
	stop()
	if n := lines.n.Load(); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

// If the input topic does not exist, the driver waits for it, and does not flood the log.
func TestInputAppears(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(1, "out"))
	cfg := config(c.ListenAddrs()...)
	var lines lineCounter
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	seen := make(chan struct{})
	d, err := New(cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		close(seen)
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	time.Sleep(3 * time.Second)
	if n := lines.n.Load(); n > 5 {
		t.Errorf("%d lines in the log", n)
	}
	if err := c.CreateTopic("in", 1, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, cfg, "in", "x")
	select {
	case <-seen:
	case <-time.After(patience):
		t.Error("the topic is not noticed")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// If one of several input topics does not exist, the others are read.
func TestOneInputMissing(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	cfg.Inputs = []string{"in", "later"}
	produce(t, cfg, "in", "x")
	seen := make(chan string, 2)
	d, err := New(cfg, func(_ context.Context, r stream.Record) ([]stream.Record, error) {
		seen <- r.Topic
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("a record of %s, want one of %s", got, want)
			}
		case <-time.After(patience):
			t.Errorf("no record of %s is read", want)
		}
	}
	next("in")
	if err := c.CreateTopic("later", 1, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, cfg, "later", "y")
	next("later")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// answerFetches answers fetches in place of the broker, without records.
func answerFetches(c *kfake.Cluster, code func(partition int32) kafka.Error) {
	c.ControlKey(kmsg.Fetch.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		in := req.(*kmsg.FetchRequest)
		res := in.ResponseKind().(*kmsg.FetchResponse)
		p := kmsg.NewFetchResponseTopicPartition()
		p.Partition = in.Topics[0].Partitions[0].Partition
		p.ErrorCode = int16(code(p.Partition))
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = in.Topics[0].Topic, in.Topics[0].TopicID
		topic.Partitions = append(topic.Partitions, p)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
}

// A leader that has not caught up yet is asked again with pauses.
func TestOutOfRangeIsPatient(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(1, "in", "out"))
	var fetches atomic.Int64
	answerFetches(c, func(int32) kafka.Error {
		fetches.Add(1)
		return kafka.OffsetOutOfRange
	})
	stop := start(t, config(c.ListenAddrs()...))
	await(t, "two fetches", func() bool { return fetches.Load() >= 2 })
	begin := time.Now()
	time.Sleep(2 * time.Second)
	stop()
	if n, took := fetches.Load(), time.Since(begin); float64(n) > 2+10*took.Seconds() {
		t.Errorf("%d fetches in %v", n, took)
	}
}

// A partition without a leader does not flood the log while another one works.
func TestHalfAnOutage(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(2, "in", "out"))
	answerFetches(c, func(partition int32) kafka.Error {
		time.Sleep(50 * time.Millisecond)
		if partition == 1 {
			return kafka.NotLeaderForPartition
		}
		return 0
	})
	var lines lineCounter
	cfg := config(c.ListenAddrs()...)
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	stop := start(t, cfg)
	await(t, "two lines in the log", func() bool { return lines.n.Load() >= 2 })
	time.Sleep(3 * time.Second)
	stop()
	if n := lines.n.Load(); n < 2 || n > 5 { // assigned, failed, perhaps works, failed
		t.Errorf("%d lines in the log", n)
	}
}

// Config.ReplaceRefused is told that the time is the fault.
func TestInvalidTime(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "in", "x")
	c.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		in := req.(*kmsg.ProduceRequest)
		res := in.ResponseKind().(*kmsg.ProduceResponse)
		p := kmsg.NewProduceResponseTopicPartition()
		p.ErrorCode = int16(kafka.InvalidTimestamp)
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = in.Topics[0].Topic, in.Topics[0].TopicID
		topic.Partitions = append(topic.Partitions, p)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	var reasons []error
	cfg.ReplaceRefused = func(_, output stream.Record, reason error) (stream.Record, error) {
		reasons = append(reasons, reason)
		return output, nil
	}
	var published atomic.Int32
	cfg.Observer = counter{count: &published}
	stop := start(t, cfg)
	await(t, "the record to be published", func() bool { return published.Load() > 0 })
	stop()
	if len(reasons) != 1 || !errors.Is(reasons[0], stream.ErrInvalidTime) {
		t.Errorf("refused for %v", reasons)
	}
}

// The last commit of a stop waits for the one under way, which would undo it otherwise.
func TestLastCommitIsLast(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "in", "x")
	handled := make(chan struct{}, 2)
	d, err := New(cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		handled <- struct{}{}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var commits atomic.Int64
	overtaken := make(chan bool, 1)
	c.ControlKey(kmsg.OffsetCommit.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if commits.Add(1) > 1 {
			return nil, nil, false
		}
		c.SleepControl(func() {
			produce(t, cfg, "in", "y")
			<-handled
			<-handled
			stop()
			time.Sleep(500 * time.Millisecond)
		})
		overtaken <- commits.Load() > 1
		return nil, nil, false
	})
	if err := d.Run(ctx); err != nil {
		t.Error(err)
	}
	if <-overtaken {
		t.Error("a commit overtakes the one under way")
	}
	if commits.Load() != 2 {
		t.Errorf("%d commits, want 2", commits.Load())
	}
}

// batch4test returns a batch as a broker stores it, from its first to its last offset.
func batch4test(first, last int64, offsets ...int64) []byte {
	b := kmsg.RecordBatch{FirstOffset: first, LastOffsetDelta: int32(last - first), Magic: 2, NumRecords: int32(len(offsets))}
	for _, o := range offsets {
		record := []byte{0, 0} // attributes, time
		record = binary.AppendVarint(record, o-first)
		record = append(record, 1, 1, 0) // no key, no value, no headers
		b.Records = append(binary.AppendVarint(b.Records, int64(len(record))), record...)
	}
	return seal(b)
}

// compressed4test returns the batch of batch4test, compressed.
func compressed4test(t *testing.T, first, last int64, offsets ...int64) []byte {
	var b kmsg.RecordBatch
	if err := b.ReadFrom(batch4test(first, last, offsets...)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b.Records)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	b.Attributes, b.Records = int16(kgo.CodecGzip), out.Bytes()
	return seal(b)
}

// seal returns a batch with its length and its checksum.
func seal(b kmsg.RecordBatch) []byte {
	b.Length = int32(49 + len(b.Records))
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// Batches that compaction has emptied, wholly or at their end, are skipped. One in which nothing
// can be read is an error, and is not skipped. One that must wait for the next fetch does not
// hold back those before it.
func TestBatches(t *testing.T) {
	broken := batch4test(20, 20, 20)
	broken[len(broken)-1]++
	for name, test := range map[string]struct {
		batches [][]byte
		next    int64
		err     string
	}{
		"one, empty":          {[][]byte{batch4test(10, 10)}, 11, ""},
		"one, empty, earlier": {[][]byte{batch4test(5, 10)}, 11, ""},
		"two, empty":          {[][]byte{batch4test(10, 19), batch4test(20, 20)}, 21, ""},
		"the end is gone":     {[][]byte{batch4test(5, 10, 5, 6)}, 11, ""},
		"empty, full":         {[][]byte{batch4test(10, 19), batch4test(20, 24, 21, 24)}, 25, ""},
		"full, empty":         {[][]byte{batch4test(8, 12, 9, 12), batch4test(13, 20)}, 21, ""},
		"one, later":          {[][]byte{compressed4test(t, 5, 12, 5, 6, 10, 12), compressed4test(t, 20, 24, 20, 21, 22, 23, 24)}, 13, ""},
		"empty, later":        {[][]byte{compressed4test(t, 5, 19, 5, 6, 7, 8), compressed4test(t, 20, 24, 20, 21, 22, 23, 24)}, 20, ""},
		"none":                {nil, 10, ""},
		"broken":              {[][]byte{broken}, 10, "crc"},
		"full, broken":        {[][]byte{batch4test(8, 12, 9, 12), broken}, 13, "crc"},
		"not what was wanted": {[][]byte{batch4test(5, 6, 5, 6)}, 10, "no record"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := New(config("x:1"), echo)
			if err != nil {
				t.Fatal(err)
			}
			p := &partition{cfg: d.cfg, outages: d.outages, next: 10, worker: d.worker, inflate: inflate.New(1500), // bytes; each record costs some 200
				flight: flight.New(stream.Window{Records: 10}, 10), share: d.budget.Share(1)}
			p.begin = func(s *flight.Slot) { s.Done(nil) }
			batches := bytes.Join(test.batches, nil)
			reserved := &reservation{charge: p.share.Charge(), size: int64(len(batches))}
			err = p.admitAll(t.Context(), &kmsg.FetchResponseTopicPartition{RecordBatches: batches}, reserved)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %v, want %q", err, test.err)
			}
			if p.next != test.next {
				t.Errorf("next is %d, want %d", p.next, test.next)
			}
		})
	}
}
