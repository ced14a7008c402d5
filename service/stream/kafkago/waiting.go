package kafkago

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describegroups"

	"inceptor/service/stream"
)

// slowJoin is how long joining the group may take before the log has what it waits
// for.
const slowJoin = 5 * time.Second

// next returns the next generation of the group. If that takes long, it logs what
// the group waits for.
func (d *Driver) next(ctx context.Context, cluster *cluster, group *kafka.ConsumerGroup) (*kafka.Generation, error) {
	watching, end := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for sleep(watching, slowJoin) {
			if err := cluster.groupWait(watching, d.cfg.Group); err != nil && watching.Err() == nil {
				d.trouble.Failed("join group "+d.cfg.Group, err)
			}
		}
	}()
	defer func() {
		end()
		<-watched
	}()
	return group.Next(ctx)
}

// groupWait asks the coordinator what the group waits for.
func (c *cluster) groupWait(ctx context.Context, group string) error {
	ctx, cancel := context.WithTimeout(ctx, slowJoin)
	defer cancel()
	res, err := c.transport.RoundTrip(ctx, c.client.Addr, &describegroups.Request{Groups: []string{group}})
	if err != nil {
		return nil // joining tells of it
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
	return stream.GroupWait(group, g.GroupState, members)
}
