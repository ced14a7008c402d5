package franz

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"inceptor/service/stream"
)

// slowJoin is how long joining the group may take before the log has what it waits
// for.
const slowJoin = 5 * time.Second

// watchJoin logs what joining the group waits for, if that takes long. The client
// itself logs nothing.
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

// groupWait asks the coordinator what the group waits for. Errors end the
// client's joining, which tells of them.
func (s *session) groupWait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, slowJoin)
	defer cancel()
	described, err := kadm.NewClient(s.client).DescribeGroups(ctx, s.cfg.Group)
	if err != nil {
		return nil
	}
	var members []string
	for _, m := range described[s.cfg.Group].Members {
		members = append(members, m.ClientID+" ("+m.ClientHost+")")
	}
	return stream.GroupWait(s.cfg.Group, described[s.cfg.Group].State, members)
}
