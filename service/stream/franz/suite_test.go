package franz

import (
	"flag"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"inceptor/service/stream"
	"inceptor/service/stream/streamtest"
	"inceptor/testenv"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8") // they wait more than they compute
	testenv.Main(m)
}

const testSession = 3 * time.Second

var testBound = Transaction{Interval: 100 * time.Millisecond, Records: 1000, Timeout: 10 * time.Second}

func suite(brokers []string) streamtest.Suite {
	return streamtest.Suite{
		New: func(cfg stream.Config, h stream.Handler) (streamtest.Driver, error) {
			return New(cfg, testBound, h)
		},
		CheckTopics:    checkTopics,
		ExactlyOnce:    true,
		CommittedInput: true,
		Session:        testSession,
		Brokers:        brokers,
	}
}

func atLeastOnceSuite(brokers []string) streamtest.Suite {
	s := suite(brokers)
	s.ExactlyOnce = false
	s.New = func(cfg stream.Config, h stream.Handler) (streamtest.Driver, error) {
		return NewAtLeastOnce(cfg, h)
	}
	return s
}

func TestKfake(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := suite(c.ListenAddrs())
	s.Compact = c.Compact
	s.Run(t)
}

func TestKafka(t *testing.T) { onKafka(t, suite) }

func TestAtLeastOnce(t *testing.T) { onKafka(t, atLeastOnceSuite) }

func onKafka(t *testing.T, suite func(brokers []string) streamtest.Suite) {
	t.Parallel()
	b := testenv.StartBroker(t, "group.min.session.timeout.ms=1000", "log.cleaner.backoff.ms=200", "log.retention.check.interval.ms=500")
	s := suite([]string{b.Addr()})
	s.Broker, s.Static = b, true // kfake begins a new generation when a member comes back
	s.Run(t)
}

// Brokers before Kafka 3.1 do not compare the ids of topics.
func TestOldBrokers(t *testing.T) {
	t.Parallel()
	for name, suite := range map[string]func([]string) streamtest.Suite{"exactly once": suite, "at least once": atLeastOnceSuite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second), kfake.MaxVersions(kversion.V3_0_0()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			suite(c.ListenAddrs()).RunOld(t)
		})
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	for name, suite := range map[string]func([]string) streamtest.Suite{"exactly once": suite, "at least once": atLeastOnceSuite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			suite(c.ListenAddrs()).RunExpired(t, c)
		})
	}
}

func TestCommitRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	atLeastOnceSuite(c.ListenAddrs()).RunCommitRefused(t, c)
}

func TestSecured(t *testing.T) {
	t.Parallel()
	b := testenv.StartSecuredBroker(t, testenv.SecuredOptions{})
	for name, suite := range map[string]func([]string) streamtest.Suite{"exactly once": suite, "at least once": atLeastOnceSuite} {
		t.Run(name, func(t *testing.T) {
			suite([]string{b.Addr()}).RunSecured(t, streamtest.Secured{
				Address: b.Secure, Authorities: b.Authorities, User: b.User, Password: b.Password,
			})
		})
	}
}

// Run the drivers' benchmarks with:
//
//	go test ./service/stream/kafkago ./service/stream/franz -run '^$' -bench Delivery \
//		-benchtime 20000x
func BenchmarkDelivery(b *testing.B) { benchmark(b, suite, streamtest.Suite.Benchmark) }

func BenchmarkAtLeastOnceDelivery(b *testing.B) {
	benchmark(b, atLeastOnceSuite, streamtest.Suite.Benchmark)
}

// go test ./service/stream/kafkago ./service/stream/franz -run '^$' -bench Latency -benchtime 500x
func BenchmarkLatency(b *testing.B) { benchmark(b, suite, streamtest.Suite.BenchmarkLatency) }

func BenchmarkAtLeastOnceLatency(b *testing.B) {
	benchmark(b, atLeastOnceSuite, streamtest.Suite.BenchmarkLatency)
}

func benchmark(b *testing.B, of func(brokers []string) streamtest.Suite, run func(streamtest.Suite, *testing.B)) {
	k := testenv.StartBroker(b, "group.min.session.timeout.ms=1000")
	run(of([]string{k.Addr()}), b)
}
