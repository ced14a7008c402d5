package franz

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/kafkago"
)

func config(brokers ...string) stream.Config {
	return stream.Config{
		Brokers:      brokers,
		Group:        "g",
		Inputs:       []string{"in"},
		Outputs:      []string{"out"},
		Window:       stream.Window{Records: 4},
		Unread:       func(stream.Batch) []stream.Record { return nil },
		DrainTimeout: 5 * time.Second,
	}
}

func echo(_ context.Context, r stream.Record) ([]stream.Record, error) {
	return []stream.Record{{Topic: "out", Value: r.Value}}, nil
}

// run runs a driver until it ends or d has passed.
func run(t *testing.T, cfg stream.Config, h stream.Handler, d time.Duration) error {
	t.Helper()
	driver, err := New(cfg, testBound, h)
	if err != nil {
		t.Fatal(err)
	}
	return runDriver(driver, d)
}

func runDriver(driver *Driver, d time.Duration) error {
	driver.session = testSession
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return driver.Run(ctx)
}

// start runs a driver until stop is called.
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
	d.session = testSession
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
	c, err := kgo.NewClient(append(connection(cfg, stream.NewConnections(cfg)), opts...)...)
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

// committed reads the output until it holds n records, and a little longer.
func committed(t *testing.T, cfg stream.Config, n int) (values []string) {
	t.Helper()
	c := newClient(t, cfg, kgo.ConsumeTopics(cfg.Outputs...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	limit := 20 * time.Second
	for {
		if len(values) >= n {
			limit = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		fetches := c.PollFetches(ctx)
		cancel()
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
		if fetches.Err() != nil {
			return values
		}
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := New(stream.Config{Compression: "rar", DrainTimeout: -1, SASL: stream.SASL{Mechanism: "GSSAPI"}}, Transaction{}, echo)
	for _, want := range []string{`"rar"`, "brokers", "group", "input", "window", "drain", "GSSAPI", "interval", "of 0 records", "transaction timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestLogin(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "me", "secret"), kfake.SeedTopics(1, "in", "out"))
			cfg := config(c.ListenAddrs()...)
			cfg.SASL = stream.SASL{Mechanism: mechanism, Login: stream.Always(stream.Login{User: "me", Password: "secret"})}
			produce(t, cfg, "x")
			if err := run(t, cfg, echo, time.Second); err != nil {
				t.Error(err)
			}
			if got := committed(t, cfg, 1); len(got) != 1 {
				t.Errorf("published %q", got)
			}
			// kfake breaks the connection off; Kafka answers.
			c.ControlKey(kmsg.SASLAuthenticate.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				res.ErrorCode = kerr.SaslAuthenticationFailed.Code
				return res, nil, true
			})
			if err := run(t, cfg, echo, 10*time.Second); !errors.Is(err, kerr.SaslAuthenticationFailed) {
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
	c := newCluster(t, kfake.TLS(&tls.Config{Certificates: s.TLS.Certificates}), kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	cfg.TLS = &tls.Config{RootCAs: pool}
	produce(t, cfg, "x")
	if err := run(t, cfg, echo, time.Second); err != nil {
		t.Error(err)
	}
	if got := committed(t, cfg, 1); len(got) != 1 {
		t.Errorf("published %q", got)
	}
}

// What is forbidden ends the driver, with operation and topic, group or
// transactional id named.
func TestForbidden(t *testing.T) {
	acl := func(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kind, Pattern: kmsg.ACLResourcePatternTypePrefixed, Name: name, Operation: op, Allow: true}
	}
	group := acl(kmsg.ACLResourceTypeGroup, "g", kmsg.ACLOperationRead)
	read := acl(kmsg.ACLResourceTypeTopic, "in", kmsg.ACLOperationRead)
	write := acl(kmsg.ACLResourceTypeTopic, "out", kmsg.ACLOperationWrite)
	id := acl(kmsg.ACLResourceTypeTransactionalId, "g-", kmsg.ACLOperationWrite)
	for name, test := range map[string]struct {
		acls        []kfake.ACL
		err         error
		want        string
		atLeastOnce bool
	}{
		"group":               {[]kfake.ACL{read, write, id}, kerr.GroupAuthorizationFailed, "join group g for in", false},
		"input":               {[]kfake.ACL{group, write, id}, kerr.TopicAuthorizationFailed, "read from in", false},
		"transactional id":    {[]kfake.ACL{group, read, write}, kerr.TransactionalIDAuthorizationFailed, "g-", false},
		"none":                {[]kfake.ACL{group, read, write, id}, nil, "", false},
		"none, at least once": {[]kfake.ACL{group, read, write}, nil, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(1, "in", "out"),
				kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "me", "secret", test.acls...))
			admin := config(c.ListenAddrs()...)
			admin.SASL = stream.SASL{Mechanism: "PLAIN", Login: stream.Always(stream.Login{User: "admin", Password: "admin"})}
			produce(t, admin, "x")
			cfg := config(c.ListenAddrs()...)
			cfg.SASL = stream.SASL{Mechanism: "PLAIN", Login: stream.Always(stream.Login{User: "me", Password: "secret"})}
			driver, err := New(cfg, testBound, echo)
			if test.atLeastOnce {
				driver, err = NewAtLeastOnce(cfg, echo)
			}
			if err != nil {
				t.Fatal(err)
			}
			if test.err == nil {
				stop := running(t, driver)
				if got := committed(t, admin, 1); len(got) != 1 {
					t.Errorf("published %q", got)
				}
				stop()
				return
			}
			if err := runDriver(driver, 20*time.Second); !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("run: %v", err)
			}
			if got := committed(t, admin, 0); len(got) > 0 {
				t.Errorf("published %q", got)
			}
		})
	}
}

type lineCounter struct{ n atomic.Int64 }

func (l *lineCounter) Write(p []byte) (int, error) {
	l.n.Add(1)
	return len(p), nil
}

// Nobody there: the driver waits, without flooding the log, and can be stopped.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	var lines lineCounter
	cfg := config("127.0.0.1:1")
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	begin := time.Now()
	if err := run(t, cfg, echo, 6*time.Second); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the stop took %v", took-6*time.Second)
	}
	if n := lines.n.Load(); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

// The input topic does not exist: the driver waits for it, calmly.
func TestInputAppears(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "out"))
	cfg := config(c.ListenAddrs()...)
	var lines lineCounter
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	ended := make(chan error)
	go func() { ended <- run(t, cfg, echo, 12*time.Second) }()
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
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Who makes the replacement is told that the time is at fault.
func TestInvalidTime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "x")
	c.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		in := req.(*kmsg.ProduceRequest)
		res := in.ResponseKind().(*kmsg.ProduceResponse)
		p := kmsg.NewProduceResponseTopicPartition()
		p.ErrorCode = kerr.InvalidTimestamp.Code
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = in.Topics[0].Topic, in.Topics[0].TopicID
		topic.Partitions = append(topic.Partitions, p)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	var reasons []error
	cfg.Refused = func(_, output stream.Record, reason error) (stream.Record, error) {
		reasons = append(reasons, reason)
		return output, nil
	}
	if err := run(t, cfg, echo, 2*time.Second); err != nil {
		t.Error(err)
	}
	if len(reasons) != 1 || !errors.Is(reasons[0], stream.ErrInvalidTime) {
		t.Errorf("refused for %v", reasons)
	}
	if got := committed(t, cfg, 1); len(got) != 1 {
		t.Errorf("published %q", got)
	}
}

// Whatever happens at the end of a transaction, every record comes out once;
// and where it is certain that it was aborted, from the output that there is.
func TestEnds(t *testing.T) {
	answer := func(code int16) func(kmsg.Request) (kmsg.Response, error, bool) {
		return func(req kmsg.Request) (kmsg.Response, error, bool) {
			res := req.ResponseKind()
			switch res := res.(type) {
			case *kmsg.EndTxnResponse:
				res.ErrorCode = code
			case *kmsg.HeartbeatResponse:
				res.ErrorCode = code
			case *kmsg.TxnOffsetCommitResponse:
				for _, in := range req.(*kmsg.TxnOffsetCommitRequest).Topics {
					topic := kmsg.NewTxnOffsetCommitResponseTopic()
					topic.Topic, topic.TopicID = in.Topic, in.TopicID
					for _, p := range in.Partitions {
						part := kmsg.NewTxnOffsetCommitResponseTopicPartition()
						part.Partition, part.ErrorCode = p.Partition, code
						topic.Partitions = append(topic.Partitions, part)
					}
					res.Topics = append(res.Topics, topic)
				}
			}
			return res, nil, true
		}
	}
	lost := func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("lost"), true }
	for name, test := range map[string]struct {
		key     kmsg.Key
		control func(kmsg.Request) (kmsg.Response, error, bool)
		times   int
		once    bool // handlers are not called again
	}{
		"aborted":                    {kmsg.TxnOffsetCommit, answer(kerr.TransactionAbortable.Code), 2, true},
		"coordinator moves":          {kmsg.TxnOffsetCommit, answer(kerr.NotCoordinator.Code), 2, true},
		"generation is over":         {kmsg.TxnOffsetCommit, answer(kerr.IllegalGeneration.Code), 1, true},
		"end is aborted":             {kmsg.EndTxn, answer(kerr.TransactionAbortable.Code), 1, true},
		"end is unknown":             {kmsg.EndTxn, answer(kerr.UnknownServerError.Code), 1, true},
		"end is lost":                {kmsg.EndTxn, lost, 1, true},
		"fenced":                     {kmsg.EndTxn, answer(kerr.ProducerFenced.Code), 1, false},
		"mapping is gone":            {kmsg.EndTxn, answer(kerr.InvalidProducerIDMapping.Code), 1, false},
		"member is out":              {kmsg.Heartbeat, answer(kerr.UnknownMemberID.Code), 2, false},
		"heartbeats end":             {kmsg.Heartbeat, answer(kerr.UnknownServerError.Code), 1, false},
		"offsets may not be written": {kmsg.TxnOffsetCommit, answer(kerr.InvalidTxnState.Code), 1, false},
		"group rebalances, it seems": {kmsg.Heartbeat, answer(kerr.RebalanceInProgress.Code), 2, false},
		"offsets are lost":           {kmsg.TxnOffsetCommit, lost, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
			cfg := config(c.ListenAddrs()...)
			cfg.Log = slog.New(slog.NewTextHandler(logWriter{t}, nil))
			const n = 40
			var want []string
			for i := range n {
				want = append(want, fmt.Sprint(i))
			}
			produce(t, cfg, want...)
			var left atomic.Int64
			left.Store(int64(test.times))
			c.ControlKey(test.key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				if left.Add(-1) < 0 {
					return nil, nil, false
				}
				return test.control(req)
			})
			var mu sync.Mutex
			calls := map[string]int{}
			ended := make(chan error)
			go func() {
				ended <- run(t, cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
					mu.Lock()
					calls[string(r.Value)]++
					mu.Unlock()
					time.Sleep(20 * time.Millisecond)
					return echo(ctx, r)
				}, 12*time.Second)
			}()
			got := committed(t, cfg, n)
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("published %q", got)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if left.Load() >= 0 {
				t.Errorf("it was not tried: %d left", left.Load())
			}
			again := 0
			for _, n := range calls {
				again += n - 1
			}
			if test.once && again > 0 {
				t.Errorf("%d records handled again", again)
			}
		})
	}
}

type logWriter struct{ testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// A broker that commits a transaction and then says that it does not know is
// not believed.
func TestUnknownEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "a", "b", "c")
	other := newClient(t, cfg)
	var done atomic.Bool
	c.ControlKey(kmsg.EndTxn.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if done.Swap(true) {
			return nil, nil, false
		}
		c.SleepControl(func() {
			end := *req.(*kmsg.EndTxnRequest)
			if res, err := end.RequestWith(t.Context(), other); err != nil || res.ErrorCode != 0 || !end.Commit {
				t.Errorf("end: %v, %+v", err, res)
			}
		})
		res := req.ResponseKind().(*kmsg.EndTxnResponse)
		res.ErrorCode = kerr.UnknownServerError.Code
		return res, nil, true
	})
	if err := run(t, cfg, echo, 3*time.Second); err != nil {
		t.Error(err)
	}
	if got := committed(t, cfg, 3); !done.Load() || strings.Join(got, " ") != "a b c" {
		t.Errorf("published %q", got)
	}
}

// Ids differ while they are held, and come again.
func TestStableID(t *testing.T) {
	cfg := config("x:1")
	a, first := stableID(cfg)
	b, second := stableID(cfg)
	if a == b || !strings.HasPrefix(a, "g-") {
		t.Errorf("%s and %s", a, b)
	}
	first.Close()
	if again, third := stableID(cfg); again != a {
		t.Errorf("%s, want %s again", again, a)
	} else {
		third.Close()
	}
	second.Close()
}

// No two groups on two machines have an id in common, and each is below its
// group's prefix.
func TestSlotID(t *testing.T) {
	ids := map[string]string{}
	for _, group := range []string{"a", "a-b", "a-b-c", "a-b-0", "a%2Db", "-", "b"} {
		for _, host := range []string{"c", "b-c", "b-c-0", "b%2Dc", "0", "-", "b--c", "a"} {
			for _, slot := range []int{0, 1, 10} {
				id, who := slotID(group, host, slot), fmt.Sprintf("group %s on %s, %d", group, host, slot)
				if other := ids[id]; other != "" {
					t.Errorf("%s is of %s and of %s", id, who, other)
				}
				if !strings.HasPrefix(id, group+"-") {
					t.Errorf("%s of %s", id, who)
				}
				ids[id] = who
			}
		}
	}
}

// Members of both drivers share a group, so that processes can be changed from
// one guarantee, or client, to the other one by one.
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
	go func() { ended <- runDriver(driver, 8*time.Second) }()
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
