package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// Services of both guarantees read the same topic of a cluster under load while its brokers fail.
// The nightly run adds at least once on franz-go and a client of librdkafka. Each service must go
// on during the failure. No record may be lost, and with exactly once none may be answered twice.
// The test logs how long each client paused.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := newClusterRun(t)
	for _, s := range clusterScenarios {
		if s.short || *nightly {
			c.run(s)
		}
	}
	c.finish()
	if *nightly {
		restartServices(t)
	}
}

// progressLimit is how long a client may take, while a failure lasts, to answer what was sent after
// its beginning. It is a generous limit: much longer than a client needs.
const progressLimit = 3 * time.Minute

// A clusterScenario is something that happens to the brokers. Its run returns once all brokers have
// recovered.
type clusterScenario struct {
	name  string
	short bool // part of `make test`
	run   func(c *clusterRun)
}

var clusterScenarios = []clusterScenario{
	{"rolling restart", true, func(c *clusterRun) { c.RollingRestart() }},
	{"leaders move", false, func(c *clusterRun) {
		for i := range 6 {
			c.lead(i % len(c.Brokers))
			time.Sleep(3 * time.Second)
		}
	}},
	{"one broker frozen", true, func(c *clusterRun) {
		c.withoutFirstBroker(func(b *testenv.Broker) { b.Freeze() })
		c.Brokers[0].Thaw()
		c.AwaitInSync()
	}},
	{"one broker lost", false, func(c *clusterRun) {
		c.withoutFirstBroker(func(b *testenv.Broker) { b.Kill() })
		c.Brokers[0].Restart()
		c.AwaitInSync()
	}},
	{"first bootstrap address silent", false, func(c *clusterRun) {
		brokers := silentAddress(c.T) + "," + c.brokers
		for _, r := range c.clients {
			r.restart(brokers)
		}
		if !c.awaitProgress(time.Now(), clusterPartitions) {
			for _, r := range c.clients {
				r.restart(c.brokers) // the others are still to be seen
			}
		}
	}},
	{"quota", false, func(c *clusterRun) {
		c.lead(0) // a quota is each broker's
		since := time.Now()
		for _, r := range c.clients {
			c.quota(r.kind.name, quotaBytes)
		}
		time.Sleep(40 * time.Second)
		c.awaitProgress(since.Add(3*time.Second), 1) // the others may wait behind it
		for _, r := range c.clients {
			if n := len(r.seen.without(c.upstream.expected())); n < 100 {
				c.Errorf("%q: only %d records wait: the quota did not hold the client back", r.remarks, n)
			}
		}
		for _, r := range c.clients {
			c.quota(r.kind.name, 0)
		}
	}},
	{"credentials rotated", false, func(c *clusterRun) {
		c.setPassword("second")
		for _, r := range c.clients {
			if r.kind == librdkafka { // it reads a password once
				r.restart(c.brokers)
			}
		}
		c.RollingRestart() // every connection is made anew
		if !c.awaitProgress(time.Now(), clusterPartitions) {
			for _, r := range c.clients {
				r.restart(c.brokers)
			}
		}
	}},
}

// quotaBytes is about half of what is sent in a second.
const quotaBytes = 15_000

// withoutFirstBroker makes the first broker lead everything and coordinate every group, stops it
// with hurt, and waits until all clients go on without it.
func (c *clusterRun) withoutFirstBroker(hurt func(b *testenv.Broker)) {
	c.Helper()
	c.lead(0)
	c.settle()
	since := time.Now()
	hurt(c.Brokers[0])
	if c.awaitProgress(since, clusterPartitions) && *nightly { // a client that goes on at first may stop again
		time.Sleep(time.Until(since.Add(35 * time.Second)))
		c.awaitProgress(time.Now(), clusterPartitions)
	}
}

// lead makes a broker the leader of all topics, including Kafka's internal ones.
func (c *clusterRun) lead(broker int) {
	c.Helper()
	topics, err := kadm.NewClient(c.admin).ListTopicsWithInternal(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	c.Lead(broker, topics.Names()...)
}

// quota limits what a user may read from each broker in a second. 0: no limit.
func (c *clusterRun) quota(user string, bytes float64) {
	c.Helper()
	res, err := kadm.NewClient(c.admin).AlterClientQuotas(c.Context(), []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "user", Name: &user}},
		Ops:    []kadm.AlterClientQuotaOp{{Key: "consumer_byte_rate", Value: bytes, Remove: bytes == 0}},
	}})
	for _, r := range res {
		if err == nil {
			err = r.Err
		}
	}
	if err != nil {
		c.Fatalf("quota: %v", err)
	}
}

// silentAddress returns an address that accepts connections and never answers.
func silentAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// A clusterRun is a cluster, the senders, and the clients. Only the test's goroutine uses its
// fields.
type clusterRun struct {
	*testing.T
	*testenv.Cluster
	brokers  string // of the listeners that want a login
	password string // file
	admin    *kgo.Client
	upstream *upstream
	clients  []*clusterClient
	spans    []span
}

// A span is the time of a scenario, until everything was answered.
type span struct {
	scenario   string
	begin, end time.Time
}

// shortTimeouts are the options of the test's own clients, which must not be the slow ones. They
// give up on a silent broker after two seconds.
func shortTimeouts() []kgo.Opt {
	return []kgo.Opt{
		kgo.RequestTimeoutOverhead(time.Second), kgo.ProduceRequestTimeout(time.Second), kgo.DialTimeout(time.Second),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.FetchMaxWait(time.Second),
	}
}

func newClusterRun(t *testing.T) *clusterRun {
	c := &clusterRun{T: t, Cluster: testenv.StartCluster(t, 3)}
	c.brokers = strings.Join(c.SecureAddrs(), ",")
	c.password = filepath.Join(t.TempDir(), "password")
	c.setPassword("first")
	open := strings.Join(c.Addrs(), ",") // the test's own clients
	c.admin = newClient(t, open, shortTimeouts()...)
	kinds := clientKinds[:2]
	if *nightly {
		kinds = clientKinds
	}
	topics := []string{inputTopic}
	for _, k := range kinds {
		topics = append(topics, k.outputs().topics()...)
	}
	// The brokers' time tells when each record came.
	createTopics(t, open, clusterPartitions, map[string]string{"message.timestamp.type": "LogAppendTime"}, topics...)
	// Without compression, for a quota counts what is on the wire.
	c.upstream = newUpstream(t, open, append(shortTimeouts(), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	model := testenv.Tiny(t)
	for _, k := range kinds {
		c.clients = append(c.clients, newClusterClient(c, k, model, open))
	}
	c.settle()
	return c
}

// setPassword gives all clients another password, and writes it to the file that they read.
func (c *clusterRun) setPassword(password string) {
	c.Helper()
	for _, k := range clientKinds {
		c.SetPassword(k.name, password)
	}
	next := c.password + ".next"
	err := os.WriteFile(next, []byte(password), 0o600)
	if err == nil {
		err = os.Rename(next, c.password)
	}
	if err != nil {
		c.Fatal(err)
	}
}

func (c *clusterRun) run(s clusterScenario) {
	c.Helper()
	begin := time.Now()
	for _, r := range c.clients {
		r.remarks = []string{s.name, r.kind.name}
	}
	s.run(c)
	c.settle()
	c.spans = append(c.spans, span{s.name, begin, time.Now()})
	c.Logf("%s: %v", s.name, time.Since(begin).Round(time.Millisecond))
}

// settle waits until all clients have answered what has been sent so far.
func (c *clusterRun) settle() {
	c.Helper()
	for _, r := range c.clients {
		r.settle()
	}
}

// awaitProgress waits until each client has answered, in so many partitions, a record that was sent
// after since. It returns false if one does not in time. For a service that is an error.
func (c *clusterRun) awaitProgress(since time.Time, partitions int) bool {
	c.Helper()
	for end := time.Now().Add(progressLimit); ; time.Sleep(200 * time.Millisecond) {
		waiting := 0
		for _, r := range c.clients {
			r.restartDead()
			n := r.partitionsAnswered(since)
			if n >= partitions {
				continue
			}
			waiting++
			if time.Now().Before(end) {
				continue
			}
			tell := c.Errorf
			if r.kind == librdkafka {
				tell = c.Logf
			}
			tell("%q: it answers in %d partitions, want %d, after %v", r.remarks, n, partitions, progressLimit)
		}
		if waiting == 0 || time.Now().After(end) {
			return waiting == 0
		}
	}
}
