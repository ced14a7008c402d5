package franz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// slowJoin is after how long it is told what joining the group waits for.
const slowJoin = 5 * time.Second

// watchJoin tells what joining the group waits for, if that takes long, for the
// client waits without a word.
func (s *session) watchJoin(life context.Context) {
	operation := "join group " + s.cfg.Group
	since, told := time.Now(), false
	for sleep(life, time.Second) {
		if g := s.latest.Load(); g != nil && !g.drains() {
			if told {
				told = false
				s.trouble.Worked(operation)
			}
			since = time.Now()
			continue
		}
		if time.Since(since) < slowJoin {
			continue
		}
		if err := s.groupWait(life); err != nil && life.Err() == nil {
			told = true
			s.trouble.Failed(operation, err)
		}
	}
}

// groupWait asks the coordinator what the group waits for. It asks the broker
// itself: the client would repeat the question until there is another answer.
func (s *session) groupWait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, slowJoin)
	defer cancel()
	found := kadm.NewClient(s.client).FindGroupCoordinators(ctx, s.cfg.Group)[s.cfg.Group]
	var code *kerr.Error
	switch {
	case errors.As(found.Err, &code):
		return fmt.Errorf("find the coordinator of group %s: %w", s.cfg.Group, found.Err)
	case found.Err != nil:
		return nil // connecting tells of it
	}
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{s.cfg.Group}
	res, err := s.client.Broker(int(found.NodeID)).Request(ctx, req)
	if err != nil {
		return nil
	}
	described, ok := res.(*kmsg.DescribeGroupsResponse)
	if !ok || len(described.Groups) != 1 {
		return nil
	}
	g := described.Groups[0]
	if err := kerr.ErrorForCode(g.ErrorCode); err != nil && kerr.IsRetriable(err) {
		return fmt.Errorf("broker %d, the coordinator of group %s: %w", found.NodeID, s.cfg.Group, err)
	}
	var members []string
	for _, m := range g.Members {
		members = append(members, m.ClientID+" ("+m.ClientHost+")")
	}
	return stream.GroupWait(s.cfg.Group, g.State, members)
}
