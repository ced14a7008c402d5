package testenv

import (
	"path/filepath"
	"syscall"
	"testing"
)

// A Broker is a Kafka broker of a test.
type Broker struct {
	*Kafka
	tb testing.TB
}

// StartBroker starts a broker and waits until it answers. The end of the test stops it. Properties,
// "key=value", are those of StartKafka.
func StartBroker(tb testing.TB, properties ...string) *Broker {
	tb.Helper()
	k, err := StartKafka(tb.Context(), filepath.Join(Root(tb), ".tools/kafka/lib"), tb.TempDir(), properties...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Kill)
	return &Broker{k, tb}
}

// Restart starts a killed broker again and waits until it answers.
func (b *Broker) Restart() {
	b.tb.Helper()
	if err := b.Kafka.Restart(b.tb.Context()); err != nil {
		b.tb.Fatal(err)
	}
}

// Freeze stops the broker's process: connections stay open, but nothing answers.
func (b *Broker) Freeze() { b.signal(syscall.SIGSTOP) }

// Thaw resumes a frozen broker.
func (b *Broker) Thaw() { b.signal(syscall.SIGCONT) }

func (b *Broker) signal(s syscall.Signal) {
	b.tb.Helper()
	if err := b.Signal(s); err != nil {
		b.tb.Fatal(err)
	}
}
