package kafkago

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

func suite(brokers []string) streamtest.Suite {
	return streamtest.Suite{
		New: func(cfg stream.Config, h stream.Handler) (streamtest.Driver, error) {
			return New(cfg, h)
		},
		Session: testSession,
		Brokers: brokers,
	}
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

func TestKafka(t *testing.T) {
	t.Parallel()
	b := testenv.StartBroker(t, "group.min.session.timeout.ms=1000", "log.cleaner.backoff.ms=200", "log.retention.check.interval.ms=500")
	s := suite([]string{b.Addr()})
	s.Broker = b
	s.Run(t)
}

// Brokers before Kafka 3.1 do not compare the ids of topics.
func TestOldBrokers(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second), kfake.MaxVersions(kversion.V3_0_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	suite(c.ListenAddrs()).RunOld(t)
}

func TestExpired(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	suite(c.ListenAddrs()).RunExpired(t, c)
}

func TestCommitRefused(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.GroupMinSessionTimeout(time.Second))
	suite(c.ListenAddrs()).RunCommitRefused(t, c)
}

func TestSecured(t *testing.T) {
	t.Parallel()
	b := testenv.StartSecuredBroker(t, testenv.SecuredOptions{})
	suite([]string{b.Addr()}).RunSecured(t, streamtest.Secured{
		Address: b.Secure, Authorities: b.Authorities, User: b.User, Password: b.Password,
	})
}

// go test ./service/stream/kafkago ./service/stream/franz -run '^$' -bench Delivery
func BenchmarkDelivery(b *testing.B) {
	k := testenv.StartBroker(b, "group.min.session.timeout.ms=1000")
	suite([]string{k.Addr()}).Benchmark(b)
}

// go test ./service/stream/kafkago ./service/stream/franz -run '^$' -bench Latency
func BenchmarkLatency(b *testing.B) {
	k := testenv.StartBroker(b, "group.min.session.timeout.ms=1000")
	suite([]string{k.Addr()}).BenchmarkLatency(b)
}
