// Command gpu measures inceptor with an Inception v3 on a machine with an NVIDIA card that has
// nothing else: no Python, no compiler, no network. bench/gpu/pack.sh makes a folder with all that
// it needs. It prints as Markdown
//
//   - the devices that TensorFlow uses, and whether the answers to the photos are those of Python
//     TensorFlow on a processor;
//   - images a second, decoding included, how many a batch has, and the card's and the process's
//     memory, at each most size of a batch;
//   - what a swap costs the photos that are sent meanwhile.
//
// It ends within eight minutes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/bench/measure"
	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// limit is how long all of it may take.
const limit = 8 * time.Minute

type options struct {
	dir     string
	seconds time.Duration
	most    int
	within  float64
	more    []string
}

func main() { measure.Main("gpu", run) }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("gpu", flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", ".", "folder that pack.sh has made")
	flags.DurationVar(&o.seconds, "each", 10*time.Second, "time to measure each size of a batch")
	flags.IntVar(&o.most, "most", 64, "the largest batch; smaller ones are powers of two")
	flags.Float64Var(&o.within, "within", 0.01, "how far a score may be from Python TensorFlow's; a card rounds in its own way")
	err := flags.Parse(args)
	o.more = flags.Args()
	return o, err
}

// An answer is Python TensorFlow's.
type answer struct {
	photo  []byte
	name   string
	scores []float64
}

// A bench is one run of this command.
type bench struct {
	options
	out     io.Writer
	answers []answer
	photos  [][]byte // of one size, to measure with
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b := &bench{options: o, out: os.Stdout}
	if err := b.read(); err != nil {
		return err
	}
	if err := savedmodel.OpenLibrary(filepath.Join(b.dir, "tensorflow")); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%s, %s.\n\n", measure.Inception, time.Now().Format(time.DateOnly))
	if err := b.compare(ctx); err != nil {
		return fmt.Errorf("answers: %w", err)
	}
	measure.WriteRow(b.out, "most in a batch", "mean", "images/s", "process, MB", "card, MB")
	measure.WriteRow(b.out, "---:", "---:", "---:", "---:", "---:")
	for size := 1; size <= b.most; size *= 2 {
		if err := b.throughput(ctx, size); err != nil {
			return fmt.Errorf("batches of %d: %w", size, err)
		}
	}
	if err := b.swap(ctx); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	return nil
}

// read reads the photos and Python TensorFlow's answers.
func (b *bench) read() error {
	data, err := os.ReadFile(filepath.Join(b.dir, "answers.json"))
	if err != nil {
		return err
	}
	var answers []testenv.Answer
	if err := json.Unmarshal(data, &answers); err != nil {
		return err
	}
	for _, a := range answers {
		photo, err := os.ReadFile(filepath.Join(b.dir, a.File))
		if errors.Is(err, os.ErrNotExist) || a.Error != "" {
			continue
		}
		if err != nil {
			return err
		}
		b.answers = append(b.answers, answer{photo, filepath.Base(a.File), a.Scores})
		if a.Width == 640 && a.Height == 427 && a.Format == "jpeg" {
			b.photos = append(b.photos, photo)
		}
	}
	if len(b.photos) == 0 {
		return fmt.Errorf("%s has no photos: make it with bench/gpu/pack.sh", b.dir)
	}
	return nil
}

// A watched manager tells which version serves, and what its batches have.
type watched struct {
	model.Unobserved
	*model.Manager
	serving         chan int64
	failed          chan error
	batches, images atomic.Int64
}

// BatchRun implements model.Observer.
func (w *watched) BatchRun(_ int64, r infer.Run) {
	w.batches.Add(1)
	w.images.Add(int64(r.Size))
}

// VersionServing implements model.Observer.
func (w *watched) VersionServing(version int64, ok bool) {
	if ok {
		w.serving <- version
	}
}

// VersionFailed implements model.Observer.
func (w *watched) VersionFailed(version int64, gate string) {
	w.failed <- fmt.Errorf("version %d failed at the gate %s", version, gate)
}

// manager returns a manager of the versions in a folder, which serves the newest.
func (b *bench) manager(ctx context.Context, dir string, settings ...string) (*watched, error) {
	c, err := measure.Settings(append(append([]string{
		"--model.dir", dir, "--model.probation.period", "0s",
	}, settings...), b.more...)...)
	if err != nil {
		return nil, err
	}
	w := &watched{serving: make(chan int64, 16), failed: make(chan error, 16)}
	if w.Manager, err = model.New(c.Model, slog.New(slog.DiscardHandler), w); err != nil {
		return nil, err
	}
	if err := w.Load(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, w.await(ctx)
}

// await waits until another version serves.
func (w *watched) await(ctx context.Context) error {
	select {
	case <-w.serving:
		return nil
	case err := <-w.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// compare prints how far the scores of each photo are from Python TensorFlow's.
func (b *bench) compare(ctx context.Context) error {
	m, err := b.manager(ctx, filepath.Join(b.dir, "model"))
	if err != nil {
		return err
	}
	defer m.Close()
	largest, same := 0.0, 0
	for _, a := range b.answers {
		p, err := m.Classify(ctx, nil, a.photo)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		best := 0
		for i, score := range a.scores {
			if score > a.scores[best] {
				best = i
			}
		}
		for _, c := range p.Classes {
			off := float64(c.Score) - a.scores[c.Index]
			largest = max(largest, off, -off)
		}
		if p.Classes[0].Index == best {
			same++
		}
	}
	fmt.Fprintf(b.out, "TensorFlow %s. The card: %s. Of %d photos, %d have Python TensorFlow's best class; the largest difference of a score is %.1e.\n\n",
		savedmodel.LibraryVersion(), card("name,driver_version"), len(b.answers), same, largest)
	if same < len(b.answers) || largest > b.within {
		return fmt.Errorf("the answers are not Python TensorFlow's within %v", b.within)
	}
	return nil
}

// throughput prints how many images a second batches of this size at most give.
func (b *bench) throughput(ctx context.Context, size int) error {
	m, err := b.manager(ctx, filepath.Join(b.dir, "model"), "--model.batch.max", strconv.Itoa(size))
	if err != nil {
		return err
	}
	defer m.Close()
	batches, images := m.batches.Load(), m.images.Load()
	// So many that the next batch fills while others run.
	_, ends, err := measure.Flood(ctx, max(measure.Callers, 4*size), b.seconds, b.photos, m.answer)
	if err != nil {
		return err
	}
	mean := float64(m.images.Load()-images) / float64(m.batches.Load()-batches)
	rate, err := measure.Rate(ends)
	if err != nil {
		return err
	}
	resident, _ := measure.ProcessMemory(os.Getpid())
	measure.WriteRow(b.out, strconv.Itoa(size), fmt.Sprintf("%.1f", mean), fmt.Sprintf("%.1f", rate),
		fmt.Sprintf("%.0f", resident/1e6), card("memory.used"))
	return nil
}

func (w *watched) answer(ctx context.Context, photo []byte) error {
	_, err := w.Classify(ctx, nil, photo)
	return err
}

// swap publishes a second version while photos are sent, and prints what that costs.
func (b *bench) swap(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "inceptor-gpu")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	publish := func(version string) error {
		coming := filepath.Join(dir, "coming")
		if err := os.CopyFS(coming, os.DirFS(filepath.Join(b.dir, "model", "1"))); err != nil {
			return err
		}
		return os.Rename(coming, filepath.Join(dir, version))
	}
	if err := publish("1"); err != nil {
		return err
	}
	m, err := b.manager(ctx, dir)
	if err != nil {
		return err
	}
	defer m.Close()
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	g.Go(func() { _ = m.Run(ctx) }) // it ends only with ctx
	swapped := make(chan error, 1)
	var took time.Duration
	g.Go(func() {
		err := publish("2")
		begin := time.Now()
		if err == nil {
			err = m.await(ctx)
		}
		took = time.Since(begin)
		swapped <- err
	})
	// So many seconds, and on until the second version serves.
	var ends []time.Time
	for done := false; !done; {
		_, more, err := measure.Flood(ctx, measure.Callers, b.seconds, b.photos, m.answer)
		if ends = append(ends, more...); err != nil {
			return err
		}
		select {
		case err := <-swapped:
			if err != nil {
				return err
			}
			done = true
		default:
		}
	}
	longest := time.Duration(0)
	for i := range ends[1:] {
		longest = max(longest, ends[i+1].Sub(ends[i]))
	}
	fmt.Fprintf(b.out, "\nA second version served %.1f s after its files were there. Meanwhile %d photos were answered, none failed, and the longest time without an answer was %d ms.\n",
		took.Seconds(), len(ends), longest.Milliseconds())
	return nil
}

// card returns what nvidia-smi says of the first card.
func card(query string) string {
	out, err := exec.Command("nvidia-smi", "--query-gpu="+query, "--format=csv,noheader,nounits").Output()
	if err != nil {
		return "none"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
