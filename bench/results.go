package main

import (
	"fmt"
	"slices"

	"inceptor/bench/measure"
)

// Names of what is measured. Rates are images a second, CPU is seconds of
// processor time an image, the rest seconds and bytes.
const (
	decodeRate    = "decode rate"
	decodeAllRate = "decode rate, all cores"
	decodeCPU     = "decode CPU"
	decodeAlone   = "decode alone"
	runAlone      = "run alone"

	classifyRate  = "classify rate"
	classifyCPU   = "classify CPU"
	classifyBatch = "classify batch"

	serviceRate      = "service rate"
	serviceCPU       = "service CPU"
	serviceBatch     = "service batch"
	brokerServiceCPU = "service CPU, broker"
	ownServiceCPU    = "service CPU, bench"

	latencyRate = "latency rate"
	latencyP50  = "latency p50"
	latencies   = "latencies" // of every record
	answerWait  = "answer: wait"
	answerInfer = "answer: infer"
	answerCode  = "answer: decode"
	answerModel = "answer: all"

	startLoading  = "start: load begins"
	startServing  = "start: serving"
	startAssigned = "start: assigned"
	startFirst    = "start: first answer"
	startCPU      = "start: CPU"

	memoryRSS    = "memory"
	memoryPeak   = "memory, peak"
	memoryNative = "memory, native"
	memoryGo     = "memory, Go"

	allowed = "what raw and decode allow"
	foreign = "foreign CPU"
)

func rawRate(batch int) string { return fmt.Sprintf("raw rate, batch %d", batch) }
func rawCPU(batch int) string  { return fmt.Sprintf("raw CPU, batch %d", batch) }

func outsideRate(batch int) string { return fmt.Sprintf("outside rate, batch %d", batch) }
func outsideCPU(batch int) string  { return fmt.Sprintf("outside CPU, batch %d", batch) }

// bestBatch is the raw loop's fastest one.
func bestBatch(r measure.Results) int {
	return slices.MaxFunc(batchSizes, func(a, b int) int {
		switch x, y := r.Median(rawRate(a)), r.Median(rawRate(b)); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
}

// limit is, for each round, what decoding and running allow together, were
// there nothing else to do: images a second.
func limit(r measure.Results, cores int) []float64 {
	var limits []float64
	for i, raw := range r[rawRate(bestBatch(r))] {
		limits = append(limits, 1/(1/raw+r[decodeCPU][i]/float64(cores)))
	}
	return limits
}

// needed is, for each round, the processor time an image of the decode and the
// best raw batch.
func needed(r measure.Results) []float64 {
	return measure.Each(r[rawCPU(bestBatch(r))], r[decodeCPU], measure.Sum)
}

// alone is, for each round, what the service would answer if it also had the processor time that
// the broker, the sender and the reader take on its machine: images a second.
func alone(r measure.Results) []float64 {
	others := measure.Each(r[brokerServiceCPU], r[ownServiceCPU], measure.Sum)
	all := measure.Each(r[serviceCPU], others, measure.Sum)
	return measure.Each(r[serviceRate], measure.Each(all, r[serviceCPU], measure.Ratio), func(a, b float64) float64 { return a * b })
}
