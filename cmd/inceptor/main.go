// Command inceptor classifies a Kafka topic of images with a TensorFlow model
// in its own process.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"inceptor/internal/interrupt"
	"inceptor/internal/settings"
)

const description = `Reads images from a Kafka topic, classifies each with a TensorFlow SavedModel that runs in this ` +
	`process, and writes the predictions to another topic. Records that cannot be answered go to a ` +
	`dead-letter topic.

Every setting, such as kafka.brokers, is a flag (--kafka.brokers), a variable (INCEPTOR_KAFKA_BROKERS) ` +
	`and a key of the YAML file that --config names. A flag overrides the variable, the variable overrides ` +
	`the file. "inceptor check" tries everything without starting the service.

Exit status: 0 success, 1 failure, 2 wrong usage or configuration.`

type cli struct {
	// Keys are the settings' dotted names, nested or not. ${VAR} and ${VAR:default} in a value are
	// replaced from the environment.
	Config      string           `help:"YAML file with settings." type:"path" placeholder:"FILE" common:""`
	HelpAll     settings.HelpAll `help:"Show help with all settings."`
	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`
	LogLevel    slog.Level       `name:"log.level" default:"info" values:"debug,info,warn,error" help:"Lowest level: debug, info, warn or error." group:"Log" common:""`
	LogFormat   string           `name:"log.format" default:"text" enum:"text, json" help:"Format of the log: ${enum}." group:"Log" common:""`

	Run        runCmd        `cmd:"" help:"Run the service until SIGTERM or SIGINT. A second signal ends it at once."`
	Demo       demoCmd       `cmd:"" help:"Run the service on a broker inside this process and send it sample photos."`
	Check      checkCmd      `cmd:"" help:"Try everything that run needs, without reading or writing a record."`
	Classify   classifyCmd   `cmd:"" help:"Classify image files, without Kafka."`
	Tune       tuneCmd       `cmd:"" help:"Measure which settings run the model fastest on this machine."`
	Quantize   quantizeCmd   `cmd:"" help:"Measure the ranges that a version needs for int8, and how well its answers agree."`
	Models     modelsCmd     `cmd:"" help:"List the model versions of a running service, or change which one serves."`
	Replay     replayCmd     `cmd:"" help:"Send dead letters back to the input topic. --dry-run only lists them."`
	Inspect    inspectCmd    `cmd:"" help:"Show what a SavedModel contains and whether it is complete. Needs no TensorFlow library."`
	Init       initCmd       `cmd:"" help:"Write inceptor.yaml for a version: how its input is made and its output read."`
	Settings   configCmd     `cmd:"" name:"config" help:"Print the effective settings and where each came from, or a schema for editors."`
	Version    versionCmd    `cmd:"" help:"Show the versions of this program and of TensorFlow, and the processor's features."`
	Help       helpCmd       `cmd:"" help:"Show the help of a command."`
	Completion completionCmd `cmd:"" help:"Print a script that makes a shell complete inceptor's command lines."`
	Complete   completeCmd   `cmd:"" hidden:"" help:"Complete a command line."`
	Man        manCmd        `cmd:"" help:"Print the manual page."`
}

// version is this program's version. The linker sets it.
var version = "unknown"

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser := newParser(&c, kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code; panic(exitPanic{}) }))
	given := settings.Read(parser.Model, variablePrefix, args, os.Environ())
	if err := given.Apply(parser); err != nil {
		panic(err) // the parser takes every resolver
	}
	parsed, err := parse(parser, given.Args)
	if exited >= 0 {
		return exited // --help
	}
	stdout, stderr = terminal{stdout}, terminal{stderr}
	if err != nil {
		refuse(stderr, given.Problems)
		// The parser's word for the end of the command line.
		text := strings.ReplaceAll(err.Error(), `got "EOL" (<EOL>)`, "nothing follows")
		fmt.Fprintf(stderr, "inceptor: %s\n", text)
		fmt.Fprintln(stderr, `Run "inceptor --help" or "inceptor COMMAND --help".`)
		return exitUsage
	}
	command := parsed.Selected().Target.Addr().Interface()
	validate(command, given)
	if len(given.Problems) > 0 {
		refuse(stderr, given.Problems)
		return exitUsage
	}

	ctx, stop := interrupt.Context()
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	log, level := newLog(c, stderr)
	a := &app{log: log, level: level, stdout: stdout, stderr: stderr, given: given}
	if _, ok := command.(*checkCmd); !ok { // its lines have them
		for _, w := range given.Warnings {
			a.log.Warn(w.String())
		}
	}
	switch err = parsed.Run(a); {
	case err == nil:
		return 0
	case errors.Is(err, errRefused):
		refuse(stderr, given.Problems)
		return exitUsage
	}
	// Indented, so that no further line of the error looks like a message of its own.
	fmt.Fprintf(stderr, "inceptor: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	return exitFailed
}

// errRefused is the error of a command that has found the settings to be wrong itself.
var errRefused = errors.New("the configuration has mistakes")

// variablePrefix is that of the environment variables.
const variablePrefix = "INCEPTOR"

func newParser(c *cli, options ...kong.Option) *kong.Kong {
	parser, err := kong.New(c, append(options,
		kong.Name("inceptor"), kong.Description(description),
		settings.Help(), kong.Vars{"version": "inceptor " + version},
	)...)
	if err != nil {
		panic(err) // the struct tags are wrong
	}
	return parser
}

// noSettings is embedded by the commands that work whatever settings the file and the environment
// have.
type noSettings struct{}

// NoSettings tells whether mistakes outside the command line are only warnings.
func (noSettings) NoSettings(*settings.Settings) bool { return true }

// validate adds what a command finds wrong with its settings, and warns of those without effect.
func validate(command any, given *settings.Settings) {
	c, validates := command.(interface{ Validate() []error })
	if !validates {
		given.Warnings = nil // the command has no settings, or few
	}
	if c, ok := command.(interface {
		NoSettings(given *settings.Settings) bool
	}); ok && c.NoSettings(given) {
		given.Tolerate()
	}
	if !validates {
		return
	}
	given.Add(c.Validate())
	if c, ok := command.(interface{ WithoutEffect() map[string]string }); ok {
		given.Warn(c.WithoutEffect())
	}
}

// refuse prints every mistake of a configuration.
func refuse(w io.Writer, problems []settings.Problem) {
	switch n := len(problems); n {
	case 0:
		return
	case 1:
		fmt.Fprintln(w, "inceptor: the configuration has a mistake; nothing was started")
	default:
		fmt.Fprintf(w, "inceptor: the configuration has %d mistakes; nothing was started\n", n)
	}
	for i, p := range problems {
		if i == maxRefusals {
			fmt.Fprintf(w, "and %d more\n", len(problems)-i)
			break
		}
		fmt.Fprintln(w, printable(p.String()))
	}
}

// maxRefusals is how many mistakes are printed.
const maxRefusals = 50

// An exitPanic ends kong's parsing once --help has been printed.
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

// An app holds what every command gets: its log, whose level may change, its outputs, and the
// settings as they were given.
type app struct {
	log            *slog.Logger
	level          *slog.LevelVar
	stdout, stderr io.Writer
	given          *settings.Settings
}

func newLog(c cli, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(c.LogLevel)
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: asText})), level
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), level
}

// asText makes JSON show values as the text format does: a duration as "1.5s" and not as a number
// of nanoseconds, and a value with a name as its name and not as its number.
func asText(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindAny:
		named, ok := a.Value.Any().(fmt.Stringer)
		if _, own := named.(json.Marshaler); ok && !own {
			a.Value = slog.StringValue(named.String())
		}
	}
	return a
}
