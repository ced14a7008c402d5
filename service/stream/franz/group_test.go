package franz

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A broker that cannot be reached says nothing about our membership. At least once, it
// is asked again until it answers. Exactly once gains nothing by that.
func TestStillMember(t *testing.T) {
	for name, test := range map[string]struct {
		exactlyOnce bool
		want        error
	}{
		"at least once": {false, kerr.GroupIDNotFound}, // the broker's answer
		"exactly once":  {true, syscall.ECONNREFUSED},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := kfake.NewCluster(kfake.NumBrokers(1))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var dials atomic.Int32
			client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"), kgo.RequestRetries(0),
				kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
					if dials.Add(1) <= 3 {
						return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
					}
					return new(net.Dialer).DialContext(ctx, network, address)
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			m := &membership{sessionContext: &sessionContext{cfg: config(c.ListenAddrs()...), sessionTimeout: time.Minute}, exactlyOnce: test.exactlyOnce}
			if err := m.stillMember(t.Context(), client); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}
