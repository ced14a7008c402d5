// Command images tries container images, as testenv/images.sh does after it has built them:
//
//	images [-tool podman] [-memory 1g] IMAGE...
//
// Each image answers photos from a real broker, with a root that is read-only, without
// capabilities, and in so much memory. It prints how long that took and what memory it needed.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"inceptor/testenv"
)

// limit is how long anything may take on a busy machine.
const limit = 5 * time.Minute

func main() {
	tool := flag.String("tool", "docker", "docker or podman")
	memory := flag.String("memory", "1g", "limits of memory, with commas")
	settings := flag.String("settings", "", "further flags for inceptor run")
	photos := flag.Int("photos", 40, "photos to send")
	model := flag.String("model", "savedmodel/inception", "the model's directory")
	within := flag.Float64("within", 1e-3, "how far scores may be from Python TensorFlow's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	lab := &lab{tool: *tool, settings: strings.Fields(*settings), photos: *photos, model: *model, within: *within}
	err := lab.run(ctx, flag.Args(), strings.Split(*memory, ","))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// A lab is where images are tried, with a broker of its own.
type lab struct {
	tool     string
	settings []string
	photos   int
	model    string
	within   float64

	kafka   *testenv.Kafka
	answers []testenv.Answer // to the photos
}

func (l *lab) run(ctx context.Context, images, limits []string) error {
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if l.model, err = filepath.Abs(l.model); err != nil {
		return err
	}
	if err := l.readAnswers(".tools/reference/answers.json"); err != nil {
		return err
	}
	if l.kafka, err = testenv.StartKafka(ctx, ".tools/kafka/lib", dir); err != nil {
		return err
	}
	defer l.kafka.Kill()

	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer func() { _ = w.Flush() }()
	fmt.Fprintln(w, "IMAGE\tLIMIT\tFIRST ANSWER\tANONYMOUS\tAT MOST\tFILE\tRESIDENT AT MOST")
	for n, image := range images {
		for m, memory := range limits {
			// A few topics and a group for each, so that none answers another's records.
			t := &trial{lab: l, image: image, memory: memory, name: fmt.Sprintf("inceptor-try-%d-%d-%d", os.Getpid(), n, m)}
			if err := t.run(ctx); err != nil {
				return fmt.Errorf("%s in %s: %w", image, memory, err)
			}
			fmt.Fprintf(w, "%s\t%s\t%.1f s\t%d MiB\t%d MiB\t%d MiB\t%d MiB\n", image, memory, t.first.Seconds(),
				t.seen.anonymous>>10, t.mostAnonymous>>10, t.seen.file>>10, t.seen.peak>>10)
		}
	}
	return nil
}

// readAnswers reads Python TensorFlow's answers to the photos.
func (l *lab) readAnswers(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%w: run `make setup`", err)
	}
	var all []testenv.Answer
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, a := range all {
		if a.Error == "" && filepath.Dir(a.File) == "photos" {
			a.File = filepath.Join(".tools", a.File)
			l.answers = append(l.answers, a)
		}
	}
	if len(l.answers) == 0 {
		return fmt.Errorf("%s: no photos", file)
	}
	return nil
}
