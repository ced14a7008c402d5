package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service"
	"inceptor/service/stream"
)

// A screen is what the demo prints: where things are, a line for each record, and how to send more.
// Safe for concurrent use.
type screen struct {
	// Set once.
	c      *demoCmd
	broker string // host:port
	model  string // what the model is, and what it tells
	why    string // why it is this one; empty: the user has chosen it

	mu sync.Mutex // guards what follows
	w  io.Writer
}

func newScreen(w io.Writer, c *demoCmd, broker string) *screen {
	s := &screen{c: c, broker: broker, w: w}
	s.model, s.why = c.describeModel()
	return s
}

func (s *screen) print(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, format, args...)
}

// begin says where things are.
func (s *screen) begin(photos int) {
	page := "none: http.listen is empty"
	if s.c.HTTP.Listen != "" {
		page = "http://" + s.c.HTTP.Listen
	}
	s.print("Broker  %s, in this process: %s → %s\nPage    %s\nModel   %s\n%s\nSending %d photos from %s; the model is loading.\n\n",
		s.broker, strings.Join(s.c.Kafka.Input, ", "), s.c.Kafka.Output, page, printable(s.model), s.why, photos, printable(relative(s.c.Photos)))
}

// relative returns a path relative to the working directory, if it is below that. All are below the
// root, and there they stay as they are.
func relative(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	short, err := filepath.Rel(here, path)
	if err != nil || !filepath.IsLocal(short) || filepath.Dir(here) == here {
		return path
	}
	return short
}

// record shows a record's answer, or why it is a dead letter.
func (s *screen) record(r stream.Record) { s.print("%s\n", recordText(r, s.c.Kafka.DeadLetter)) }

// hints says how to send more, once the photos are answered.
func (s *screen) hints(photo string) {
	k := s.c.Kafka
	s.print(`
Send your own photo from another terminal (apt-get install kcat), or name one of these:
  kcat -P -b %[1]s -t %[2]s -k mine PHOTO.jpg
  echo %[5]s | kcat -P -b %[1]s -t %[2]s
Read the answers, and the dead letters:
  kcat -C -b %[1]s -t %[3]s -e
  kcat -C -b %[1]s -t %[4]s -e -f '%%k: %%h\n'
Ctrl-C ends the demo.

`, s.broker, k.Input[0], k.Output, k.DeadLetter, printable(photo))
}

// interrupted says that the end begins, which takes as long as the records in the model.
func (s *screen) interrupted() { s.print("\nEnding the demo. Ctrl-C again ends it at once.\n") }

// ended says that the demo is over.
func (s *screen) ended() { s.print("The demo has ended. Its broker, with all records, is gone.\n") }

// moderation are the classes of the Inception that make demo brings.
var moderation = []string{"Drawing", "Hentai", "Neutral", "Porn", "Sexy"}

const whyModeration = `        Classes: Drawing, Hentai, Neutral, Porn, Sexy. Package registries have no Inception that
        names objects. For objects: make demo MODEL=things, or with internet WEIGHTS=imagenet.
`

// describeModel says what the model is and what it tells, and why it is this one.
func (c *demoCmd) describeModel() (what, why string) {
	if c.Model.Backend == model.OnlyRemote {
		return fmt.Sprintf("%s, on the model server %s", c.Model.Name, c.Fallback.Address), ""
	}
	versions, err := c.Model.Folders()
	if err != nil || len(versions) == 0 {
		return fmt.Sprintf("%s, awaited in %s", c.Model.Name, c.Model.Dir), ""
	}
	newest := versions[len(versions)-1]
	what = fmt.Sprintf("%s, version %d", c.Model.Name, newest.Version)
	labels, _ := infer.ReadLabels(newest.Dir, c.ModelConfig().Content) // a load says what is wrong with the version
	if slices.Equal(labels, moderation) {
		return what + ": tells drawings, neutral pictures and three kinds of adult content", whyModeration
	}
	return what + tells(labels), ""
}

// fewLabels is how many labels are listed in full.
const fewLabels = 5

// tells lists a few labels of a model.
func tells(labels []string) string {
	short := func(label string) string { return shortened(label, 20) }
	switch n := len(labels); {
	case n == 0:
		return ""
	case n == 1:
		return ": tells " + short(labels[0])
	case n <= fewLabels:
		list := make([]string, n)
		for i, label := range labels {
			list[i] = short(label)
		}
		return ": tells " + strings.Join(list[:n-1], ", ") + " and " + list[n-1]
	default:
		return fmt.Sprintf(": tells %d classes, such as %s, %s and %s", n, short(labels[n/4]), short(labels[n/2]), short(labels[3*n/4]))
	}
}

// Columns of a record's line. They fit a terminal of 100 columns.
const (
	nameColumns   = 22
	answerColumns = 44
	imageColumns  = 15
	lineColumns   = nameColumns + answerColumns + imageColumns + len("    12345 ms")
)

// recordText describes an answer or a dead letter in one line.
func recordText(r stream.Record, deadLetter string) string {
	name, id := string(r.Key), headerValue(r, "inceptor-id")
	line := func(name, text string) string {
		name = shortened(printable(name), nameColumns)
		return shortened(fmt.Sprintf("%-*s %s", nameColumns, name, printable(text)), lineColumns)
	}
	if r.Topic == deadLetter {
		return line(cmp.Or(name, id), "dead letter: "+headerValue(r, "inceptor-error"))
	}
	var a service.Answer
	if err := json.Unmarshal(r.Value, &a); err != nil {
		return line(cmp.Or(name, id), err.Error())
	}
	i := cmp.Or(a.Image, &service.Image{})
	_, source, _ := strings.Cut(i.Source, ":") // path:… or url:…
	return fmt.Sprintf("%-*s %-*s %-*s %5.0f ms",
		nameColumns, shortened(printable(cmp.Or(name, source, id)), nameColumns),
		answerColumns, shortened(answerText(a, 2), answerColumns),
		imageColumns, shortened(imageText(i.Format, i.Width, i.Height), imageColumns),
		a.Timings.Wait+a.Timings.Decode+a.Timings.Infer)
}

// shortened returns at most n characters of s, the last of which is then an ellipsis.
func shortened(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return firstColumns(s, n-1) + "…"
}

func headerValue(r stream.Record, key string) string {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}
