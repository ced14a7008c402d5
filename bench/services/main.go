// Command services measures services that do the same job side by side: they
// read images from a Kafka topic and write predictions to another, of one model,
// on the same machine and broker:
//
//	inceptor          with the default settings: at least once
//	exactly-once      the same with kafka.delivery=exactly_once
//	bfloat16          the same with model.precision=bfloat16, on processors that have it
//	int8              the same with model.precision=int8, on a copy from "inceptor quantize"
//	python            service.py: confluent-kafka and TensorFlow for Python
//	onnxruntime       service.py with onnxruntime
//	onnxruntime-int8  the same in int8, with ranges of the same images
//	streams           streams/Service.java: Kafka Streams and TensorFlow for Java
//
// Each works off a backlog, then gets records at a fixed rate. What they answer
// must be the same, as far as precision and decoder allow. They change places
// from round to round, and those that wait for their turn hold their memory and
// do nothing. What is printed, as Markdown, are medians with their spread;
// ratios are made within rounds.
//
// Run it in the checkout's folder after `testenv/setup.sh bench`. Arguments
// after the flags are settings of inceptor:
//
//	go run ./bench/services -model tiny -only inceptor,exactly-once -- --kafka.window.records 500
//
// ONEDNN_MAX_CPU_ISA, such as AVX2 or AVX512_CORE_VNNI, caps the instructions of all services but
// those of onnxruntime.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"inceptor/bench/measure"
	"inceptor/testenv"
)

const (
	python    = ".tools/venv/bin/python"
	inception = "savedmodel/inception"
)

type options struct {
	rounds, starts int
	phase          time.Duration
	rate           float64
	model          string
	only           []string
	settings       []string
}

func main() { measure.Main("services", run) }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("services", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "rounds; each value is the median of them")
	flags.IntVar(&o.starts, "starts", 3, "starts of each that are measured")
	seconds := flags.Float64("seconds", 9, "seconds of each backlog, about, and of each fixed rate")
	flags.Float64Var(&o.rate, "rate", 0, "the fixed `rate`, records a second; 0: 40 % of what the slowest did in the round")
	flags.StringVar(&o.model, "model", "inception", "inception on photos; or what costs nothing: tiny on images of 246 bytes, dense on JSON rows of 200")
	only := flags.String("only", "", "services to measure; empty: all of "+strings.Join(names("inception"), ",")+" that run the model")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.phase = time.Duration(*seconds * float64(time.Second))
	o.only, o.settings = names(o.model), flags.Args()
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, name := range o.only {
		if !slices.Contains(names(o.model), name) {
			return o, fmt.Errorf("-only: %q is none of %s, which run the model %s", name, strings.Join(names(o.model), ", "), o.model)
		}
	}
	if !slices.Contains([]string{"inception", "tiny", "dense"}, o.model) {
		return o, fmt.Errorf("-model: %q is none of inception, tiny and dense", o.model)
	}
	if o.rounds < 1 || o.starts < 1 || o.phase < time.Second || o.rate < 0 {
		return o, errors.New("want at least one round, one start and one second, and no negative rate")
	}
	return o, nil
}

// A bench is one run of this command.
type bench struct {
	options
	binary   string
	modelDir string
	int8Dir  string   // modelDir with ranges
	absent   []string // contenders whose precision this processor has not
	records  [][]byte
	guess    float64       // records a second, before anything is measured
	linger   time.Duration // of the sender
	kafka    *testenv.Kafka
	services []*service
	expected []prediction // of the records of a start
	results  measure.Results
	system   measure.System
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	b := &bench{options: o, results: measure.Results{}}
	dir, err := os.MkdirTemp("", "inceptor-services")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer b.close()
	if err := b.prepare(ctx, dir); err != nil {
		return err
	}
	for round := range b.rounds {
		if err := b.round(ctx, round); err != nil {
			return err
		}
	}
	measure.Progress("")
	return b.write(ctx, os.Stdout)
}

// prepare starts everything, and measures how long that takes.
func (b *bench) prepare(ctx context.Context, dir string) (err error) {
	if b.binary, err = measure.Build(ctx, dir); err != nil {
		return err
	}
	if err := b.chooseModel(ctx, dir); err != nil {
		return err
	}
	if slices.Contains(b.only, quantized) {
		if b.int8Dir, err = measure.Quantize(ctx, b.binary, b.modelDir, dir); err != nil {
			return err
		}
	}
	if b.kafka, err = measure.StartKafka(ctx, dir); err != nil {
		return err
	}
	b.system.Watch(b.kafka.Pid())
	for _, c := range contenders {
		if !slices.Contains(b.only, c.name) {
			continue
		}
		s := &service{contender: c, topics: measure.Topics{Input: c.name + "-in", Output: c.name + "-out", DeadLetter: c.name + "-dead"}}
		if s.client, err = measure.NewClient(ctx, b.kafka.Addr(), s.topics, b.linger); err != nil {
			return err
		}
		b.services = append(b.services, s)
		err := b.startAll(ctx, s)
		if errors.Is(err, errPrecision) {
			b.absent = append(b.absent, s.name)
			b.services = b.services[:len(b.services)-1]
			s.close()
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// startAll starts a service as often as that is measured.
func (b *bench) startAll(ctx context.Context, s *service) error {
	for i := range b.starts {
		measure.Progress("%s: start %d of %d", s.name, i+1, b.starts)
		if err := b.start(ctx, s, i == b.starts-1); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) chooseModel(ctx context.Context, dir string) (err error) {
	if b.model == "inception" {
		b.modelDir, b.guess = inception, 12
		b.records, err = measure.Photos()
		return err
	}
	b.modelDir, b.guess = filepath.Join(dir, b.model), 3000
	b.linger = 5 * time.Millisecond // as Kafka's own producer does
	kind := "image"
	if b.model == "dense" {
		kind = "dense"
		b.guess = 20_000
	}
	for i := range 200 {
		if kind == "dense" {
			b.records = append(b.records, row(i))
		} else {
			b.records = append(b.records, bitmap(byte(i)))
		}
	}
	if out, err := exec.CommandContext(ctx, python, "-B", "testenv/tiny.py", "--kind", kind, "--out", b.modelDir).CombinedOutput(); err != nil {
		return fmt.Errorf("tiny.py: %w\n%s", err, out)
	}
	return nil
}

// row is 32 numbers as JSON, in 193 bytes.
func row(seed int) []byte {
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	b := []byte{'['}
	for range 32 {
		b = strconv.AppendFloat(b, random.Float64(), 'f', 3, 64)
		b = append(b, ',')
	}
	b[len(b)-1] = ']'
	return b
}

// bitmap is an image of 8×8 pixels.
func bitmap(grey byte) []byte {
	head := "BM\xf6\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00" +
		"\x28\x00\x00\x00\x08\x00\x00\x00\x08\x00\x00\x00\x01\x00\x18\x00\x00\x00\x00\x00\xc0\x00\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	return append([]byte(head), slices.Repeat([]byte{grey}, 8*8*3)...)
}

// round measures each service once.
func (b *bench) round(ctx context.Context, round int) error {
	turn := func(i int) *service { return b.services[(i+round)%len(b.services)] }
	slowest := 0.0
	for i := range b.services {
		s := turn(i)
		measure.Progress("round %d of %d: %s, backlog", round+1, b.rounds, s.name)
		rate, err := b.throughput(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if slowest == 0 || rate < slowest {
			slowest = rate
		}
	}
	rate := b.rate
	if rate == 0 {
		rate = measure.LatencyLoad * slowest
	}
	for i := range b.services {
		s := turn(i)
		measure.Progress("round %d of %d: %s, fixed rate", round+1, b.rounds, s.name)
		if err := b.latency(ctx, s, rate); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	b.results.Add(fixedRate, rate)
	return nil
}

// close stops all that was started.
func (b *bench) close() {
	for _, s := range b.services {
		s.close()
	}
	if b.kafka != nil {
		b.kafka.Kill()
	}
	measure.Progress("")
}
