package kafkago

import (
	"flag"
	"testing"

	"inceptor/testenv"
)

var nightly = flag.Bool("nightly", false, "TestMemory moves 3 GB, not 100 MB")

// Not parallel: it measures the heap.
func TestMemory(t *testing.T) {
	s := suite([]string{testenv.StartBroker(t, "group.min.session.timeout.ms=1000").Addr()})
	if *nightly {
		s.Memory(t, 30, 990_000, 256<<20)
	} else {
		s.Memory(t, 5, 200_000, 32<<20)
	}
}
