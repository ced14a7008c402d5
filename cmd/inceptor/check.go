package main

import (
	"context"
	"errors"
	"fmt"

	"inceptor/model"
	"inceptor/model/remote"
	"inceptor/savedmodel"
	"inceptor/service"
)

type checkCmd struct {
	service.Config `embed:""`
}

// Help is the long help.
func (*checkCmd) Help() string {
	return `Opens the TensorFlow library, loads the model and runs it once, compares the graph that is made of it with the model as it is, has the model server classify a blank image if there is one, asks the brokers for the topics and compares their limits, and whether it may join the group, read and write. It does not join, and causes no rebalance. ` +
		`Every part is tried, also after one that fails. Topics are not created.`
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
			fmt.Fprintf(a.stdout, "FAIL  %s: %s\n", printable(part), printable(err.Error()))
			return
		}
		fmt.Fprintf(a.stdout, "ok    %s: %s\n", printable(part), printable(detail))
	}

	warn := func(part, text string) {
		if text != "" {
			fmt.Fprintf(a.stdout, "warn  %s: %s\n", printable(part), printable(text))
		}
	}

	wanted := int64(remote.NoVersion)
	if c.Model.Backend != model.OnlyRemote {
		err := savedmodel.OpenLibrary(c.TensorFlow.Library)
		report("TensorFlow", err, savedmodel.LibraryVersion()+" at "+savedmodel.LibraryPath())
		if err == nil {
			var serving model.Info
			var assumed string
			serving, assumed, err = c.checkModel(ctx, a)
			report("model", err, serving.String())
			warn("model", assumed)
			if err == nil {
				wanted = serving.Version
			}
			if err == nil && c.Model.Optimizes() {
				trial, err := model.CompareGraphs(ctx, c.ModelConfig(), serving.Version)
				report("optimized graph", err, comparison(trial))
			}
		}
	}
	if c.Model.AsksServer() {
		answered, assumed, err := c.checkServer(ctx, a, wanted)
		report("model server "+c.Fallback.Address, err, answered.String()+", classifies")
		warn("model server "+c.Fallback.Address, assumed)
	}

	topics, warnings, err := service.CheckTopics(ctx, c.Config, a.log)
	report("brokers", err, fmt.Sprint(c.Kafka.Brokers))
	for _, t := range topics {
		report("topic "+t.Name, nil, fmt.Sprintf("%d partitions, %d replicas, max.message.bytes %d, min.insync.replicas %d", t.Partitions, t.Replicas, t.MaxMessageBytes, t.MinInSync))
	}
	denied, join := service.CheckAccess(ctx, c.Config, a.log)
	report("group "+c.Kafka.Group, join, fmt.Sprintf("a process may join with a session of %v", c.Kafka.SessionTimeout))
	for _, err := range denied {
		report("permission", err, "")
	}
	if len(denied) == 0 {
		report("permissions", nil, "none that is needed is denied")
	}
	for _, w := range warnings {
		fmt.Fprintf(a.stdout, "warn  %s\n", printable(fmt.Sprint(w)))
	}
	if failed > 0 {
		return errors.New("the check failed")
	}
	return nil
}

// comparison says how an optimized graph compares with the model as it is.
func comparison(t model.Trial) string {
	if t.WhyNot != "" {
		return t.WhyNot
	}
	return fmt.Sprintf("%s, %s, scores of noise differ from those of the model as it is by %.1g at most", t.Kernels, t.Precision, t.Differs)
}

// checkServer returns what has answered, and what of its preprocessing is assumed.
func (c *checkCmd) checkServer(ctx context.Context, a *app, version int64) (answered model.Info, assumed string, err error) {
	server, err := model.NewServer(c.ModelConfig(), c.Fallback, a.log, unobserved{})
	if err != nil {
		return model.Info{}, "", err
	}
	defer server.Close()
	answered, err = server.Check(ctx, version)
	return answered, server.Assumed(), err
}

// checkModel returns what serves, and what of its preprocessing is assumed.
func (c *checkCmd) checkModel(ctx context.Context, a *app) (serving model.Info, assumed string, err error) {
	here := c.Config
	here.Model.Backend = model.OnlyLocal
	m, err := openModel(ctx, here, a.log)
	if err != nil {
		return model.Info{}, "", err
	}
	defer m.Close()
	serving, err = m.Serving()
	for _, v := range m.Versions() {
		if v.Version == serving.Version {
			assumed = v.Assumed
		}
	}
	return serving, assumed, err
}
