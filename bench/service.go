package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"inceptor/bench/measure"
	"inceptor/service"
)

// startBacklog is what waits for the service when it starts.
const startBacklog = 16

// start starts the service on a backlog, and measures the way to its first
// answer. The last one stays.
func (b *bench) start(ctx context.Context, last bool) error {
	if err := b.client.backlog(ctx, b.photos, startBacklog); err != nil {
		return err
	}
	p, err := startInceptor(b.binary, b.kafka.Addr(), b.service)
	if err != nil {
		return err
	}
	b.inceptor = p
	ctx, cancel := b.whileServing(ctx)
	defer cancel()
	answers, err := b.client.await(ctx, startBacklog)
	if err != nil {
		return err
	}
	b.results.Add(startCPU, measure.ProcessCPU(p.pid()).Seconds())
	b.results.Add(startFirst, answers[0].appended.Sub(p.started).Seconds())
	if passed, ok := p.event("passed its gates"); ok {
		b.results.Add(startLoading, passed.Time.Add(-passed.Took).Sub(p.started).Seconds())
	}
	if serving, ok := p.event("serving"); ok {
		b.results.Add(startServing, serving.Time.Sub(p.started).Seconds())
	}
	if assigned, ok := p.event("assigned"); ok {
		b.results.Add(startAssigned, assigned.Time.Sub(p.started).Seconds())
	}
	if last {
		b.system.Watch(p.pid())
		return nil
	}
	b.inceptor = nil
	return p.stop(ctx)
}

// whileServing is a context that ends with the service, too.
func (b *bench) whileServing(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := b.inceptor
	go func() {
		select {
		case <-p.gone:
			cancel(fmt.Errorf("inceptor has ended: %v\n%s", p.cmd.ProcessState, p.output()))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// measureService lets the service work off a backlog.
func (b *bench) measureService(ctx context.Context) error {
	ctx, cancel := b.whileServing(ctx)
	defer cancel()
	n := int(b.expected()*b.phase.Seconds()) + tail
	before, err := b.inceptor.metrics(ctx)
	if err != nil {
		return err
	}
	cpu, brokerCPU, own := measure.ProcessCPU(b.inceptor.pid()), measure.ProcessCPU(b.kafka.Pid()), measure.OwnCPU()
	if err := b.client.backlog(ctx, b.photos, n); err != nil {
		return err
	}
	answers, err := b.client.await(ctx, n)
	if err != nil {
		return err
	}
	times := make([]time.Time, n-tail)
	for i := range times {
		times[i] = answers[i].appended
	}
	rate, err := measure.Rate(times)
	if err != nil {
		return err
	}
	b.results.Add(serviceRate, rate)
	each := func(d time.Duration) float64 { return d.Seconds() / float64(n) }
	b.results.Add(serviceCPU, each(measure.ProcessCPU(b.inceptor.pid())-cpu))
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

// tail is how many answers at the end of a backlog do not count: there the
// batches are no longer full.
const tail = 16

// expected is how many records a second the service will answer, about.
func (b *bench) expected() float64 {
	for _, known := range []string{serviceRate, classifyRate} {
		if b.results.Has(known) {
			return b.results.Median(known)
		}
	}
	return 10
}

// measureLatency sends photos at a fixed rate, and measures from when each was
// due to be sent, whatever became of those before it, until its answer is read.
func (b *bench) measureLatency(ctx context.Context) error {
	ctx, cancel := b.whileServing(ctx)
	defer cancel()
	rates := b.results[serviceRate]
	rate := measure.LatencyLoad * rates[len(rates)-1]
	interval := time.Duration(float64(time.Second) / rate)
	n := int(b.phase / interval)
	first := b.client.reserve(n)
	begin := time.Now().Add(interval)
	due := func(key int) time.Time { return begin.Add(time.Duration(key-first) * interval) }
	sendCtx, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	go func() {
		for i := range n {
			select {
			case <-time.After(time.Until(due(first + i))):
			case <-sendCtx.Done():
				return
			}
			b.client.send(sendCtx, first+i, b.photos[i%len(b.photos)], failed)
		}
	}()
	answers, err := b.client.await(sendCtx, n)
	if err != nil {
		return err
	}
	took, parts := make([]time.Duration, n), measure.Results{}
	for i, a := range answers {
		took[i] = a.read.Sub(due(a.key))
		var said service.Answer
		if err := json.Unmarshal(a.value, &said); err != nil {
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
	rss, peak := measure.ProcessMemory(b.inceptor.pid())
	native := metrics["inceptor_native_resident_bytes"]
	b.results.Add(memoryRSS, rss)
	b.results.Add(memoryPeak, peak)
	b.results.Add(memoryNative, native)
	b.results.Add(memoryGo, rss-native)
}
