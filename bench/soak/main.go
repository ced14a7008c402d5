// Command soak runs the service at a steady rate for a long time, with Inception v3 on photos
// between two topics of a real broker. It samples resident memory, file descriptors and threads,
// prints a table and draws a plot.
//
// Run it in the checkout's folder after `testenv/setup.sh test`. Arguments after
// the flags are settings of the service:
//
//	go run ./bench/soak -minutes 20 -plot docs/soak.svg
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"inceptor/bench/measure"
)

type options struct {
	minutes  float64
	rate     float64
	plot     string
	settings []string
}

const (
	every   = 5 * time.Second // between samples
	backlog = 200             // photos that wait when it starts
)

func main() { measure.Main("soak", run) }

// A sample is the state of the service at one moment, and its latencies since the sample before.
type sample struct {
	at          time.Duration
	rss         float64 // bytes
	descriptors int
	threads     int
	took        []time.Duration
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.Float64Var(&o.minutes, "minutes", 20, "how long")
	flags.Float64Var(&o.rate, "rate", 6, "photos sent a second")
	flags.StringVar(&o.plot, "plot", "", "SVG file to draw")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.settings = flags.Args()
	long := time.Duration(o.minutes * float64(time.Minute))
	if long < 4*every || !(o.rate > 0) {
		return fmt.Errorf("want %v at least, and a positive rate", 4*every)
	}
	photos, err := measure.Photos()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "inceptor-soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := measure.Build(ctx, dir)
	if err != nil {
		return err
	}
	kafka, err := measure.StartKafka(ctx, dir)
	if err != nil {
		return err
	}
	defer kafka.Kill()
	client, err := measure.NewClient(ctx, kafka.Addr(), measure.Topics{Input: "ImageInputTopic", Output: "ImageOutputTopic", DeadLetter: "ImageDeadLetterTopic"}, 0)
	if err != nil {
		return err
	}
	defer client.Close()
	p, err := measure.Start(binary, append([]string{"run", "--kafka.brokers", kafka.Addr(), "--model.dir", "savedmodel/inception", "--http.listen", "127.0.0.1:0"}, o.settings...)...)
	if err != nil {
		return err
	}
	defer p.Kill()
	samples, err := watch(ctx, client, p, photos, o.rate, long)
	if err != nil {
		return err
	}
	if err := p.Stop(ctx); err != nil {
		return err
	}
	if err := measure.WriteMachine(ctx, os.Stdout, measure.Inception, binary, ""); err != nil {
		return err
	}
	write(os.Stdout, samples, o)
	if o.plot == "" {
		return nil
	}
	return os.WriteFile(o.plot, plot(samples), 0o644) //nolint:gosec // for everybody to read
}

// watch sends photos and samples the service. A photo that is not answered is an error.
func watch(ctx context.Context, client *measure.Client, p *measure.Process, photos [][]byte, rate float64, long time.Duration) ([]sample, error) {
	ctx, cancel := p.While(ctx)
	defer cancel()
	// It starts on a backlog, so that batches and their memory reach their largest size first.
	if err := client.Backlog(ctx, photos, backlog); err != nil {
		return nil, err
	}
	if _, err := client.Await(ctx, backlog); err != nil {
		return nil, err
	}
	var samples []sample
	for began := time.Now(); time.Since(began) < long; {
		measure.Progress("%v of %v", time.Since(began).Round(time.Second), long)
		_, took, err := client.Latency(ctx, photos, rate, every)
		if err != nil {
			return nil, err
		}
		s := sample{at: time.Since(began), took: took}
		s.rss, _ = measure.ProcessMemory(p.Pid())
		descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
		threads, err2 := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Pid()))
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		s.descriptors, s.threads = len(descriptors), len(threads)
		samples = append(samples, s)
	}
	measure.Progress("")
	return samples, nil
}
