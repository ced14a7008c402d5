package service

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/testenv"
)

// A flow is a driver at work, while records are sent all the time, in the clear.
type flow struct {
	*testing.T
	name     string
	broker   *testenv.SecuredBroker
	config   Kafka
	metrics  *Metrics
	observed *generations
	client   *kgo.Client // in the clear
	dir      string      // of credentials

	mu  sync.Mutex
	log bytes.Buffer

	sent    atomic.Int64
	stop    context.CancelFunc
	stopped chan struct{}
	cancel  context.CancelFunc
	result  chan error
}

// generations counts what the group gave.
type generations struct {
	observer
	mu sync.Mutex
	n  int
}

func (g *generations) Assigned(p []stream.Partition) {
	g.observer.Assigned(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
}

// Write takes the log.
func (f *flow) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Logf("%s: %s", f.name, bytes.TrimSpace(p))
	return f.log.Write(p)
}

func (f *flow) logged(text string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Contains(f.log.String(), text)
}

// flows are one of each driver and guarantee, which run side by side.
type flows []*flow

// each does something with each.
func (fs flows) each(do func(*flow)) {
	for _, f := range fs {
		do(f)
	}
}

// startFlows starts them; secure says how a driver gets in.
func startFlows(t *testing.T, b *testenv.SecuredBroker, secure func(*flow)) flows {
	var fs flows
	for name, k := range map[string]Kafka{
		"kafka-go": {Delivery: "at_least_once"}, "franz-go": {Delivery: "at_least_once", Client: franzGo}, exactlyOnce: {Delivery: exactlyOnce},
	} {
		fs = append(fs, newFlow(t, b, name, k, secure))
	}
	fs.each((*flow).start)
	fs.each(func(f *flow) { f.moves("the start") })
	return fs
}

// newFlow has topics.
func newFlow(t *testing.T, b *testenv.SecuredBroker, driver string, k Kafka, secure func(*flow)) *flow {
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-", " ", "-").Replace(t.Name() + "-" + driver))
	f := &flow{T: t, name: driver, broker: b, dir: t.TempDir(), metrics: NewMetrics(prometheus.NewRegistry()), result: make(chan error, 1), stopped: make(chan struct{})}
	f.observed = &generations{observer: observing(f.metrics, nil)}
	f.config = goodConfig().Kafka
	f.config.Group, f.config.Input, f.config.Output = name, []string{name + ".in"}, name+".out"
	f.config.DeadLetter, f.config.Delivery, f.config.Client = name+".dead", k.Delivery, k.Client
	f.config.Window = Window{Records: 64, Bytes: 1 << 20}
	f.config.Transaction = Transaction{Interval: 100 * time.Millisecond, Records: 1000, Timeout: 10 * time.Second}
	var err error
	if f.client, err = kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.UnknownTopicRetries(-1), kgo.MetadataMinAge(100*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.client.Close)
	for _, topic := range []string{f.config.Input[0], f.config.Output, f.config.DeadLetter} {
		if res, err := kadm.NewClient(f.client).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil || res.Err != nil {
			t.Fatal(err, res.Err)
		}
	}
	secure(f)
	return f
}

// start starts the driver and the sender.
func (f *flow) start() {
	f.Helper()
	c := goodConfig()
	c.Kafka = f.config
	if err := errors.Join(c.Kafka.Validate()...); err != nil {
		f.Fatal(err)
	}
	config, err := c.streamConfig(slog.New(slog.NewTextHandler(f, nil)), f.observed, &handler{})
	if err != nil {
		f.Fatal(err)
	}
	d, err := newDriver(c.Kafka, config, func(_ context.Context, r stream.Record) ([]stream.Record, error) {
		return []stream.Record{{Topic: f.config.Output, Value: r.Value}}, nil
	})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.result <- d.Run(ctx)
	}()
	sending, stop := context.WithCancel(context.Background())
	f.stop = stop
	go func() {
		defer close(f.stopped)
		for ; sending.Err() == nil; time.Sleep(20 * time.Millisecond) {
			if f.client.ProduceSync(context.Background(), &kgo.Record{Topic: f.config.Input[0], Value: []byte(strconv.FormatInt(f.sent.Load(), 10))}).FirstErr() == nil {
				f.sent.Add(1)
			}
		}
	}()
	f.Cleanup(func() {
		stop()
		<-f.stopped
		cancel()
		<-ended
	})
}

// until waits for something that must happen, while the driver runs.
func (f *flow) until(what string, done func() bool) {
	f.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-f.result:
			f.result <- err
			f.Fatalf("%s: the driver has ended: %v", what, err)
		default:
		}
		if time.Now().After(deadline) {
			f.Fatalf("does not come: %s", what)
		}
	}
}

// published counts the output.
func (f *flow) published() int64 {
	ends, err := kadm.NewClient(f.client).ListCommittedOffsets(f.Context(), f.config.Output)
	if err != nil {
		return 0
	}
	end, _ := ends.Lookup(f.config.Output, 0)
	return end.Offset
}

// moves waits until new records are published, and tells how long that took.
func (f *flow) moves(since string) {
	f.Helper()
	begin, before := time.Now(), f.published()
	f.until("records after "+since, func() bool { return f.published() > before+10 })
	f.Logf("%s: records flow %v after %s", f.name, time.Since(begin).Round(time.Millisecond), since)
}

// refused waits until the log, and what readiness says, name why nobody gets in.
func (f *flow) refused(want string) {
	f.Helper()
	f.until(want+" in the log", func() bool { return f.logged(want) })
	f.until(want+" in the readiness", func() bool {
		return strings.Contains(f.metrics.ready.report(nil).Authentication, want)
	})
}

// end stops it all, and looks for what is lost or comes twice.
func (f *flow) end(secrets ...string) {
	f.Helper()
	f.stop()
	<-f.stopped
	got := map[string]int{}
	isolation := kgo.ReadCommitted()
	reader, err := kgo.NewClient(kgo.SeedBrokers(f.broker.Addr()), kgo.ConsumeTopics(f.config.Output), kgo.FetchIsolationLevel(isolation))
	if err != nil {
		f.Fatal(err)
	}
	defer reader.Close()
	f.until(fmt.Sprintf("all %d records", f.sent.Load()), func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, r := range reader.PollFetches(ctx).Records() {
			got[string(r.Value)]++
		}
		for i := range f.sent.Load() {
			if got[strconv.FormatInt(i, 10)] == 0 {
				return false
			}
		}
		return true
	})
	f.cancel()
	if err := <-f.result; err != nil {
		f.Errorf("run: %v", err)
	}
	f.result <- nil
	twice := 0
	for _, n := range got {
		twice += n - 1
	}
	f.Logf("%s: %d records, 0 lost, %d twice, %d generations", f.name, f.sent.Load(), twice, f.observed.n)
	if twice > 0 && f.config.Delivery == exactlyOnce {
		f.Errorf("%d records are there twice", twice)
	}
	for _, s := range secrets {
		if f.logged(s) {
			f.Errorf("a secret is in the log: %s", s)
		}
	}
}

// file writes a credential, by renaming as those do that rotate them.
func (f *flow) file(name, content string) string {
	f.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.Fatal(err)
	}
	return path
}

// password changes the user's password at the broker.
func (f *flow) password(user, password string) {
	f.Helper()
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		f.until("the broker's new password", func() bool {
			res, err := kadm.NewClient(f.client).AlterUserSCRAMs(f.Context(), nil,
				[]kadm.UpsertSCRAM{{User: user, Mechanism: m, Iterations: 4096, Password: password}})
			return err == nil && res.Error() == nil
		})
	}
}

// unsecured is a token that Kafka's validator for development takes.
func unsecured(from, to time.Time) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":"token-of-me","iat":%d,"exp":%d}`, from.Unix(), to.Unix())) + "."
}

// Credentials change while records flow: nothing is lost, whichever side changes first.
func TestRotation(t *testing.T) {
	b := testenv.StartSecuredBroker(t, testenv.SecuredOptions{Properties: []string{
		"listener.name.secure.scram-sha-256.connections.max.reauth.ms=3000",
	}})
	scram := func(mechanism string) func(*flow) {
		return func(f *flow) {
			f.password("rotated", "first-secret")
			f.config.Brokers = []string{b.Secure}
			f.config.TLS = TLS{Enabled: true, CA: b.AuthoritiesPEM}
			f.config.SASL = SASL{Mechanism: mechanism, User: "rotated", PasswordFile: f.file("password", "first-secret\n")}
		}
	}
	t.Run("password at the broker first", func(t *testing.T) {
		fs := startFlows(t, b, scram("SCRAM-SHA-512"))
		fs[0].password("rotated", "second-secret")
		b.Cut()
		fs.each(func(f *flow) {
			f.refused("authentication failed (SCRAM-SHA-512 as rotated, password from kafka.sasl.password-file " + f.config.SASL.PasswordFile + ")")
		})
		fs.each(func(f *flow) { f.file("password", "second-secret") })
		fs.each(func(f *flow) {
			f.moves("the file has the new password")
			f.end("first-secret", "second-secret")
		})
	})
	t.Run("password in the file first", func(t *testing.T) {
		fs := startFlows(t, b, scram("SCRAM-SHA-512"))
		fs.each(func(f *flow) {
			f.file("password", "second-secret")
			f.moves("a change that the open connections do not notice")
		})
		b.Cut()
		fs.each(func(f *flow) { f.refused("authentication failed") })
		fs[0].password("rotated", "second-secret")
		fs.each(func(f *flow) {
			f.moves("the broker has the new password")
			f.end("first-secret", "second-secret")
		})
	})
	// The broker closes connections that do not log in again in time.
	t.Run("login again", func(t *testing.T) {
		startFlows(t, b, scram("SCRAM-SHA-256")).each(func(f *flow) {
			f.until("three sessions", func() bool { return f.sent.Load() > 450 }) // of 3s, with pauses of 20ms
			f.end("first-secret")
			if f.observed.n != 1 || f.logged("level=WARN") {
				t.Errorf("%s: %d generations, want one without a warning", f.name, f.observed.n)
			}
		})
	})
	t.Run("token", func(t *testing.T) {
		now := time.Now()
		first, expired := unsecured(now, now.Add(time.Hour)), unsecured(now.Add(-2*time.Hour), now.Add(-time.Hour))
		second := unsecured(now, now.Add(2*time.Hour))
		fs := startFlows(t, b, func(f *flow) {
			f.config.Brokers = []string{b.Bearer}
			f.config.SASL = SASL{Mechanism: "OAUTHBEARER", TokenFile: f.file("token", first)}
		})
		fs.each(func(f *flow) { f.file("token", expired) })
		b.Cut()
		fs.each(func(f *flow) { f.refused("invalid_token") })
		fs.each(func(f *flow) { f.file("token", second) })
		fs.each(func(f *flow) {
			f.moves("the file has a new token")
			f.end(first, expired, second)
		})
	})
	t.Run("certificates", func(t *testing.T) {
		fs := startFlows(t, b, func(f *flow) {
			f.config.Brokers = []string{b.Mutual}
			cert, key := b.Clients.Issue(t, "client")
			f.config.TLS = TLS{Enabled: true, CA: f.file("ca.pem", string(b.Own.PEM)),
				Cert: f.file("cert.pem", string(cert)), Key: f.file("key.pem", string(key))}
		})
		own, clients := testenv.NewAuthority(t, "own"), testenv.NewAuthority(t, "clients")
		cert, key := clients.Issue(t, "client")
		fs.each(func(f *flow) { f.file("cert.pem", string(cert)) })
		b.Kill()
		b.Renew(t, own, clients)
		b.Restart()
		fs.each(func(f *flow) {
			f.until("the refusal of the broker", func() bool { return f.logged("certificate signed by unknown authority") })
			f.file("ca.pem", string(own.PEM))
			f.until("the half of a pair", func() bool { return f.logged("cannot read credential") })
			f.file("key.pem", string(key))
		})
		fs.each(func(f *flow) {
			f.moves("new certificates")
			f.end(string(key))
		})
	})
}
