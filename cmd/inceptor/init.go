package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/service"
	"inceptor/service/input"
)

type initCmd struct {
	Dir    string `arg:"" help:"Directory of the version: the one that holds saved_model.pb." placeholder:"DIR"`
	Image  string `help:"Picture to try the usual conventions for pixels on: −1…1, 0…1, 0…1 normalized by ImageNet's mean and std (PyTorch), BGR 0…255 less ImageNet's mean (Caffe) and 0…255." type:"existingfile" placeholder:"FILE"`
	Expect string `help:"What the picture shows: the label of its class, or the class's number. The convention that gives it with the highest score is written; Caffe's and 0…255 only where no other one gives it." placeholder:"LABEL"`

	Signature string `help:"Signature that is run. Empty: serving_default, or the only one." placeholder:"KEY"`
	Size      []int  `help:"Height and width of the images that the model takes, where its signature leaves them open." placeholder:"HEIGHT,WIDTH"`
	Output    string `help:"Output with the scores, where the signature does not tell which has them." placeholder:"KEY"`

	TensorFlow service.TensorFlow `embed:"" prefix:"tensorflow." group:"TensorFlow"`
}

// Help is the long help.
func (*initCmd) Help() string {
	return `Writes assets.extra/inceptor.yaml into the version's directory, with a comment for each key: signature, inputs, outputs, labels, and how images become pixels. ` +
		`An inceptor.yaml that exists is never replaced. What the graph and its signature tell is written as a key, and what is assumed as a comment. This needs no TensorFlow library. ` +
		`With --image, a model that takes pixels and does not state which is loaded, and shown the picture in each of the usual conventions. --expect tells which answer is right. Without --expect, you are asked on a terminal. ` +
		`"inceptor inspect" tells the same, and writes nothing.`
}

func (c *initCmd) Run(ctx context.Context, a *app) error {
	if c.Expect != "" && c.Image == "" {
		return usageError{[]error{errors.New("--expect: needs --image, the picture that shows it")}}
	}
	given := model.Given{Signature: c.Signature, Output: c.Output}
	if len(c.Size) > 0 {
		if len(c.Size) != 2 || min(c.Size[0], c.Size[1]) < 1 {
			return usageError{[]error{errors.New("--size: want a height and a width, such as 224,224")}}
		}
		given.Size = [2]int(c.Size)
	}
	if err := model.CheckNoSpec(c.Dir); err != nil {
		return err
	}
	e := model.ExplainGiven(c.Dir, model.Images, given)
	if e.Refused != "" {
		return fmt.Errorf("nothing was written: %s (init takes --signature, --size and --output)", e.Refused)
	}
	pixels, how := e.Preprocessing, ""
	if c.Image != "" {
		chosen, others, err := c.try(ctx, a, given)
		if err != nil {
			return fmt.Errorf("nothing was written: %w", err)
		}
		if pixels != nil && pixels.ScaleFrom == model.OriginAssumed {
			how = fmt.Sprintf("Measured with %s, which is %s with it.", printable(filepath.Base(c.Image)), best(chosen, 1))
			if others > 0 {
				how += fmt.Sprintf(" NOT CERTAIN: it is so with %d more of the usual conventions.", others)
			}
		}
		pixels = chosen.Preprocessing
	}
	path, err := model.WriteSpec(c.Dir, e.Draft(pixels, how))
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "wrote %s\n", printable(path))
	if pixels != nil && pixels.Assumed() != "" {
		fmt.Fprintf(a.stdout, "%s: still assumed, see the file\n", pixels.Assumed())
	}
	return nil
}

// try shows the model the picture, prints what it answers in each way, and returns
// the way that is right, and how many others are right as well.
func (c *initCmd) try(ctx context.Context, a *app, given model.Given) (chosen model.Attempt, others int, err error) {
	image, err := readImage(ctx, c.Image)
	if err != nil {
		return model.Attempt{}, 0, err
	}
	if err := savedmodel.OpenLibrary(c.TensorFlow.Library); err != nil {
		return model.Attempt{}, 0, err
	}
	attempts, err := model.Attempts(ctx, c.TensorFlow.Options(), c.Dir, given, image)
	if err != nil {
		return model.Attempt{}, 0, err
	}
	if err := printAttempts(a.stdout, attempts); err != nil {
		return model.Attempt{}, 0, err
	}
	switch {
	case c.Expect != "":
		return c.expected(a.stdout, attempts)
	case len(attempts) == 1:
		return attempts[0], 0, attempts[0].Err
	}
	chosen, err = ask(a.stderr, os.Stdin, attempts)
	return chosen, 0, err
}

// expected is the attempt that gives what is expected, and how many others do.
func (c *initCmd) expected(w io.Writer, attempts []model.Attempt) (chosen model.Attempt, others int, err error) {
	rows, err := model.ExpectedFirst(attempts, c.Expect)
	if err != nil {
		return model.Attempt{}, 0, fmt.Errorf("--expect: %w", err)
	}
	if len(rows) > 1 {
		fmt.Fprintf(w, "row %d is taken; %d rows are right, so this picture alone proves little: try others of other classes\n", rows[0]+1, len(rows))
	}
	return attempts[rows[0]], len(rows) - 1, nil
}

// readImage reads a file as the service reads a record.
func readImage(ctx context.Context, name string) ([]byte, error) {
	files, err := newFileReader(input.Bare)
	if err != nil {
		return nil, err
	}
	defer func() { _ = files.Close() }()
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
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer image.Release()
	return slices.Clone(image.Bytes), nil
}

// shownClasses is how many classes a row lists.
const shownClasses = 3

func printAttempts(w io.Writer, attempts []model.Attempt) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\tPIXELS\tBEST %d CLASSES\n", shownClasses)
	for i, one := range attempts {
		made := "the image as it is"
		if one.Preprocessing != nil {
			made = one.Preprocessing.Range()
		}
		fmt.Fprintf(t, "%d\t%s\t%s\n", i+1, made, best(one, shownClasses))
	}
	return t.Flush()
}

// best are the best classes of an attempt.
func best(one model.Attempt, n int) string {
	if one.Err != nil {
		return printable(one.Err.Error())
	}
	var list []string
	for _, c := range one.Classes[:min(n, len(one.Classes))] {
		list = append(list, printable(c.String()))
	}
	return strings.Join(list, ", ")
}

var errNobodyToAsk = errors.New("nothing says which row is right, and there is no terminal to ask on: give --expect LABEL, what the picture shows")

// ask lets the person at the terminal choose a row.
func ask(w io.Writer, r *os.File, attempts []model.Attempt) (model.Attempt, error) {
	if st, err := r.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return model.Attempt{}, errNobodyToAsk
	}
	lines := bufio.NewScanner(r)
	for {
		fmt.Fprintf(w, "Which row names what the picture shows? 1 to %d, or Enter for none: ", len(attempts))
		if !lines.Scan() { // as at the null device
			fmt.Fprintln(w)
			return model.Attempt{}, errNobodyToAsk
		}
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			return model.Attempt{}, errors.New("no row was chosen: try another picture, or write the file by hand")
		}
		n, err := strconv.Atoi(text)
		if err == nil && n >= 1 && n <= len(attempts) && attempts[n-1].Err == nil {
			return attempts[n-1], nil
		}
	}
}
