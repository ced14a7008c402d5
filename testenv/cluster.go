package testenv

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A Cluster is several Kafka brokers of a test. Broker i has the node id i+1 and is also a
// controller. By default, topics have a replica on each of up to three brokers, and acks=all needs
// two of them. Each broker also has a listener that requires SCRAM-SHA-256.
type Cluster struct {
	Brokers []*Broker
	secure  []string // addresses of the listeners that require a login
	tb      testing.TB
	admin   *kadm.Client
}

// StartCluster starts n brokers and waits until they know each other. The end of the test stops
// them. Properties, "key=value", are added to the following ones.
//
// Two times are shorter than the defaults of Kafka 4.3.1. A broker that cannot be reached is
// fenced, and its partitions get other leaders, after 3 s (broker.session.timeout.ms, 9 s). The
// first member of a group does not wait for others (group.initial.rebalance.delay.ms, 3 s). The
// internal topics have 3 partitions instead of 50, and threads and buffers suit a small machine.
// All other times are the defaults: a new controller is elected after 2 s without one
// (controller.quorum.fetch.timeout.ms).
func StartCluster(tb testing.TB, n int, properties ...string) *Cluster {
	tb.Helper()
	ports, err := freePorts(3 * n)
	if err != nil {
		tb.Fatal(err)
	}
	var voters []string
	for i := range n {
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, ports[n+i]))
	}
	replicas, inSync := min(n, 3), min(n, 2)
	properties = slices.Concat([]string{
		"controller.quorum.voters=" + strings.Join(voters, ","),
		"num.partitions=3",
		fmt.Sprintf("default.replication.factor=%d", replicas),
		fmt.Sprintf("min.insync.replicas=%d", inSync),
		"offsets.topic.num.partitions=3",
		fmt.Sprintf("offsets.topic.replication.factor=%d", replicas),
		"transaction.state.log.num.partitions=3",
		fmt.Sprintf("transaction.state.log.replication.factor=%d", replicas),
		fmt.Sprintf("transaction.state.log.min.isr=%d", inSync),
		"share.coordinator.state.topic.num.partitions=3",
		fmt.Sprintf("share.coordinator.state.topic.replication.factor=%d", replicas),
		fmt.Sprintf("share.coordinator.state.topic.min.isr=%d", inSync),
		"num.network.threads=2",
		"num.io.threads=4",
		"log.cleaner.dedupe.buffer.size=4194304", // of the heap; 128 MiB are the default
		"listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-256",
		"listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
	}, properties)
	c := &Cluster{tb: tb, secure: ports[2*n:]}
	id := newID()
	for i := range n {
		k := &Kafka{lib: KafkaLib(tb), dir: tb.TempDir(), addr: ports[i], id: id, heap: "256m"}
		if err := k.format(i+1, ports[n+i], []listener{{"SECURE", "SASL_PLAINTEXT", c.secure[i], c.secure[i]}}, nil, properties); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(k.Kill)
		c.Brokers = append(c.Brokers, &Broker{k, tb})
	}
	for _, b := range c.Brokers { // none of them answers before most of them run
		if err := b.launch(); err != nil {
			tb.Fatal(err)
		}
	}
	for _, b := range c.Brokers {
		if err := b.await(tb.Context(), startLimit); err != nil {
			tb.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.RetryTimeout(10*time.Second),
		kgo.RequestTimeoutOverhead(time.Second), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	c.admin = kadm.NewClient(client)
	c.AwaitInSync()
	return c
}

// Addrs returns the addresses for clients, host:port, in the order of the brokers.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, b := range c.Brokers {
		addrs = append(addrs, b.Addr())
	}
	return addrs
}

// SecureAddrs returns the addresses for clients that log in, host:port, in the order of the
// brokers.
func (c *Cluster) SecureAddrs() []string { return slices.Clone(c.secure) }

// SetPassword creates a user for the secure listeners, or changes its password.
func (c *Cluster) SetPassword(user, password string) {
	c.tb.Helper()
	altered, err := c.admin.AlterUserSCRAMs(c.tb.Context(), nil, []kadm.UpsertSCRAM{
		{User: user, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: password},
	})
	if err == nil {
		err = altered.Error()
	}
	if err != nil {
		c.tb.Fatalf("set the password of %s: %v", user, err)
	}
}

// RollingRestart stops and starts the brokers one after the other, as an administrator does: each
// is back in sync before the next one stops.
func (c *Cluster) RollingRestart() {
	c.tb.Helper()
	for _, b := range c.Brokers {
		b.Stop()
		b.Restart()
		c.AwaitInSync()
	}
}

// AwaitInSync waits until all brokers run and every replica is in sync.
func (c *Cluster) AwaitInSync() {
	c.tb.Helper()
	for end := time.Now().Add(startLimit); ; time.Sleep(100 * time.Millisecond) {
		behind := c.behind()
		if behind == "" {
			return
		}
		if time.Now().After(end) || c.tb.Context().Err() != nil {
			c.tb.Fatalf("the cluster is not in sync after %v: %s", startLimit, behind)
		}
	}
}

// behind describes what is not in sync. It is empty if everything is.
func (c *Cluster) behind() string {
	m, err := c.admin.Metadata(c.tb.Context())
	if err != nil {
		return err.Error()
	}
	if len(m.Brokers) < len(c.Brokers) {
		return fmt.Sprintf("only brokers %v are known", m.Brokers.NodeIDs())
	}
	var behind []string
	m.Topics.EachPartition(func(p kadm.PartitionDetail) {
		if len(p.ISR) < len(p.Replicas) || p.Leader < 0 {
			behind = append(behind, fmt.Sprintf("%s-%d: leader %d, of %v only %v in sync", p.Topic, p.Partition, p.Leader, p.Replicas, p.ISR))
		}
	})
	return strings.Join(behind, "; ")
}

// topics returns the partitions of topics. A broker learns of a new topic a little later than the
// one that made it: that is waited for.
func (c *Cluster) topics(names ...string) kadm.TopicDetails {
	c.tb.Helper()
	for end := time.Now().Add(startLimit); ; time.Sleep(50 * time.Millisecond) {
		m, err := c.admin.Metadata(c.tb.Context(), names...)
		if err == nil {
			err = m.Topics.Error()
		}
		if err == nil {
			return m.Topics
		}
		if time.Now().After(end) || c.tb.Context().Err() != nil {
			c.tb.Fatalf("look up topics %v: %v", names, err)
		}
	}
}

// Leader returns the index of the broker that leads a partition, or -1 if none does.
func (c *Cluster) Leader(topic string, partition int32) int {
	c.tb.Helper()
	if p, ok := c.topics(topic)[topic].Partitions[partition]; ok && p.Leader > 0 {
		return int(p.Leader) - 1
	}
	return -1
}

// Lead makes a broker, by its index, the leader of all partitions of the topics, and waits until it
// is. It must have a replica of each.
func (c *Cluster) Lead(broker int, topics ...string) {
	c.tb.Helper()
	leader := int32(broker) + 1
	var order kadm.AlterPartitionAssignmentsReq
	which := kadm.TopicsSet{}
	c.topics(topics...).EachPartition(func(p kadm.PartitionDetail) {
		others := slices.DeleteFunc(slices.Clone(p.Replicas), func(r int32) bool { return r == leader })
		order.Assign(p.Topic, p.Partition, append([]int32{leader}, others...))
		which.Add(p.Topic, p.Partition)
	})
	assigned, err := c.admin.AlterPartitionAssignments(c.tb.Context(), order)
	if err == nil {
		err = assigned.Error()
	}
	if err != nil {
		c.tb.Fatal(err)
	}
	for end := time.Now().Add(startLimit); ; time.Sleep(100 * time.Millisecond) {
		// Its error does not matter: no election is needed, or none is possible yet.
		_, _ = c.admin.ElectLeaders(c.tb.Context(), kadm.ElectPreferredReplica, which)
		elsewhere := 0
		c.topics(topics...).EachPartition(func(p kadm.PartitionDetail) {
			if p.Leader != leader {
				elsewhere++
			}
		})
		if elsewhere == 0 {
			return
		}
		if time.Now().After(end) {
			c.tb.Fatalf("broker %d does not lead %v after %v: %d partitions are led elsewhere", broker, topics, startLimit, elsewhere)
		}
	}
}
