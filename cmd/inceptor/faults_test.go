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
	faultsSeed   = flag.Uint64("faults.seed", 0, "seed of TestFaults; 0: the time")
	faultsRounds = flag.Int("faults.rounds", 4, "rounds of TestFaults for each delivery guarantee")
	faultsFranz  = flag.Bool("faults.franz", false, "run TestFaults also with at_least_once on franz-go")
)

// Two processes of a group answer a steady load. Meanwhile they, their broker and the senders fail
// in ways that are drawn from a seed. Then a verifier checks what has become of each record.
func TestFaults(t *testing.T) {
	t.Parallel()
	seed := *faultsSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -run TestFaults -faults.seed %d -faults.rounds %d", seed, *faultsRounds)
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
			f := newFaultRun(t, mode.delivery, mode.client, rand.New(rand.NewPCG(seed, uint64(i))))
			f.run(*faultsRounds)
		})
	}
}

// recovery is how long the group may take, after a failure, to answer all that was sent before its
// end. It is a generous limit. Two records that crash every process until they are found take a
// minute: the group waits six seconds for the dead member after each crash.
const recovery = 5 * time.Minute

// outputs are the topics that a group writes to.
type outputs struct{ answers, deadLetters string }

func (o outputs) topics() []string { return []string{o.answers, o.deadLetters} }

// A faultRun is one run: a broker, the senders, the group of services, and the verifier. Only the
// test's goroutine uses its fields.
type faultRun struct {
	*testing.T
	rng              *rand.Rand // what it draws does not depend on timing
	delivery         string
	client           string
	model            string
	needed           string // file of the model; while it is a pipe, runs hang
	journal          string
	fullDisk         fullDisk
	broker           *testenv.Broker
	brokers          string // host:port, for clients to start from
	group            string
	outputs          outputs
	admin            *kgo.Client
	upstream         *upstream
	seen             *watcher
	services         []*supervised
	happened         map[string]int         // by name
	remarks          []string               // of the round
	processes        int                    // started so far
	deaths           int                    // of processes, by records
	endedHanging     map[producerEpoch]bool // the transactions that were ended here
	lookedForHanging time.Time
}

func newFaultRun(t *testing.T, delivery, client string, rng *rand.Rand) *faultRun {
	f := &faultRun{
		T: t, rng: rng, delivery: delivery, client: client, needed: filepath.Join(t.TempDir(), "needed"),
		journal: t.TempDir(), fullDisk: newFullDisk(t), happened: map[string]int{}, endedHanging: map[producerEpoch]bool{},
		group: "inceptor", outputs: outputs{outputTopic, deadLetterTopic},
	}
	unblockRuns(t, f.needed)
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

func (f *faultRun) committedOnly() bool { return f.delivery == "exactly_once" }

// arguments returns those of a service, with limits that are drawn.
func (f *faultRun) arguments(journal string) []string {
	pick := func(values ...string) string { return values[f.rng.IntN(len(values))] }
	return runArgs(f.T, f.brokers,
		"--model.dir", f.model, "--kafka.delivery", f.delivery, "--kafka.client", f.client, "--crash.journal", journal, "--input.max-bytes", "64KiB",
		"--tensorflow.intra-op-threads", "1", "--tensorflow.inter-op-threads", "1",
		"--kafka.window.records", pick("2", "8", "64"),
		"--kafka.transaction.records", pick("5", "50", "1000"))
}

func (f *faultRun) start(journal string) *supervised {
	f.Helper()
	f.processes++
	return watchMemory(start(f.T, f.arguments(journal)...))
}

// run goes through the rounds and then verifies.
func (f *faultRun) run(rounds int) {
	begin := time.Now()
	f.settle()
	nextEvent, nextFailure := f.dealer(slices.Sorted(maps.Keys(inputEvents))), f.dealer(slices.Sorted(maps.Keys(failures)))
	for round := range rounds {
		f.remarks = nil
		since := time.Now()
		f.round(nextEvent(), nextFailure())
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

// round begins an event on the input, has a failure, and ends the event before or after it.
func (f *faultRun) round(event, failure string) {
	f.count(event)
	end := inputEvents[event](f)
	ended := f.rng.IntN(2) == 0
	if ended {
		end()
	}
	f.count(failure)
	failures[failure](f)
	if !ended {
		end()
	}
}

// dealer returns a function that deals the names, shuffled, again and again, so that each comes
// equally often.
func (f *faultRun) dealer(names []string) (deal func() string) {
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

func (f *faultRun) count(what string) {
	f.happened[what]++
	f.remark("%s", what)
}

func (f *faultRun) remark(format string, args ...any) {
	f.remarks = append(f.remarks, fmt.Sprintf(format, args...))
}

// settle waits until all records acknowledged so far are answered or dead letters, and returns how
// long that took.
func (f *faultRun) settle() time.Duration {
	f.Helper()
	begin := time.Now()
	waiting := f.upstream.expected()
	for {
		if waiting = f.seen.without(waiting); len(waiting) == 0 {
			return time.Since(begin)
		}
		f.restartDead()
		f.endHangingTransactions()
		if time.Since(begin) > recovery {
			f.Fatalf("%s: after %q and %v, %d records are neither answered nor dead letters, the first: %s\n%s",
				f.delivery, f.remarks, recovery, len(waiting), slices.Min(waiting), f.offsets())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// restartDead restarts a service that a record has ended, as a supervisor would. It fails if a
// service has ended for any other reason: whatever happens to its broker, a service must wait.
func (f *faultRun) restartDead() {
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
