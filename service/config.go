package service

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"inceptor/model"
	"inceptor/model/remote"
	"inceptor/savedmodel"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// Config is all that can be set. The tags are those of the program's flags:
// a field's name there is its key everywhere, in the environment, in the
// configuration file and in messages.
type Config struct {
	Kafka      Kafka         `embed:"" prefix:"kafka." group:"Kafka"`
	Input      input.Config  `embed:"" prefix:"input." group:"Input"`
	Model      model.Config  `embed:"" prefix:"model." group:"Model"`
	Fallback   remote.Config `embed:"" prefix:"fallback." group:"Model server (model.backend local-then-remote or remote)"`
	TensorFlow TensorFlow    `embed:"" prefix:"tensorflow." group:"TensorFlow"`
	HTTP       HTTP          `embed:"" prefix:"http." group:"Operation"`
	Shutdown   Shutdown      `embed:"" prefix:"shutdown." group:"Operation"`
	Crash      Crash         `embed:"" prefix:"crash." group:"Operation"`
}

// Kafka says where records come from and go to.
type Kafka struct {
	Brokers    []string `default:"localhost:9092" help:"Brokers to start from, host:port; any one that answers is enough."`
	Group      string   `default:"inceptor" help:"Consumer group. Processes with the same group share the partitions."`
	Input      []string `default:"ImageInputTopic" help:"Topics that images are read from, one or several. All answers go to the same output: partition 3 of each topic to partition 3 of the output."`
	Output     string   `default:"ImageOutputTopic" help:"Topic that predictions are written to, in the order of the input."`
	DeadLetter string   `default:"ImageDeadLetterTopic" help:"Topic for what cannot be answered: the record whole, with reason and origin in its headers."`
	Shadow     string   `default:"ImageShadowTopic" help:"Topic for the answers of a shadow, with model.rollout=shadow: as they come, and not for every image."`
	Delivery   string   `default:"at_least_once" enum:"at_least_once,exactly_once" help:"Delivery guarantee: ${enum}. Nothing is lost with either. With at_least_once, some answers may come again after a crash, with the same id. With exactly_once, answers, dead letters and offsets are committed in one transaction: readers that set isolation.level=read_committed see each once; of an input that is transactional only committed records are read."`
	Client     string   `default:"kafka-go" enum:"kafka-go,franz-go" help:"With at_least_once: the library that talks to the brokers, ${enum}. With franz-go, an answer whose acknowledgement was lost is not written again, and of an input that is transactional only committed records are read. exactly_once always uses franz-go."`

	Start   stream.Start `default:"earliest" placeholder:"START" help:"Where a group without offsets begins: earliest, latest, or the first record of a given time or later, such as 2026-11-29T08:00:00Z. Partitions that a topic gets later always begin at their first record."`
	OnReset string       `default:"continue" enum:"continue,stop" help:"What happens when the position in a partition is lost, because the topic was recreated or retention removed records before they were read: ${enum}. continue: go on with the earliest record that may not have been read, warn, and count what is skipped or repeated. stop: end the service before it commits anything else."`

	SessionTimeout time.Duration `default:"6s" help:"How long the group waits for a process that sends no heartbeats, for example because it was killed, before others get its partitions. A process that is stopped leaves the group at once, unless kafka.instance-id is set. Must be within the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms."`
	InstanceID     string        `help:"With franz-go: the process's group.instance.id, for static membership. Each process of the group needs one of its own, the same after a restart, such as the pod's name in a StatefulSet. A process that comes back within kafka.session-timeout gets the same partitions, without a rebalance. So it does not leave the group when it stops, and its partitions wait for it that long." placeholder:"ID"`
	Rack           string        `help:"With franz-go: the process's client.rack. Records are read from a replica in the same rack, where the brokers' replica.selector.class allows it." placeholder:"RACK"`

	OnError      string        `default:"retry" enum:"retry,dead-letter,stop" help:"What becomes of a record that the model cannot answer through no fault of the record, once that has lasted for kafka.on-error-after: ${enum}. Until then it is tried again and again, with pauses, and its partition waits. retry: for ever. dead-letter: it becomes a dead letter with the reason given-up. stop: the service ends, with the record uncommitted."`
	OnErrorAfter time.Duration `default:"10m" help:"How long a record is tried before kafka.on-error=dead-letter or stop."`

	Tombstones string `default:"dead-letter" enum:"dead-letter,forward,drop" help:"What becomes of a tombstone, a record without a value: ${enum}. dead-letter: it becomes a dead letter with the reason empty. forward: the output gets a tombstone with the same key and headers, in order. drop: nothing is published; it is counted."`

	CreateTopics bool   `help:"Create topics that are missing; the outputs with the input's number of partitions and a slightly larger max.message.bytes, for a dead letter has headers on top. Otherwise a missing topic is an error."`
	Compression  string `default:"none" enum:"none,gzip,snappy,lz4,zstd" help:"Compression of the output: ${enum}."`

	Transaction Transaction `embed:"" prefix:"transaction."`

	Window Window `embed:"" prefix:"window."`
	SASL   SASL   `embed:"" prefix:"sasl."`
	TLS    TLS    `embed:"" prefix:"tls."`
}

// maxSession is far above what brokers allow by default, half an hour, and below
// what the protocol can say.
const maxSession = 24 * time.Hour

// Kafka.Delivery's and Kafka.Client's other values.
const (
	exactlyOnce = "exactly_once"
	franzGo     = "franz-go"
)

// The values of Kafka.OnError, besides "retry".
const (
	onErrorDeadLetter = "dead-letter"
	onErrorStop       = "stop"
)

// The values of Kafka.Tombstones, besides "dead-letter".
const (
	tombstonesForward = "forward"
	tombstonesDrop    = "drop"
)

// Window bounds the records in flight.
type Window struct {
	Records int         `default:"0" help:"Records of one partition in flight, at most: fetched and not yet published. 0: 64, or 2000 of what input.format tensor-json or example reads."`
	Bytes   input.Bytes `default:"32MiB" help:"Bytes of one partition in flight, at most. One record is always let in. It is also the memory that the records which were compressed together may take, if it is more than 32MiB and twice input.max-bytes; larger batches become one dead letter each, unread."`

	TotalBytes input.Bytes `default:"0" help:"Memory of what was fetched and is not answered, of all partitions together, at most. When it is reached, fetching waits. 0: an eighth of the least limit of the process's cgroups, or of the machine's memory, and at least 64MiB."`
}

// Transaction bounds the transactions of exactly_once.
type Transaction struct {
	Interval time.Duration `default:"100ms" help:"With exactly_once: how long an answer may wait for the end of its transaction, before which nobody sees it; that is the latency it may cost. A transaction ends at once when nothing else is in flight. Shorter ones cost throughput: the brokers write a few records for each."`
	Records  int           `default:"10000" help:"With exactly_once: input records of one transaction, at which it ends without waiting for its interval. They are kept in memory until it is committed."`
	Timeout  time.Duration `default:"10s" help:"With exactly_once: after how long the brokers abort the transaction of a process that is gone; they look every 10s. Until then readers of committed records wait behind it, unless the process comes back with the same kafka.transaction.id. Must not exceed the brokers' transaction.max.timeout.ms."`
	ID       string        `help:"With exactly_once: transactional id. Each process needs one of its own, the same again after a restart. Empty: the group, the machine's name and a number, as is right for several processes on a machine and for a StatefulSet; permissions can be given for the prefix GROUP-." placeholder:"ID"`
}

// TensorFlow says which runtime is used, and how.
type TensorFlow struct {
	Library        string `help:"TensorFlow's library, or the folder that holds libtensorflow.so.2 or libtensorflow_cc.so.2. Empty: beside the executable, in the checkout's .tools/tensorflow, then where the system looks." placeholder:"PATH"`
	IntraOpThreads int    `default:"0" help:"Threads that work on one operation; 0: one for each processor."`
	InterOpThreads int    `default:"0" help:"Operations that run side by side; 0: one for each processor."`

	GPU GPU `embed:"" prefix:"gpu."`
}

// GPU settings have no effect on a library without GPU support.
type GPU struct {
	AllowGrowth    bool    `default:"true" negatable:"" help:"Take the card's memory as it is needed, not nearly all of it at the start."`
	MemoryFraction float64 `default:"0" help:"Part of the card's memory that may be used, 0 to 1; 0: no bound."`
	Devices        string  `help:"Cards that may be used, such as 0,2. Empty: all." placeholder:"LIST"`
}

// HTTP says where health, metrics and the page are served.
type HTTP struct {
	Listen string `default:"127.0.0.1:8080" help:"Address of /healthz, /readyz, /metrics, /models and the page. Empty: none. It has no access control: leave it on a private address, and do not proxy /models/, for a proxy on this machine can make everybody's requests look local. The page and /models are served under an IP address, localhost or the host named here, not under other names."`
}

// Shutdown bounds the end.
type Shutdown struct {
	Timeout time.Duration `default:"20s" help:"How long SIGTERM, or a rebalance, waits for the records in flight. What is not published by then is not committed, and comes again. Give the process 15s more: without an answer from the broker, committing and leaving the group take that long. A second signal ends at once."`
}

// Crash says what is kept for the case that the process dies at work.
type Crash struct {
	Journal string `help:"Folder for a small file that notes the records being worked on, for the next process: if this one dies, by a crash in native code or for want of memory, the next works on them alone, one by one, and one that ends it again becomes a dead letter. Empty: a folder of the user's below the system's for temporary files; off: no journal. It must outlive the process: in a container, a volume." placeholder:"DIR"`
}

// Options are the settings as package savedmodel takes them.
func (t TensorFlow) Options() savedmodel.Options {
	return savedmodel.Options{
		IntraOpThreads: t.IntraOpThreads,
		InterOpThreads: t.InterOpThreads,
		AllowGrowth:    t.GPU.AllowGrowth,
		MemoryFraction: t.GPU.MemoryFraction,
		VisibleDevices: t.GPU.Devices,
	}
}

// ModelConfig is Model, with what other settings say of it.
func (c Config) ModelConfig() model.Config {
	m := c.Model
	m.Session, m.Content = c.TensorFlow.Options(), c.content()
	return m
}

// content is what the model is asked about, which input.format tells.
func (c Config) content() model.Content {
	switch c.Input.Format {
	case input.TensorJSON:
		return model.Rows
	case input.Example:
		return model.Examples
	}
	return model.Images
}

// maxPlaces bounds how many records are in the model at a time: what is worked
// on must find room in the journal.
const maxPlaces = 4096

// places is how many records are in the model at a time, if a run of the version that
// serves takes so many. Of images, as many as it has work for: those that run, and as
// many that are ready. Others are answered faster than they are fetched, and need no
// turns.
func (c Config) places(records int) int {
	if c.content() != model.Images {
		return maxPlaces
	}
	lanes := model.Lanes
	if c.Model.AsksServer() {
		lanes = max(lanes, c.Fallback.Concurrency)
	}
	return min(maxPlaces, 2*lanes*max(records, c.Model.MaxBatch()))
}

// window is Kafka.Window, with what stands for 0 there. What is no image costs
// so little that a partition could not be published and fetched as fast as 64
// records are answered.
func (c Config) window() stream.Window {
	w := stream.Window{Records: c.Kafka.Window.Records, Bytes: int64(c.Kafka.Window.Bytes)}
	if w.Records == 0 {
		w.Records = 64
		if c.content() != model.Images {
			w.Records = 2000
		}
	}
	return w
}

// leastTotalBytes is what all partitions together may hold where nothing is set,
// however little memory there is.
const leastTotalBytes = 64 << 20

// totalBytes is Kafka.Window.TotalBytes, with what stands for 0 there: an eighth
// of the memory. The collector lets the heap grow to twice of what is needed,
// and what is worked on is in memory once more, decoded; the rest is the
// model's. limit tells the memory there is.
func (c Config) totalBytes(limit func() (uint64, bool)) int64 {
	if set := c.Kafka.Window.TotalBytes; set > 0 {
		return int64(set)
	}
	memory, _ := limit()
	return max(leastTotalBytes, int64(memory/8))
}

// leastBatchBytes is what a batch of records may always take in memory,
// decompressed: each record costs some 200 bytes besides its own, so that of
// small ones an ordinary batch takes more than a small window.
const leastBatchBytes = 32 << 20

// batchBytes is what a batch of records may take in memory, decompressed: it
// has room for the largest image in base64.
func (c Config) batchBytes() int64 {
	return max(leastBatchBytes, int64(c.Kafka.Window.Bytes), 2*int64(c.Input.MaxBytes))
}

// Validate returns every problem, each naming its key.
func (c Config) Validate() []error {
	return slices.Concat(c.Kafka.Validate(), c.Input.Validate(), c.ValidateModel(), c.validateOperation())
}

// ValidateModel is Validate for what needs no Kafka.
func (c Config) ValidateModel() []error {
	problems := append(c.Model.Validate(), c.TensorFlow.Validate()...)
	if c.Model.AsksServer() {
		problems = append(problems, c.Fallback.Validate()...)
	}
	return problems
}

// usesFranz tells whether franz-go talks to the brokers, and not kafka-go.
func (k Kafka) usesFranz() bool { return k.Delivery == exactlyOnce || k.Client == franzGo }

// Validate returns every problem, each naming its key.
func (k Kafka) Validate() []error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(k.Brokers) == 0 {
		problem("kafka.brokers: must name at least one broker")
	}
	for _, b := range k.Brokers {
		if !isHostPort(b, 1) {
			problem("kafka.brokers: %q is not host:port", b)
		}
	}
	if k.Group == "" {
		problem("kafka.group: must not be empty")
	}
	topics := map[string]string{}
	if len(k.Input) == 0 {
		problem("kafka.input: must name at least one topic")
	}
	type topic struct{ key, name string }
	var named []topic
	for _, input := range k.Input {
		named = append(named, topic{"kafka.input", input})
	}
	for _, t := range append(named, topic{"kafka.output", k.Output}, topic{"kafka.dead-letter", k.DeadLetter}, topic{"kafka.shadow", k.Shadow}) {
		if err := checkTopicName(t.name); err != nil {
			problem("%s: %w", t.key, err)
		} else if other, taken := topics[t.name]; taken {
			problem("%s: %q is %s already", t.key, t.name, other)
		}
		topics[t.name] = t.key
	}
	if k.SessionTimeout < time.Second || k.SessionTimeout > maxSession {
		problem("kafka.session-timeout: %v is not between 1s and %v", k.SessionTimeout, maxSession)
	}
	if !k.usesFranz() {
		for _, s := range []struct {
			key string
			set bool
		}{{"instance-id", k.InstanceID != ""}, {"rack", k.Rack != ""}} {
			if s.set {
				problem("kafka.%s: kafka-go cannot do that: set kafka.client=franz-go", s.key)
			}
		}
	}
	if k.OnErrorAfter < 0 {
		problem("kafka.on-error-after: %v is negative", k.OnErrorAfter)
	}
	if k.Window.Records < 0 || k.Window.Records > 100_000 {
		problem("kafka.window.records: %d is not between 0 and 100000", k.Window.Records)
	}
	if k.Window.Bytes < 1 {
		problem("kafka.window.bytes: %d is less than 1", k.Window.Bytes)
	}
	if total := k.Window.TotalBytes; total != 0 && total < 1<<20 {
		problem("kafka.window.total-bytes: %d is less than 1MiB", total)
	}
	if k.Delivery == exactlyOnce {
		t := k.Transaction
		if t.Interval <= 0 {
			problem("kafka.transaction.interval: %v is not positive", t.Interval)
		}
		if t.Records < 1 || t.Records > 1_000_000 {
			problem("kafka.transaction.records: %d is not between 1 and 1000000", t.Records)
		}
		if t.Timeout < time.Second || t.Timeout < 2*t.Interval {
			problem("kafka.transaction.timeout: %v is less than 1s, or than twice kafka.transaction.interval", t.Timeout)
		}
	}
	return slices.Concat(errs, k.SASL.validate(), k.TLS.validate())
}

// isHostPort tells host:port, the port a number from least on; without a host
// it means this machine.
func isHostPort(s string, least uint64) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= least
}

// checkTopicName follows org.apache.kafka.common.internals.Topic.validate.
func checkTopicName(name string) error {
	switch {
	case name == "":
		return errors.New("must not be empty")
	case name == "." || name == "..":
		return fmt.Errorf("%q cannot be a topic's name", name)
	case len(name) > 249:
		return fmt.Errorf("a topic's name has at most 249 characters, this one %d", len(name))
	}
	for _, r := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r) {
			return fmt.Errorf("%q: a topic's name has letters, digits, dots, underscores and hyphens, not %q", name, r)
		}
	}
	return nil
}

// Validate returns every problem, each naming its key.
func (t TensorFlow) Validate() []error {
	var errs []error
	if t.IntraOpThreads < 0 {
		errs = append(errs, fmt.Errorf("tensorflow.intra-op-threads: %d is negative", t.IntraOpThreads))
	}
	if t.InterOpThreads < 0 {
		errs = append(errs, fmt.Errorf("tensorflow.inter-op-threads: %d is negative", t.InterOpThreads))
	}
	if t.GPU.MemoryFraction < 0 || t.GPU.MemoryFraction > 1 {
		errs = append(errs, fmt.Errorf("tensorflow.gpu.memory-fraction: %v is not between 0 and 1", t.GPU.MemoryFraction))
	}
	return errs
}

func (c Config) validateOperation() []error {
	var errs []error
	if l := c.HTTP.Listen; l != "" {
		if !isHostPort(l, 0) {
			errs = append(errs, fmt.Errorf("http.listen: %q is not host:port", l))
		}
	}
	if c.Shutdown.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("shutdown.timeout: %v is not positive", c.Shutdown.Timeout))
	}
	return errs
}
