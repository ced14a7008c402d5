package measure

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"inceptor/testenv"
)

// Main runs a benchmark as a program, with the command line's arguments, until
// SIGINT or SIGTERM. Its error is printed, and makes the exit status 1.
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
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
