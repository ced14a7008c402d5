package main

import (
	"context"
	"time"

	"inceptor/bench/measure"
)

// A contender is a service that is compared.
type contender struct {
	name, what string
	command    func(b *bench, t measure.Topics) []string
	precision  string  // that its answers must name; empty: they need not
	tolerance  float64 // by how much its scores may differ from the first service's
	inception  bool    // it runs no other model
	own        bool    // it is inceptor
}

// tolerance is by how much scores may differ between services that compute the same: bfloat16 and
// int8 change them, and Pillow decodes a bit differently.
const tolerance, wideTolerance = 5e-3, 5e-2

var contenders = []contender{
	{name: "inceptor", own: true, what: "inceptor", tolerance: tolerance,
		command: func(b *bench, t measure.Topics) []string { return b.inceptor(t) }},
	{name: "exactly-once", own: true, what: "inceptor, exactly once", tolerance: tolerance,
		command: func(b *bench, t measure.Topics) []string { return b.inceptor(t, "--kafka.delivery=exactly_once") }},
	{name: "bfloat16", own: true, what: "inceptor, bfloat16", tolerance: tolerance, precision: "bfloat16", inception: true,
		command: func(b *bench, t measure.Topics) []string { return b.inceptor(t, "--model.precision=bfloat16") }},
	{name: quantized, own: true, what: "inceptor, int8", tolerance: wideTolerance, precision: "int8", inception: true,
		command: func(b *bench, t measure.Topics) []string {
			return b.inceptor(t, "--model.precision=int8", "--model.dir="+b.int8Dir)
		}},
	{name: "python", what: "Python: confluent-kafka, TensorFlow", tolerance: tolerance,
		command: func(b *bench, t measure.Topics) []string { return b.python(t) }},
	{name: "onnxruntime", what: "Python: confluent-kafka, onnxruntime", tolerance: wideTolerance, inception: true,
		command: func(b *bench, t measure.Topics) []string {
			return b.python(t, "--onnx", ".tools/onnx/inception.onnx")
		}},
	{name: "onnxruntime-int8", what: "Python: confluent-kafka, onnxruntime, int8 (QDQ)", tolerance: wideTolerance, inception: true,
		command: func(b *bench, t measure.Topics) []string {
			return b.python(t, "--onnx", ".tools/onnx/inception-int8.onnx")
		}},
	{name: "streams", what: "Java: Kafka Streams, TensorFlow", tolerance: tolerance,
		command: func(b *bench, t measure.Topics) []string {
			return []string{
				"java", "-Dorg.bytedeco.javacpp.cachedir=.tools/streams/cache", "-cp", ".tools/streams/classes:.tools/streams/lib/*", "Service",
				"--brokers", b.kafka.Addr(), "--group", t.Input, "--input", t.Input, "--output", t.Output, "--model", b.modelDir + "/1",
			}
		}},
}

// quantized is the contender that needs ranges.
const quantized = "int8"

// names returns the contenders that run a model.
func names(model string) (all []string) {
	for _, c := range contenders {
		if model == "inception" || !c.inception {
			all = append(all, c.name)
		}
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

func (b *bench) python(t measure.Topics, more ...string) []string {
	return append([]string{
		"env", "PYTHONPATH=.tools/rivals", python, "-B", "bench/services/service.py", "--brokers", b.kafka.Addr(), "--group", t.Input,
		"--input", t.Input, "--output", t.Output, "--model", b.modelDir + "/1",
	}, more...)
}

// A service is a running contender.
type service struct {
	contender
	topics  measure.Topics
	client  *measure.Client
	process *measure.Process
	rate    float64 // of the last backlog
}

// close stops the service.
func (s *service) close() {
	if s.process != nil {
		s.process.Kill()
	}
	s.client.Close()
}

// startBacklog is the number of records that wait for a service when it starts. A rate takes a
// backlog of leastBacklog.
const startBacklog, leastBacklog = 16, 20

// start starts a service on a backlog, and measures the time until its first answer. The last one
// that is started keeps running.
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
	if err := b.agree(s, answers); err != nil {
		return err
	}
	if last {
		b.system.Watch(s.process.Pid())
		s.rate, _, err = s.client.Throughput(ctx, b.records, int(b.guess*2)) // how long a backlog takes
		return err
	}
	cancel()
	p := s.process
	s.process = nil
	return p.Stop(context.WithoutCancel(ctx))
}

// throughput measures a service on a backlog.
func (b *bench) throughput(ctx context.Context, s *service) (float64, error) {
	ctx, cancel := s.process.While(ctx)
	defer cancel()
	before, cpu, broker := b.system.Now(), measure.ProcessCPU(s.process.Pid()), measure.ProcessCPU(b.kafka.Pid())
	rate, n, err := s.client.Throughput(ctx, b.records, max(leastBacklog, int(s.rate*b.phase.Seconds())))
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

// latency measures a service at a fixed rate.
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
