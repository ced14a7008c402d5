package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"inceptor/bench/measure"
)

// Keys of what is measured of each service, to which its name is added. Rates
// are records a second, CPU is seconds of processor time a record, the rest
// seconds and bytes.
const (
	throughput  = "throughput, "
	serviceCPU  = "CPU, "
	brokerCPU   = "CPU of the broker, "
	resident    = "resident, "
	steadyCPU   = "CPU at the fixed rate, "
	p50         = "p50, "
	p99         = "p99, "
	firstAnswer = "first answer, "
)

// Keys of what is measured of all.
const (
	fixedRate = "fixed rate"
	foreign   = "foreign CPU"
)

func key(what string, of *service) string { return what + of.name }

// write prints what was measured. Each value is a median, with the least and
// the largest of the rounds.
func (b *bench) write(ctx context.Context, w io.Writer) error {
	what := map[string]string{
		"inception": measure.Inception, "tiny": "A dense layer on images of 8×8, records of 246 bytes", "dense": "A small dense network on JSON rows of 193 bytes",
	}[b.model]
	if err := measure.WriteMachine(ctx, w, what, b.binary, ""); err != nil {
		return err
	}
	if len(b.settings) > 0 {
		measure.WriteRow(w, "settings", "`"+strings.Join(b.settings, " ")+"`")
	}
	if len(b.absent) > 0 {
		measure.WriteRow(w, "not in their precision here, left out", strings.Join(b.absent, ", "))
	}
	measure.WriteRow(w, "measured", fmt.Sprintf("%d rounds, medians (least – largest)", b.rounds))
	measure.WriteRow(w, "other processes", fmt.Sprintf("took %s %% of the machine meanwhile", measure.Spread(b.results[foreign], 100, 0)))

	r := b.results
	fmt.Fprintln(w)
	measure.WriteRow(w, "service", "records/s", "CPU ms a record", "of the broker", "MiB resident", "s until the first answer",
		fmt.Sprintf("at %.3g records/s: p50, ms", r.Median(fixedRate)), "p99, ms", "CPU ms a record")
	measure.WriteRow(w, "---", "---", "---", "---", "---", "---", "---", "---", "---")
	for _, s := range b.services {
		measure.WriteRow(w, s.what,
			measure.Spread(r[key(throughput, s)], 1, 1),
			measure.Spread(r[key(serviceCPU, s)], 1000, 3),
			fmt.Sprintf("%.3f", 1000*r.Median(key(brokerCPU, s))),
			measure.Spread(r[key(resident, s)], 1.0/(1<<20), 0),
			measure.Spread(r[key(firstAnswer, s)], 1, 2),
			measure.Spread(r[key(p50, s)], 1000, 1),
			measure.Spread(r[key(p99, s)], 1000, 1),
			measure.Spread(r[key(steadyCPU, s)], 1000, 3),
		)
	}
	for i, base := range b.services {
		if i == 0 || slices.Contains(bases, base.name) {
			b.writeRatios(w, base)
		}
	}
	return nil
}

// bases are the services, besides the first one, that inceptor is compared with.
var bases = []string{"bfloat16", "python", "onnxruntime", "onnxruntime-int8"}

// writeRatios prints how the services compare with the first one, or how inceptor compares with
// another one, from ratios within rounds.
func (b *bench) writeRatios(w io.Writer, base *service) {
	fmt.Fprintln(w)
	measure.WriteRow(w, "ratio to "+base.what, "records/s", "CPU a record", "memory", "first answer", "p50", "p99")
	measure.WriteRow(w, "---", "---", "---", "---", "---", "---", "---")
	for _, s := range b.services {
		if s == base || base != b.services[0] && !s.own {
			continue
		}
		ratio := func(what string) string {
			return measure.Spread(measure.Each(b.results[key(what, s)], b.results[key(what, base)], measure.Ratio), 1, 2)
		}
		measure.WriteRow(w, s.what, ratio(throughput), ratio(serviceCPU), ratio(resident), ratio(firstAnswer), ratio(p50), ratio(p99))
	}
}
