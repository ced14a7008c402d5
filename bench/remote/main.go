// Command remote measures what it costs to ask a model server rather than to
// embed the model: Inception v3 on photos of 640 pixels, on the same machine,
//
//	embedded  in process, through model.Manager.Classify
//	Go        model.backend=remote, and a model server in Go on loopback, which
//	          runs the same library and graph: the best case for a server
//	Python    the same, and TensorFlow Serving's interface on Python TensorFlow
//
// each server once with encoded images and once with pixels. Every round starts
// them one after the other, afresh, so that there is one model in memory at a
// time, and measures throughput with many callers, then latency at a fixed rate
// of 40 % of the throughput that embedded had in that round. Client and server
// are processes of their own, whose processor time and memory are added.
// Medians with their spread are printed as Markdown, ratios made within rounds.
//
// Run it in the checkout's folder after `testenv/setup.sh test`. Arguments
// after the flags are settings, as "inceptor run" takes them, of the clients
// and, as far as they are about TensorFlow, of the server in Go:
//
//	go run ./bench/remote -rounds 5 -- --fallback.concurrency 2
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"inceptor/bench/measure"
	"inceptor/model"
	"inceptor/service"
	"inceptor/testenv"
)

const (
	modelDir  = "savedmodel/inception"
	modelName = "inception"
	version   = 1
)

// defaults are the settings, unless the command line has others. Many callers
// on few processors wait for longer than a call has time by default.
var defaults = []string{"--model.dir=" + modelDir, "--model.name=" + modelName, "--fallback.timeout=1m", "--fallback.budget=2m"}

// A backend is one way to get answers.
type backend struct {
	name, what string
	serve      func(b *bench, ctx context.Context, signature string) (server, error) // nil: the model is in the client
	signature  string                                                                // the only one that the server has
	tolerance  float64                                                               // of scores, against those of embedded
}

// With pixels the client decodes without TensorFlow, nearly as that does.
const (
	encoded, encodedTolerance = "serving_bytes", 1e-3
	pixels, pixelsTolerance   = "serving_default", 0.04
)

// backends are measured in this order, the first one first in each round.
var backends = []backend{
	{"embedded", "embedded, Classify in process", nil, "", 0},
	{"Go, encoded", "Go server on loopback, encoded images", (*bench).serveGo, encoded, encodedTolerance},
	{"Go, pixels", "Go server on loopback, pixels", (*bench).serveGo, pixels, pixelsTolerance},
	{"Python, encoded", "Python server on loopback, encoded images", (*bench).servePython, encoded, encodedTolerance},
	{"Python, pixels", "Python server on loopback, pixels", (*bench).servePython, pixels, pixelsTolerance},
}

var embedded = backends[0].name

type options struct {
	rounds   int
	phase    time.Duration // of throughput and latency, each
	settings []string
	config   service.Config // with the settings

	// For children only.
	child, signature string
}

func main() {
	measure.Main("remote", func(ctx context.Context, args []string) error {
		o, err := parse(args)
		switch {
		case err != nil:
			return err
		case o.child == "client":
			return client(ctx, o.config)
		case o.child == "server":
			return serve(o.config, o.signature)
		}
		return run(ctx, o)
	})
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("remote", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "rounds; each value is the median of them")
	seconds := flags.Float64("seconds", 8, "seconds of throughput, and of latency, for each backend in a round")
	flags.StringVar(&o.child, "child", "", "be a client or a server; for this program's own use")
	flags.StringVar(&o.signature, "signature", "", "the only one that a server has; for this program's own use")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.phase = time.Duration(*seconds * float64(time.Second))
	o.settings = flags.Args()
	if o.rounds < 1 || o.phase < time.Second {
		return o, errors.New("want at least one round, and one second")
	}
	var err error
	o.config, err = measure.Settings(slices.Concat(defaults, o.settings)...)
	return o, err
}

// A bench is one run of this command.
type bench struct {
	options
	dir     string // of logs and of inceptor's program
	binary  string
	results measure.Results // by key of what and backend's name
	retries int             // calls to servers that did not succeed
}

func run(ctx context.Context, o options) error {
	if _, err := measure.Photos(); err != nil { // before any process is started for them
		return err
	}
	dir, err := os.MkdirTemp("", "inceptor-remote")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, dir: dir, results: measure.Results{}}
	measure.Progress("building inceptor")
	if b.binary, err = measure.Build(ctx, dir); err != nil {
		return err
	}
	for round := range o.rounds {
		if err := b.round(ctx, round); err != nil {
			return err
		}
	}
	measure.Progress("")
	return b.write(ctx, os.Stdout)
}

// round measures each backend once. The remote ones change places.
func (b *bench) round(ctx context.Context, round int) error {
	var first greeting
	for i := range backends {
		at := backends[0]
		if remote := backends[1:]; i > 0 {
			at = remote[(i-1+round)%len(remote)]
		}
		measure.Progress("round %d of %d: %s", round+1, b.rounds, at.name)
		got, err := b.measure(ctx, at)
		if err == nil {
			if i == 0 {
				first = got
			}
			err = b.compare(at, got, first)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at.name, err)
		}
	}
	return nil
}

// A server is a model server in a process of its own.
type server interface {
	Addr() string
	Pid() int
	Kill()
}

func (b *bench) serveGo(ctx context.Context, signature string) (server, error) {
	return startServer(ctx, b.log(), signature, b.settings)
}

func (b *bench) servePython(ctx context.Context, signature string) (server, error) {
	return testenv.RunServing(ctx, ".", b.log(), modelName, modelDir, "--signature", signature)
}

func (b *bench) log() string { return filepath.Join(b.dir, "log") }

// measure starts a backend, measures it, and ends it.
func (b *bench) measure(ctx context.Context, at backend) (greeting, error) {
	var g greeting
	var system measure.System
	var pids []int
	settings := slices.Clone(b.settings)
	if at.serve != nil {
		s, err := at.serve(b, ctx, at.signature)
		if err != nil {
			return g, err
		}
		defer s.Kill()
		pids = append(pids, s.Pid())
		settings = append(settings, "--model.backend="+model.OnlyRemote, "--fallback.address="+s.Addr())
	}
	c, err := start(b.log(), slices.Concat([]string{"-child=client", "--"}, settings)...)
	if err != nil {
		return g, err
	}
	defer c.Kill()
	pids = slices.Insert(pids, 0, c.Pid())
	if err := c.hear(ctx, &g, starting); err != nil {
		return g, err
	}
	for _, pid := range pids {
		system.Watch(pid)
	}
	before := system.Now()
	if err := b.flood(ctx, at, c, pids); err != nil {
		return g, err
	}
	if err := b.steady(ctx, at, c, pids); err != nil {
		return g, err
	}
	b.results.Add(foreign, system.Foreign(before))
	for i, pid := range pids {
		rss, _ := measure.ProcessMemory(pid)
		b.results.Add(key([]string{clientMemory, serverMemory}[i], at), rss)
	}
	return g, nil
}

// flood measures throughput.
func (b *bench) flood(ctx context.Context, at backend, c *process, pids []int) error {
	before := cpu(pids)
	var r reply
	if err := c.ask(ctx, request{Seconds: b.phase.Seconds()}, &r, b.phase+patience); err != nil {
		return err
	}
	after := cpu(pids)
	b.results.Add(key(rate, at), float64(r.Images)/r.Seconds)
	b.results.Add(key(batch, at), float64(r.Images)/float64(r.Batches))
	for i := range pids {
		b.results.Add(key([]string{clientCPU, serverCPU}[i], at), (after[i]-before[i]).Seconds()/float64(r.Images))
	}
	b.retries += r.Retries
	return nil
}

// steady measures latency.
func (b *bench) steady(ctx context.Context, at backend, c *process, pids []int) error {
	rates := b.results[rate+embedded]
	sent := measure.LatencyLoad * rates[len(rates)-1]
	before := cpu(pids)
	var r reply
	if err := c.ask(ctx, request{Seconds: b.phase.Seconds(), Rate: sent}, &r, b.phase+patience); err != nil {
		return err
	}
	after := cpu(pids)
	b.results.Add(latencyRate, sent)
	b.results.Add(key(p50, at), measure.Quantile(r.Latencies, 0.5))
	b.results.Add(key(p99, at), measure.Quantile(r.Latencies, 0.99))
	b.results[key(latencies, at)] = append(b.results[key(latencies, at)], r.Latencies...)
	all := time.Duration(0)
	for i := range pids {
		all += after[i] - before[i]
	}
	b.results.Add(key(steadyCPU, at), all.Seconds()/float64(r.Images))
	b.retries += r.Retries
	return nil
}

func cpu(pids []int) []time.Duration {
	var used []time.Duration
	for _, pid := range pids {
		used = append(used, measure.ProcessCPU(pid))
	}
	return used
}

// compare makes sure that backends have the same model: that their scores are
// those of embedded.
func (b *bench) compare(at backend, got, first greeting) error {
	largest := 0.0
	for i, classes := range got.Scores {
		if len(classes) != len(first.Scores[i]) {
			return fmt.Errorf("photo %d: %d classes, embedded has %d", i, len(classes), len(first.Scores[i]))
		}
		for index, score := range classes {
			largest = max(largest, abs(score-first.Scores[i][index]))
		}
	}
	if !(largest <= at.tolerance) {
		return fmt.Errorf("scores differ by %v from those of embedded: %v, not %v", largest, got.Scores, first.Scores)
	}
	b.results.Add(key(difference, at), largest)
	return nil
}

func abs(x float64) float64 { return max(x, -x) }
