package kafkago

import (
	"context"

	"github.com/segmentio/kafka-go"

	"inceptor/internal/retry"
)

// A balancer is one of kafka-go's. If one of several topics does not exist, kafka-go passes it no
// partitions at all; then it looks up those of the others.
type balancer struct {
	kafka.GroupBalancer
	cluster *cluster
}

// balancers returns those that kafka-go uses by default.
func balancers(c *cluster) []kafka.GroupBalancer {
	return []kafka.GroupBalancer{balancer{kafka.RangeGroupBalancer{}, c}, balancer{kafka.RoundRobinGroupBalancer{}, c}}
}

// AssignGroups implements kafka.GroupBalancer.
func (b balancer) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	if len(partitions) == 0 {
		partitions = b.existing(members)
	}
	return b.GroupBalancer.AssignGroups(members, partitions)
}

// existing returns the partitions of the members' topics, from the last metadata. The group waits
// meanwhile, so it gives up after dialTimeout.
func (b balancer) existing(members []kafka.GroupMember) []kafka.Partition {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	seen := map[string]bool{}
	var partitions []kafka.Partition
	for _, m := range members {
		for _, topic := range m.Topics {
			if seen[topic] {
				continue
			}
			seen[topic] = true
			n, err := b.cluster.partitions(ctx, topic)
			for err != nil && retry.Sleep(ctx, rejoinBackoff) {
				n, err = b.cluster.partitions(ctx, topic)
			}
			for id := range n {
				partitions = append(partitions, kafka.Partition{Topic: topic, ID: id})
			}
		}
	}
	return partitions
}
