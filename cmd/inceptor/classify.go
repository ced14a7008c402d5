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

	"inceptor/model"
	"inceptor/model/remote"
	"inceptor/service"
	"inceptor/service/input"
)

type classifyCmd struct {
	Files []string `arg:"" help:"Images: JPEG, PNG, GIF, BMP or WebP; or what --input.format says." type:"existingfile" placeholder:"FILE"`
	JSON  bool     `name:"json" help:"Print each answer as a line of JSON, as the service writes it to Kafka."`
	Top   int      `default:"2" help:"Classes to print for each image; JSON has all that the model's version lists."`

	Input      content            `embed:"" prefix:"input." group:"Input"`
	Model      model.Config       `embed:"" prefix:"model." group:"Model"`
	Fallback   remote.Config      `embed:"" prefix:"fallback." group:"Model server"`
	TensorFlow service.TensorFlow `embed:"" prefix:"tensorflow." group:"TensorFlow"`
}

// content is input.format for commands that read no records.
type content struct {
	Format input.Format `default:"image" enum:"image,tensor-json,example" help:"What the model is for: ${enum}; see \"inceptor run\"."`
}

func (c content) config() input.Config { return input.Config{Format: c.Format} }

// maxFileBytes bounds a file.
const maxFileBytes = 256 << 20

func (c *classifyCmd) Run(ctx context.Context, a *app) error {
	config := service.Config{Input: c.Input.config(), Model: c.Model, Fallback: c.Fallback, TensorFlow: c.TensorFlow}
	if problems := config.ValidateModel(); len(problems) > 0 {
		return usageError{problems}
	}
	files, err := newFileReader(c.Input.Format)
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

	// Side by side, so that the model gets batches; printed in order.
	answers := make([]chan answer, len(c.Files))
	for i := range answers {
		answers[i] = make(chan answer, 1)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * model.Lanes * max(m.Records(), config.ModelConfig().MaxBatch()))
	go func() {
		for i, name := range c.Files {
			g.Go(func() error {
				p, err := classifyFile(ctx, m, files, name)
				answers[i] <- answer{p, err}
				return nil
			})
		}
	}()
	failed, told := 0, map[string]bool{}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for i, name := range c.Files {
		r := <-answers[i]
		if r.err != nil {
			failed++
			fmt.Fprintf(a.stderr, "inceptor: %s: %s\n", printable(name), printable(r.err.Error()))
			continue
		}
		if note := r.prediction.Assumed; note != "" && !told[note] {
			told[note] = true
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

type answer struct {
	prediction model.Prediction
	err        error
}

// newFileReader takes a file's content as the service takes a record's value
// with this input.format, so that both give the same reason for the same file.
func newFileReader(f input.Format) (*input.Reader, error) {
	in := input.Default()
	in.Format, in.MaxBytes = f, maxFileBytes
	return input.New(in)
}

func classifyFile(ctx context.Context, m service.Model, files *input.Reader, name string) (model.Prediction, error) {
	f, err := os.Open(name)
	if err != nil {
		return model.Prediction{}, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return model.Prediction{}, err
	}
	image, err := files.Read(ctx, content)
	if err != nil {
		return model.Prediction{}, err
	}
	defer image.Release()
	return m.Classify(ctx, nil, image.Bytes)
}

func (c *classifyCmd) print(out io.Writer, table io.Writer, name string, p model.Prediction) error {
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
		printable(filepath.Base(name)), said(a, c.Top), image(p.Image.Format, p.Image.Width, p.Image.Height),
		milliseconds(p.Timings.Decode), milliseconds(p.Timings.Infer))
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// maxShown is how many characters of an output are shown.
const maxShown = 40

// said is what an answer says, as a part of a line: the best classes, and the first
// values of each output.
func said(a service.Answer, top int) string {
	parts := []string{}
	if len(a.Predictions) > 0 {
		parts = append(parts, classes(a.Predictions, top))
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

// classes are the best classes of an answer with their scores, as a part of a line.
func classes[C fmt.Stringer](all []C, top int) string {
	list := make([]string, 0, top)
	for _, c := range all[:min(top, len(all))] {
		list = append(list, printable(c.String()))
	}
	return strings.Join(list, ", ")
}

// image is an image as "jpeg 640×427"; empty: it is no image.
func image(format string, width, height int) string {
	if format == "" {
		return ""
	}
	return fmt.Sprintf("%s %d×%d", printable(format), width, height)
}
