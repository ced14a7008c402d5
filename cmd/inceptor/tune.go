package main

import (
	"cmp"
	"context"
	"fmt"
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
	Write string `help:"File to write the settings to, for --config." placeholder:"FILE"`

	Input      content            `embed:"" prefix:"input." group:"Input"`
	Model      model.Config       `embed:"" prefix:"model." group:"Model"`
	TensorFlow service.TensorFlow `embed:"" prefix:"tensorflow." group:"TensorFlow"`
}

// Help is the long help.
func (*tuneCmd) Help() string {
	return `Loads the newest version as it is, and optimized, with each library's kernels and with fewer threads, one after the other, and runs each on batches of 1 to model.batch.max. ` +
		`The settings under which an image takes least are printed; of batches that are as good, the smallest. Settings under which scores differ from the model's by more than 1e-5 are not taken; bfloat16 is listed, with how far they differ for noise, and never taken. ` +
		`Run it where the service will run, while nothing else does. A minute for Inception on two cores.`
}

func (c *tuneCmd) Run(ctx context.Context, a *app) error {
	config := service.Config{Input: c.Input.config(), Model: c.Model, TensorFlow: c.TensorFlow}
	if problems := config.ValidateModel(); len(problems) > 0 {
		return usageError{problems}
	}
	if err := savedmodel.OpenLibrary(c.TensorFlow.Library); err != nil {
		return err
	}
	trials, err := model.Tune(ctx, config.ModelConfig())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	sizes := slices.Sorted(maps.Keys(trials[0].Runs))
	fmt.Fprint(w, "OPTIMIZE\tKERNELS\tPRECISION\tTHREADS\tLOAD\tMEMORY\tMS AN IMAGE, BATCH OF")
	for _, n := range sizes {
		fmt.Fprintf(w, " %d\t", n)
	}
	fmt.Fprintln(w)
	for _, t := range trials {
		c.print(w, t, sizes)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	best := trials[0]
	size, each := best.Each()
	settings := [][2]string{
		{"model.optimize", best.Optimize}, {"model.kernels", kernelsOf(best)},
		{"model.batch.max", fmt.Sprint(size)}, {"tensorflow.intra-op-threads", fmt.Sprint(best.Threads)},
	}
	fmt.Fprintf(a.stdout, "\n%.3g ms an image, in the smallest batches that are as good as any, with\n\n   ", ms(each))
	for _, s := range settings {
		fmt.Fprintf(a.stdout, " --%s %s", s[0], s[1])
	}
	fmt.Fprintln(a.stdout)
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

func (c *tuneCmd) print(w *tabwriter.Writer, t model.Trial, sizes []int) {
	threads := "all"
	if t.Threads > 0 {
		threads = fmt.Sprint(t.Threads)
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", t.Optimize, kernelsOf(t), cmp.Or(t.Precision, "float32"), threads)
	if t.WhyNot != "" {
		fmt.Fprintf(w, "%s\n", printable(t.WhyNot))
		return
	}
	fmt.Fprintf(w, "%.1f s\t%d MiB", t.Load.Seconds(), t.Memory>>20)
	for _, n := range sizes {
		fmt.Fprintf(w, "\t%.3g", ms(t.Runs[n])/float64(n))
	}
	if t.Precision != "" {
		fmt.Fprintf(w, "\tscores of noise differ by up to %.1g", t.Differs)
	}
	fmt.Fprintln(w)
}

// kernelsOf is model.kernels of a trial: what is not optimized has no choice.
func kernelsOf(t model.Trial) string {
	if t.Kernels == "" {
		return "auto"
	}
	return t.Kernels
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
