// Command bench measures how much of a machine's speed inceptor uses, with Inception v3 on photos
// of 640 pixels. It measures in turns
//
//	raw       a loop of bare C API calls on decoded pixels, and decoding alone
//	classify  decode and run in process, through model.Manager.Classify
//	service   the service, a process, between two topics of a real broker
//	latency   the same at 40 % of that load, at a fixed rate
//	start     from the start of the process to the first answer
//
// and, if -only names it and after testenv/setup.sh bench,
//
//	outside   the raw loop in another library: onnxruntime, on the same weights
//
// in several rounds. It prints as Markdown medians with their spread, and how much of the speed of
// each part the next one reaches. Other work on the machine affects all parts of a round alike, so
// ratios are made within rounds.
//
// Run it in the checkout's folder after `testenv/setup.sh test`; `make bench`
// does both. Arguments after the flags are settings of the service, as
// "inceptor run" takes them: go run ./bench -only classify,service -- --model.batch.max 4
//
// With --model.precision int8 all parts run in int8: inceptor's on a copy of the model with ranges
// that "inceptor quantize" measures on other photos. ONEDNN_MAX_CPU_ISA, such as AVX2 or
// AVX512_CORE_VNNI, caps the instructions of all parts but outside.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"inceptor/bench/measure"
	"inceptor/service"
	"inceptor/testenv"
)

const modelDir = "savedmodel/inception"

var topics = measure.Topics{Input: "ImageInputTopic", Output: "ImageOutputTopic", DeadLetter: "ImageDeadLetterTopic"}

var parts = []string{"raw", "classify", "service", "latency", "start"}

// optional is a part that needs more than the tests do.
const optional = "outside"

type options struct {
	rounds, starts int
	phase          time.Duration // of classify, service and latency, each; the others get a part of it
	only           []string
	binary, out    string
	service        []string
}

func main() { measure.Main("bench", run) }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "rounds; each value is the median of them")
	seconds := flags.Float64("seconds", 9, "seconds of each of classify, service and latency in a round")
	only := flags.String("only", strings.Join(parts, ","), "parts to measure, and "+optional+"; ratios to a part need it")
	short := flags.Bool("short", false, "a rough answer within 90 seconds: 2 rounds, 5 seconds")
	flags.StringVar(&o.binary, "binary", "", "inceptor to measure as the service; empty: build it")
	flags.StringVar(&o.out, "out", "", "file to write the tables to as well")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.starts = 3
	if *short {
		o.rounds, *seconds, o.starts = 2, 5, 1
	}
	o.phase = time.Duration(*seconds * float64(time.Second))
	o.only, o.service = strings.Split(*only, ","), flags.Args()
	for _, part := range o.only {
		if part != optional && !slices.Contains(parts, part) {
			return o, fmt.Errorf("-only: %q is none of %s, %s", part, strings.Join(parts, ", "), optional)
		}
	}
	if !o.has("start") {
		o.starts = 1
	}
	if o.rounds < 1 || o.phase < time.Second {
		return o, errors.New("want at least one round, and one second")
	}
	return o, nil
}

func (o options) has(part string) bool { return slices.Contains(o.only, part) }

// A bench is one run of this command. Only the main goroutine uses its fields.
type bench struct {
	options
	photos  [][]byte
	config  service.Config // with the service's arguments, and the model's directory
	results measure.Results
	system  *measure.System

	raw      *raw
	outside  *outside
	classify *classify
	kafka    *testenv.Kafka
	client   *measure.Client
	inceptor inceptor
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	b := &bench{options: o, results: measure.Results{}, system: &measure.System{}}
	if b.photos, err = measure.Photos(); err != nil {
		return err
	}
	if err := b.configure(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "inceptor-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer b.close()
	if b.binary == "" {
		measure.Progress("building inceptor")
		if b.binary, err = measure.Build(ctx, dir); err != nil {
			return err
		}
	}
	if b.int8() {
		if b.config.Model.Dir, err = measure.Quantize(ctx, b.binary, modelDir, dir); err != nil {
			return err
		}
	}
	if err := b.prepare(ctx, dir); err != nil {
		return err
	}
	for round := range o.rounds {
		if err := b.round(ctx, round); err != nil {
			return err
		}
	}
	return b.report(ctx)
}

// configure gives Classify the settings of the service.
func (b *bench) configure() error {
	var err error
	b.config, err = measure.Settings(b.service...)
	b.config.Model.Dir = modelDir
	return err
}

// int8 tells whether the parts run in int8.
func (b *bench) int8() bool { return b.config.Model.Precision == "int8" }

// prepare starts what the parts need, and measures the start of the service.
func (b *bench) prepare(ctx context.Context, dir string) (err error) {
	if b.has("service") || b.has("latency") || b.has("start") {
		if b.kafka, err = measure.StartKafka(ctx, dir); err != nil {
			return err
		}
		b.system.Watch(b.kafka.Pid())
		if b.client, err = measure.NewClient(ctx, b.kafka.Addr(), topics, 0); err != nil {
			return err
		}
	}
	if b.has("raw") {
		measure.Progress("loading the model: raw")
		if b.raw, err = newRaw(ctx, b.photos, b.config.Model); err != nil {
			return fmt.Errorf("raw: %w", err)
		}
	}
	if b.has(optional) {
		measure.Progress("loading the model: outside")
		if b.outside, err = newOutside(b.int8()); err != nil {
			return err
		}
		b.system.Watch(b.outside.Process.Pid)
	}
	if b.has("classify") {
		measure.Progress("loading the model: classify")
		if b.classify, err = newClassify(ctx, b.config.Model); err != nil {
			return fmt.Errorf("classify: %w", err)
		}
	}
	if b.client == nil {
		return nil
	}
	for i := range b.starts {
		measure.Progress("start %d of %d", i+1, b.starts)
		if err := b.start(ctx, b.starts-1 == i); err != nil {
			return fmt.Errorf("start: %w", err)
		}
	}
	return nil
}

// round measures each part once. The order of the raw loops' batch sizes changes each time.
func (b *bench) round(ctx context.Context, round int) error {
	type phase struct {
		name string
		run  func(context.Context) error
	}
	var phases []phase
	if b.raw != nil {
		phases = append(phases, phase{"decode", func(ctx context.Context) error { return b.rawDecode(ctx, b.phase/5) }})
	}
	for i := range batchSizes {
		n := batchSizes[(i+round)%len(batchSizes)]
		if b.raw != nil {
			phases = append(phases, phase{fmt.Sprintf("raw, batch %d", n), func(ctx context.Context) error { return b.rawRun(ctx, n, b.phase/3) }})
		}
		if b.outside != nil {
			phases = append(phases, phase{fmt.Sprintf("outside, batch %d", n), func(context.Context) error { return b.outsideRun(n, b.phase/3) }})
		}
	}
	if b.classify != nil {
		phases = append(phases, phase{"classify", b.measureClassify})
	}
	if b.has("service") || b.has("latency") { // its rate is a part of the service's
		phases = append(phases, phase{"service", b.measureService})
	}
	if b.has("latency") {
		phases = append(phases, phase{"latency", b.measureLatency})
	}
	for _, p := range phases {
		measure.Progress("round %d of %d: %s", round+1, b.rounds, p.name)
		before := b.system.Now()
		if err := p.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b.results.Add(foreign, b.system.Foreign(before))
	}
	return nil
}

// close stops everything that was started.
func (b *bench) close() {
	if b.inceptor.Process != nil {
		b.inceptor.Kill()
	}
	if b.client != nil {
		b.client.Close()
	}
	if b.kafka != nil {
		b.kafka.Kill()
	}
	if b.classify != nil {
		b.classify.Close()
	}
	if b.raw != nil {
		b.raw.close()
	}
	if b.outside != nil {
		b.outside.close()
	}
	measure.Progress("")
}

// report prints the tables.
func (b *bench) report(ctx context.Context) error {
	var text strings.Builder
	if err := b.write(ctx, &text); err != nil {
		return err
	}
	measure.Progress("")
	if _, err := io.WriteString(os.Stdout, text.String()); err != nil {
		return err
	}
	if b.out == "" {
		return nil
	}
	return os.WriteFile(b.out, []byte(text.String()), 0o644)
}
