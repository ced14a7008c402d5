package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service"
	"inceptor/testenv"
)

// substitutes are lines of docs/importing.md that need the internet or too much time, and what the
// test runs instead. The end of the page says so.
var substitutes = []struct{ page, test string }{
	{`keras.applications.MobileNetV2(weights="imagenet")`, `keras.models.load_model("imagenet.keras")`},
	{`keras.applications.MobileNet(
    weights="imagenet", include_top=False, pooling="avg", input_shape=(224, 224, 3))`, tinyNetwork},
	{`keras.applications.MobileNetV3Large(
    weights="imagenet", include_top=False, pooling="avg", input_shape=(224, 224, 3))`, tinyNetwork},
}

// tinyNetwork makes 192 numbers of an image. Training on it gives the same result each time.
const tinyNetwork = `keras.utils.set_random_seed(1) or keras.Sequential([
    keras.Input((224, 224, 3)), keras.layers.Rescaling(1 / 127.5, -1), keras.layers.AveragePooling2D(28),
    keras.layers.Flatten()])`

// importingLimit is the most time for a section, which trains and exports small models.
const importingLimit = 10 * time.Minute

// Following docs/importing.md gives what it says. The test runs each command, script and file of a
// section in order, in a folder with the files that the section begins with.
func TestImporting(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(testenv.Root(t), "docs", "importing.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, s := range substitutes {
		if strings.Count(text, s.page) != 1 {
			t.Errorf("docs/importing.md has %q %d times, want it once", s.page, strings.Count(text, s.page))
		}
		text = strings.ReplaceAll(text, s.page, s.test)
	}
	home := t.TempDir()
	reader := newReader(t, home)
	given := filepath.Join(home, "given")
	program := filepath.Join(testenv.Root(t), "cmd/inceptor/testdata/importing.py")
	made := reader.command("python", program, testenv.Zoo(t), testenv.Photos(t), given)
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("importing.py: %v\n%s", err, out)
	}
	checks := map[string]func(t *testing.T, dir string){"pictures-of-your-own": checkPublished}
	parts := map[string][]block{}
	for _, s := range sections(text) {
		if blocks := s.blocks(t); len(blocks) > 0 {
			parts[s.anchor] = blocks
		}
	}
	entries, err := os.ReadDir(given)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(entries) - 1; len(parts) != want { // families is for no section
		t.Errorf("%d sections have commands, want %d: those that importing.py prepares", len(parts), want)
	}
	t.Run("sections", func(t *testing.T) {
		for anchor, blocks := range parts {
			t.Run(anchor, func(t *testing.T) {
				t.Parallel()
				reader.follow(t, blocks, filepath.Join(given, anchor), checks[anchor])
			})
		}
	})
	t.Run("families", func(t *testing.T) { checkFamilies(t, text, filepath.Join(given, "families")) })
}

// A section of the page. Its anchor is that of links to it.
type section struct{ anchor, text string }

// sections returns the parts of the page under second-level headings.
func sections(page string) []section {
	var all []section
	for _, part := range strings.Split(page, "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		anchor := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(title), "")
		all = append(all, section{strings.ReplaceAll(anchor, " ", "-"), text})
	}
	return all
}

// A block is a fenced part of a section: commands (sh), the output of the commands before it
// (text), or a file that its first line names (python, yaml).
type block struct{ kind, text string }

var fenced = regexp.MustCompile("(?ms)^( *)```(\\w*)\n(.*?)^ *```$")

func (s section) blocks(t *testing.T) []block {
	var all []block
	for _, m := range fenced.FindAllStringSubmatch(s.text, -1) {
		indent, kind := m[1], m[2]
		if !slices.Contains([]string{"sh", "text", "python", "yaml"}, kind) {
			t.Errorf("%s: a block of kind %q", s.anchor, kind)
		}
		text := strings.TrimPrefix(strings.ReplaceAll("\n"+m[3], "\n"+indent, "\n"), "\n")
		all = append(all, block{kind, text})
	}
	return all
}

// A pageReader has the programs and the settings that the page supposes.
type pageReader struct {
	bin string // folder of the programs
	env []string
}

func newReader(t *testing.T, home string) pageReader {
	t.Helper()
	bin := filepath.Join(home, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"inceptor": asProgram + `=1 exec "` + self + `" "$@"`,
		"python":   `exec "` + testenv.Python(t) + `" "$@"`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+line+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	address := testenv.FreeAddress(t)
	return pageReader{bin, append(os.Environ(),
		"PATH="+bin+":"+os.Getenv("PATH"),
		// Python compiles its modules once, and not in each script.
		"PYTHONDONTWRITEBYTECODE=", "PYTHONPYCACHEPREFIX="+filepath.Join(home, "pycache"),
		"KERAS_HOME="+filepath.Join(home, "keras"),
		"CUDA_VISIBLE_DEVICES=-1", "TF_CPP_MIN_LOG_LEVEL=2",
		"INCEPTOR_TENSORFLOW_LIBRARY="+testenv.TensorFlow(t),
		"INCEPTOR_HTTP_LISTEN="+address,
	)}
}

// command returns a program of the system, or one of the reader's own, with the reader's settings.
func (r pageReader) command(name string, args ...string) *exec.Cmd {
	if own := filepath.Join(r.bin, name); exists(own) {
		name = own
	}
	cmd := exec.Command(name, args...)
	cmd.Env = r.env
	return cmd
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// follow runs the commands of a section in the folder and checks their output. Processes in the
// background run until check has returned.
func (r pageReader) follow(t *testing.T, blocks []block, dir string, check func(t *testing.T, dir string)) {
	file := filepath.Join(dir, ".script")
	if err := os.WriteFile(file, []byte(script(t, blocks)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := r.command("bash", file)
	cmd.Dir = dir
	// A group of its own, so that nothing is left of it. The script ends what it has
	// started, also if this process ends first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := startCommand(t, cmd)
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	limit := time.After(importingLimit)
	for !exists(filepath.Join(dir, ".done")) {
		select {
		case err := <-p.done:
			t.Fatalf("%v\n%s", err, lastOutput(dir))
		case <-limit:
			t.Fatalf("not done after %v\n%s", importingLimit, lastOutput(dir))
		case <-time.After(20 * time.Millisecond):
		}
	}
	for i, b := range blocks {
		if b.kind != "text" {
			continue
		}
		out, err := os.ReadFile(outputOf(dir, lastCommand(blocks[:i])))
		if err != nil {
			t.Fatal(err)
		}
		if missing := notShown(string(out), b.text); missing != "" {
			t.Errorf("the page shows\n%s\nand this line is not in the output:\n%s\n\n%s", b.text, missing, out)
		}
	}
	if check != nil {
		check(t, dir)
	}
	_ = stdin.Close()
	if code := p.wait(); code != 0 {
		t.Errorf("exit status %d\n%s", code, lastOutput(dir))
	}
}

// script returns the section as a bash script. The output of block i goes to the file .output.i.
func script(t *testing.T, blocks []block) string {
	var s strings.Builder
	s.WriteString("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\ntrap 'exit 1' TERM\n")
	for i, b := range blocks {
		switch b.kind {
		case "sh":
			commands := b.text
			if i+1 < len(blocks) && blocks[i+1].kind == "text" && strings.Contains(blocks[i+1].text, "REFUSED") {
				commands = "if " + commands + "then echo 'exit status 0, want 1'; exit 1; fi\n"
			}
			fmt.Fprintf(&s, "exec >.output.%d 2>&1\n%s", i, commands)
		case "python", "yaml":
			first, _, _ := strings.Cut(b.text, "\n")
			name, ok := strings.CutPrefix(first, "# ")
			if !ok {
				t.Fatalf("no comment with the file's name before\n%s", b.text)
			}
			fmt.Fprintf(&s, "mkdir -p \"$(dirname '%s')\"\ncat >'%[1]s' <<'END OF THE FILE'\n%sEND OF THE FILE\n", name, b.text)
			if base, ok := strings.CutSuffix(name, "/1/assets.extra/inceptor.yaml"); ok && !triedLater(blocks[i+1:]) {
				fmt.Fprintf(&s, "exec >.output.%d 2>&1\ninceptor classify --model.dir '%s' cat.jpg\n", i, base)
			}
		}
	}
	s.WriteString("touch .done\nread -r _ || true\n")
	return s.String()
}

// triedLater tells whether commands follow a file before the next file does.
func triedLater(blocks []block) bool {
	for _, b := range blocks {
		if b.kind != "text" {
			return b.kind == "sh"
		}
	}
	return false
}

func lastCommand(blocks []block) int {
	for i, b := range slices.Backward(blocks) {
		if b.kind == "sh" {
			return i
		}
	}
	return -1
}

func outputOf(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf(".output.%d", i)) }

// lastOutput returns the output of the last commands that ran, and the service's log.
func lastOutput(dir string) string {
	log, _ := os.ReadFile(filepath.Join(dir, "service.log"))
	for i := 50; i >= 0; i-- {
		if b, err := os.ReadFile(outputOf(dir, i)); err == nil {
			return fmt.Sprintf("block %d:\n%s\n%s", i, b, log)
		}
	}
	return "no block has run"
}

// notShown returns the first line of want that is missing in the output after the lines before it.
// "…" stands for any text, and any space for any other.
func notShown(output, want string) string {
	lines := strings.Split(output, "\n")
	for line := range strings.Lines(want) {
		words := strings.Join(strings.Fields(line), " ")
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(words), "…", ".*") + "$")
		at := slices.IndexFunc(lines, func(line string) bool {
			return pattern.MatchString(strings.Join(strings.Fields(line), " "))
		})
		if at < 0 {
			return words
		}
		lines = lines[at+1:]
	}
	return ""
}

// checkPublished sends pictures to the service that the section has started. The version that was
// published last answers them, with the labels that it was trained on.
func checkPublished(t *testing.T, dir string) {
	log, err := os.ReadFile(outputOf(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	broker := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(string(log))
	out := follow(t, broker, outputTopic, deadLetterTopic)
	sent := 6 // by the demo
	out.awaitDistinct(t, sent, patience, outputTopic, deadLetterTopic)
	for _, class := range []string{"cat", "coffee"} {
		for i := range 6 {
			content, err := os.ReadFile(filepath.Join(dir, "pictures", class, fmt.Sprintf("%d.jpg", i+1)))
			if err != nil {
				t.Fatal(err)
			}
			produce(t, broker, &kgo.Record{Topic: inputTopic, Key: []byte(class), Value: content})
			sent++
		}
	}
	out.awaitDistinct(t, sent, patience, outputTopic, deadLetterTopic)
	answered := 0
	for _, r := range out.from(outputTopic) {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		class, old := string(r.Key), strings.HasSuffix(string(r.Key), ".jpg")
		if old { // sent by the demo, of the folder cat
			class = "cat"
		}
		if a.Version == nil || a.Class != class || !old && *a.Version != 2 {
			t.Errorf("%s, want %q by version 2", r.Value, class)
		}
		answered++
	}
	if answered != sent {
		t.Errorf("%d answers to %d records", answered, sent)
	}
	log, err = os.ReadFile(filepath.Join(dir, "service.log"))
	if err != nil {
		t.Fatal(err)
	}
	if missing := notShown(string(log), "…msg=\"version serving\" …version=1 …\n…msg=\"version serving\" …version=2 …"); missing != "" {
		t.Errorf("the service's log does not have %s:\n%s", missing, log)
	}
}

// checkFamilies compares the line for each family of networks with the family's own preprocessing
// of a picture.
func checkFamilies(t *testing.T, page, dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "means.json"))
	if err != nil {
		t.Fatal(err)
	}
	var means map[string]map[string][]float64
	if err := json.Unmarshal(b, &means); err != nil {
		t.Fatal(err)
	}
	for origin, head := range map[string]string{"slim": "slim's preprocessing", "keras": "family"} {
		lines := familyLines(page, head)
		made := map[string][]float64{} // by line
		for name, want := range means[origin] {
			line := lines(name)
			if line == "" {
				t.Errorf("%s is not in the table", name)
				continue
			}
			if made[line] == nil {
				made[line] = channelMeans(t, dir, line)
			}
			for i, got := range made[line] {
				// Slim's VGG crops what it has resized, at a whole pixel.
				bound := 1e-4 * max(1, math.Abs(want[i]))
				if name == "vgg" {
					bound = 1
				}
				if math.Abs(got-want[i]) > bound {
					t.Errorf("%s: %s makes %v of the channels' means, its own preprocessing %v", name, line, made[line], want)
					break
				}
			}
		}
		if len(made) < 2 {
			t.Errorf("%d different lines: %v", len(made), made)
		}
	}
}

// familyLines returns the line of inceptor.yaml for a network, from the page's table with this
// head. "DenseNet…" stands for all names that begin so. "inception: a, b" is named inception.
func familyLines(page, head string) func(name string) string {
	_, table, _ := strings.Cut(page, "| "+head+" | `inceptor.yaml` |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	exact, begun := map[string]string{}, map[string]string{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, " | ")
		line, _, _ := strings.Cut(strings.TrimPrefix(cells[len(cells)-1], "`"), "`")
		names, _, _ := strings.Cut(strings.ReplaceAll(strings.TrimPrefix(cells[0], "| "), "`", ""), ":")
		for name := range strings.SplitSeq(names, ", ") {
			if prefix, ok := strings.CutSuffix(name, "…"); ok {
				begun[prefix] = line
			} else {
				exact[name] = line
			}
		}
	}
	return func(name string) string {
		if line := exact[name]; line != "" {
			return line
		}
		for prefix, line := range begun {
			if strings.HasPrefix(name, prefix) {
				return line
			}
		}
		return ""
	}
}

// channelMeans returns the means of the picture's channels as the model gets them with this
// inceptor.yaml.
func channelMeans(t *testing.T, dir, line string) []float64 {
	t.Helper()
	yaml := filepath.Join(dir, "models/mean/1/assets.extra/inceptor.yaml")
	err := errors.Join(os.MkdirAll(filepath.Dir(yaml), 0o700), os.WriteFile(yaml, []byte(line+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := execute(t, "classify", "--json", "--tensorflow.library", testenv.TensorFlow(t),
		"--model.dir", filepath.Join(dir, "models/mean"), filepath.Join(dir, "picture.png"))
	var a service.Answer
	if err := json.Unmarshal([]byte(stdout), &a); err != nil || code != 0 || len(a.Predictions) != 3 {
		t.Fatalf("%s: exit status %d, %v\n%s%s", line, code, err, stdout, stderr)
	}
	means := make([]float64, 3)
	for _, p := range a.Predictions {
		means[*p.Index] = float64(p.Score)
	}
	return means
}
