package main

import (
	"context"
	"time"

	"inceptor/bench/measure"
)

// A contender is one way to do the job.
type contender struct {
	name, what string
	command    func(b *bench, t measure.Topics) []string
}

var contenders = []contender{
	{"inceptor", "inceptor", func(b *bench, t measure.Topics) []string { return b.inceptor(t) }},
	{"exactly-once", "inceptor, exactly once", func(b *bench, t measure.Topics) []string {
		return b.inceptor(t, "--kafka.delivery=exactly_once")
	}},
	{"bfloat16", "inceptor, bfloat16", func(b *bench, t measure.Topics) []string {
		return b.inceptor(t, "--model.precision=bfloat16")
	}},
	{"python", "Python: confluent-kafka, TensorFlow", func(b *bench, t measure.Topics) []string {
		return []string{
			"env", "PYTHONPATH=.tools/rivals", python, "-B", "bench/services/service.py", "--brokers", b.kafka.Addr(), "--group", t.Input,
			"--input", t.Input, "--output", t.Output, "--model", b.modelDir + "/1",
		}
	}},
	{"streams", "Java: Kafka Streams, TensorFlow", func(b *bench, t measure.Topics) []string {
		return []string{
			"java", "-Dorg.bytedeco.javacpp.cachedir=.tools/streams/cache", "-cp", ".tools/streams/classes:.tools/streams/lib/*", "Service",
			"--brokers", b.kafka.Addr(), "--group", t.Input, "--input", t.Input, "--output", t.Output, "--model", b.modelDir + "/1",
		}
	}},
}

func names() (all []string) {
	for _, c := range contenders {
		all = append(all, c.name)
	}
	return all
}

func (b *bench) inceptor(t measure.Topics, more ...string) []string {
	args := []string{
		b.binary, "run", "--kafka.brokers", b.kafka.Addr(), "--model.dir", b.modelDir, "--http.listen", "",
		"--kafka.group", t.Input, "--kafka.input", t.Input, "--kafka.output", t.Output, "--kafka.dead-letter", t.DeadLetter,
	}
	if b.model == "dense" {
		args = append(args, "--input.format", "tensor-json")
	}
	return append(append(args, b.settings...), more...)
}

// A service is a contender at work.
type service struct {
	contender
	topics  measure.Topics
	client  *measure.Client
	process *measure.Process
	rate    float64 // of the last backlog
}

// startBacklog is what waits for a service when it starts.
const startBacklog = 16

// start starts a service on a backlog, and measures the way to its first
// answer. The last one stays.
func (b *bench) start(ctx context.Context, s *service, last bool) (err error) {
	if err := s.client.Backlog(ctx, b.records, startBacklog); err != nil {
		return err
	}
	command := s.command(b, s.topics)
	if s.process, err = measure.Start(command[0], command[1:]...); err != nil {
		return err
	}
	ctx, cancel := s.process.While(ctx)
	defer cancel()
	answers, err := s.client.Await(ctx, startBacklog)
	if err != nil {
		return err
	}
	b.results.Add(key(firstAnswer, s), answers[0].Appended.Sub(s.process.Started).Seconds())
	if err := b.agree(answers); err != nil {
		return err
	}
	if last {
		b.system.Watch(s.process.Pid())
		return nil
	}
	cancel()
	p := s.process
	s.process = nil
	return p.Stop(context.WithoutCancel(ctx))
}

// throughput lets a service work off a backlog.
func (b *bench) throughput(ctx context.Context, s *service) (float64, error) {
	ctx, cancel := s.process.While(ctx)
	defer cancel()
	expected := s.rate
	if expected == 0 {
		expected = b.guess
	}
	before, cpu, broker := b.system.Now(), measure.ProcessCPU(s.process.Pid()), measure.ProcessCPU(b.kafka.Pid())
	rate, n, err := s.client.Throughput(ctx, b.records, int(expected*b.phase.Seconds()))
	if err != nil {
		return 0, err
	}
	s.rate = rate
	each := func(d time.Duration) float64 { return d.Seconds() / float64(n) }
	b.results.Add(key(throughput, s), rate)
	b.results.Add(key(serviceCPU, s), each(measure.ProcessCPU(s.process.Pid())-cpu))
	b.results.Add(key(brokerCPU, s), each(measure.ProcessCPU(b.kafka.Pid())-broker))
	rss, _ := measure.ProcessMemory(s.process.Pid())
	b.results.Add(key(resident, s), rss)
	b.results.Add(foreign, b.system.Foreign(before))
	return rate, nil
}

// latency sends records at a fixed rate.
func (b *bench) latency(ctx context.Context, s *service, rate float64) error {
	ctx, cancel := s.process.While(ctx)
	defer cancel()
	before, cpu := b.system.Now(), measure.ProcessCPU(s.process.Pid())
	_, took, err := s.client.Latency(ctx, b.records, rate, b.phase)
	if err != nil {
		return err
	}
	b.results.Add(key(steadyCPU, s), (measure.ProcessCPU(s.process.Pid())-cpu).Seconds()/float64(len(took)))
	b.results.Add(key(p50, s), measure.Quantile(took, 0.5).Seconds())
	b.results.Add(key(p99, s), measure.Quantile(took, 0.99).Seconds())
	b.results.Add(foreign, b.system.Foreign(before))
	return nil
}
