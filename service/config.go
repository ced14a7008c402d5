package service

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/remote"
	"inceptor/savedmodel"
	"inceptor/service/input"
	"inceptor/service/stream"
	"inceptor/service/tracing"
)

// Config has all settings. The tags are kong's: they hold the default, the help text and the key of
// each setting. The comment above a field continues its help, and is in docs/reference.md. The key
// is the same as a flag, in the environment, in the configuration file and in messages.
type Config struct {
	Kafka      Kafka         `embed:"" prefix:"kafka." group:"Kafka"`
	Input      input.Config  `embed:"" prefix:"input." group:"Input"`
	Model      model.Config  `embed:"" prefix:"model." group:"Model"`
	Fallback   remote.Config `embed:"" prefix:"fallback." group:"Model server (model.backend local-then-remote or remote)"`
	TensorFlow TensorFlow    `embed:"" prefix:"tensorflow." group:"TensorFlow"`
	HTTP       HTTP          `embed:"" prefix:"http." group:"Operation"`
	Log        Log           `embed:"" prefix:"log." group:"Operation"`
	Shutdown   Shutdown      `embed:"" prefix:"shutdown." group:"Operation"`
	Crash      Crash         `embed:"" prefix:"crash." group:"Operation"`

	// Tracer makes spans of the records; nil: there are none.
	Tracer *tracing.Tracer `kong:"-"`
}

// Kafka says where records come from and go to.
type Kafka struct {
	Brokers []string `default:"localhost:9092" help:"Brokers to connect to first. One is enough." common:""`
	// Processes of the same group share the partitions.
	Group string `default:"inceptor" help:"Consumer group." common:""`
	// All answers go to one output topic: those of partition 3 of any input to partition 3 of the
	// output.
	Input []string `default:"ImageInputTopic" help:"Topics to read images from." common:""`
	// They have the order of the input.
	Output string `default:"ImageOutputTopic" help:"Topic to write predictions to." common:""`
	// They are there whole, with the reason and the origin in the headers.
	DeadLetter string `default:"ImageDeadLetterTopic" help:"Topic for records that cannot be answered." common:""`
	// They have no order, and some images have none.
	Shadow string `default:"ImageShadowTopic" help:"Topic for the answers of a shadow."`
	// With at_least_once, some answers may be written again after a crash, with the same id. With
	// exactly_once, answers, dead letters and offsets are committed in one transaction, so that
	// readers with isolation.level=read_committed see each answer once; of a transactional input
	// only committed records are read.
	Delivery string `default:"at_least_once" enum:"at_least_once, exactly_once" help:"Delivery guarantee: ${enum}. Neither loses records." common:""`
	// franz-go does not write an answer again whose acknowledgement was lost, and reads only
	// committed records of a transactional input. exactly_once always uses franz-go.
	Client string `default:"kafka-go" enum:"kafka-go, franz-go" help:"Kafka client for at_least_once: ${enum}."`

	// With a time, such as 2026-11-29T08:00:00Z, it begins at the first record at or after it.
	// Partitions that are added to a topic later always begin at their first record.
	Start stream.Start `default:"earliest" placeholder:"START" help:"Where a group without committed offsets begins: earliest, latest or a time."`
	// That happens if the topic was recreated, or retention removed records before they were read.
	// continue reads on from the earliest record that may not have been read, logs a warning, and
	// counts the skipped and repeated records. stop ends the service before it commits anything
	// else.
	OnReset string `default:"continue" enum:"continue, stop" help:"What to do when the position in a partition is lost: ${enum}."`

	// Then it gives the partitions of that process, for example a killed one, to others. A process
	// that is stopped leaves the group at once, unless kafka.instance-id is set. The time must be
	// within the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms.
	SessionTimeout time.Duration `default:"6s" help:"How long the group waits for a process without heartbeats."`
	// Each process of the group needs its own id, the same after a restart, such as the pod's name
	// in a StatefulSet. A process that is back within kafka.session-timeout gets the same
	// partitions, without a rebalance. In return it does not leave the group when it stops, and its
	// partitions wait that long.
	InstanceID string `help:"group.instance.id of this process, for static membership. Needs franz-go." placeholder:"ID"`
	// Records are read from a replica in the same rack, if the brokers' replica.selector.class
	// allows it.
	Rack string `help:"client.rack of this process. Needs franz-go." placeholder:"RACK"`

	// This is about failures that are not the record's fault. For kafka.on-error-after the record
	// is tried again, with pauses, and its partition waits. Then retry goes on trying, dead-letter
	// makes it a dead letter with the reason given-up, and stop ends the service without
	// committing the record.
	OnError      string        `default:"retry" enum:"retry, dead-letter, stop" help:"What to do with a record that the model fails to answer: ${enum}."`
	OnErrorAfter time.Duration `default:"10m" help:"How long a record is tried before kafka.on-error applies."`

	// dead-letter makes it a dead letter with the reason empty. forward writes a tombstone with the
	// same key and headers to the output, in order. drop counts it, and publishes nothing.
	Tombstones string `default:"dead-letter" enum:"dead-letter, forward, drop" help:"What to do with a tombstone, a record without a value: ${enum}."`

	// Without it, a missing topic is an error. The output topics get the input's number of
	// partitions, and a slightly larger max.message.bytes, since a dead letter adds headers.
	CreateTopics bool   `help:"Create missing topics." common:""`
	Compression  string `default:"none" enum:"none, gzip, snappy, lz4, zstd" help:"Compression of the output: ${enum}."`

	Transaction Transaction `embed:"" prefix:"transaction."`

	Window Window `embed:"" prefix:"window."`
	SASL   SASL   `embed:"" prefix:"sasl."`
	TLS    TLS    `embed:"" prefix:"tls."`
}

// maxSession is far above half an hour, which brokers allow by default, and below
// the largest value of the protocol.
const maxSession = 24 * time.Hour

// Values of Kafka.Delivery and Kafka.Client that are not the default.
const (
	exactlyOnce = "exactly_once"
	franzGo     = "franz-go"
)

// Values of Kafka.OnError other than "retry".
const (
	onErrorDeadLetter = "dead-letter"
	onErrorStop       = "stop"
)

// Values of Kafka.Tombstones other than "dead-letter".
const (
	tombstonesForward = "forward"
	tombstonesDrop    = "drop"
)

// Window bounds the records in flight.
type Window struct {
	// A record is in flight from when it is fetched until its answer is published. Records of the
	// formats tensor-json and example are no images.
	Records int `default:"0" help:"Most records of one partition in flight. 0: 64, or 2000 that are no images."`
	// A batch may take as much memory when it is decompressed, or 32MiB or twice input.max-bytes if
	// that is more. A larger batch is not read, and becomes one dead letter.
	Bytes input.Bytes `default:"32MiB" help:"Most bytes of one partition in flight. One record is always allowed."`

	// At the limit, fetching waits. The memory is the limit of the process's cgroups, or that of
	// the machine if there is no limit. The default is at least 64MiB.
	TotalBytes input.Bytes `default:"0" help:"Most memory for the records of all partitions in flight. 0: an eighth of the memory."`
}

// Transaction bounds the transactions of exactly_once.
type Transaction struct {
	// Readers see its answers only when it ends, so this much latency may be added. A transaction
	// ends at once when nothing else is in flight. Shorter transactions lower the throughput: the
	// brokers write a few records for each.
	Interval time.Duration `default:"100ms" help:"With exactly_once: how long a transaction may stay open."`
	// When it has so many, it ends. They stay in memory until it is committed.
	Records int `default:"10000" help:"With exactly_once: most input records in one transaction."`
	// They check every 10s. Until then readers of committed records wait, unless the process is
	// back with the same kafka.transaction.id. Must not exceed the brokers'
	// transaction.max.timeout.ms.
	Timeout time.Duration `default:"10s" help:"With exactly_once: when the brokers abort the transaction of a dead process."`
	// Each process needs its own id, the same after a restart. The default suits several processes
	// on one machine, and a StatefulSet. Permissions can then be given for the prefix GROUP-.
	ID string `help:"With exactly_once: transactional id. Empty: made of group, machine and a number." placeholder:"ID"`
}

// TensorFlow says which runtime is used, and how.
type TensorFlow struct {
	// The folder has libtensorflow.so.2 or libtensorflow_cc.so.2. If this is empty, the
	// executable's folder, the checkout's .tools/tensorflow and the system's library path are
	// searched.
	Library        string `help:"TensorFlow's library or its folder. Empty: where a library usually is." placeholder:"PATH" common:""`
	IntraOpThreads int    `default:"0" help:"Threads for one operation. 0: one for each processor."`
	InterOpThreads int    `default:"0" help:"Operations that run in parallel. 0: one for each processor."`

	GPU GPU `embed:"" prefix:"gpu."`
}

// GPU settings have no effect on a library without GPU support.
type GPU struct {
	AllowGrowth    bool    `default:"true" negatable:"" help:"Allocate the GPU's memory as it is needed, not nearly all of it at the start."`
	MemoryFraction float64 `default:"0" help:"Part of the GPU's memory that may be used, 0 to 1. 0: no limit."`
	Devices        string  `help:"GPUs that may be used, such as 0,2. Empty: all." placeholder:"LIST"`
}

// HTTP says where health, metrics and the page are served.
type HTTP struct {
	// There is no access control, so use a private address. Do not proxy /models/: behind a proxy
	// on this machine all requests can look local. The page and /models answer only requests to an
	// IP address, to localhost or to the host named here.
	Listen string `default:"127.0.0.1:8080" help:"Address of /healthz, /readyz, /metrics, /models and the page. Empty: none." common:""`

	// They are JPEGs of at most 160 pixels a side, of the first images after the start and of
	// a few while somebody looks at the page. They are kept in memory only. Leave it off if images
	// are sensitive.
	Thumbnails bool `help:"Show small pictures of the latest images on the page."`
}

// Log says what is logged beside what concerns the service as a whole.
type Log struct {
	// The lines have log.level info. At most 100 are written a second; how many are left out is
	// logged. A path or URL, which may be confidential, is logged as the answer has it: a URL
	// without its query.
	Records bool `help:"Log a line for each answer, with path or id, label and score, and each dead letter."`
}

// Shutdown says how long the service takes to stop.
type Shutdown struct {
	// Records that are not published by then are not committed, and are read again. Allow the
	// process 15s more before you kill it: if the broker does not answer, the commit and leaving
	// the group take that long. A second signal ends the process at once.
	Timeout time.Duration `default:"20s" help:"How long to wait for the records in flight, at SIGTERM or a rebalance."`
}

// Crash says where the journal is, which finds records that crash the process.
type Crash struct {
	// If native code crashes the process, or the kernel kills it for memory, the next process
	// handles the records of this journal one by one. A record that kills the process again becomes
	// a dead letter. Empty: a folder of the user in the system's folder for temporary files. In a
	// container, use a volume. Where others may write to the folder, such as to a volume of
	// Kubernetes, one of the user's own is made in it.
	Journal string `help:"Folder that outlives the process, for the list of records in the model. off: none." placeholder:"DIR"`
}

// Options returns the settings for package savedmodel.
func (t TensorFlow) Options() savedmodel.Options {
	return savedmodel.Options{
		IntraOpThreads: t.IntraOpThreads,
		InterOpThreads: t.InterOpThreads,
		AllowGrowth:    t.GPU.AllowGrowth,
		MemoryFraction: t.GPU.MemoryFraction,
		VisibleDevices: t.GPU.Devices,
	}
}

// ModelConfig returns Model, completed by the other settings that concern it.
func (c Config) ModelConfig() model.Config {
	m := c.Model
	m.Session, m.Content = c.TensorFlow.Options(), c.content()
	return m
}

// content returns what the model classifies, by input.format.
func (c Config) content() infer.Content {
	switch c.Input.Format {
	case input.TensorJSON:
		return infer.Rows
	case input.Example:
		return infer.Examples
	}
	return infer.Images
}

// maxRecordsInModel bounds how many records are in the model at a time: they must
// fit into the journal.
const maxRecordsInModel = 4096

// maxInModel returns how many records are in the model at a time, if a run of the
// serving version takes maxBatch. Of images it is twice as many as can run: while
// some run, the next ones are decoded. Other records are answered faster than they
// are fetched, and need no limit but the journal's.
func (c Config) maxInModel(maxBatch int) int {
	if c.content() != infer.Images {
		return maxRecordsInModel
	}
	lanes := infer.Lanes
	if c.Model.AsksServer() {
		lanes = max(lanes, c.Fallback.Concurrency)
	}
	return min(maxRecordsInModel, 2*lanes*max(maxBatch, c.Model.MaxBatch()))
}

// window returns Kafka.Window with its defaults for 0. Records that are no images
// are answered so fast that a window of 64 would be empty before the next ones
// are fetched.
func (c Config) window() stream.Window {
	w := stream.Window{Records: c.Kafka.Window.Records, Bytes: int64(c.Kafka.Window.Bytes)}
	if w.Records == 0 {
		w.Records = 64
		if c.content() != infer.Images {
			w.Records = 2000
		}
	}
	return w
}

// minTotalBytes is the least default of Kafka.Window.TotalBytes.
const minTotalBytes = 64 << 20

// totalBytes returns Kafka.Window.TotalBytes with its default for 0: an eighth of
// the memory, which limit returns. The garbage collector lets the heap grow to
// twice what is used, and records in the model are in memory a second time,
// decoded; the rest is for the model.
func (c Config) totalBytes(limit func() (uint64, bool)) int64 {
	if set := c.Kafka.Window.TotalBytes; set > 0 {
		return int64(set)
	}
	memory, _ := limit()
	return max(minTotalBytes, int64(memory/8))
}

// minBatchBytes is the least value of batchBytes. Each record takes some 200 bytes
// more than its content, so an ordinary batch of small records can exceed a small
// window.
const minBatchBytes = 32 << 20

// batchBytes returns how much memory a decompressed batch of records may take. The
// largest image fits in base64.
func (c Config) batchBytes() int64 {
	return max(minBatchBytes, int64(c.Kafka.Window.Bytes), 2*int64(c.Input.MaxBytes))
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
	errs = slices.Concat(errs, k.validateTopics(), k.Window.validate())
	if k.Delivery == exactlyOnce {
		errs = append(errs, k.Transaction.validate()...)
	}
	return slices.Concat(errs, k.SASL.validate(), k.TLS.validate())
}

// validateTopics checks that the topics have valid and different names.
func (k Kafka) validateTopics() []error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
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
	return errs
}

func (w Window) validate() []error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if w.Records < 0 || w.Records > 100_000 {
		problem("kafka.window.records: %d is not between 0 and 100000", w.Records)
	}
	if w.Bytes < 1 {
		problem("kafka.window.bytes: %d is less than 1", w.Bytes)
	}
	if total := w.TotalBytes; total != 0 && total < 1<<20 {
		problem("kafka.window.total-bytes: %d is less than 1MiB", total)
	}
	return errs
}

func (t Transaction) validate() []error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if t.Interval <= 0 {
		problem("kafka.transaction.interval: %v is not positive", t.Interval)
	}
	if t.Records < 1 || t.Records > 1_000_000 {
		problem("kafka.transaction.records: %d is not between 1 and 1000000", t.Records)
	}
	if t.Timeout < time.Second || t.Timeout < 2*t.Interval {
		problem("kafka.transaction.timeout: %v is less than 1s, or than twice kafka.transaction.interval", t.Timeout)
	}
	return errs
}

// isHostPort tells whether s is host:port, with a port of at least minPort. An
// empty host means this machine.
func isHostPort(s string, minPort uint64) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, " \t\r\n@/,") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= minPort
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
	if f := t.GPU.MemoryFraction; math.IsNaN(f) || f < 0 || f > 1 {
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
