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

// A deadlyCase is records that end the process.
type deadlyCase struct {
	name         string
	option       string // of tiny.py
	delivery     string
	partitions   int32
	deadly       []int
	fewest, most int // deaths of the process
}

// A record that ends the process becomes a dead letter, and the partition goes on. Whoever restarts
// the process, as a supervisor does, sees it go on after as many starts as docs/delivery.md says.
func TestDeadlyRecords(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	t.Run("cases", func(t *testing.T) { // the broker outlives them
		for _, test := range []deadlyCase{
			{"crash", "--crash", "at_least_once", 2, []int{23}, 2, 2},
			{"two-crash-at-least-once", "--crash", "at_least_once", 1, []int{23, 24}, 3, 4},
			{"two-crash-exactly-once", "--crash", "exactly_once", 1, []int{23, 24}, 3, 4},
			{"stack-overflow", "--overflow", "at_least_once", 1, []int{23}, 4, 4}, // leaves nothing else
			{"killed", "--hang", "at_least_once", 1, []int{23}, 4, 4},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.check(t, broker.Addr())
			})
		}
	})
}

func (c deadlyCase) check(t *testing.T, broker string) {
	hangs := filepath.Join(t.TempDir(), "hangs")
	options := []string{c.option}
	if c.option == "--hang" {
		options = append(options, hangs)
	}
	model, topics := testenv.Tiny(t, options...), topicsOf(c.name)
	createTopics(t, broker, c.partitions, nil, topics.input, topics.output, topics.deadLetter)
	out := followCommitted(t, broker, topics.output, topics.deadLetter)
	const n = 60
	var records []*kgo.Record
	for i := range n {
		grey := byte(10 + i)
		if slices.Contains(c.deadly, i) {
			grey = 255
		}
		records = append(records, &kgo.Record{Topic: topics.input, Key: fmt.Appendf(nil, "%d", i), Value: bitmap(grey)})
	}
	produce(t, broker, records...)

	args := runArgs(t, broker, "--model.dir", model, "--crash.journal", t.TempDir(), "--kafka.delivery", c.delivery)
	p, deaths := supervise(t, broker, topics.group, append(args, topics.args()...), func(p *process) bool {
		if _, err := os.Stat(hangs); err == nil { // as the kernel does when memory runs out
			_ = p.cmd.Process.Kill()
			_ = os.Remove(hangs)
		}
		return out.distinct(topics.output, topics.deadLetter) == n
	})
	if deaths < c.fewest || deaths > c.most {
		t.Errorf("%d deaths, want %d to %d", deaths, c.fewest, c.most)
	}
	dead := map[string]bool{}
	for _, r := range out.from(topics.deadLetter) {
		dead[string(r.Key)] = true
		if reason := lastHeader(r, "inceptor-reason"); reason != "crashed" {
			t.Errorf("dead letter %s: %s", r.Key, reason)
		}
	}
	for _, i := range c.deadly {
		if !dead[fmt.Sprint(i)] {
			t.Errorf("record %d is no dead letter", i)
		}
	}
	if len(dead) != len(c.deadly) {
		t.Errorf("%d dead letters, want %d", len(dead), len(c.deadly))
	}
	checkOrder(t, out.from(topics.output), n-len(c.deadly))
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// Twenty kills of a healthy service, at any moment, make no record a dead letter.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
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
		p.await(`msg=assigned .*partitions="\[ImageInputTopic-0 ImageInputTopic-1\]"`, patience)
		time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
		p.kill()
		leaveGroup(t, broker.Addr(), "inceptor")
		if strings.Contains(p.output(), "a process died with records in the model") {
			suspected++
		}
	}
	p = start(t, args...)
	out.awaitDistinct(t, n, patience, outputTopic, deadLetterTopic)
	if dead := out.from(deadLetterTopic); len(dead) > 0 {
		t.Errorf("%d dead letters, the first %s for %s", len(dead), dead[0].Key, lastHeader(dead[0], "inceptor-error"))
	}
	if suspected == 0 {
		t.Error("no record was under way at any kill")
	}
	t.Logf("%d records; records were under way at %d kills", n, suspected)
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// supervise starts the program again each time it dies, until done. It returns the process that
// runs then, and how many have died.
func supervise(
	t *testing.T, broker, group string, args []string, done func(p *process) bool,
) (p *process, deaths int) {
	t.Helper()
	p = start(t, args...)
	for end := time.Now().Add(patience); !done(p); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not done after %d deaths", deaths)
		}
		select {
		case <-p.done:
			if code := p.cmd.ProcessState.ExitCode(); code == 0 || code == 1 {
				t.Fatalf("it ended for another reason:\n%s", p.output())
			}
			deaths++
			leaveGroup(t, broker, group)
			p = start(t, args...)
		default:
		}
	}
	return p, deaths
}

// leaveGroup removes the members of killed processes from the group. The next process would have to
// wait until their sessions end.
func leaveGroup(t *testing.T, broker, group string) {
	t.Helper()
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

// checkOrder checks that n records are answered, in the order of their partitions. Repeats may come
// later.
func checkOrder(t *testing.T, answers []*kgo.Record, n int) {
	t.Helper()
	order, seen := map[int32]int64{}, map[string]bool{}
	for _, r := range answers {
		id := lastHeader(r, "inceptor-id")
		partition, offset := position(t, id)
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

// A new version that crashes the process is rolled back, and not the record
// that it crashed on.
func TestVersionCrashes(t *testing.T) {
	t.Parallel()
	base, broker := testenv.Tiny(t), testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 1, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	args := runArgs(t, broker.Addr(), "--model.dir", base, "--crash.journal", t.TempDir(), "--model.probation.period", "5m")
	p := start(t, args...)
	p.await(`msg="version serving" model=inception version=1`, patience)
	crashing := filepath.Join(testenv.Tiny(t, "--crash", "--version", "2"), "2")
	if err := os.Rename(crashing, filepath.Join(base, "2")); err != nil {
		t.Fatal(err)
	}
	p.await(`msg="version serving" model=inception version=2`, patience)
	produce(t, broker.Addr(), &kgo.Record{Topic: inputTopic, Key: []byte("white"), Value: bitmap(255)})
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("it does not crash")
	}
	p = start(t, args...)
	p.await(`rolled back.* version=2 cause=crash`, patience)
	out.awaitDistinct(t, 1, patience, outputTopic)
	var a service.Answer
	if err := json.Unmarshal(out.from(outputTopic)[0].Value, &a); err != nil {
		t.Fatal(err)
	}
	if dead := out.from(deadLetterTopic); versionOf(a) != 1 || len(dead) > 0 {
		t.Errorf("version %d answered, %d dead letters", versionOf(a), len(dead))
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
