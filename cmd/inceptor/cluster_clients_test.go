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

// clusterPartitions is the number of partitions of each topic.
const clusterPartitions = 3

// A clientKind is a way to read the input.
type clientKind struct{ name, delivery, client string }

// clientKinds are compared. `make test` runs the first two.
var clientKinds = []clientKind{
	{"at_least_once", "at_least_once", "kafka-go"},
	{"exactly_once", "exactly_once", "franz-go"},
	{"at_least_once-franz-go", "at_least_once", "franz-go"},
	librdkafka,
}

// librdkafka is a client that the services are compared with.
var librdkafka = clientKind{name: "librdkafka"}

func (k clientKind) outputs() outputs {
	return outputs{outputTopic + "-" + k.name, deadLetterTopic + "-" + k.name}
}

// A clusterClient reads the cluster with a group and outputs of its own, and verifies these.
type clusterClient struct {
	*faultRun
	kind    clientKind
	command func(brokers string) *exec.Cmd
}

// newClusterClient starts a service, or the client of librdkafka. The verifier needs no login.
func newClusterClient(c *clusterRun, kind clientKind, model, open string) *clusterClient {
	out := kind.outputs()
	r := &clusterClient{kind: kind, faultRun: &faultRun{
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
	r.seen = watch(c.T, open, r.committedOnly(), out.topics(), shortTimeouts()...)
	r.services = []*supervised{r.begin(c.brokers)}
	return r
}

func (r *clusterClient) begin(brokers string) *supervised {
	r.Helper()
	return &supervised{process: startCommand(r.T, r.command(brokers))}
}

// restart ends the process and starts another one, with these brokers.
func (r *clusterClient) restart(brokers string) {
	r.Helper()
	r.terminate(r.services[0])
	r.services[0] = r.begin(brokers)
}

// partitionsAnswered counts the partitions with an answer to a record that was sent after since.
func (r *clusterClient) partitionsAnswered(since time.Time) int {
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

// finish stops everything, verifies the records, and logs how long each client paused.
func (c *clusterRun) finish() {
	c.Helper()
	c.upstream.stop()
	c.settle()
	for _, r := range c.clients {
		r.terminate(r.services[0])
	}
	sent := c.upstream.sent // nothing is sent any more
	first := c.clients[0]
	input := first.readAll(true, inputTopic)
	first.checkInput(input, sent)
	sentTimes := visibleTimes(input, false)

	lines := []string{fmt.Sprintf("| %d records | client | longest pause | longest wait |", len(sent)), "| --- | --- | --- | --- |"}
	for _, s := range c.spans {
		lines = append(lines, fmt.Sprintf("| %s | the sender | %.1f s | |", s.scenario, longestPause(sentTimes, s).Seconds()))
	}
	for _, r := range c.clients {
		entries := r.entries()
		appeared := visibleTimes(entries, r.committedOnly())
		for _, s := range c.spans {
			lines = append(lines, fmt.Sprintf("| %s | %s | %.1f s | %.1f s |", s.scenario, r.kind.name,
				longestPause(appeared, s).Seconds(), longestWait(sentTimes, appeared, s).Seconds()))
		}
		r.check(entries, sent)
	}
	c.Log("\n" + strings.Join(lines, "\n"))
}

// entries returns all records that readers of the outputs see, and the ends of transactions.
func (f *faultRun) entries() []*kgo.Record {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), recovery)
	defer cancel()
	topics := f.outputs.topics()
	return f.readEntries(ctx, f.committedOnly(), f.stableEnds(ctx, topics...), topics...)
}

// check fails if the outputs do not fulfil the guarantee. The copies that librdkafka's client makes
// are no answers: only their number is logged.
func (r *clusterClient) check(entries []*kgo.Record, sent map[string]sentRecord) {
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

// judgeImages fails if the answers do not fulfil the guarantee.
func (f *faultRun) judgeImages(entries []*kgo.Record, sent map[string]sentRecord) verdict {
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

// visibleTimes returns when each record could first be read, by the brokers' clock. The key is its
// id, or that of the record that it answers. A record of a transaction can be read at the
// transaction's end.
func visibleTimes(entries []*kgo.Record, transactions bool) map[string]time.Time {
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

// longestPause returns the longest time in which no record appeared in a partition.
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

// longestWait returns the longest time from a record to its answer.
func longestWait(sentTimes, answered map[string]time.Time, within span) (longest time.Duration) {
	for id, at := range sentTimes {
		if !at.Before(within.begin) && !at.After(within.end) {
			longest = max(longest, answered[id].Sub(at))
		}
	}
	return longest
}
