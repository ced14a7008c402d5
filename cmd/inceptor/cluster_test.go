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

// Services of both guarantees read the same topic of a cluster while records
// come all the time and something happens to its brokers. In the nightly run
// there are also one of at least once on franz-go and a client of librdkafka.
// Each service has to go on during the fault. Then nothing may be lost, nor
// come twice with exactly once. How long each paused is logged.
func TestCluster(t *testing.T) {
	t.Parallel() // it mostly waits
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

// goesOnWithin is how long a client may take, after a fault, until it answers
// what was sent after it. It is the bound of a failure: it has to be shorter
// than a fault lasts, and much longer than a client needs.
const goesOnWithin = 60 * time.Second

// A clusterScenario is something that happens to the brokers. Its run returns
// when all brokers are well again.
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
		c.alone(func(b *testenv.Broker) { b.Freeze() })
		c.Brokers[0].Thaw()
		c.AwaitInSync()
	}},
	{"one broker lost", false, func(c *clusterRun) {
		c.alone(func(b *testenv.Broker) { b.Kill() })
		c.Brokers[0].Restart()
		c.AwaitInSync()
	}},
	{"first bootstrap address silent", false, func(c *clusterRun) {
		brokers := silent(c.T) + "," + c.brokers
		for _, r := range c.roles {
			r.restart(brokers)
		}
		if !c.goOn(time.Now(), clusterPartitions) {
			for _, r := range c.roles {
				r.restart(c.brokers) // the others are still to be seen
			}
		}
	}},
	{"quota", false, func(c *clusterRun) {
		c.lead(0) // a quota is each broker's
		since := time.Now()
		for _, r := range c.roles {
			c.quota(r.kind.name, quotaBytes)
		}
		time.Sleep(40 * time.Second)
		c.goOn(since.Add(3*time.Second), 1) // the others may wait behind it
		for _, r := range c.roles {
			if n := len(r.seen.without(c.upstream.due())); n < 100 {
				c.Errorf("%q: only %d records wait: the quota did not hold the client back", r.remarks, n)
			}
		}
		for _, r := range c.roles {
			c.quota(r.kind.name, 0)
		}
	}},
	{"credentials rotated", false, func(c *clusterRun) {
		c.setPassword("second")
		for _, r := range c.roles {
			if r.kind == librdkafka { // it reads a password once
				r.restart(c.brokers)
			}
		}
		c.RollingRestart() // every connection is made anew
		if !c.goOn(time.Now(), clusterPartitions) {
			for _, r := range c.roles {
				r.restart(c.brokers)
			}
		}
	}},
}

// quotaBytes is about half of what is sent in a second.
const quotaBytes = 15_000

// alone lets the first broker lead everything and coordinate every group, hurts
// it, and waits until all clients go on without it.
func (c *clusterRun) alone(hurt func(b *testenv.Broker)) {
	c.Helper()
	c.lead(0)
	c.settle()
	since := time.Now()
	hurt(c.Brokers[0])
	if c.goOn(since, clusterPartitions) && *nightly { // whoever goes on at first may stop again
		time.Sleep(time.Until(since.Add(35 * time.Second)))
		c.goOn(time.Now(), clusterPartitions)
	}
}

// lead lets a broker lead all topics, Kafka's own ones, too.
func (c *clusterRun) lead(broker int) {
	c.Helper()
	topics, err := kadm.NewClient(c.admin).ListTopicsWithInternal(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	c.Lead(broker, topics.Names()...)
}

// quota bounds what a user may read from each broker in a second; 0: no more.
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

// silent is an address where connections are accepted, and nothing answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// A clusterRun is a cluster, those who send, and the clients, side by side.
type clusterRun struct {
	*testing.T
	*testenv.Cluster
	brokers  string // of the listeners that want a login
	password string // file
	admin    *kgo.Client
	upstream *upstream
	roles    []*role
	spans    []span
}

// A span is when a scenario was, with the time until everything was answered.
type span struct {
	scenario   string
	begin, end time.Time
}

// impatient are the options of the test's own clients, which must not be what
// is slow: they give a broker that is silent up after two seconds.
func impatient() []kgo.Opt {
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
	c.admin = newClient(t, open, impatient()...)
	kinds := roleKinds[:2]
	if *nightly {
		kinds = roleKinds
	}
	topics := []string{inputTopic}
	for _, k := range kinds {
		topics = append(topics, k.outputs().topics()...)
	}
	// The brokers' time tells when each record came.
	createTopics(t, open, clusterPartitions, map[string]string{"message.timestamp.type": "LogAppendTime"}, topics...)
	// Without compression, for a quota counts what is on the wire.
	c.upstream = newUpstream(t, open, append(impatient(), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	model := testenv.Tiny(t)
	for _, k := range kinds {
		c.roles = append(c.roles, newRole(c, k, model, open))
	}
	c.settle()
	return c
}

// setPassword gives the clients another password, each of which is a user, and
// writes it to the file that they read.
func (c *clusterRun) setPassword(password string) {
	c.Helper()
	for _, k := range roleKinds {
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
	for _, r := range c.roles {
		r.remarks = []string{s.name, r.kind.name}
	}
	s.run(c)
	c.settle()
	c.spans = append(c.spans, span{s.name, begin, time.Now()})
	c.Logf("%s: %v", s.name, time.Since(begin).Round(time.Millisecond))
}

// settle waits until all clients have answered what has been sent by now.
func (c *clusterRun) settle() {
	c.Helper()
	for _, r := range c.roles {
		r.settle()
	}
}

// goOn waits until each client has answered, in so many partitions, something
// that was sent after a moment. A service must do so; false: somebody did not.
func (c *clusterRun) goOn(since time.Time, partitions int) bool {
	c.Helper()
	for end := time.Now().Add(goesOnWithin); ; time.Sleep(200 * time.Millisecond) {
		waiting := 0
		for _, r := range c.roles {
			r.living()
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
			tell("%q: it answers in %d partitions, want %d, after %v", r.remarks, n, partitions, goesOnWithin)
		}
		if waiting == 0 || time.Now().After(end) {
			return waiting == 0
		}
	}
}
