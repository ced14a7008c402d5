// Command inceptor classifies a Kafka topic of images with a TensorFlow model
// in its own process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

const description = `Reads images from a Kafka topic, classifies each with an Inception TensorFlow SavedModel that runs in this process, ` +
	`and writes the predictions to another topic. What cannot be answered goes to a dead-letter topic.

Every setting can be given as a flag, in the environment (--kafka.brokers is INCEPTOR_KAFKA_BROKERS) or in a YAML file named by --config; ` +
	`a flag wins over the environment, the environment over the file. "inceptor check" tries a configuration without starting anything.

Exit status: 0 done, 1 something went wrong, 2 wrong usage or configuration.`

type cli struct {
	Config    kong.ConfigFlag `help:"YAML file with settings under the flags' dotted names, nested or not; $${VAR:default} is replaced from the environment." placeholder:"FILE"`
	LogLevel  slog.Level      `name:"log.level" default:"info" help:"Least level that is logged: debug, info, warn or error."`
	LogFormat string          `name:"log.format" default:"text" enum:"text,json" help:"Format of the log on standard error: ${enum}."`

	Run      runCmd      `cmd:"" help:"Run the service until SIGTERM or SIGINT; a second signal ends it at once."`
	Demo     demoCmd     `cmd:"" help:"Run the service on a broker inside this process, and send it sample photos."`
	Check    checkCmd    `cmd:"" help:"Try configuration, TensorFlow library, model and brokers, then exit. Safer than run: reads and writes no record."`
	Classify classifyCmd `cmd:"" help:"Classify image files, without Kafka."`
	Tune     tuneCmd     `cmd:"" help:"Measure which settings run the model fastest on this machine."`
	Models   modelsCmd   `cmd:"" help:"List the model's versions of a running service, and change which one serves."`
	Replay   replayCmd   `cmd:"" help:"Send dead letters back to the input topic; --dry-run tells which."`
	Inspect  inspectCmd  `cmd:"" help:"Tell what a SavedModel holds and whether it is complete; needs no TensorFlow library."`
	Init     initCmd     `cmd:"" help:"Write a version's inceptor.yaml: how its input is made and its output read."`
	Version  versionCmd  `cmd:"" help:"Tell the versions of this program and of TensorFlow, and what this processor can do."`
}

// version is set by the linker.
var version = "unknown"

const (
	exitFailed = 1
	exitUsage  = 2
)

// A usageError is a configuration that nothing can be started with.
type usageError struct{ problems []error }

func (e usageError) Error() string {
	lines := make([]string, len(e.problems))
	for i, p := range e.problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("inceptor"), kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code; panic(exitPanic{}) }),
		kong.DefaultEnvars("INCEPTOR"),
		kong.Configuration(loadConfig),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
		kong.ExplicitGroups(nil),
	)
	if err != nil {
		panic(err) // the struct tags are wrong
	}
	parsed, err := parse(parser, args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "inceptor: %v\n", err)
		fmt.Fprintln(stderr, `Run "inceptor --help" or "inceptor COMMAND --help".`)
		return exitUsage
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second signal now ends the process
	}()
	parsed.BindTo(ctx, (*context.Context)(nil))
	stdout, stderr = terminal{stdout}, terminal{stderr}
	err = parsed.Run(&app{log: newLog(c, stderr), stdout: stdout, stderr: stderr})
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "inceptor: the configuration has %d problem(s); nothing was started\n%v\n", len(usage.problems), err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "inceptor: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  ")) // one error, whatever is in it
		return exitFailed
	}
}

// exitPanic takes kong out of parsing when --help has been printed.
type exitPanic struct{}

func parse(parser *kong.Kong, args []string) (ctx *kong.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(exitPanic); !ok {
				panic(r)
			}
		}
	}()
	return parser.Parse(args)
}

// app is what each command gets.
type app struct {
	log            *slog.Logger
	stdout, stderr io.Writer
}

func newLog(c cli, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
