package main

import (
	"context"
	"encoding/json"
	"time"

	"inceptor/bench/measure"
	"inceptor/service"
)

// startBacklog is what waits for the service when it starts.
const startBacklog = 16

// start starts the service on a backlog, and measures the way to its first
// answer. The last one stays.
func (b *bench) start(ctx context.Context, last bool) error {
	if err := b.client.Backlog(ctx, b.photos, startBacklog); err != nil {
		return err
	}
	p, err := startInceptor(b.binary, b.kafka.Addr(), b.config.Model.Dir, b.service)
	if err != nil {
		return err
	}
	b.inceptor = p
	ctx, cancel := p.While(ctx)
	defer cancel()
	answers, err := b.client.Await(ctx, startBacklog)
	if err != nil {
		return err
	}
	b.results.Add(startCPU, measure.ProcessCPU(p.Pid()).Seconds())
	b.results.Add(startFirst, answers[0].Appended.Sub(p.Started).Seconds())
	if passed, ok := p.event("version passed its gates"); ok {
		b.results.Add(startLoading, passed.Time.Add(-passed.Took).Sub(p.Started).Seconds())
	}
	if serving, ok := p.event("version serving"); ok {
		b.results.Add(startServing, serving.Time.Sub(p.Started).Seconds())
	}
	if assigned, ok := p.event("assigned"); ok {
		b.results.Add(startAssigned, assigned.Time.Sub(p.Started).Seconds())
	}
	if last {
		b.system.Watch(p.Pid())
		return nil
	}
	b.inceptor = inceptor{}
	return p.Stop(ctx)
}

// measureService lets the service work off a backlog.
func (b *bench) measureService(ctx context.Context) error {
	ctx, cancel := b.inceptor.While(ctx)
	defer cancel()
	before, err := b.inceptor.metrics(ctx)
	if err != nil {
		return err
	}
	cpu, brokerCPU, own := measure.ProcessCPU(b.inceptor.Pid()), measure.ProcessCPU(b.kafka.Pid()), measure.OwnCPU()
	rate, n, err := b.client.Throughput(ctx, b.photos, int(b.expected()*b.phase.Seconds()))
	if err != nil {
		return err
	}
	b.results.Add(serviceRate, rate)
	each := func(d time.Duration) float64 { return d.Seconds() / float64(n) }
	b.results.Add(serviceCPU, each(measure.ProcessCPU(b.inceptor.Pid())-cpu))
	b.results.Add(brokerServiceCPU, each(measure.ProcessCPU(b.kafka.Pid())-brokerCPU))
	b.results.Add(ownServiceCPU, each(measure.OwnCPU()-own))

	after, err := b.inceptor.metrics(ctx)
	if err != nil {
		return err
	}
	const batches, images = "inceptor_batch_size_images_count", "inceptor_batch_size_images_sum"
	b.results.Add(serviceBatch, (after[images]-before[images])/(after[batches]-before[batches]))
	b.measureMemory(after)
	return nil
}

// expected is how many records a second the service will answer, about.
func (b *bench) expected() float64 {
	for _, known := range []string{serviceRate, classifyRate} {
		if b.results.Has(known) {
			return b.results.Median(known)
		}
	}
	return 10
}

// measureLatency sends photos at a part of the rate that was measured last.
func (b *bench) measureLatency(ctx context.Context) error {
	ctx, cancel := b.inceptor.While(ctx)
	defer cancel()
	rates := b.results[serviceRate]
	rate := measure.LatencyLoad * rates[len(rates)-1]
	answers, took, err := b.client.Latency(ctx, b.photos, rate, b.phase)
	if err != nil {
		return err
	}
	parts := measure.Results{}
	for _, a := range answers {
		var said service.Answer
		if err := json.Unmarshal(a.Value, &said); err != nil {
			return err
		}
		t := said.Timings
		parts.Add(answerWait, t.Wait/1000)
		parts.Add(answerCode, t.Decode/1000)
		parts.Add(answerInfer, t.Infer/1000)
		parts.Add(answerModel, (t.Wait+t.Decode+t.Infer)/1000)
	}
	for part := range parts {
		b.results.Add(part, parts.Median(part))
	}
	b.results.Add(latencyRate, rate)
	b.results.Add(latencyP50, measure.Quantile(took, 0.5).Seconds())
	for _, t := range took {
		b.results.Add(latencies, t.Seconds())
	}
	return nil
}

// measureMemory notes what the service holds.
func (b *bench) measureMemory(metrics map[string]float64) {
	rss, peak := measure.ProcessMemory(b.inceptor.Pid())
	golang := metrics[`inceptor_resident_bytes{kind="anonymous",part="go"}`]
	b.results.Add(memoryRSS, rss)
	b.results.Add(memoryPeak, peak)
	b.results.Add(memoryNative, rss-golang)
	b.results.Add(memoryGo, golang)
}
