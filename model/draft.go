package model

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrHasSpec says that a version has an inceptor.yaml, which is never replaced.
var ErrHasSpec = errors.New("exists already, and is never replaced")

// Draft is an inceptor.yaml for the version, with a comment for each key. What is
// assumed is written as a comment, so that the file states only what is known. how
// says, on one line, how pixels were found; empty: they are those of the Explanation.
func (e Explanation) Draft(pixels *Preprocessing, how string) string {
	var d draft
	d.comment("", "How inceptor serves this version; docs/models.md describes every key. Written by \"inceptor init\".")
	d.key("The tags of the graph that is run.", "tags: "+yamlWords(e.Tags), true)
	d.key("The signature that is run.", "signature: "+yamlWord(e.Signature), true)
	d.input(e, pixels, how)
	d.outputs(e)
	if e.Scores == "" {
		return d.String()
	}
	d.labels(e)
	d.key("How many classes an answer lists, the best first.", fmt.Sprintf("top_k: %d", e.TopK), true)
	return d.String()
}

// A draft is a file in the making.
type draft struct{ strings.Builder }

func (d *draft) comment(indent, text string) { fmt.Fprintf(d, "%s# %s\n", indent, text) }

// key adds a key of the first level with what it means. What is not known is a comment.
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
			d.line(indent, "# Every input takes what the record holds.", true)
		}
	}
	if p == nil {
		return
	}
	d.comment(indent, "Height and width of the input: each image is resized to them, whatever its aspect ratio.")
	d.comment(indent, `"fit: pad" or "fit: crop" keep it; "crop: 0.875" leaves out the margins first.`)
	d.line(indent, fmt.Sprintf("size: [%d, %d]", p.Size[0], p.Size[1]), true)
	d.comment(indent, "How images are resized: bilinear, nearest, bicubic or area.")
	d.line(indent, "resize: "+p.Resize, true)
	if p.ResizeFrom == OriginAssumed {
		d.comment(indent, "Whether resizing takes pixels at their centers, as tf.image.resize does since TensorFlow 2.")
		d.comment(indent, "ASSUMED: nothing states it. If it is right, remove the # of the next line.")
		d.line(indent, fmt.Sprintf("half_pixel_centers: %v", p.HalfPixelCenters), false)
	}
	c := p.conversion()
	d.comment(indent, fmt.Sprintf("The model gets %s, of pixels from 0 to 255: %v.", c.formula(), c))
	known := p.ScaleFrom != OriginAssumed
	lines := c.keys()
	switch {
	case how != "":
		d.comment(indent, how)
	case !known:
		d.comment(indent, `ASSUMED: nothing states it. "inceptor init" with --image and --expect finds it out; if it is right,`)
		d.comment(indent, fmt.Sprintf("remove the # of the next %d lines.", len(lines)))
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
		d.key("Outputs that an answer has as arrays.", "outputs: "+yamlWords(all), true)
	}
	if e.Scores == "" {
		return
	}
	if e.Activation != "" {
		d.key("What makes probabilities of the scores: softmax or sigmoid.", "activation: "+e.Activation, true)
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
	case e.Labels.Words: // the model brings them
	case e.Labels.File != "":
		d.key(meaning, "labels: "+yamlWord(e.Labels.File), true)
	default:
		d.key(meaning+" There is none: answers have the classes' numbers alone.", "labels: labels.txt", false)
	}
}

// WriteSpec writes the inceptor.yaml of the version in dir, whole or not at all,
// and returns its path. If there is one, the error wraps ErrHasSpec.
func WriteSpec(dir, text string) (path string, err error) {
	path = filepath.Join(dir, specFile)
	if err := CheckNoSpec(dir); err != nil {
		return path, err
	}
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // for everybody to read
		return path, err
	}
	f, err := os.CreateTemp(folder, ".inceptor-*.tmp")
	if err != nil {
		return path, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone if it was renamed
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o644) // for everybody to read
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return path, err
	}
	err = os.Link(f.Name(), path) // fails if there is one meanwhile
	switch {
	case errors.Is(err, fs.ErrExist):
		return path, CheckNoSpec(dir)
	case err != nil: // not every file system has links
		err = CheckNoSpec(dir)
		if err == nil {
			err = os.Rename(f.Name(), path)
		}
	}
	return path, err
}

// CheckNoSpec makes sure that the version in dir has no inceptor.yaml; the error
// wraps ErrHasSpec.
func CheckNoSpec(dir string) error {
	path := filepath.Join(dir, specFile)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = ErrHasSpec
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
