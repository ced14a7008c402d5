package franz

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// refusedFor is how long a session goes on while no broker listens.
const refusedFor = 30 * time.Second

var errSilent = errors.New("heartbeats have ended while a transaction waits for one")

// onBlocked is called when the group goes on, and waits for us; or when it has
// gone on without us, which franz-go would tell only after we have let it.
func (s *session) onBlocked(ctx context.Context, client *kgo.Client) {
	if err := s.stillMember(ctx, client); err != nil {
		s.end(fmt.Errorf("group %s: %w", s.cfg.Group, err))
		return
	}
	allowed := s.allowed.Load()
	s.blocked.Store(true)
	signal(s.wake)
	s.watchHeartbeats(ctx, allowed)
}

// watchHeartbeats ends the session if franz-go sends none while it waits for us.
// It does send them as long as a rebalance waits, but not any more after one has
// failed, as when a broker was frozen, though the broker may still know us. The
// end of a transaction needs one, and would wait for it for ever: franz-go
// begins anew only when we let it, after that end.
func (s *session) watchHeartbeats(ctx context.Context, allowed int64) {
	for beats := s.beats.Load(); sleep(ctx, s.session/2) && s.allowed.Load() == allowed; {
		now := s.beats.Load()
		if now == beats {
			s.end(fmt.Errorf("group %s: %w", s.cfg.Group, errSilent))
			return
		}
		beats = now
	}
}

// stillMember returns an error if the group has gone on without us, or that cannot be
// known. Where no broker listens, as while the only one restarts, there is no group that
// goes on: at least once, another try saves the last commit. A transaction cannot end
// after franz-go's own heartbeat has failed, so exactly once does not wait.
func (s *session) stillMember(ctx context.Context, client *kgo.Client) error {
	for begin := time.Now(); ; {
		err := s.heartbeat(ctx, client)
		if s.bound != nil || !errors.Is(err, syscall.ECONNREFUSED) || time.Since(begin) > refusedFor || !sleep(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

func (s *session) heartbeat(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, s.session)
	defer cancel()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group = s.cfg.Group
	req.MemberID, req.Generation = client.GroupMetadata()
	if s.cfg.Instance != "" {
		req.InstanceID = &s.cfg.Instance
	}
	res, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(res.ErrorCode)
	}
	if errors.Is(err, kerr.RebalanceInProgress) {
		return nil
	}
	return err
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (s *session) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if key == kmsg.Heartbeat.Int16() && e.Err() == nil {
		s.beats.Add(1)
	}
}
