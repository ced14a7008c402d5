package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service"
	"inceptor/testenv"
)

// bitmap is a BMP of 8×8, all of one grey.
func bitmap(grey byte) []byte {
	head := "BM\xf6\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00" +
		"\x28\x00\x00\x00\x08\x00\x00\x00\x08\x00\x00\x00\x01\x00\x18\x00\x00\x00\x00\x00\xc0\x00\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	return append([]byte(head), slices.Repeat([]byte{grey}, 8*8*3)...)
}

// A record that ends the process takes out itself, not the partition: whoever
// restarts the process, as a supervisor does, sees it go on after as many
// starts as docs/delivery.md says.
func TestDeadlyRecords(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, test := range []struct {
		name       string
		option     string // of tiny.py
		delivery   string
		partitions int32
		deadly     []int
		deaths     [2]int // at least, at most
	}{
		{"crash", "--crash", "at_least_once", 2, []int{23}, [2]int{2, 2}},
		{"two crash at least once", "--crash", "at_least_once", 1, []int{23, 24}, [2]int{3, 4}},
		{"two crash exactly once", "--crash", "exactly_once", 1, []int{23, 24}, [2]int{3, 4}},
		{"stack overflow", "--overflow", "at_least_once", 1, []int{23}, [2]int{4, 4}}, // leaves nothing else
		{"killed", "--hang", "at_least_once", 1, []int{23}, [2]int{4, 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			hangs := filepath.Join(t.TempDir(), "hangs")
			options := []string{test.option}
			if test.option == "--hang" {
				options = append(options, hangs)
			}
			model, broker := testenv.Tiny(t, options...), testenv.StartBroker(t)
			createTopics(t, broker.Addr(), test.partitions, nil, inputTopic, outputTopic, deadLetterTopic)
			out := followCommitted(t, broker.Addr(), outputTopic, deadLetterTopic)
			const n = 60
			var records []*kgo.Record
			for i := range n {
				grey := byte(10 + i)
				if slices.Contains(test.deadly, i) {
					grey = 255
				}
				records = append(records, &kgo.Record{Topic: inputTopic, Key: fmt.Appendf(nil, "%d", i), Value: bitmap(grey)})
			}
			produce(t, broker.Addr(), records...)

			args := runArgs(t, broker.Addr(), "--model.dir", model, "--crash.journal", t.TempDir(), "--kafka.delivery", test.delivery)
			p, deaths := supervise(t, broker.Addr(), args, func(p *process) bool {
				if _, err := os.Stat(hangs); err == nil { // as the kernel does, when there is no memory left
					_ = p.cmd.Process.Kill()
					_ = os.Remove(hangs)
				}
				return out.distinct(outputTopic, deadLetterTopic) == n
			})
			if deaths < test.deaths[0] || deaths > test.deaths[1] {
				t.Errorf("%d deaths, want %d to %d", deaths, test.deaths[0], test.deaths[1])
			}
			dead := map[string]bool{}
			for _, r := range out.of(deadLetterTopic) {
				dead[string(r.Key)] = true
				if reason := lastHeader(r, "inceptor-reason"); reason != "crashed" {
					t.Errorf("dead letter %s: %s", r.Key, reason)
				}
			}
			for _, i := range test.deadly {
				if !dead[fmt.Sprint(i)] {
					t.Errorf("record %d is no dead letter", i)
				}
			}
			if len(dead) != len(test.deadly) {
				t.Errorf("%d dead letters, want %d", len(dead), len(test.deadly))
			}
			checkOrder(t, out.of(outputTopic), n-len(test.deadly))
			if code := p.terminate(30 * time.Second); code != 0 {
				t.Errorf("SIGTERM: exit status %d", code)
			}
		})
	}
}

// Twenty kills of a service that is well, at any moment, cost no record
// anything.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel() // it mostly waits
	model, broker := testenv.Tiny(t), testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	args := runArgs(t, broker.Addr(), "--model.dir", model, "--crash.journal", t.TempDir())
	n, suspected := 0, 0
	var p *process
	for range 20 {
		var records []*kgo.Record
		for i := range 3000 {
			records = append(records, &kgo.Record{Topic: inputTopic, Key: fmt.Appendf(nil, "%d", n+i), Value: bitmap(byte(i % 250))})
		}
		produce(t, broker.Addr(), records...)
		n += len(records)
		p = start(t, args...)
		p.await(`msg=assigned .*partitions="\[ImageInputTopic-0 ImageInputTopic-1\]"`, time.Minute)
		time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
		p.kill()
		leave(t, broker.Addr())
		if strings.Contains(p.output(), "a process died at work") {
			suspected++
		}
	}
	p = start(t, args...)
	out.awaitDistinct(t, n, 3*time.Minute, outputTopic, deadLetterTopic)
	if dead := out.of(deadLetterTopic); len(dead) > 0 {
		t.Errorf("%d dead letters, the first %s for %s", len(dead), dead[0].Key, lastHeader(dead[0], "inceptor-error"))
	}
	if suspected == 0 {
		t.Error("no record was under way at any kill")
	}
	t.Logf("%d records; records were under way at %d kills", n, suspected)
	if code := p.terminate(30 * time.Second); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// supervise starts the program again each time it ends, until there is no more
// to do, and returns the process that runs then, and how many have died.
func supervise(t *testing.T, broker string, args []string, done func(p *process) bool) (p *process, deaths int) {
	t.Helper()
	p = start(t, args...)
	for end := time.Now().Add(3 * time.Minute); !done(p); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not done after %d deaths", deaths)
		}
		select {
		case <-p.done:
			if code := p.cmd.ProcessState.ExitCode(); code == 0 || code == 1 {
				t.Fatalf("it ended for another reason:\n%s", p.output())
			}
			deaths++
			leave(t, broker)
			p = start(t, args...)
		default:
		}
	}
	return p, deaths
}

// leave lets the members of the group leave it that did not do so themselves;
// who comes after them would have to wait for their session's end.
func leave(t *testing.T, broker string) {
	t.Helper()
	const group = "inceptor" // the default
	client := newClient(t, broker)
	defer client.Close()
	described, err := kadm.NewClient(client).DescribeGroups(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = group
	for _, m := range described[group].Members {
		member := kmsg.NewLeaveGroupRequestMember()
		member.MemberID = m.MemberID
		req.Members = append(req.Members, member)
	}
	if _, err := req.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}
}

// checkOrder finds n records answered, each for the first time in the order of
// its partition.
func checkOrder(t *testing.T, answers []*kgo.Record, n int) {
	t.Helper()
	order, seen := map[int32]int64{}, map[string]bool{}
	for _, r := range answers {
		id := lastHeader(r, "inceptor-id")
		var partition int32
		var offset int64
		if _, err := fmt.Sscanf(id, inputTopic+"-%d-%d", &partition, &offset); err != nil {
			t.Fatal(err)
		}
		if !seen[id] && offset < order[partition] {
			t.Errorf("%s was answered after %d", id, order[partition])
		}
		seen[id] = true
		order[partition] = max(order[partition], offset)
	}
	if len(seen) != n {
		t.Errorf("%d records were answered, want %d", len(seen), n)
	}
}

// A new version that crashes the process is taken back, and not the record
// that it crashed on.
func TestVersionCrashes(t *testing.T) {
	t.Parallel() // it mostly waits
	base, broker := testenv.Tiny(t), testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 1, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	args := runArgs(t, broker.Addr(), "--model.dir", base, "--crash.journal", t.TempDir(), "--model.probation.period", "5m")
	p := start(t, args...)
	p.await("serving model=inception version=1", time.Minute)
	crashing := filepath.Join(testenv.Tiny(t, "--crash", "--version", "2"), "2")
	if err := os.Rename(crashing, filepath.Join(base, "2")); err != nil {
		t.Fatal(err)
	}
	p.await("serving model=inception version=2", time.Minute)
	produce(t, broker.Addr(), &kgo.Record{Topic: inputTopic, Key: []byte("white"), Value: bitmap(255)})
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatal("it does not crash")
	}
	p = start(t, args...)
	p.await(`taken back.* version=2 cause=crash`, time.Minute)
	out.awaitDistinct(t, 1, time.Minute, outputTopic)
	var a service.Answer
	if err := json.Unmarshal(out.of(outputTopic)[0].Value, &a); err != nil {
		t.Fatal(err)
	}
	if dead := out.of(deadLetterTopic); versionOf(a) != 1 || len(dead) > 0 {
		t.Errorf("version %d answered, %d dead letters", versionOf(a), len(dead))
	}
	if code := p.terminate(30 * time.Second); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
