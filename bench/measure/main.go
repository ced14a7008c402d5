package measure

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"inceptor/internal/interrupt"
	"inceptor/service"
	"inceptor/testenv"
)

// Main runs a benchmark as a program, with the command line's arguments, until
// SIGINT or SIGTERM. Its error is printed, and makes the exit status 1.
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, stop := interrupt.Context()
	err := checkISA(os.Getenv(maxISA))
	if err == nil {
		err = run(ctx, os.Args[1:])
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		stop()
		return
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(1) //nolint:gocritic // stop has nothing left to do
}

// KafkaLib has the broker's jars.
const KafkaLib = ".tools/kafka/lib"

// StartKafka starts a broker that keeps everything below dir.
func StartKafka(ctx context.Context, dir string) (*testenv.Kafka, error) {
	Progress("starting Kafka")
	dir = filepath.Join(dir, "kafka")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return testenv.StartKafka(ctx, KafkaLib, dir)
}

// Settings returns the service's configuration with these settings, as "inceptor run" takes them,
// and the defaults for the others. With TensorFlow's settings it is ready to load a model.
func Settings(args ...string) (service.Config, error) {
	var c service.Config
	parser, err := kong.New(&c, kong.Name("settings"))
	if err != nil {
		return c, err
	}
	if _, err := parser.Parse(args); err != nil {
		return c, fmt.Errorf("the settings: %w", err)
	}
	c.Model.Session = c.TensorFlow.Options()
	return c, nil
}
