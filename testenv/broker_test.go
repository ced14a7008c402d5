package testenv

import (
	"strings"
	"testing"
	"time"
)

func TestBroker(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	b := StartBroker(t)
	t.Logf("started in %v", time.Since(begin))
	b.Freeze()
	b.Thaw()
	if err := b.await(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	begin = time.Now()
	b.Restart()
	t.Logf("restarted in %v", time.Since(begin))
}

// A broker that lost its port to another one must not be taken for ready.
func TestBrokerOfAnother(t *testing.T) {
	other := StartBroker(t)
	mine := &Kafka{dir: t.TempDir(), addr: other.Addr(), id: newID(), gone: make(chan struct{})}
	if err := mine.await(t.Context(), time.Second); err == nil || !strings.Contains(err.Error(), "another broker answers at "+other.Addr()) {
		t.Errorf("got %v", err)
	}
}
