package kafkago

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describegroups"

	"inceptor/internal/retry"
	"inceptor/service/stream/internal/diagnosis"
)

// slowJoin is how long joining the group may take before the log says what it waits for.
const slowJoin = 5 * time.Second

// nextGeneration waits for the next generation of the group. If that takes long, it logs what the
// group waits for.
func (d *Driver) nextGeneration(ctx context.Context, cluster *cluster, group *kafka.ConsumerGroup) (*kafka.Generation, error) {
	watching, end := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for retry.Sleep(watching, slowJoin) {
			if err := cluster.groupWait(watching, d.cfg.Group); err != nil && watching.Err() == nil {
				d.outages.Failed("join group "+d.cfg.Group, err)
			}
		}
	}()
	defer func() {
		end()
		<-watched
	}()
	return group.Next(ctx)
}

// groupWait asks the coordinator what the group waits for, and returns it as an error.
func (c *cluster) groupWait(ctx context.Context, group string) error {
	ctx, cancel := context.WithTimeout(ctx, slowJoin)
	defer cancel()
	res, err := c.transport.RoundTrip(ctx, c.client.Addr, &describegroups.Request{Groups: []string{group}})
	if err != nil {
		return nil // joining reports the same fault
	}
	described, ok := res.(*describegroups.Response)
	if !ok || len(described.Groups) != 1 {
		return nil
	}
	g := described.Groups[0]
	var members []string
	for _, m := range g.Members {
		members = append(members, m.ClientID+" ("+m.ClientHost+")")
	}
	return diagnosis.GroupWait(group, g.GroupState, members)
}
