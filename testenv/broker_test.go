package testenv

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestBroker(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	b := StartBroker(t)
	t.Logf("started in %v", time.Since(begin))
	if log, err := os.ReadFile(b.log()); err != nil || strings.Contains(string(log), "[cds") {
		t.Errorf("the archive of classes is not used: %v\n%s", err, log)
	}
	b.Freeze()
	b.Thaw()
	if err := b.await(t.Context(), startLimit); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	begin = time.Now()
	b.Restart()
	t.Logf("restarted in %v", time.Since(begin))
}

// A broker that has lost its port to another one is not ready.
func TestBrokerOfAnother(t *testing.T) {
	other := StartBroker(t)
	mine := &Kafka{dir: t.TempDir(), addr: other.Addr(), id: newID(), gone: make(chan struct{})}
	if err := mine.await(t.Context(), time.Second); err == nil || !strings.Contains(err.Error(), "another broker answers at "+other.Addr()) {
		t.Errorf("got %v", err)
	}
}
