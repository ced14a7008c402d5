package franz

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/internal/retry"
	"inceptor/service/stream/internal/diagnosis"
)

// slowJoin is how long joining the group may take before the log says what it waits
// for.
const slowJoin = 5 * time.Second

// A joinWatch logs what joining the group waits for, if that takes long. The client
// itself logs nothing.
type joinWatch struct {
	// Set once.
	*sessionContext
	client *kgo.Client
}

func (w *joinWatch) run(life context.Context) {
	operation := "join group " + w.cfg.Group
	since, told := time.Now(), false
	for retry.Sleep(life, time.Second) {
		if g := w.latest.Load(); g != nil && !g.drains() {
			if told {
				told = false
				w.outages.Recovered(operation)
			}
			since = time.Now()
			continue
		}
		if time.Since(since) < slowJoin {
			continue
		}
		if err := w.reason(life); err != nil && life.Err() == nil {
			told = true
			w.outages.Failed(operation, err)
		}
	}
}

// reason asks the coordinator what the group waits for. If the coordinator does
// not answer, the client's joining fails too, and that is logged.
func (w *joinWatch) reason(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, slowJoin)
	defer cancel()
	described, err := kadm.NewClient(w.client).DescribeGroups(ctx, w.cfg.Group)
	if err != nil {
		return nil
	}
	var members []string
	for _, m := range described[w.cfg.Group].Members {
		members = append(members, m.ClientID+" ("+m.ClientHost+")")
	}
	return diagnosis.GroupWait(w.cfg.Group, described[w.cfg.Group].State, members)
}
