package franz

import (
	"flag"
	"testing"

	"inceptor/service/stream/streamtest"
	"inceptor/testenv"
)

var nightly = flag.Bool("nightly", false, "TestMemory moves 3 GB for each guarantee, not 100 MB")

// Not parallel: it measures the heap.
func TestMemory(t *testing.T) {
	k := testenv.StartBroker(t, "group.min.session.timeout.ms=1000")
	for name, suite := range map[string]func([]string) streamtest.Suite{"ExactlyOnce": suite, "AtLeastOnce": atLeastOnceSuite} {
		t.Run(name, func(t *testing.T) {
			if *nightly {
				suite([]string{k.Addr()}).Memory(t, 30, 990_000, 256<<20)
			} else {
				suite([]string{k.Addr()}).Memory(t, 5, 200_000, 32<<20)
			}
		})
	}
}
