package main

import (
	"context"
	"errors"
	"fmt"

	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/service"
)

type checkCmd struct {
	service.Config `embed:""`
}

// Help is the long help.
func (*checkCmd) Help() string {
	return `Opens the TensorFlow library, loads the model and runs it once, asks the brokers for the topics and compares their limits. ` +
		`Every part is tried, whatever became of the one before. Topics are not created.`
}

func (c *checkCmd) Run(ctx context.Context, a *app) error {
	if problems := c.Validate(); len(problems) > 0 {
		return usageError{problems}
	}
	fmt.Fprintln(a.stdout, "ok    configuration")
	failed := 0
	report := func(part string, err error, detail string) {
		if err != nil {
			failed++
			fmt.Fprintf(a.stdout, "FAIL  %s: %v\n", part, err)
			return
		}
		fmt.Fprintf(a.stdout, "ok    %s: %s\n", part, detail)
	}

	err := savedmodel.OpenLibrary(c.TensorFlow.Library)
	report("TensorFlow", err, savedmodel.LibraryVersion()+" at "+savedmodel.LibraryPath())
	if err == nil {
		serving, err := c.checkModel(ctx, a)
		report("model", err, serving.String())
	}

	topics, warnings, err := service.CheckTopics(ctx, c.Config, a.log)
	report("brokers", err, fmt.Sprint(c.Kafka.Brokers))
	for _, t := range topics {
		report("topic "+t.Name, nil, fmt.Sprintf("%d partitions, %d replicas, max.message.bytes %d, min.insync.replicas %d", t.Partitions, t.Replicas, t.MaxMessageBytes, t.MinInSync))
	}
	for _, w := range warnings {
		fmt.Fprintf(a.stdout, "warn  %s\n", w)
	}
	if failed > 0 {
		return errors.New("the check failed")
	}
	return nil
}

func (c *checkCmd) checkModel(ctx context.Context, a *app) (model.Info, error) {
	m, err := openModel(ctx, c.Config, a.log)
	if err != nil {
		return model.Info{}, err
	}
	defer m.Close()
	return m.Serving()
}
