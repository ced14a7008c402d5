package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/service"
	"inceptor/service/input"
)

type initCmd struct {
	Dir string `arg:"" help:"Directory of the version: the one that holds saved_model.pb." placeholder:"DIR"`
	// They are −1…1, 0…1, 0…1 normalized by ImageNet's mean and std (PyTorch), BGR 0…255 less
	// ImageNet's mean (Caffe) and 0…255.
	Image string `help:"Picture to classify with each of the usual conventions for pixels." type:"existingfile" placeholder:"FILE"`
	// The convention that gives this class with the highest score is written. Caffe's and 0…255 are
	// written only if no other convention gives it.
	Expect string `help:"What the picture shows: the label or the number of its class." placeholder:"LABEL"`

	Signature string `help:"Signature to run. Empty: serving_default, or the only one." placeholder:"KEY"`
	Size      []int  `help:"Height and width of the model's images, if its signature leaves them open." placeholder:"HEIGHT,WIDTH"`
	Output    string `help:"Output with the scores, if the signature does not say which one has them." placeholder:"KEY"`

	TensorFlow service.TensorFlow `embed:"" prefix:"tensorflow." group:"TensorFlow"`
}

// Help is the long help.
func (*initCmd) Help() string {
	return `Writes assets.extra/inceptor.yaml into the version's directory, with a comment for each key: ` +
		`signature, inputs, outputs, labels, and how images become pixels. An existing inceptor.yaml is ` +
		`never replaced. What the graph and its signature say is written as a key, what is assumed as a ` +
		`comment. This needs no TensorFlow library. ` +
		`With --image, a model that takes pixels and does not say which is loaded, and classifies the ` +
		`picture with each of the usual conventions. --expect says which answer is right. Without ` +
		`--expect, you are asked on the terminal. ` +
		`"inceptor inspect" shows the same and writes nothing.`
}

// Validate returns every problem, each naming its option.
func (c *initCmd) Validate() []error {
	var problems []error
	if c.Expect != "" && c.Image == "" {
		problems = append(problems, errors.New("--expect: needs --image, the picture that shows it"))
	}
	if len(c.Size) > 0 && (len(c.Size) != 2 || min(c.Size[0], c.Size[1]) < 1) {
		problems = append(problems, errors.New("--size: want a height and a width, such as 224,224"))
	}
	return problems
}

func (c *initCmd) Run(ctx context.Context, a *app) error {
	given := infer.SpecOverrides{Signature: c.Signature, Output: c.Output}
	if len(c.Size) > 0 {
		given.Size = [2]int(c.Size)
	}
	if err := infer.CheckNoSpec(c.Dir); err != nil {
		return err
	}
	e := infer.Explain(c.Dir, infer.Images, given)
	if e.Refused != "" {
		return fmt.Errorf("nothing was written: %s (init takes --signature, --size and --output)",
			e.Refused)
	}
	pixels, how := e.Preprocessing, ""
	if c.Image != "" {
		chosen, others, err := c.tryConventions(ctx, a, given)
		if err != nil {
			return fmt.Errorf("nothing was written: %w", err)
		}
		if pixels != nil && pixels.ScaleFrom == infer.OriginAssumed {
			how = fmt.Sprintf("Measured with %s, which is %s with it.",
				printable(filepath.Base(c.Image)), bestClasses(chosen, 1))
			if others > 0 {
				how += fmt.Sprintf(" NOT CERTAIN: %d more of the usual conventions give the same class.", others)
			}
		}
		pixels = chosen.Preprocessing
	}
	path, err := infer.WriteSpec(c.Dir, e.Draft(pixels, how))
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "wrote %s\n", printable(path))
	if pixels != nil && pixels.Assumed() != "" {
		fmt.Fprintf(a.stdout, "%s: still assumed; see the file\n", pixels.Assumed())
	}
	return nil
}

// tryConventions classifies the picture with each convention and prints the answers. It returns
// the right one, and how many others are right as well.
func (c *initCmd) tryConventions(ctx context.Context, a *app, given infer.SpecOverrides) (chosen infer.Attempt, others int, err error) {
	image, err := readImage(ctx, c.Image)
	if err != nil {
		return infer.Attempt{}, 0, err
	}
	if err := savedmodel.OpenLibrary(c.TensorFlow.Library); err != nil {
		return infer.Attempt{}, 0, err
	}
	attempts, err := infer.Attempts(ctx, c.TensorFlow.Options(), c.Dir, given, image)
	if err != nil {
		return infer.Attempt{}, 0, err
	}
	if err := printAttempts(a.stdout, attempts); err != nil {
		return infer.Attempt{}, 0, err
	}
	switch {
	case c.Expect != "":
		return c.expected(a.stdout, attempts)
	case len(attempts) == 1:
		return attempts[0], 0, attempts[0].Err
	}
	chosen, err = askUser(a.stderr, os.Stdin, attempts)
	return chosen, 0, err
}

// expected returns the attempt that gives --expect, and how many others do.
func (c *initCmd) expected(w io.Writer, attempts []infer.Attempt) (chosen infer.Attempt, others int, err error) {
	rows, err := infer.ExpectedFirst(attempts, c.Expect)
	if err != nil {
		return infer.Attempt{}, 0, fmt.Errorf("--expect: %w", err)
	}
	if len(rows) > 1 {
		fmt.Fprintf(w, "row %d is used; %d rows are right, so this picture alone proves little: "+
			"try pictures of other classes\n", rows[0]+1, len(rows))
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
	content, err := readFile(ctx, files, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return content, nil
}

// shownClasses is how many classes a row lists.
const shownClasses = 3

func printAttempts(w io.Writer, attempts []infer.Attempt) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\tPIXELS\tBEST %d CLASSES\n", shownClasses)
	for i, one := range attempts {
		pixels := "the image as it is"
		if one.Preprocessing != nil {
			pixels = one.Preprocessing.Range()
		}
		fmt.Fprintf(t, "%d\t%s\t%s\n", i+1, pixels, bestClasses(one, shownClasses))
	}
	return t.Flush()
}

// bestClasses returns the n best classes of an attempt, or its error.
func bestClasses(one infer.Attempt, n int) string {
	if one.Err != nil {
		return printable(one.Err.Error())
	}
	return classesText(one.Classes, n)
}

var errNoTerminal = errors.New("it is not known which row is right, and there is no terminal to ask on: " +
	"give --expect LABEL, what the picture shows")

// askUser lets the user choose a row on the terminal.
func askUser(w io.Writer, r *os.File, attempts []infer.Attempt) (infer.Attempt, error) {
	if st, err := r.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return infer.Attempt{}, errNoTerminal
	}
	lines := bufio.NewScanner(r)
	for {
		fmt.Fprintf(w, "Which row names what the picture shows? 1 to %d, or Enter for none: ",
			len(attempts))
		if !lines.Scan() { // as at the null device
			fmt.Fprintln(w)
			return infer.Attempt{}, errNoTerminal
		}
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			return infer.Attempt{}, errors.New("no row was chosen: try another picture, " +
				"or write the file by hand")
		}
		n, err := strconv.Atoi(text)
		if err == nil && n >= 1 && n <= len(attempts) && attempts[n-1].Err == nil {
			return attempts[n-1], nil
		}
	}
}
