package franz

import (
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The log says why a coordinator does not let us join.
func TestJoinIsExplained(t *testing.T) {
	for name, code := range map[string]*kerr.Error{"loads": kerr.CoordinatorLoadInProgress, "is not there": kerr.CoordinatorNotAvailable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
			c.ControlKey(kmsg.JoinGroup.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				res := r.ResponseKind().(*kmsg.JoinGroupResponse)
				res.ErrorCode = code.Code
				return res, nil, true
			})
			log := make(lines, 1000)
			cfg := config(c.ListenAddrs()...)
			cfg.Log = slog.New(slog.NewTextHandler(writer(func(line string) { log <- line }), nil))
			stop := start(t, cfg, testBound, echo)
			log.await(t, code.Message)
			stop()
		})
	}
}
