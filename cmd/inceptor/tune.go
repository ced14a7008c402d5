package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/service"
)

type tuneCmd struct {
	Write string `help:"File to write the settings to, for use with --config." placeholder:"FILE"`

	Input      contentFormat      `embed:"" prefix:"input." group:"Input"`
	Model      model.Config       `embed:"" prefix:"model." group:"Model"`
	TensorFlow service.TensorFlow `embed:"" prefix:"tensorflow." group:"TensorFlow"`
}

// Help is the long help.
func (*tuneCmd) Help() string {
	return `Loads the newest version in several ways, one after the other: as it is, optimized, with each ` +
		`library's kernels, in bfloat16 and int8, and with fewer threads. Runs each on batches of 1 to ` +
		`model.batch.max, of its golden records or else of noise. Repeats that until it is clear which ` +
		`is the fastest, 8 times at most. If it is still not clear, other work disturbs the machine: ` +
		`then it says which settings may be the fastest, and keeps those that were given, or the ` +
		`defaults. So it does if others are at most 5 % faster. ` +
		`Of equally good batch sizes it prints the smallest. ` +
		`Settings in float32 whose scores differ from the model's by more than 1e-5 are never chosen. ` +
		`bfloat16 and int8 are listed, with how much their scores differ, and chosen only if ` +
		`model.precision asks for them. int8 needs ranges, which "inceptor quantize" measures. ` +
		`Run it on the machine of the service while nothing else runs there. It takes a few minutes for ` +
		`Inception on two cores.`
}

func (c *tuneCmd) config() service.Config {
	return service.Config{Input: c.Input.config(), Model: c.Model, TensorFlow: c.TensorFlow}
}

// Validate returns every problem, each naming its key.
func (c *tuneCmd) Validate() []error { return c.config().ValidateModel() }

func (c *tuneCmd) Run(ctx context.Context, a *app) error {
	config := c.config()
	if err := savedmodel.OpenLibrary(c.TensorFlow.Library); err != nil {
		return err
	}
	p := a.progress()
	defer p.close()
	found, err := model.Tune(ctx, config.ModelConfig(), p.show)
	if err != nil {
		return err
	}
	p.close()
	if err := printMeasurements(a.stdout, found.Measurements); err != nil {
		return err
	}
	settings := c.settings(found)
	fmt.Fprint(a.stdout, "\n", conclusion(found, settings))
	if c.Write == "" {
		return nil
	}
	var file strings.Builder
	fmt.Fprintf(&file, "# Written by \"inceptor tune\" for %s.\n", c.Model.Dir)
	for _, s := range settings {
		fmt.Fprintf(&file, "%s: %s\n", s[0], s[1])
	}
	return os.WriteFile(c.Write, []byte(file.String()), 0o644) //nolint:gosec // for everybody to read
}

// settings returns what to use, by the names of the settings.
func (c *tuneCmd) settings(found model.Tuning) [][2]string {
	best := found.Measurements[0]
	return [][2]string{
		{"model.optimize", best.Optimize}, {"model.kernels", kernelsOf(best)}, {"model.precision", c.Model.Precision},
		{"model.batch.max", fmt.Sprint(found.Batch)}, {"tensorflow.intra-op-threads", fmt.Sprint(best.Threads)},
	}
}

// printMeasurements prints a table.
func printMeasurements(to io.Writer, all []model.Measurement) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	sizes := slices.Sorted(maps.Keys(all[0].Rounds[0]))
	fmt.Fprint(w, "OPTIMIZE\tKERNELS\tPRECISION\tTHREADS\tLOAD\tMEMORY\tROUNDS\tSPREAD\tMS PER IMAGE, BATCH OF")
	for _, n := range sizes {
		fmt.Fprintf(w, " %d\t", n)
	}
	fmt.Fprintln(w)
	for _, m := range all {
		threads := "all"
		if m.Threads > 0 {
			threads = fmt.Sprint(m.Threads)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", m.Optimize, kernelsOf(m), cmp.Or(m.Precision, "float32"), threads)
		if m.WhyNot != "" {
			fmt.Fprintf(w, "%s\n", printable(m.WhyNot))
			continue
		}
		least, most := m.Spread()
		fmt.Fprintf(w, "%.1f s\t%d MiB\t%d\t%.0f %%", m.Load.Seconds(), m.Memory>>20, len(m.Rounds), 100*(float64(most)/float64(least)-1))
		for _, n := range sizes {
			fmt.Fprintf(w, "\t%.3g", ms(m.Run(n))/float64(n))
		}
		if m.Precision != "" {
			fmt.Fprintf(w, "\tscores of %s differ by up to %.1g", scoresOf(m), m.Differs)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// conclusion says which settings to use, and what remains open.
func conclusion(found model.Tuning, settings [][2]string) string {
	var b strings.Builder
	for _, undecided := range found.Undecided {
		fmt.Fprintf(&b, "Too noisy to decide after %d rounds which of these are the fastest:\n\n", found.Rounds)
		for _, m := range undecided {
			least, most := m.Spread()
			fmt.Fprintf(&b, "    %s: %.3g to %.3g ms per image\n", m, ms(least), ms(most))
		}
		b.WriteString("\n")
	}
	if n := found.UndecidedBatch; n > 0 {
		fmt.Fprintf(&b, "Too noisy to decide after %d rounds whether batches of %d are as good as those of %d.\n\n",
			found.Rounds, n, found.Batch)
	}
	if b.Len() > 0 {
		b.WriteString("The settings that were given are kept where that is not clear. Run this again while nothing else runs here.\n\n")
	}
	best := found.Measurements[0]
	fmt.Fprintf(&b, "%.3g ms per image, with the smallest batches that are as good as any, with\n\n   ",
		ms(best.Run(found.Batch))/float64(found.Batch))
	for _, s := range settings {
		fmt.Fprintf(&b, " --%s %s", s[0], s[1])
	}
	b.WriteString("\n")
	if m, ok := fasterPrecision(found.Measurements); ok {
		least, _ := m.Spread()
		fmt.Fprintf(&b, "\n%s takes %.3g ms per image, and changes scores. To try it: --model.precision %s\n",
			m.Precision, ms(least), m.Precision)
	}
	return b.String()
}

// fasterPrecision returns the fastest measurement in another precision than that of the first one,
// if it is faster than that.
func fasterPrecision(all []model.Measurement) (faster model.Measurement, ok bool) {
	best, _ := all[0].Spread()
	for _, m := range all[1:] {
		if least, _ := m.Spread(); m.WhyNot == "" && m.Precision != "" && m.Precision != all[0].Precision && least < best {
			faster, best, ok = m, least, true
		}
	}
	return faster, ok
}

// scoresOf says which scores were compared.
func scoresOf(m model.Measurement) string {
	if m.Golden {
		return "golden records"
	}
	return "noise"
}

// kernelsOf returns model.kernels of a measurement. It is auto where the graph is not optimized.
func kernelsOf(t model.Measurement) string {
	if t.Kernels == "" {
		return "auto"
	}
	return t.Kernels
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
