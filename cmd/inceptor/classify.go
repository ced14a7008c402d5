package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"inceptor/internal/settings"
	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/remote"
	"inceptor/service"
	"inceptor/service/input"
)

type classifyCmd struct {
	Files []string `arg:"" help:"Images (JPEG, PNG, GIF, BMP or WebP), or whatever --input.format says." type:"existingfile" placeholder:"FILE"`
	JSON  bool     `name:"json" help:"Print each answer as a line of JSON, as the service writes it to Kafka."`
	Top   int      `default:"2" help:"Number of classes to print for each image. --json prints all that the version lists."`

	Input      contentFormat      `embed:"" prefix:"input." group:"Input"`
	Model      model.Config       `embed:"" prefix:"model." group:"Model"`
	Fallback   remote.Config      `embed:"" prefix:"fallback." group:"Model server"`
	TensorFlow service.TensorFlow `embed:"" prefix:"tensorflow." group:"TensorFlow"`
}

// A contentFormat is the setting input.format, for commands that read no records. It takes every
// value, so that the service's file can be used.
type contentFormat struct {
	Format input.Format `default:"image" values:"image,tensor-json,example" help:"What the model takes: image, tensor-json or example. The service's other formats mean image."`
}

func (c contentFormat) config() input.Config {
	if c.Format == input.TensorJSON || c.Format == input.Example {
		return input.Config{Format: c.Format}
	}
	return input.Config{Format: input.Bare}
}

// maxFileBytes is the largest file that is read.
const maxFileBytes = 256 << 20

func (c *classifyCmd) config() service.Config {
	return service.Config{
		Input: c.Input.config(), Model: c.Model, Fallback: c.Fallback, TensorFlow: c.TensorFlow,
	}
}

// Validate returns every problem, each naming its key.
func (c *classifyCmd) Validate() []error { return c.config().ValidateModel() }

func (c *classifyCmd) Run(ctx context.Context, a *app) error {
	config := c.config()
	files, err := newFileReader(config.Input.Format)
	if err != nil {
		return err
	}
	defer func() { _ = files.Close() }()
	quiet := slog.New(slog.DiscardHandler)
	m, err := openModel(ctx, config, quiet)
	if err != nil {
		return err
	}
	defer m.Close()

	concurrent := 2 * infer.Lanes * max(m.MaxBatch(), config.ModelConfig().MaxBatch())
	return c.printAll(a, classifyFiles(ctx, m, files, c.Files, concurrent))
}

// A result is a file's prediction, or why there is none.
type result struct {
	prediction infer.Prediction
	err        error
}

// classifyFiles returns a channel for each file, which gets its result. So many files are
// classified concurrently, so that the model gets batches.
func classifyFiles(ctx context.Context, m service.Classifier, files *input.Reader, names []string, concurrent int) []chan result {
	results := make([]chan result, len(names))
	for i := range results {
		results[i] = make(chan result, 1)
	}
	var g errgroup.Group
	g.SetLimit(concurrent)
	go func() {
		for i, name := range names {
			g.Go(func() error {
				p, err := classifyFile(ctx, m, files, name)
				results[i] <- result{p, err}
				return nil
			})
		}
	}()
	return results
}

// printAll prints the results in the order of the files.
func (c *classifyCmd) printAll(a *app, results []chan result) error {
	failed, noted := 0, map[string]bool{}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for i, name := range c.Files {
		r := <-results[i]
		if r.err != nil {
			failed++
			fmt.Fprintf(a.stderr, "inceptor: %s: %s\n", printable(name), printable(r.err.Error()))
			continue
		}
		if note := r.prediction.Assumed; note != "" && !noted[note] {
			noted[note] = true
			fmt.Fprintf(a.stderr, "inceptor: note: %s\n", printable(note))
		}
		if err := c.print(a.stdout, w, name, r.prediction); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d files could not be classified", failed, len(c.Files))
	}
	return nil
}

// newFileReader returns a reader that treats a file's content as the service treats a record's
// value with this input.format. So both give the same reason for the same file.
func newFileReader(f input.Format) (*input.Reader, error) {
	in := settings.Default[input.Config]()
	in.Format, in.MaxBytes = f, maxFileBytes
	return input.New(in)
}

// classifyFile classifies the content of a file.
func classifyFile(ctx context.Context, m service.Classifier, files *input.Reader, name string) (infer.Prediction, error) {
	content, err := readFile(ctx, files, name)
	if err != nil {
		return infer.Prediction{}, err
	}
	return m.Classify(ctx, nil, content)
}

// readFile returns the image, or other content, of a file.
func readFile(ctx context.Context, files *input.Reader, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	image, err := files.Read(ctx, content)
	if err != nil {
		return nil, err
	}
	defer image.Release()
	return slices.Clone(image.Bytes), nil
}

func (c *classifyCmd) print(out io.Writer, table io.Writer, name string, p infer.Prediction) error {
	value := service.AppendAnswer(nil, name, &p)
	if c.JSON {
		_, err := out.Write(append(value, '\n'))
		return err
	}
	var a service.Answer
	if err := json.Unmarshal(value, &a); err != nil {
		return err
	}
	_, err := fmt.Fprintf(table, "%s\t%s\t%s\tdecode %.1f ms\tinfer %.1f ms\n",
		printable(filepath.Base(name)), answerText(a, c.Top),
		imageText(p.Image.Format, p.Image.Width, p.Image.Height),
		milliseconds(p.Timings.Decode), milliseconds(p.Timings.Infer))
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// maxShown is how many bytes of an output are shown.
const maxShown = 40

// answerText returns the best classes of an answer and the first values of each output, as a part
// of a line.
func answerText(a service.Answer, top int) string {
	parts := []string{}
	if len(a.Predictions) > 0 {
		parts = append(parts, classesText(a.Predictions, top))
	}
	for _, key := range slices.Sorted(maps.Keys(a.Outputs)) {
		values := string(a.Outputs[key])
		if len(values) > maxShown {
			values = strings.ToValidUTF8(values[:maxShown], "") + "…"
		}
		parts = append(parts, printable(key+" "+values))
	}
	return strings.Join(parts, ", ")
}

// classesText returns the best classes with their scores, as a part of a line.
func classesText[C fmt.Stringer](all []C, top int) string {
	list := make([]string, 0, top)
	for _, c := range all[:min(top, len(all))] {
		list = append(list, printable(c.String()))
	}
	return strings.Join(list, ", ")
}

// imageText describes an image as "jpeg 640×427". It is empty for what is no image.
func imageText(format string, width, height int) string {
	if format == "" {
		return ""
	}
	return fmt.Sprintf("%s %d×%d", printable(format), width, height)
}
