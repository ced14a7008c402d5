package infer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrHasSpec says that a version has an inceptor.yaml. inceptor never replaces one.
var ErrHasSpec = errors.New("exists already, and is never replaced")

// Draft returns an inceptor.yaml for the version, with a comment for each key. Keys with assumed
// values are comments too, so that the file states only what is known. how says, on one line, how
// the pixels were found; empty: they are the Explanation's.
func (e Explanation) Draft(pixels *Preprocessing, how string) string {
	var d draft
	d.comment("", "How inceptor serves this version; docs/models.md describes every key. Written by \"inceptor init\".")
	d.key("The tags of the graph to run.", "tags: "+yamlWords(e.Tags), true)
	d.key("The signature to run.", "signature: "+yamlWord(e.Signature), true)
	d.input(e, pixels, how)
	d.outputs(e)
	if e.Scores == "" {
		return d.String()
	}
	d.labels(e)
	d.key("How many classes an answer lists, the best first.", fmt.Sprintf("top_k: %d", e.TopK), true)
	return d.String()
}

// A draft builds the text of an inceptor.yaml.
type draft struct{ strings.Builder }

func (d *draft) comment(indent, text string) { fmt.Fprintf(d, "%s# %s\n", indent, text) }

// key adds a key of the first level with its meaning. A key that is not known is a comment.
func (d *draft) key(meaning, line string, known bool) {
	fmt.Fprintln(d)
	d.comment("", meaning)
	d.line("", line, known)
}

func (d *draft) line(indent, line string, known bool) {
	if !known {
		indent += "# "
	}
	fmt.Fprintf(d, "%s%s\n", indent, line)
}

func (d *draft) input(e Explanation, p *Preprocessing, how string) {
	const indent = "  "
	fmt.Fprintf(d, "\ninput:\n")
	for _, in := range e.Inputs {
		switch in.From {
		case FromPixels, FromImage, FromExample:
			d.comment(indent, "The signature's input that takes the image: "+in.takes()+".")
			d.line(indent, "key: "+yamlWord(in.Key), true)
		case FromRecord:
			d.line(indent, "# Every input is fed from the record.", true)
		}
	}
	if p == nil {
		return
	}
	d.comment(indent, "Height and width of the input: each image is resized to them, whatever its aspect ratio.")
	d.comment(indent, `"fit: pad" or "fit: crop" keep it; "crop: 0.875" cuts off the margins first.`)
	d.line(indent, fmt.Sprintf("size: [%d, %d]", p.Size[0], p.Size[1]), true)
	d.comment(indent, "How images are resized: bilinear, nearest, bicubic or area.")
	d.line(indent, "resize: "+p.Resize, true)
	if p.ResizeFrom == OriginAssumed {
		d.comment(indent, "Whether resizing takes pixels at their centers, as tf.image.resize does since TensorFlow 2.")
		d.comment(indent, "ASSUMED: nothing states it. If it is right, remove the # from the next line.")
		d.line(indent, fmt.Sprintf("half_pixel_centers: %v", p.HalfPixelCenters), false)
	}
	c := p.conversion()
	d.comment(indent, fmt.Sprintf("The model gets %s, of pixels from 0 to 255: %v.", c.formula(), c))
	known := p.ScaleFrom != OriginAssumed
	lines := c.yamlLines()
	switch {
	case how != "":
		d.comment(indent, how)
	case !known:
		d.comment(indent, `ASSUMED: nothing states it. "inceptor init" with --image and --expect finds out; if it is right,`)
		d.comment(indent, fmt.Sprintf("remove the # from the next %d lines.", len(lines)))
	default:
		d.comment(indent, "It is "+stated(p.ScaleFrom)+".")
	}
	for _, line := range lines {
		d.line(indent, line, known)
	}
}

func (d *draft) outputs(e Explanation) {
	if len(e.Outputs) > 0 {
		var all []string
		for _, out := range e.Outputs {
			all = append(all, out.Key)
		}
		d.key("Outputs to return as arrays.", "outputs: "+yamlWords(all), true)
	}
	if e.Scores == "" {
		return
	}
	if e.Activation != "" {
		d.key("What turns the scores into probabilities: softmax or sigmoid.", "activation: "+e.Activation, true)
	}
	if e.Labels.Output != "" {
		d.key("The outputs with the scores and with their classes.",
			fmt.Sprintf("output: {scores: %s, classes: %s}", yamlWord(e.Scores), yamlWord(e.Labels.Output)), true)
		return
	}
	d.key("The output with the scores.", "output: "+yamlWord(e.Scores), true)
}

func (d *draft) labels(e Explanation) {
	const meaning = "A file with a label for each class, in assets or beside saved_model.pb."
	switch {
	case e.Labels.Words: // need no file
	case e.Labels.File != "":
		d.key(meaning, "labels: "+yamlWord(e.Labels.File), true)
	default:
		d.key(meaning+" There is none: answers have only the numbers of classes.", "labels: labels.txt", false)
	}
}

// WriteSpec writes the inceptor.yaml of the version in dir, all of it or nothing, and returns its
// path. If there is one already, the error wraps ErrHasSpec.
func WriteSpec(dir, text string) (path string, err error) {
	path = specPath(dir)
	if err := CheckNoSpec(dir); err != nil {
		return path, err
	}
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // for everybody to read
		return path, err
	}
	name, err := writeTemporary(folder, text)
	if name != "" {
		defer func() { _ = os.Remove(name) }() // it is not there if it was renamed
	}
	if err != nil {
		return path, err
	}
	err = os.Link(name, path) // fails if there is one by now
	switch {
	case errors.Is(err, fs.ErrExist):
		return path, CheckNoSpec(dir)
	case err != nil: // not every file system has links
		err = CheckNoSpec(dir)
		if err == nil {
			err = os.Rename(name, path)
		}
	}
	return path, err
}

// writeTemporary writes a text to a new file in a folder, for everybody to read, and returns its
// path, which the caller removes or renames; empty: there is no file.
func writeTemporary(folder, text string) (path string, err error) {
	f, err := os.CreateTemp(folder, ".inceptor-*.tmp")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	return f.Name(), errors.Join(err, f.Close())
}

// CheckNoSpec makes sure that the version in dir has no inceptor.yaml. If it has one, the error
// wraps ErrHasSpec.
func CheckNoSpec(dir string) error {
	path := specPath(dir)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = ErrHasSpec
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
