package main

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

var (
	faultsSeed   = flag.Uint64("faults.seed", 0, "what TestFaults draws from; 0: the time")
	faultsRounds = flag.Int("faults.rounds", 4, "rounds of TestFaults for each delivery guarantee")
	faultsFranz  = flag.Bool("faults.franz", false, "TestFaults with at_least_once on franz-go, too")
)

// Two processes of a group answer while records come all the time, and while
// they, their broker and those who send are hurt in ways drawn from a seed. A
// verifier outside of them then counts what came of each record.
func TestFaults(t *testing.T) {
	t.Parallel() // it mostly waits
	seed := *faultsSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("again: -run TestFaults -faults.seed %d -faults.rounds %d", seed, *faultsRounds)
	modes := []struct{ name, delivery, client string }{
		{"at_least_once", "at_least_once", "kafka-go"},
		{"exactly_once", "exactly_once", "franz-go"},
	}
	if *faultsFranz {
		modes = append(modes, struct{ name, delivery, client string }{"franz-go", "at_least_once", "franz-go"})
	}
	for i, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			f := newFaults(t, mode.delivery, mode.client, rand.New(rand.NewPCG(seed, uint64(i))))
			f.run(*faultsRounds)
		})
	}
}

// recovery is how long the group may take, after a fault, for all that was
// sent before its end. It is the bound of a failure: two records that end every
// process which works on them, until each has been found out, take a minute,
// for the group waits six seconds for the dead after each death.
const recovery = 5 * time.Minute

// outputs are the topics that a group writes to.
type outputs struct{ answers, deadLetters string }

func (o outputs) topics() []string { return []string{o.answers, o.deadLetters} }

// A faults is one run: a broker, those who send, the group, and who looks on.
type faults struct {
	*testing.T
	rng       *rand.Rand // drawn from by the test's goroutine alone, the same whatever the timing
	delivery  string
	client    string
	model     string
	needed    string // file of the model; while it is a pipe, runs hang
	journal   string
	fullDisk  fullDisk
	broker    *testenv.Broker
	brokers   string // host:port of those to start from
	group     string
	outputs   outputs
	admin     *kgo.Client
	upstream  *upstream
	seen      *watcher
	services  []*supervised
	happened  map[string]int // by name
	remarks   []string       // of the round
	processes int            // started so far
	deaths    int            // of processes, by records
	mended    map[ended]bool // the transactions that mend has ended; the epoch is the one in them
	mendedAt  time.Time
}

func newFaults(t *testing.T, delivery, client string, rng *rand.Rand) *faults {
	f := &faults{
		T: t, rng: rng, delivery: delivery, client: client, needed: filepath.Join(t.TempDir(), "needed"),
		journal: t.TempDir(), fullDisk: newFullDisk(t), happened: map[string]int{}, mended: map[ended]bool{},
		group: "inceptor", outputs: outputs{outputTopic, deadLetterTopic},
	}
	runOn(t, f.needed)
	f.model = testenv.Tiny(t, "--crash", "--hungry", "--needs", f.needed)
	f.broker = testenv.StartBroker(t)
	f.brokers = f.broker.Addr()
	f.admin = newClient(t, f.brokers)
	createTopics(t, f.brokers, 4, nil, append(f.outputs.topics(), inputTopic)...)
	f.seen = watch(t, f.brokers, f.committedOnly(), f.outputs.topics())
	for range 2 {
		f.services = append(f.services, f.start(f.journal))
	}
	f.upstream = newUpstream(t, f.brokers)
	return f
}

func (f *faults) committedOnly() bool { return f.delivery == "exactly_once" }

// arguments are those of a service, with limits that are drawn.
func (f *faults) arguments(journal string) []string {
	pick := func(values ...string) string { return values[f.rng.IntN(len(values))] }
	return runArgs(f.T, f.brokers,
		"--model.dir", f.model, "--kafka.delivery", f.delivery, "--kafka.client", f.client, "--crash.journal", journal, "--input.max-bytes", "64KiB",
		"--tensorflow.intra-op-threads", "1", "--tensorflow.inter-op-threads", "1",
		"--kafka.window.records", pick("2", "8", "64"),
		"--kafka.transaction.records", pick("5", "50", "1000"))
}

func (f *faults) start(journal string) *supervised {
	f.Helper()
	f.processes++
	return watchMemory(start(f.T, f.arguments(journal)...))
}

// run goes through the rounds, in each a burden on the input and a fault, and
// then verifies.
func (f *faults) run(rounds int) {
	begin := time.Now()
	f.settle()
	burdens, kinds := f.deck(slices.Sorted(maps.Keys(burdens))), f.deck(slices.Sorted(maps.Keys(kinds)))
	for round := range rounds {
		f.remarks = nil
		since := time.Now()
		f.round(burdens(), kinds())
		line := fmt.Sprintf("%s in %v", strings.Join(f.remarks, ", "), time.Since(since).Round(time.Millisecond))
		if f.rng.IntN(3) > 0 {
			line += fmt.Sprintf("; settled after %v", f.settle().Round(time.Millisecond))
		}
		f.Logf("%s, round %d: %s", f.delivery, round, line)
	}
	f.upstream.stop()
	f.settle()
	for _, p := range f.services {
		f.terminate(p)
	}
	f.verify(rounds, time.Since(begin))
}

// round begins the burden before the fault, and ends it before or after it.
func (f *faults) round(burden, kind string) {
	f.happen(burden)
	end := burdens[burden](f)
	ended := f.rng.IntN(2) == 0
	if ended {
		end()
	}
	f.happen(kind)
	kinds[kind](f)
	if !ended {
		end()
	}
}

// deck deals the names, shuffled, over and over: so each comes equally often.
func (f *faults) deck(names []string) (deal func() string) {
	var left []string
	return func() string {
		if len(left) == 0 {
			left = slices.Clone(names)
			f.rng.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		next := left[0]
		left = left[1:]
		return next
	}
}

func (f *faults) happen(what string) {
	f.happened[what]++
	f.remark("%s", what)
}

func (f *faults) remark(format string, args ...any) {
	f.remarks = append(f.remarks, fmt.Sprintf(format, args...))
}

// settle waits until all that has been acknowledged by now is answered or a
// dead letter.
func (f *faults) settle() time.Duration {
	f.Helper()
	begin := time.Now()
	waiting := f.upstream.due()
	for {
		if waiting = f.seen.without(waiting); len(waiting) == 0 {
			return time.Since(begin)
		}
		f.living()
		f.mend()
		if time.Since(begin) > recovery {
			f.Fatalf("%s: after %q and %v, %d records are neither answered nor dead letters, the first: %s\n%s",
				f.delivery, f.remarks, recovery, len(waiting), slices.Min(waiting), f.offsets())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// living restarts a service that a record has ended, as whoever supervises it
// would, and fails where one has ended by itself: whatever happens around it,
// it has to wait for.
func (f *faults) living() {
	f.Helper()
	for i, p := range f.services {
		select {
		case err := <-p.done:
			if !p.diedOfRecord() {
				f.Fatalf("%s: after %q, service %d ended by itself: %v", f.delivery, f.remarks, i, err)
			}
			f.deaths++
			f.services[i] = f.start(f.journal)
		default:
		}
	}
}
