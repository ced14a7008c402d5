package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// clusterPartitions is the number of each topic's.
const clusterPartitions = 3

// A roleKind is a way to read the input.
type roleKind struct{ name, delivery, client string }

// roleKinds are compared; the first two in `make test`, too.
var roleKinds = []roleKind{
	{"at_least_once", "at_least_once", "kafka-go"},
	{"exactly_once", "exactly_once", "franz-go"},
	{"at_least_once-franz-go", "at_least_once", "franz-go"},
	librdkafka,
}

// librdkafka is what the services are compared with.
var librdkafka = roleKind{name: "librdkafka"}

func (k roleKind) outputs() outputs {
	return outputs{outputTopic + "-" + k.name, deadLetterTopic + "-" + k.name}
}

// A role is a client of the cluster with a group and outputs of its own, and
// the verifier of what it does.
type role struct {
	*faults
	kind    roleKind
	command func(brokers string) *exec.Cmd
}

// newRole starts a service, or the client of librdkafka. The verifier needs no
// login.
func newRole(c *clusterRun, kind roleKind, model, open string) *role {
	out := kind.outputs()
	r := &role{kind: kind, faults: &faults{
		T: c.T, delivery: kind.delivery, client: kind.client, brokers: open,
		group: "group-" + kind.name, outputs: out, admin: c.admin, upstream: c.upstream,
		happened: map[string]int{},
	}}
	r.command = func(brokers string) *exec.Cmd {
		return program(runArgs(c.T, brokers, "--model.dir", model, "--kafka.group", r.group,
			"--kafka.delivery", kind.delivery, "--kafka.client", kind.client,
			"--kafka.sasl.mechanism", "SCRAM-SHA-256", "--kafka.sasl.user", kind.name,
			"--kafka.sasl.password-file", c.password,
			"--kafka.output", out.answers, "--kafka.dead-letter", out.deadLetters,
			"--tensorflow.intra-op-threads", "1", "--tensorflow.inter-op-threads", "1")...)
	}
	if kind == librdkafka {
		python, rivals := testenv.Python(c.T), testenv.Rivals(c.T)
		r.command = func(brokers string) *exec.Cmd {
			cmd := exec.Command(python, "-B", filepath.Join("testdata", "librdkafka.py"),
				"--brokers", brokers, "--user", kind.name, "--password-file", c.password,
				"--group", r.group, "--input", inputTopic, "--output", out.answers)
			cmd.Env = append(os.Environ(), "PYTHONPATH="+rivals)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			return cmd
		}
	}
	r.seen = watch(c.T, open, r.committedOnly(), out.topics(), impatient()...)
	r.services = []*supervised{r.begin(c.brokers)}
	return r
}

func (r *role) begin(brokers string) *supervised {
	r.Helper()
	return &supervised{process: startCommand(r.T, r.command(brokers))}
}

// restart ends the process, and starts another one from other brokers.
func (r *role) restart(brokers string) {
	r.Helper()
	r.terminate(r.services[0])
	r.services[0] = r.begin(brokers)
}

// partitionsAnswered counts those with an answer to a record that was sent
// after a moment.
func (r *role) partitionsAnswered(since time.Time) int {
	r.upstream.mu.Lock()
	defer r.upstream.mu.Unlock()
	answered := map[int32]bool{}
	for id, s := range r.upstream.sent {
		if s.at.After(since) && !r.seen.first(id).IsZero() {
			partition, _ := position(r.T, id)
			answered[partition] = true
		}
	}
	return len(answered)
}

// finish stops everything, verifies what came of the records, and logs how long
// each client stood still.
func (c *clusterRun) finish() {
	c.Helper()
	c.upstream.stop()
	c.settle()
	for _, r := range c.roles {
		r.terminate(r.services[0])
	}
	sent := c.upstream.sent // nothing is sent any more
	first := c.roles[0]
	input := first.readAll(true, inputTopic)
	first.checkInput(input, sent)
	came := appearances(input, false)

	lines := []string{fmt.Sprintf("| %d records | client | longest pause | longest wait |", len(sent)), "| --- | --- | --- | --- |"}
	for _, s := range c.spans {
		lines = append(lines, fmt.Sprintf("| %s | the sender | %.1f s | |", s.scenario, longestPause(came, s).Seconds()))
	}
	for _, r := range c.roles {
		entries := r.entries()
		appeared := appearances(entries, r.committedOnly())
		for _, s := range c.spans {
			lines = append(lines, fmt.Sprintf("| %s | %s | %.1f s | %.1f s |", s.scenario, r.kind.name,
				longestPause(appeared, s).Seconds(), longestWait(came, appeared, s).Seconds()))
		}
		r.check(entries, sent)
	}
	c.Log("\n" + strings.Join(lines, "\n"))
}

// entries are all that the outputs hold for their readers, and the ends of
// transactions.
func (f *faults) entries() []*kgo.Record {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), recovery)
	defer cancel()
	topics := f.outputs.topics()
	return f.readEntries(ctx, f.committedOnly(), f.stableEnds(ctx, topics...), topics...)
}

// check fails where the outputs are not what the guarantee says. The copies of
// librdkafka are no answers: of them only the number is logged.
func (r *role) check(entries []*kgo.Record, sent map[string]sent) {
	r.Helper()
	if r.kind == librdkafka {
		ids := map[string]int{}
		for _, e := range entries {
			ids[lastHeader(e, "inceptor-id")]++
		}
		r.Logf("%s: %d of %d records, %d repeats", r.kind.name, len(ids), len(sent), len(entries)-len(ids))
		return
	}
	v := r.judgeImages(entries, sent)
	r.Logf("%s: %d records, %d answers, %d repeats, %d lost, %d out of order", r.kind.name, len(sent), v.answers, v.repeats, v.lost, v.disorder)
}

// judgeImages fails where what came of images is not what the guarantee says.
func (f *faults) judgeImages(entries []*kgo.Record, sent map[string]sent) verdict {
	f.Helper()
	v := f.judge(slices.DeleteFunc(entries, func(e *kgo.Record) bool { return e.Attrs.IsControl() }), sent)
	bad := v.lost + v.unasked + v.disorder + v.wrong + v.deadLetters
	if f.committedOnly() {
		bad += v.repeats
	}
	if bad > 0 {
		f.Errorf("%s: %+v", f.delivery, v)
	}
	return v
}

// appearances are the times, by the brokers' clock, when each record could be
// read first: by its id, or by that of the record that it answers. One of a
// transaction can be read at the transaction's end.
func appearances(entries []*kgo.Record, transactions bool) map[string]time.Time {
	type lane struct {
		topic     string
		partition int32
		producer  int64
	}
	at := map[string]time.Time{}
	appear := func(r *kgo.Record, when time.Time) {
		id := lastHeader(r, "inceptor-id")
		if id == "" {
			id = idOf(r)
		}
		if first, ok := at[id]; !ok || when.Before(first) {
			at[id] = when
		}
	}
	open := map[lane][]*kgo.Record{}
	for _, r := range entries {
		l := lane{r.Topic, r.Partition, r.ProducerID}
		switch {
		case !transactions:
			if !r.Attrs.IsControl() {
				appear(r, r.Timestamp)
			}
		case r.Attrs.IsControl():
			for _, answered := range open[l] {
				appear(answered, r.Timestamp)
			}
			delete(open, l)
		default:
			open[l] = append(open[l], r)
		}
	}
	return at
}

// longestPause is the longest time in which nothing appeared in a partition.
func longestPause(appeared map[string]time.Time, within span) (longest time.Duration) {
	times := map[string][]time.Time{} // by partition
	for id, at := range appeared {
		if !at.Before(within.begin) && !at.After(within.end) {
			partition := id[:strings.LastIndex(id, "-")]
			times[partition] = append(times[partition], at)
		}
	}
	for _, of := range times {
		slices.SortFunc(of, time.Time.Compare)
		last := within.begin
		for _, at := range of {
			longest = max(longest, at.Sub(last))
			last = at
		}
	}
	return longest
}

// longestWait is the longest time from a record to its answer.
func longestWait(came, answered map[string]time.Time, within span) (longest time.Duration) {
	for id, at := range came {
		if !at.Before(within.begin) && !at.After(within.end) {
			longest = max(longest, answered[id].Sub(at))
		}
	}
	return longest
}
